"""One stack for all end-to-end tests, since a start takes many seconds; each module begins with a running one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.stack import STATE, Stack


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    stack = Stack(STATE)
    try:
        stack.start()  # here, so that Ctrl-C meanwhile leaves nothing running
        yield stack
        stack.close()
        if stack.is_running:
            stack.stop()
        assert stack.remains == []
    finally:
        stack.kill()


@pytest.fixture(scope="module", autouse=True)
def _running(stack: Stack) -> None:
    stack.ensure_running()


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """Waits for something that another process does."""

    def wait(happened: Callable[[], bool], within_s: float = 20) -> None:
        deadline = time.monotonic() + within_s
        while not happened():
            assert time.monotonic() < deadline, "it never happened"
            time.sleep(0.05)

    return wait
