"""One key, every way to a turn: whichever comes first pays for it, and the others get the same reply."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import anthropic
import httpx2
import pytest

from tests.fakes import MODEL, OWNER, called, new_session
from tests.stream.conftest import Backstage
from tests.stream.sessions.named_model import NamedModel
from turnlog.domain.sessions import Session, SessionSettings

CLOCK = ("current_time", {"zone": "Europe/Zurich"})


@pytest.fixture
def session(backstage: Backstage, model: NamedModel) -> Session:
    """A session with a tool of the service's own, whose first turn calls it."""
    model.script = [(called(CLOCK, text="I look."), "tool_use")]
    tools = f"[{backstage.offered_tools().definitions['current_time']}]"
    settings = SessionSettings(MODEL, 1000, tools=tools, own_tools=("current_time",))
    made = replace(new_session(), settings=settings)
    backstage.store.create(made, "")
    return made


def as_said(content: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The blocks that a caller sees everywhere: those of all calls but for the calls of own tools themselves."""
    return [block for block in content if block["type"] != "tool_use"]


def of_native(answer: Any) -> list[dict[str, Any]]:
    return as_said([block for step in answer.get("steps", []) for block in step["content"]] + answer["content"])


def buffered(client: anthropic.Anthropic, session_id: str) -> list[dict[str, Any]]:
    return of_native(native(client, session_id, "").json())


def streamed(client: anthropic.Anthropic, session_id: str) -> list[dict[str, Any]]:
    lines = native(client, session_id, "/stream").text.splitlines()
    blocks: list[dict[str, Any]] = []
    for event in (json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")):
        if event["type"] == "content_block_start":
            blocks.append(event["content_block"])
        elif event["type"] == "content_block_delta":
            blocks[event["index"]]["text"] += event["delta"]["text"]
    return as_said(blocks)


def native(client: anthropic.Anthropic, session_id: str, path: str) -> httpx2.Response:
    named = {"Authorization": "Bearer ada", "Idempotency-Key": "a"}
    answer = httpx2.post(
        f"{client.base_url}/v1/sessions/{session_id}/turns{path}", json={"message": "What time is it?"}, headers=named
    )
    assert answer.status_code == 200, answer.text
    return answer


def by_messages(client: anthropic.Anthropic, session_id: str) -> list[dict[str, Any]]:
    return content_of(client.messages.create(**asked(session_id)))


def by_message_stream(client: anthropic.Anthropic, session_id: str) -> list[dict[str, Any]]:
    with client.messages.stream(**asked(session_id)) as stream:
        return content_of(stream.get_final_message())


def asked(session_id: str) -> Any:
    return {
        "model": MODEL,
        "max_tokens": 1000,
        "messages": [{"role": "user", "content": "What time is it?"}],
        "extra_headers": {"Turnlog-Session": session_id, "Idempotency-Key": "a"},
    }


def content_of(message: anthropic.types.Message) -> list[dict[str, Any]]:
    assert message.stop_reason == "end_turn"
    return [block.to_dict() for block in message.content]


Way = Callable[[anthropic.Anthropic, str], list[dict[str, Any]]]
WAYS: list[Way] = [buffered, streamed, by_messages, by_message_stream]


@pytest.mark.parametrize("first", WAYS)
def test_the_reply_is_the_same_whichever_way_comes_first(
    client: anthropic.Anthropic, session: Session, backstage: Backstage, first: Way
) -> None:
    replies = [way(client, session.id) for way in (first, *WAYS)]
    (turn,) = backstage.store.read(OWNER, session.id, backstage.clock(), newest=9).turns
    said = [block for message in turn.messages if message.role == "assistant" for block in message.blocks]
    assert replies == [as_said(said)] * 5
    assert len(as_said(said)) == 2
    assert len(backstage.model.requests) == 2  # one call, and one after its tool


def test_a_message_of_several_calls_has_the_first_ones_id_and_the_sum_of_usage(
    client: anthropic.Anthropic, session: Session
) -> None:
    whole = client.messages.create(**asked(session.id))
    with client.messages.stream(**asked(session.id)) as stream:
        streamed = stream.get_final_message()
    assert streamed.to_dict() == {name: value for name, value in whole.to_dict().items() if name != "turnlog"}
    assert (whole.id, whole.usage.input_tokens, whole.usage.output_tokens) == ("msg_1", 20, 10)
