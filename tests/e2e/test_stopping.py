"""`make run` stopped, killed and started again: nothing is left running, and no session is lost.

The order of the tests needs few starts; each works alone too.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import httpx2
import pytest

from local.claude_stand_in import StandIn
from local.processes import commands_of
from tests.e2e.stack import PATIENCE_S, Stack

KEY = {"Idempotency-Key": "cut"}
LONG = {"message": "The word is wagtail. Write 100 words over 3 seconds."}


@pytest.fixture
def running(stack: Stack) -> Stack:
    """The stack, running with the stand-in whatever the test before has left."""
    stack.ensure_running()
    return stack


@pytest.fixture
def stopped(stack: Stack) -> Stack:
    """The stack, stopped."""
    if stack.is_running:
        stack.stop()
    return stack


@contextmanager
def streaming(stack: Stack, session_id: str) -> Iterator[None]:
    """A turn of a session is on its way in the block, which must cut it so that nobody takes it for a whole one."""
    with stack.listen(f"/sessions/{session_id}/turns/stream", json=LONG, headers=KEY) as events:
        next(name for name, _ in events if name == "content_block_delta")
        yield
        rest: list[str] = []
        with suppress(httpx2.HTTPError):  # unless it has heard first that Claude has gone
            rest.extend(name for name, _ in events)
    assert not {"message_stop", "turnlog.done"} & set(rest)


def require_whole(stack: Stack, session_id: str) -> None:
    """Fails unless the turn that was cut is taken under its key after all, as soon as its lease is over."""
    stack.end_leases()
    with stack.listen(f"/sessions/{session_id}/turns/stream", json=LONG, headers=KEY) as events:
        heard = list(events)
    assert (heard[0][1]["turn"], heard[-1][0]) == (2, "turnlog.done")
    assert stack.recalls(session_id, "wagtail")


def test_a_session_survives_a_restart_in_mid_stream_which_builds_nothing(running: Stack) -> None:
    session_id = running.new_session("cormorant")
    before = running.api_url
    with streaming(running, session_id):
        running.stop(signal.SIGINT)
    assert running.remains == []
    running.start()
    assert running.api_url == before
    assert "building" not in running.output
    assert "deploying" not in running.output
    assert running.recalls(session_id, "cormorant")
    require_whole(running, session_id)


def test_a_session_survives_a_kill_of_the_launcher_in_mid_stream(running: Stack) -> None:
    session_id = running.new_session("albatross")
    old = set(running.run["pids"])
    with streaming(running, session_id):
        running.kill()
    running.start()
    assert not old & set(running.run["pids"])
    assert sum("local.ministack_server" in command for command in commands_of(running.state)) == 1
    assert running.recalls(session_id, "albatross")
    require_whole(running, session_id)


def test_a_start_after_a_kill_of_everything_comes_up(running: Stack) -> None:
    launcher, ministack = running.run["pids"]
    os.killpg(ministack, signal.SIGKILL)
    running.kill()
    running.start()
    assert running.run["pids"][0] != launcher
    assert running.ask("POST", "/query", json={"message": "hi"}).status_code == 200


def test_a_busy_function_does_not_hold_the_stop(running: Stack, until: Callable[..., None]) -> None:
    calls = running.model_calls()
    running.fail("silence", match="patience")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(running.ask, "POST", "/query", json={"message": "patience"})
        until(lambda: running.model_calls() > calls)
        running.stop(signal.SIGINT)
        # An answer of the function itself would mean that the stop has waited for it.
        assert waiting.exception() or "model_timeout" not in waiting.result().text
    assert running.remains == []


def test_a_start_can_be_stopped_at_any_moment(stopped: Stack, until: Callable[..., None]) -> None:
    for moment in ("Claude: ", "MiniStack answers", "checking all", "the model answers"):
        stopped.begin()
        until(lambda moment=moment: moment in stopped.output, PATIENCE_S)
        stopped.stop(signal.SIGINT)
        said = [line for line in stopped.output.splitlines() if line]  # a line may be cut where it is stopped
        assert said[-2:] == ["stopping", "stopped; sessions are kept until `make clean`"]
        assert stopped.remains == []


def test_a_real_key_reaches_claude_and_no_file(stopped: Stack) -> None:
    key = "sk-ant-canary-of-the-launcher-test"
    with StandIn() as claude:
        stopped.start(ANTHROPIC_API_KEY=key, CLAUDE_BASE_URL=claude.url)
        assert stopped.run["claude"] == claude.url
        assert stopped.ask("POST", "/query", json={"message": "hi"}).status_code == 200
        assert claude.requests[-1].authorised
        stopped.stop()
    files = [file for file in stopped.state.rglob("*") if file.is_file()]
    assert [str(file) for file in files if key.encode() in file.read_bytes()] == []
    assert key not in stopped.output
