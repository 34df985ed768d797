"""Draws docs/terminal.svg: the README's lines in a terminal, recorded from a run of the stack.

Nothing in the picture depends on the machine or the moment: tokens and ids are shortened, and times are left out.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from local import welcome
from local.launcher import DEFAULT_PORT
from local.state import ROOT

PICTURE = ROOT / "docs" / "terminal.svg"
REQUESTS = 4
"""The requests that the recorded lines make."""

_COLUMNS = 98
_CHARACTER, _LINE, _GAP, _MARGIN, _BAR = 7.8, 19, 6, 20, 30  # pixels, for a font of 13
_STARTED_WITHIN_S = 300
_PORT_BASE = 8987  # away from `make run` and from the tests
_API = f"http://127.0.0.1:{DEFAULT_PORT}/v1"
_MORE = "…"
_TIE = "\N{NO-BREAK SPACE}"
_REQUEST = re.compile(r"\d\d:\d\d:\d\d  (?P<route>\S+ \S+  \d+)  \d+ ms(?P<cost>.*)")
_STYLE = """
text { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; white-space: pre }
.back { fill: #ffffff; stroke: #d0d7de } .bar { fill: #f0f2f5 } .name { fill: #57606a }
.command { fill: #1f2328 } .prompt { fill: #0a7d43 } .output { fill: #57606a } .said { fill: #0550ae }
@media (prefers-color-scheme: dark) {
.back { fill: #0d1117; stroke: #30363d } .bar { fill: #1c2128 } .name { fill: #9da7b1 }
.command { fill: #e6edf3 } .prompt { fill: #3fb950 } .output { fill: #9da7b1 } .said { fill: #79c0ff }
}
"""


@dataclass(frozen=True, slots=True)
class Step:
    """A command and its output."""

    command: str
    output: str = ""


@dataclass(frozen=True, slots=True)
class _Line:
    """A line as it is drawn; `style` is a class of the picture."""

    style: str
    text: str
    has_prompt: bool = False


def recorded(api_url: str, token: str) -> list[Step]:
    """Runs the lines of `make run` in a shell against the stack. Raises CalledProcessError when one fails."""
    lines = welcome.calls(api_url)
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder) / str(number) for number in range(len(lines))]
        script = [f"{{ {line}\n}} > {output}" for line, output in zip(lines, outputs, strict=True)]
        subprocess.run(["/bin/sh", "-ec", "\n".join(script)], env={"TOKEN": token, "PATH": _path()}, check=True)
        printed = [output.read_text() for output in outputs]
    steps = [Step(line.replace(api_url, _API), _readable(text)) for line, text in zip(lines, printed, strict=True)]
    return [Step(f"TOKEN={_short(token)}"), *steps]


def server_pane(run: Mapping[str, Any], output: str) -> list[Step]:
    """Returns `make run` with the start of its message, and one line for each of the last requests in its `output`."""
    shown = [f"Turnlog: {_API}", f"Claude:  {run['claude']}", f"TOKEN={_short(run['token'])}", _MORE]
    return [Step("make run", "\n".join([*shown, *request_lines(output)[-REQUESTS:]]))]


def request_lines(output: str) -> list[str]:
    """Returns the lines of `make run` that tell of a request, without their times."""
    found = map(_REQUEST.fullmatch, output.splitlines())
    return [f"{each['route']}{each['cost']}" for each in found if each]


def drawn(server: Sequence[Step], client: Sequence[Step]) -> str:
    """Returns the SVG: two terminals, one below the other, readable on a light and on a dark page."""
    width = round(_COLUMNS * _CHARACTER + 2 * _MARGIN)
    body: list[str] = []
    top = 1
    for name, steps in (("the stack", server), ("another terminal", client)):
        lines: list[str] = []
        y = top + _BAR
        for line in (line for step in steps for line in _lines(step)):
            y += _LINE + _GAP * line.has_prompt
            lines += _text("prompt", _MARGIN, y, "$") if line.has_prompt else []
            lines += _text(line.style, _MARGIN + 2 * _CHARACTER * (line.style == "command"), y, line.text)
        body += [*_frame(name, top, width, y + _MARGIN - top), *lines]
        top = y + _MARGIN + 12
    size = f'width="{width}" height="{top - 11}" viewBox="0 0 {width} {top - 11}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="title">'
    title = '<title id="title">make run in one terminal; a query and a session of two turns in another</title>'
    return "\n".join([head, title, f"<style>{_STYLE}</style>", *body, "</svg>", ""])


def _frame(name: str, top: float, width: float, height: float) -> Iterator[str]:
    yield f'<rect class="back" x="0.5" y="{top - 0.5}" width="{width - 1}" height="{height}" rx="8"/>'
    yield f'<rect class="bar" x="1" y="{top}" width="{width - 2}" height="{_BAR - 4}" rx="7"/>'
    yield f'<text class="name" x="{width / 2:.1f}" y="{top + 18}" text-anchor="middle">{name}</text>'


def _lines(step: Step) -> Iterator[_Line]:
    for number, text in enumerate(_wrapped(step.command, _COLUMNS - 2, indent="    ")):
        yield _Line("command", text, has_prompt=number == 0)
    for line in step.output.splitlines():
        style = "said" if line.startswith('{"text"') else "output"
        yield from (_Line(style, text) for text in _wrapped(line, _COLUMNS, indent=" " * line.startswith(("{", " "))))


def _wrapped(text: str, columns: int, indent: str) -> list[str]:
    """A name of a JSON field and its value stay on one line."""
    lines = textwrap.wrap(text.replace('": ', f'":{_TIE}'), columns, subsequent_indent=indent, break_on_hyphens=False)
    return [line.replace(_TIE, " ") for line in lines]


def _text(style: str, x: float, y: float, text: str) -> list[str]:
    """Gives the length too, so that columns stay columns in whatever font there is."""
    length = f'textLength="{len(text) * _CHARACTER:.1f}" lengthAdjust="spacingAndGlyphs"'
    return [f'<text class="{style}" x="{x:.1f}" y="{y}" {length}>{escape(text)}</text>']


def _readable(printed: str) -> str:
    """Returns an answer on two lines, the text first, with dots for what is long or differs from run to run."""
    if not printed.strip():
        return ""
    answer: dict[str, Any] = json.loads(printed)
    answer["usage"] = {"input_tokens": answer["usage"]["input_tokens"], _MORE: _MORE}
    dotted = {"content": [_MORE], "session_id": "ses_…", "message_id": "msg_…", "provider_request_id": "req_…"}
    dotted |= {"expires_at": _MORE, "idle_expires_at": _MORE}
    text = json.dumps({name: dotted.get(name, value) for name, value in answer.items()}, ensure_ascii=False)
    text = text.replace(f'["{_MORE}"]', f"[{_MORE}]").replace(f'"{_MORE}": "{_MORE}"', _MORE)
    return text.replace(', "content"', ',\n "content"', 1)


def _short(token: str) -> str:
    """Returns the start of a token: the name of its algorithm, which is no secret and always the same."""
    return token[:12] + _MORE


def _path() -> str:
    return f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"


def main() -> None:
    """Starts a stack of its own, records, draws, and stops it again."""
    state = ROOT / ".turnlog" / "pictures"
    command = [sys.executable, "-m", "local.run", "--state", str(state), "--port-base", str(_PORT_BASE)]
    with tempfile.TemporaryFile("w+") as output:
        stack = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        try:
            run = _ready(stack, state / "run.json")
            steps = recorded(run["api_url"], run["token"])
            while True:
                output.seek(0)
                if len(request_lines(printed := output.read())) >= REQUESTS:
                    break
                time.sleep(0.1)
            PICTURE.write_text(drawn(server_pane(run, printed), steps))
        finally:
            stack.terminate()
            stack.wait()


def _ready(stack: subprocess.Popen[bytes], run_json: Path) -> dict[str, Any]:
    deadline = time.monotonic() + _STARTED_WITHIN_S
    while stack.poll() is None and time.monotonic() < deadline:
        if run_json.exists() and stack.pid in (run := json.loads(run_json.read_text()))["pids"]:
            return dict(run)
        time.sleep(0.2)
    raise SystemExit("the stack did not start; `make run` says why")


if __name__ == "__main__":
    main()
    print(f"drawn: {PICTURE.relative_to(ROOT)}")
