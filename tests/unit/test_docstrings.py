"""Docstrings and test names are read once: the subject comes first, and a test's name is short."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

FILES = [path for root in ("layers", "functions", "local", "tests") for path in sorted(Path(root).rglob("*.py"))]
TREES = {path: ast.parse(path.read_text()) for path in FILES}
ROUNDABOUT = re.compile(r"(What|Whether|How|Where|Who|Whose|As|When)\b")
MOST_ROUNDABOUT = 0.08
LONGEST_TEST_NAME = 80

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def openings(path: Path) -> Iterator[tuple[str, str]]:
    """The first line of each docstring of a file, with its source line."""
    for node in ast.walk(TREES[path]):
        if isinstance(node, Documented) and (text := ast.get_docstring(node)):
            yield f"{path}:{getattr(node, 'lineno', 1)}", text.splitlines()[0]


def test_few_docstrings_open_with_a_question_word() -> None:
    found = [opening for path in FILES for opening in openings(path)]
    roundabout = [f"{line}: {text}" for line, text in found if ROUNDABOUT.match(text)]
    share = len(roundabout) / len(found)
    assert share < MOST_ROUNDABOUT, f"{share:.1%} of {len(found)} docstrings:\n" + "\n".join(roundabout)


def test_no_name_of_a_test_is_long() -> None:
    long = [
        f"{path}:{node.lineno}: {node.name}"
        for path in FILES
        for node in ast.walk(TREES[path])
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and len(node.name) > LONGEST_TEST_NAME
    ]
    assert long == []
