"""The README of this folder names the files that prove each promise, and commands that work."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.promises.commands import main
from tests.promises.counts import checks_by_promise

FOLDER = Path(__file__).parent
README = (FOLDER / "README.md").read_text()
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in README.splitlines() if line.startswith("| P")]
QUOTED = re.compile(r"`([^`]+)`")


def files(cell: str, folder: Path) -> list[Path]:
    """Returns the files that the cell names; a name without a folder is beside the file before it."""
    found: list[Path] = []
    for name in QUOTED.findall(cell):
        if name.endswith("/"):
            found += sorted((folder / name).glob("test_*.py"))
        elif name.startswith("tests/"):
            found.append(FOLDER.parents[1] / name)
        else:
            found.append((found[-1].parent if found and "/" not in name else folder) / name)
    return found


def test_every_promise_has_a_row() -> None:
    assert [row[0] for row in ROWS] == [f"P{number}" for number in range(1, 16)]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row[0]))
def test_the_files_of_a_row_cite_its_promise(row: list[str]) -> None:
    number, _, oracle, tests = row
    for file in files(oracle, FOLDER / "oracle"):
        assert re.search(rf"\b{number}\b", file.read_text()), file
    for file in files(tests, FOLDER):
        notes = ast.get_docstring(ast.parse(file.read_text())) or ""
        assert re.search(rf"\b{number}\b", notes.splitlines()[0]), file


def test_every_check_of_the_oracle_is_in_its_row() -> None:
    assert {f"P{number}" for number in checks_by_promise()} == {row[0] for row in ROWS if row[2]}


def test_every_folder_is_described() -> None:
    named = set(re.findall(r"^\| `(\w+)/` \|", README, re.MULTILINE))
    assert named == {each.name for each in FOLDER.iterdir() if each.is_dir() and not each.name.startswith("_")}


def test_the_replays_of_the_readme_work(capsys: pytest.CaptureFixture[str]) -> None:
    replays = re.findall(r"^python -m tests\.promises (--.+?)(?:  .*)?$", README, re.MULTILINE)
    assert len(replays) == 2
    for replay in replays:
        assert main(replay.split()) == 0
        assert capsys.readouterr().out.endswith(f"replay: python -m tests.promises {replay}\n")
