"""The reverse of `documented`: a run of all handler tests sees every answer that the document lists.

Each process keeps the answers it saw, and a worker of pytest-xdist hands them to the process that started it. A run of
fewer tests, one with a failure or an interrupted one proves nothing about the rest, so nothing is checked then.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import documented
from turnlog.entrypoints.http.openapi import refusals
from turnlog.entrypoints.http.openapi.operations import OPERATIONS
from turnlog.entrypoints.http.problems import INTERNAL, problem_of

_HANDLERS = Path(__file__).parent / "handlers"

_unseen: list[str] = []
_deselected: list[pytest.Item] = []
_of_workers: list[dict[str, Any]] = []


def listed() -> Iterator[documented.Response]:
    """The answers of functions that the document lists; the gateway's own answers reach no function."""
    for route, operation in OPERATIONS.items():
        yield *route, operation.status, ""
        yield *route, INTERNAL.status, INTERNAL.code
        for problem in map(problem_of, refusals.errors_of(operation)):
            yield *route, problem.status, problem.code


def pytest_deselected(items: list[pytest.Item]) -> None:
    _deselected.extend(items)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Takes what a worker has seen; a worker that died has seen nothing."""
    _of_workers.append(getattr(node, "workeroutput", {}).get("reached", {"all": False, "seen": []}))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    ran = {item.path for item in getattr(session, "items", [])}  # of which the one that began the workers has none
    mine = {"all": ran >= set(_HANDLERS.glob("test_*.py")) and not _deselected, "seen": sorted(documented.seen)}
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["reached"] = mine
        return
    runs = _of_workers or [mine]
    is_partial = exitstatus == pytest.ExitCode.INTERRUPTED or session.config.option.collectonly
    if session.testsfailed or is_partial or not all(run["all"] for run in runs):
        return
    seen = {tuple(answer) for run in runs for answer in run["seen"]}
    _unseen.extend(" ".join(map(str, answer)) for answer in sorted(set(listed()) - seen))
    if _unseen:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for answer in _unseen:
        terminalreporter.write_line(f"FAILED the document lists an answer that no handler test has seen: {answer}")
