"""One key, every way to a turn: whichever comes first pays for it, and the others get the same reply."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import anthropic
import httpx2
import pytest

from tests.fakes import MODEL, OWNER, called, new_session
from tests.stream.conftest import Backstage, Served, running
from tests.stream.named_model import NamedModel
from turnlog.domain.sessions import Session, SessionSettings
from turnlog.entrypoints.http import turns
from turnlog.entrypoints.stream import NATIVE, make_app
from turnlog.entrypoints.stream.doors import Door
from turnlog.entrypoints.stream.messages.door import MESSAGES

CLOCK = ("current_time", {"zone": "Europe/Zurich"})
BUFFERED = Door({("POST", "/sessions/{id}/turns"): turns.take})


@pytest.fixture
def session(backstage: Backstage) -> Session:
    """A session with a tool of the service's own, whose first turn calls it."""
    backstage.model = NamedModel(script=[(called(CLOCK, text="I look."), "tool_use")])
    tools = f"[{backstage.offered_tools().definitions['current_time']}]"
    settings = SessionSettings(MODEL, 1000, tools=tools, own_tools=("current_time",))
    made = replace(new_session(), settings=settings)
    backstage.store.create(made, "")
    return made


@pytest.fixture
def door(session: Session) -> Iterator[Served]:
    yield from running(make_app(NATIVE, MESSAGES, BUFFERED))


def as_said(content: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The blocks that a caller sees everywhere: those of all calls but for the calls of own tools themselves."""
    return [block for block in content if block["type"] != "tool_use"]


def of_native(answer: Any) -> list[dict[str, Any]]:
    return as_said([block for step in answer.get("steps", []) for block in step["content"]] + answer["content"])


def buffered(door: Served, session_id: str) -> list[dict[str, Any]]:
    return of_native(native(door, session_id, "").json())


def streamed(door: Served, session_id: str) -> list[dict[str, Any]]:
    lines = native(door, session_id, "/stream").text.splitlines()
    blocks: list[dict[str, Any]] = []
    for event in (json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")):
        if event["type"] == "content_block_start":
            blocks.append(event["content_block"])
        elif event["type"] == "content_block_delta":
            blocks[event["index"]]["text"] += event["delta"]["text"]
    return as_said(blocks)


def native(door: Served, session_id: str, path: str) -> httpx2.Response:
    named = {"Authorization": "Bearer ada", "Idempotency-Key": "a"}
    answer = httpx2.post(
        f"{door.url}/v1/sessions/{session_id}/turns{path}", json={"message": "What time is it?"}, headers=named
    )
    assert answer.status_code == 200, answer.text
    return answer


def by_messages(door: Served, session_id: str) -> list[dict[str, Any]]:
    with anthropic.Anthropic(base_url=door.url, auth_token="ada", max_retries=0) as client:
        return content_of(client.messages.create(**asked(session_id)))


def by_message_stream(door: Served, session_id: str) -> list[dict[str, Any]]:
    with (
        anthropic.Anthropic(base_url=door.url, auth_token="ada", max_retries=0) as client,
        client.messages.stream(**asked(session_id)) as stream,
    ):
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


WAYS = [buffered, streamed, by_messages, by_message_stream]


@pytest.mark.parametrize("first", WAYS)
def test_the_reply_is_the_same_whichever_way_comes_first(
    door: Served, session: Session, backstage: Backstage, first: Callable[[Served, str], list[dict[str, Any]]]
) -> None:
    replies = [way(door, session.id) for way in (first, *WAYS)]
    (turn,) = backstage.store.read(OWNER, session.id, backstage.clock(), newest=9).turns
    said = [block for message in turn.messages if message.role == "assistant" for block in message.blocks]
    assert replies == [as_said(said)] * 5
    assert len(as_said(said)) == 2
    assert len(backstage.model.requests) == 2  # one call, and one after its tool


def test_a_message_of_several_calls_has_the_first_ones_id_and_the_sum_of_usage(
    door: Served, session: Session, backstage: Backstage
) -> None:
    with anthropic.Anthropic(base_url=door.url, auth_token="ada", max_retries=0) as client:
        whole = client.messages.create(**asked(session.id))
        with client.messages.stream(**asked(session.id)) as stream:
            streamed = stream.get_final_message()
    assert streamed.to_dict() == {name: value for name, value in whole.to_dict().items() if name != "turnlog"}
    assert (whole.id, whole.usage.input_tokens, whole.usage.output_tokens) == ("msg_1", 20, 10)
