"""Counts the promises that the tests hold, and their checks, scenarios, mutants, and facts about every store.

`python -m tests.promises counts` prints them, and exits with 1 when one is below its floor.
"""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.promises.mutants.catalogue import MUTANTS
from tests.promises.runs.scenarios import SCENARIOS

FLOORS = {
    "promises": 15,
    "oracle checks": 72,
    "scenarios": 48,
    "mutants": 142,
    "quick mutants": 47,
    "contract facts": 1284,
}
"""The least numbers. They may only grow: a test that is lost with a rename or a move would not be missed otherwise.
Raise them with what is added; a commit that lowers one says where the promise is proved now.
"""

_TESTS = Path(__file__).parents[1]
_CITED = re.compile(r"\bP(\d+)\b")
_BROKEN = re.compile(r"P(\d+) ")


def counts() -> dict[str, int]:
    """Returns the numbers under the names of FLOORS."""
    checks = checks_by_promise()
    return {
        "promises": len(checks | cites_by_promise()),
        "oracle checks": checks.total(),
        "scenarios": len(SCENARIOS),
        "mutants": len(MUTANTS),
        "quick mutants": sum(mutant.quick for mutant in MUTANTS),
        "contract facts": _contract_facts(),
    }


def line(found: dict[str, int]) -> str:
    """Returns the numbers as one line, with a warning at each that is below its floor."""
    return "held: " + ", ".join(
        f"{count} {name}" + (f" (FEWER THAN {FLOORS[name]})" if count < FLOORS[name] else "")
        for name, count in found.items()
    )


def is_fewer(found: dict[str, int]) -> bool:
    return any(found[name] < least for name, least in FLOORS.items())


def checks_by_promise() -> Counter[int]:
    """Counts the sentences that the oracle may say, by the number of the promise with which they begin."""
    found: Counter[int] = Counter()
    for folder in ("oracle", "world"):
        for file in sorted((_TESTS / "promises" / folder).glob("*.py")):
            found.update(int(number) for text in _texts(file) for number in _BROKEN.findall(text[:4]))
    return found


def cites_by_promise() -> Counter[int]:
    """Counts the files of tests that say in their first line which promise they prove."""
    found: Counter[int] = Counter()
    for file in sorted(_TESTS.rglob("test_*.py")):
        proved, colon, _ = (ast.get_docstring(ast.parse(file.read_text())) or "").partition(":")
        if colon and "\n" not in proved:
            found.update(map(int, _CITED.findall(proved)))
    return found


def _texts(file: Path) -> Iterator[str]:
    """Yields the texts of the file but its docstrings; of a formatted one the part before the first value."""
    tree = ast.parse(file.read_text())
    notes = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values[1:]}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in notes | inner:
            yield node.value


def _contract_facts() -> int:
    """Counts the tests of the contract, once for each store that passes it.

    It reads the source, because pytest would take ten times as long to collect them.
    """
    classes: dict[str, list[ast.ClassDef]] = defaultdict(list)
    stores = []
    for file in sorted((_TESTS / "contract").glob("*.py")):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef):
                is_test = file.name.startswith("test_")
                classes[node.name].insert(len(classes[node.name]) if is_test else 0, node)
                stores += [node] * (is_test and node.name.startswith("Test"))

    def inherited(node: ast.ClassDef) -> list[ast.ClassDef]:
        bases = [classes[base.id][0] for base in node.bases if isinstance(base, ast.Name) and base.id in classes]
        return [node, *(each for base in bases for each in inherited(base))]

    def facts(node: ast.ClassDef) -> set[str]:
        parts = [part for each in inherited(node) for part in each.body]
        return {part.name for part in parts if isinstance(part, ast.FunctionDef) and part.name.startswith("test_")}

    return sum(len(facts(node)) for node in stores if "SessionStoreContract" in {each.name for each in inherited(node)})
