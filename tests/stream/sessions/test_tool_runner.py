"""The SDK's own tool runner in a session: one pair of headers for every step, and each step is paid once."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic import beta_tool

from tests.fakes import MODEL, OWNER, called
from tests.stream.conftest import Backstage, Served
from tests.stream.sessions.named_model import NamedModel

HEADERS = {"Turnlog-Session": "new", "Idempotency-Key": "a"}


@beta_tool
def look_up(word: str) -> str:
    """Finds a name.

    Args:
        word: The word to find.
    """
    return f"{word} is a name"


class Recording(httpx2.BaseTransport):
    """Sends requests, and keeps their bodies; the answers to the first `cut` tries of each are lost on the way."""

    def __init__(self, cut: int = 0) -> None:
        self._http = httpx2.HTTPTransport()
        self._cut = cut
        self.bodies: list[dict[str, Any]] = []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.read())
        tries = sum(each == body for each in self.bodies)
        self.bodies.append(body)
        answer = self._http.handle_request(request)
        if tries < self._cut:
            answer.read()
            answer.close()
            raise httpx2.ReadError("the answer was lost")
        return answer

    def close(self) -> None:
        self._http.close()


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the SDK repeat at once; that it does so is its own."""
    monkeypatch.setattr(anthropic.Anthropic, "_calculate_retry_timeout", lambda *_: 0)


@pytest.fixture(autouse=True)
def _script(model: NamedModel) -> None:
    """Calls the tool twice, and then replies."""
    model.script = [
        (called(("look_up", {"word": "ada"}), text="I look."), "tool_use"),
        (called(("look_up", {"word": "grace"}), ("look_up", {"word": "mary"}), first=2), "tool_use"),
    ]


def recorded(door: Served, sent: Recording) -> anthropic.Anthropic:
    http = anthropic.DefaultHttpxClient(transport=sent)
    return anthropic.Anthropic(base_url=door.url, auth_token="ada", http_client=http)


def run(door: Served, sent: Recording, **more: Any) -> list[Any]:
    """All messages of a runner that works from one question to its end."""
    asked: dict[str, Any] = {
        "model": MODEL,
        "max_tokens": 1000,
        "system": "Be brief.",
        "tools": [look_up],
        "messages": [{"role": "user", "content": "Who is who?"}],
        "extra_headers": HEADERS,
    }
    with recorded(door, sent) as made:
        runner: Any = made.beta.messages.tool_runner(**asked | more)
        if more.get("stream"):
            return [stream.get_final_message() for stream in runner]
        return list(runner)


def require_three_turns(stage: Backstage, model: NamedModel, messages: list[Any]) -> None:
    """Asserts that the session has the runner's three steps as its turns, and that each was paid once."""
    assert [message.stop_reason for message in messages] == ["tool_use", "tool_use", "end_turn"]
    assert len(model.requests) == 3
    (session_id,) = stage.store.session_ids(OWNER)
    turns = stage.store.read(OWNER, session_id, stage.clock(), newest=25).turns
    assert [message.id for message in messages] == [turn.calls[0].id for turn in turns]
    results = [json.loads(turn.message.content) for turn in turns[1:]]
    assert [[block["content"] for block in each] for each in results] == [
        ["ada is a name"],
        ["grace is a name", "mary is a name"],
    ]


@pytest.mark.parametrize("cut", [0, 1])
@pytest.mark.parametrize("stream", [False, True])
def test_its_thread_is_the_session(
    door: Served, backstage: Backstage, model: NamedModel, cut: int, *, stream: bool
) -> None:
    sent = Recording(cut)
    require_three_turns(backstage, model, run(door, sent, stream=stream))
    threads = [body["thread"] for body in sent.bodies]
    assert threads[0] == {"type": "create"}
    assert threads[-1] == {"type": "continue", "previous_message_id": "msg_2"}
    assert "tools" not in sent.bodies[-1]


@pytest.mark.parametrize("cut", [0, 1])
@pytest.mark.parametrize("stream", [False, True])
def test_without_a_thread_it_sends_the_whole_conversation(
    door: Served, backstage: Backstage, model: NamedModel, cut: int, *, stream: bool
) -> None:
    sent = Recording(cut)
    require_three_turns(backstage, model, run(door, sent, stream=stream, thread=False))
    assert [len(body["messages"]) for body in sent.bodies] == [n for n in (1, 3, 5) for _ in range(cut + 1)]
