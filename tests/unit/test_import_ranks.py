"""A file imports only from a lower rank; the table below is the whole architecture."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

LAYER = Path("layers/turnlog/python")
RANKS = [
    {"errors", "clock", "prompts", "sealing"},
    {"messages"},
    {"sessions", "prices", "model"},
    {"store", "packing", "window"},
    {"limits", "listing"},
    {"turns"},
    {"config", "claude", "crypto", "tokens", "documents", "telemetry", "stores"},
    {"runtime"},
    {"http", "events"},
]
RANK = {name: rank for rank, names in enumerate(RANKS) for name in names}
SDKS = {
    "boto3": {"runtime"},
    "anthropic": {"claude"},
    "httpx2": {"claude"},
    "jwt": {"tokens"},
    "botocore": {"runtime", "stores", "documents"},
}
FILES = sorted(LAYER.rglob("*.py"))


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def module_of(name: str) -> str:
    return name.split(".")[1]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(LAYER)))
def test_a_module_imports_only_from_lower_ranks(path: Path) -> None:
    if path == LAYER / "turnlog/__init__.py":
        assert imported(path) == set()
        return
    own = path.relative_to(LAYER / "turnlog").parts[0].removesuffix(".py")
    ours = {module_of(name) for name in imported(path) if name.startswith("turnlog.")} - {own}
    assert {name for name in ours if RANK[name] >= RANK[own]} == set()
    outside = {name.split(".")[0] for name in imported(path)}
    assert {sdk for sdk, users in SDKS.items() if sdk in outside and own not in users} == set()


@pytest.mark.parametrize("path", sorted(Path("functions").glob("*/*.py")), ids=lambda path: path.parent.name)
def test_a_function_is_one_short_file_that_imports_only_turnlog(path: Path) -> None:
    assert {name.split(".")[0] for name in imported(path)} == {"turnlog"}
    assert len(path.read_text().splitlines()) <= 40
    assert [other.name for other in path.parent.iterdir() if other.name != "__pycache__"] == ["app.py"]
