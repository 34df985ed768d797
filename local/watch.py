"""Files that are watched while the stack runs: code that the next request executes, and what needs a deploy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

Files = Callable[[], Iterable[Path]]
_Stamps = dict[Path, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Saved:
    """The files that were saved, added or removed since the last look, in order."""

    code: list[Path]
    deployed: list[Path]


class Watch:
    """Looks at two sets of files, each listed anew at every look. The first look is at its creation."""

    def __init__(self, code: Files, deployed: Files) -> None:
        self._code = code
        self._deployed = deployed
        self._seen = _stamps(code()), _stamps(deployed())

    def look(self) -> Saved:
        """Returns what has changed since the last look."""
        before = self._seen
        self._seen = _stamps(self._code()), _stamps(self._deployed())
        code, deployed = (_changed(old, new) for old, new in zip(before, self._seen, strict=True))
        return Saved(code, deployed)


def fault_of(file: Path) -> str:
    """The syntax error of a Python file, with its line; empty when it has none or is no Python file."""
    if file.suffix != ".py":
        return ""
    try:
        compile(file.read_bytes(), str(file), "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:  # ValueError: a null byte
        return f"line {error.lineno}: {error.msg}" if isinstance(error, SyntaxError) else str(error)
    except OSError:
        return ""  # it was removed meanwhile
    return ""


def _stamps(files: Iterable[Path]) -> _Stamps:
    found = {}
    for file in files:
        try:
            about = file.stat()
        except OSError:
            continue  # an editor replaces it just now
        found[file] = about.st_mtime_ns, about.st_size
    return found


def _changed(before: _Stamps, now: _Stamps) -> list[Path]:
    return sorted(file for file in before.keys() | now.keys() if before.get(file) != now.get(file))
