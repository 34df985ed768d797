"""Sessions at the door with the stand-in behind, whose replies think, call tools and search, as Claude's do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic import beta_tool

from local.claude_stand_in import StandIn
from tests.fakes import MODEL, OWNER
from tests.handlers.conftest import Backstage
from turnlog import runtime
from turnlog.adapters.claude import Claude

ASKED: dict[str, Any] = {"model": MODEL, "max_tokens": 2000, "thinking": {"type": "adaptive"}}


@beta_tool
def look_up(word: str) -> str:
    """Finds a name.

    Args:
        word: The word to find.
    """
    return f"{word} is a name"


def _key(*, renewed: bool = False) -> str:
    return "sk-ant-renewed" if renewed else "sk-ant-key"


@pytest.fixture(autouse=True)
def claude(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    with StandIn(port=0) as upstream:
        model = Claude(upstream.url, _key, allows_stand_in=True, note_call=lambda **_: None)
        monkeypatch.setattr(runtime, "chat_model", lambda: model)
        yield upstream


def headers(key: str, session: str = "new") -> dict[str, str]:
    return {"Turnlog-Session": session, "Idempotency-Key": key}


@pytest.mark.parametrize("thread", [{}, {"thread": False}], ids=["in a thread", "whole conversations"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_runner_goes_on_with_what_claude_really_says(
    client: anthropic.Anthropic, backstage: Backstage, claude: StandIn, thread: dict[str, bool], *, stream: bool
) -> None:
    said = 'Think hard. Call the tool look_up with {"word": "ada"}, then call look_up with {"word": "grace"}.'
    asked: dict[str, Any] = {
        "messages": [{"role": "user", "content": said}],
        "tools": [look_up],
        "stream": stream,
        "extra_headers": headers("a"),
    }
    runner: Any = client.beta.messages.tool_runner(**ASKED | asked | thread)
    messages = [each.get_final_message() for each in runner] if stream else list(runner)
    assert [message.stop_reason for message in messages] == ["tool_use", "tool_use", "end_turn"]
    assert messages[0].content[0].type == "thinking"
    (session_id,) = backstage.store.session_ids(OWNER)
    assert backstage.store.read(OWNER, session_id, backstage.clock(), newest=9).count == len(claude.requests) == 3


@pytest.mark.parametrize("stream", [False, True])
def test_a_conversation_is_known_again_whatever_is_in_it(
    client: anthropic.Anthropic, backstage: Backstage, claude: StandIn, *, stream: bool
) -> None:
    backstage.web = True
    said: list[Any] = []
    for number, text in enumerate(
        [
            "Think twice.",
            "Search the web for herons.",
            "Answer with redacted thinking",
            "What time is it in Asia/Tokyo?",
        ]
    ):
        said.append({"role": "user", "content": text})
        (session_id,) = backstage.store.session_ids(OWNER) or ["new"]
        asked = ASKED | {"tools": ["current_time", "web_search"], "extra_headers": headers(f"k{number}", session_id)}
        if stream:
            with client.messages.stream(messages=said, **asked) as streamed:
                message: anthropic.types.Message = streamed.get_final_message()
        else:
            message = client.messages.create(messages=said, **asked)
        assert message.stop_reason == "end_turn"
        said.append({"role": message.role, "content": message.content})
    assert len(claude.requests) == 5  # one for each message, and one after the tool of the service
