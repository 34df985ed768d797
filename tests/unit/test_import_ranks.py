"""A file imports only from a lower folder, and never in a circle; the table below is the whole architecture."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

LAYER = Path("layers/turnlog/python")
PACKAGE = LAYER / "turnlog"
RANKS = [
    {"errors", "clock"},
    {"domain"},
    {"ports"},
    {"usecases", "adapters", "tools"},
    {"config"},
    {"runtime"},
    {"entrypoints"},
]
RANK = {name: rank for rank, names in enumerate(RANKS) for name in names}
APART = ("adapters", "entrypoints")
"""Folders whose members do not know each other, but for those that stand on another."""
STANDS_ON = {("stream", "http"), ("messages_api", "claude")}
"""Streams are answers to the same requests, read by the same rules. What is passed on goes to the same provider, whose
headers, failures and bounds of time are the same."""
SDKS = {
    "boto3": {"runtime"},
    "anthropic": {"adapters/claude", "adapters/tool_runner"},
    "httpx2": {"adapters/claude", "adapters/messages_api"},
    "jwt": {"adapters/jwt_tokens"},
    "botocore": {"runtime", "adapters"},
    "aws_lambda_powertools": {"runtime", "adapters/telemetry"},
    "starlette": {"entrypoints/stream"},
}
FILES = sorted(PACKAGE.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """The full names of the modules and symbols that a file imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def module_of(name: str) -> Path | None:
    """The path of the package's module that has an imported name; None for the root package itself."""
    path = LAYER / name.replace(".", "/")
    for each in (path, path.parent):
        if each.with_suffix(".py").is_file():
            return each.with_suffix(".py")
        if (each / "__init__.py").is_file() and each != PACKAGE:
            return each / "__init__.py"
    return None


def ours(path: Path) -> set[Path]:
    """The package's own modules that a file imports."""
    names = (name for name in imported(path) if name.split(".")[0] == "turnlog")
    return {found for name in names if (found := module_of(name))}


def parts(path: Path) -> tuple[str, ...]:
    return path.relative_to(PACKAGE).with_suffix("").parts


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(LAYER)))
def test_a_module_imports_only_from_lower_ranks(path: Path) -> None:
    if path == PACKAGE / "__init__.py":
        assert imported(path) == set()
        return
    own = parts(path)
    for other in map(parts, ours(path)):
        if other[0] == own[0]:
            is_allowed = other[1] == own[1] or (own[1], other[1]) in STANDS_ON
            assert own[0] not in APART or is_allowed, f"{own[0]}/{own[1]} and {other[1]} know each other"
        else:
            assert RANK[other[0]] < RANK[own[0]]
    outside = {name.split(".")[0] for name in imported(path)}
    module = "/".join(own)
    misused = {sdk for sdk, users in SDKS.items() if sdk in outside and not any(map(module.startswith, users))}
    assert misused == set()


def test_no_modules_import_each_other_in_a_circle() -> None:
    list(TopologicalSorter({path: ours(path) - {path} for path in FILES}).static_order())  # raises CycleError


def test_the_root_has_at_most_ten_names() -> None:
    # A checkout leaves folders with nothing but a __pycache__.
    names = {path.name for path in PACKAGE.iterdir() if path.is_file() or any(path.rglob("*.py"))}
    names.remove("__init__.py")
    assert names == {f"{name}.py" if (PACKAGE / f"{name}.py").exists() else name for name in RANK}
    assert len(names) <= 10


@pytest.mark.parametrize("path", sorted(Path("functions").glob("*/*.py")), ids=lambda path: path.parent.name)
def test_a_function_is_one_short_file_that_imports_only_turnlog(path: Path) -> None:
    assert {name.split(".")[0] for name in imported(path)} == {"turnlog"}
    assert len(path.read_text().splitlines()) <= 40
    assert [other.name for other in path.parent.iterdir() if other.name != "__pycache__"] == ["app.py"]
