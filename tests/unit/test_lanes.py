"""`make test` runs its parts side by side: each one's output stays whole, and no part hides another or outlives it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from local.processes import commands_of

RUN = "from tests.__main__ import main; import sys; sys.exit(main(sys.argv[1:], {parts!r}, {counts!r}, lanes=2))"


def python(body: str) -> list[str]:
    return [sys.executable, "-c", f"import os, sys, time\n{body}"]


def command(parts: dict[str, list[str]], *chosen: str, counts: list[str] | None = None) -> list[str]:
    return [sys.executable, "-c", RUN.format(parts=parts, counts=counts or python("print('7 counted')")), *chosen]


def outcome_of(parts: dict[str, list[str]], *chosen: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(parts, *chosen), capture_output=True, text=True, check=False)


def table(output: str) -> dict[str, str]:
    """The outcome of each part in the summary."""
    return dict(re.findall(r"^(\w+) +[\d.]+ s +[\d.]+ s of CPU  (\w+)$", output, flags=re.MULTILINE))


def both_running(folder: Path, mine: str, other: str) -> str:
    """A part's code that goes on when the other runs too: alone it would wait for ever."""
    wait = f"while not os.path.exists({str(folder / other)!r}): time.sleep(0.01)\n"
    return f"open({str(folder / mine)!r}, 'w').close()\n{wait}"


def test_two_parts_run_at_once_and_neither_output_is_torn(tmp_path: Path) -> None:
    lines = "for n in range(50): print(f'{name} {n}', flush=True)"
    first = both_running(tmp_path, "1", "2") + f"name = 'first'\n{lines}"
    second = both_running(tmp_path, "2", "1") + f"name = 'second'\n{lines}"
    done = outcome_of({"first": python(first), "second": python(second)})
    assert done.returncode == 0, done.stderr
    for name in ("first", "second"):
        whole = "\n".join(f"{name} {number}" for number in range(50))
        assert re.search(rf"=== {name}: .*?\n{whole}\n", done.stdout, flags=re.DOTALL)


def test_a_part_that_fails_hides_no_other() -> None:
    done = outcome_of(
        {
            "bad": python("print('why', file=sys.stderr); sys.exit(3)"),
            "good": python("print('fine')"),
            "worse": python("os.kill(os.getpid(), 9)"),
            "last": python("print('last too')"),
        }
    )
    assert done.returncode == 1
    assert table(done.stdout) == {
        "bad": "FAILED",
        "good": "passed",
        "worse": "FAILED",
        "last": "passed",
        "all": "FAILED",
    }
    assert all(said in done.stdout for said in ("why", "fine", "last too"))


def test_only_the_chosen_parts_run_and_a_single_one_prints_as_it_goes() -> None:
    parts = {"one": python("print('now', flush=True); sys.stdin.read()"), "two": python("sys.exit(1)")}
    done = outcome_of(parts, "one")
    assert (done.returncode, table(done.stdout)) == (0, {"one": "passed", "all": "passed"})
    assert "now" in done.stdout


def test_the_processor_time_of_each_part_is_its_own() -> None:
    done = outcome_of({"busy": python("while time.process_time() < 1: pass"), "idle": python("")})
    found = re.findall(r"^(\w+) +[\d.]+ s +([\d.]+) s of CPU", done.stdout, flags=re.MULTILINE)
    cpu_s = {name: float(seconds) for name, seconds in found}
    assert cpu_s["busy"] >= 1 > cpu_s["idle"]
    assert cpu_s["all"] >= 1


def test_all_parts_yield_to_the_first_one() -> None:
    done = outcome_of({name: python(f"print('{name}', os.nice(0))") for name in ("longest", "short", "shorter")})
    niceness = {name: int(value) for name, value in re.findall(r"^(\w+) (\d+)$", done.stdout, flags=re.MULTILINE)}
    yielding = min(19, niceness["longest"] + 10)
    assert (niceness["short"], niceness["shorter"]) == (yielding, yielding)


def test_an_unknown_part_is_refused_before_anything_runs() -> None:
    done = outcome_of({"one": python("print('ran')")}, "other")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no such part: other; there are one, static" in done.stderr


def test_the_counts_are_the_last_line_when_all_was_held() -> None:
    parts = {"promises": python(""), "contract": python("")}
    assert outcome_of(parts).stdout.splitlines()[-1] == "7 counted"
    parts["contract"] = python("sys.exit(1)")
    assert "counted" not in outcome_of(parts).stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_ends_every_part_and_says_so(tmp_path: Path, number: signal.Signals) -> None:
    tidied = (
        f"try:\n  open(f'{tmp_path}/{{name}}', 'w').close()\n  time.sleep(60)\nfinally: print('tidied', flush=True)"
    )
    parts = {
        "done": python("print('done before')"),
        "one": python(f"name = 1\n{tidied}"),
        "two": python(f"name = 2\n{tidied}"),
        "later": python("print('began late')"),
    }
    running = subprocess.Popen(command(parts), stdout=subprocess.PIPE, text=True)
    while len(list(tmp_path.iterdir())) < 2:
        assert running.poll() is None
        time.sleep(0.02)
    running.send_signal(number)
    output, _ = running.communicate(timeout=60)
    assert running.returncode == 130
    assert table(output) == {
        "done": "passed",
        "one": "interrupted",
        "two": "interrupted",
        "later": "interrupted",
        "all": "interrupted",
    }
    assert output.splitlines().count("tidied") == 2
    assert "began late" not in output
    assert commands_of(tmp_path) == []
