"""Another Claude that nobody here wrote: the public mock llmock, in a process of its own, asked by the same adapter.

What holds for both it and the stand-in does not come from a mistake that the stand-in and the adapter share.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from turnlog.adapters.claude import Claude
from turnlog.domain.messages import Message, ModelRequest, ModelSettings
from turnlog.errors import ContextTooLong, ModelAccessDenied, ModelError, ModelFailed, ModelUnavailable

UP_WITHIN_S = 20.0
HELLO = Message.of_text("Herons eat fish.")


@pytest.fixture(scope="module")
def mock() -> Iterator[str]:
    """The address of an llmock that repeats what it is told."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = [sys.executable, str(Path(sys.executable).parent / "llmock")]
    command = [*program, "serve", "--port", str(port), "--response-style", "echo", "--log-level", "error"]
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            wait_for(f"{url}/anthropic/v1/models", server)
            yield url
        finally:
            server.terminate()


def wait_for(address: str, server: subprocess.Popen[bytes]) -> None:
    """Returns once something answers there. Raises TimeoutError when nothing does in time."""
    deadline = time.monotonic() + UP_WITHIN_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            httpx2.get(address, timeout=1)
        except httpx2.TransportError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(address)


def the_key(*, renewed: bool = False) -> str:
    return "a key"


@pytest.fixture
def claude(mock: str) -> Iterator[Claude]:
    scenario(mock)
    yield Claude(f"{mock}/anthropic", the_key, sleep=lambda _: None)


def scenario(mock: str, *behaviors: dict[str, Any]) -> None:
    """Makes the next calls behave so, and forgets what was ordered before."""
    httpx2.post(f"{mock}/_llmock/reset").raise_for_status()
    if behaviors:
        httpx2.post(f"{mock}/_llmock/scenario", json={"behaviors": behaviors}).raise_for_status()


def asked(*messages: Message, **settings: Any) -> ModelRequest:
    return ModelRequest(ModelSettings("claude-sonnet-5-5", 1000, **settings), messages or (HELLO,), cached="5m")


def test_a_conversation_is_answered(claude: Claude) -> None:
    first = claude.reply(asked(system="Be kind."), seconds=10)
    assert "Herons eat fish." in first.text
    second = claude.reply(asked(HELLO, first.message, Message.of_text("And frogs?")), seconds=10)
    assert "And frogs?" in second.text
    assert (second.model, second.stop_reason) == ("claude-sonnet-5-5", "end_turn")
    assert second.usage.tokens > 0


@pytest.mark.parametrize("status", [429, 529])
def test_a_refusal_that_was_not_billed_is_tried_again(claude: Claude, mock: str, status: int) -> None:
    scenario(mock, {"type": "fail", "status": status, "times": 1})
    assert claude.reply(asked(), seconds=10).stop_reason == "end_turn"
    assert httpx2.get(f"{mock}/_llmock/requests").json()["count"] == 2


@pytest.mark.parametrize(
    ("status", "error"), [(401, ModelAccessDenied), (500, ModelFailed), (429, ModelUnavailable), (413, ContextTooLong)]
)
def test_its_errors_mean_what_claudes_mean(claude: Claude, mock: str, status: int, error: type[ModelError]) -> None:
    scenario(mock, {"type": "fail", "status": status, "times": 9, "retry_after": 60})
    with pytest.raises(error):
        claude.reply(asked(), seconds=5)


def test_a_call_of_a_tool_is_kept_as_it_came(claude: Claude, mock: str) -> None:
    called = {"name": "look_up", "arguments": {"word": "heron"}}
    scenario(mock, {"type": "reply", "tool_calls": [called]})
    reply = claude.reply(asked(), seconds=10)
    block = reply.message.blocks[-1]
    assert (reply.stop_reason, block["type"], block["input"]) == ("tool_use", "tool_use", {"word": "heron"})
