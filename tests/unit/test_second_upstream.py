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

from tests.fakes import Heard
from turnlog.adapters.claude import Claude
from turnlog.domain.messages import Message, ModelRequest, ModelSettings
from turnlog.domain.reply_events import ReplyEvent
from turnlog.domain.turns import STOPPED
from turnlog.errors import (
    ContextTooLong,
    ModelAccessDenied,
    ModelError,
    ModelFailed,
    ModelProtocolError,
    ModelUnavailable,
)

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


def go_on(event: ReplyEvent) -> bool:
    return True


@pytest.mark.parametrize(
    "message", ["Herons eat fish.", "Grüße ☃, \u2028 and a long tail. " * 40], ids=["short", "long"]
)
def test_a_streamed_reply_is_the_one_that_comes_whole(claude: Claude, message: str) -> None:
    heard = Heard()
    request = asked(Message.of_text(message))
    reply, whole = claude.reply(request, 10, heard.hear), claude.reply(request, 10)
    assert reply.message.blocks == whole.message.blocks
    assert reply.usage.tokens == whole.usage.tokens > 0
    assert (reply.model, reply.stop_reason) == (whole.model, whole.stop_reason)
    assert [event.type for event in heard].count("content_block_delta") > 1


def test_a_streamed_call_of_a_tool_is_the_one_that_comes_whole(claude: Claude, mock: str) -> None:
    called = {"name": "look_up", "arguments": {"word": "heron", "deep": [{"a": None, "b": 1.5, "c": "ü☃"}]}}
    scenario(mock, {"type": "reply", "text": "I look it up.", "tool_calls": [called, called], "times": 2})
    reply, whole = claude.reply(asked(), 10, go_on), claude.reply(asked(), 10)
    assert [block | {"id": ""} for block in reply.message.blocks if block["type"] == "tool_use"] == [
        block | {"id": ""} for block in whole.message.blocks if block["type"] == "tool_use"
    ]
    assert [block.get("input") for block in reply.message.blocks] == [None, called["arguments"], called["arguments"]]


@pytest.mark.parametrize("after", [0, 1, 2, 3, 4])
@pytest.mark.parametrize(
    ("kind", "error"),
    [("disconnect", ModelFailed), ("truncate", ModelProtocolError), ("malformed", ModelProtocolError)],
)
def test_a_broken_stream_is_no_reply(claude: Claude, mock: str, kind: str, after: int, error: type[ModelError]) -> None:
    scenario(mock, {"type": "stream_fault", "kind": kind, "after_chunks": after})
    with pytest.raises(ModelError) as failed:
        claude.reply(asked(), 10, go_on)
    assert (type(failed.value), failed.value.billed) == (error, True)
    assert httpx2.get(f"{mock}/_llmock/requests").json()["count"] == 1


def test_a_refused_stream_is_asked_for_again(claude: Claude, mock: str) -> None:
    scenario(mock, {"type": "fail", "status": 529, "times": 1})
    assert claude.reply(asked(), 10, go_on).stop_reason == "end_turn"
    assert httpx2.get(f"{mock}/_llmock/requests").json()["count"] == 2


def test_a_stream_is_stopped_where_its_listener_says_so(claude: Claude) -> None:
    heard = Heard()

    def hear(event: ReplyEvent) -> bool:
        heard.append(event)
        return event.type != "content_block_delta"

    reply = claude.reply(asked(), 10, hear)
    assert reply.stop_reason == STOPPED
    assert reply.text
    assert heard[-1].type == "content_block_delta"
    assert claude.reply(asked(), 10, go_on).stop_reason == "end_turn"
