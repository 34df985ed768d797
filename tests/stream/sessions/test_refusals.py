"""Turns of a session that go wrong at the Messages API's door: told in its form, and noted."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any

import anthropic
import httpx2
import pydantic
import pytest

from tests.fakes import MODEL, OWNER
from tests.stream.conftest import Backstage, Served
from tests.stream.sessions.named_model import NamedModel
from turnlog.domain.messages import ModelRequest, Reply
from turnlog.domain.reply_events import OnEvent, events_of
from turnlog.errors import ModelFailed

CANARY = "Xanary"
SAID = f"{CANARY} said"


@dataclass
class Failing(NamedModel):
    """Tells the first events of a reply, and then fails."""

    def reply(
        self, request: ModelRequest, seconds: float, on_event: OnEvent | None = None, *, retry_s: float | None = None
    ) -> Reply:
        reply = super().reply(request, seconds, retry_s=retry_s)
        if on_event:
            all(map(on_event, list(events_of(reply))[:3]))
        raise ModelFailed


def asked(key: str = "a", session: str = "new", **more: Any) -> Any:
    return {
        "model": MODEL,
        "max_tokens": 1000,
        "messages": [{"role": "user", "content": SAID}],
        "extra_headers": {"Turnlog-Session": session, "Idempotency-Key": key},
    } | more


def test_an_error_after_the_first_words_is_an_event_that_clients_raise(
    client: anthropic.Anthropic, backstage: Backstage
) -> None:
    backstage.model = Failing()
    heard = []
    with pytest.raises(anthropic.APIStatusError) as failed, client.messages.stream(**asked()) as stream:
        for text in stream.text_stream:
            heard.append(text)  # noqa: PERF402 (those before the error are kept)
    body: Any = failed.value.body
    assert heard
    assert body["error"]["details"]["error_code"] == "model_failed"
    assert "problem" not in body
    (session_id,) = backstage.store.session_ids(OWNER)
    assert backstage.store.read(OWNER, session_id, backstage.clock(), newest=1).count == 0


def test_an_answer_by_a_schema_is_read_by_the_sdk(client: anthropic.Anthropic, backstage: Backstage) -> None:
    class Heron(pydantic.BaseModel):
        legs: int

    first = client.messages.parse(**asked(output_format=Heron))
    assert isinstance(first.parsed_output, Heron)
    (session_id,) = backstage.store.session_ids(OWNER)
    again = client.messages.parse(**asked("b", session_id, output_format=Heron))
    assert isinstance(again.parsed_output, Heron)
    assert len(backstage.model.requests) == 2


def test_an_anonymous_caller_is_not_let_in(door: Served, backstage: Backstage) -> None:
    credential = {"Authorization": "Session " + "A" * 43}
    answer = httpx2.post(f"{door.url}/v1/messages", json={}, headers=credential | asked()["extra_headers"])
    assert (answer.status_code, answer.json()["error"]["type"]) == (403, "permission_error")
    assert backstage.model.requests == []


def test_whoever_is_not_let_into_a_session_is_noted_with_it(client: anthropic.Anthropic, backstage: Backstage) -> None:
    for named in ("ses_" + "a" * 22, "ses_short"):
        with pytest.raises(anthropic.APIStatusError):
            client.messages.create(**asked(session=named))
    (noted,) = backstage.audit.events
    assert (noted["action"], noted["reason"], noted["route"]) == ("denied", "session_not_found", "POST /messages")
    assert len(noted["session"]) == 10


def test_a_session_that_began_is_noted_once(client: anthropic.Anthropic, backstage: Backstage) -> None:
    client.messages.create(**asked())
    client.messages.create(**asked())
    with pytest.raises(anthropic.UnprocessableEntityError):
        client.messages.create(**asked(messages=[{"role": "user", "content": "another"}]))
    assert backstage.audit.actions == ["create"]


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"system": SAID, "stop_sequences": [SAID], "metadata": {"user_id": SAID}},
        {"model": CANARY},
        {"tools": [{"name": CANARY, "input_schema": {"type": "object", "title": SAID}}]},
        {"tools": [{"type": CANARY, "name": CANARY}]},
        {"tool_choice": {"type": "tool", "name": CANARY}},
        {"thinking": {"type": CANARY}},
        {"extra_body": {CANARY: SAID}},
        {"extra_body": {"thread": {"type": CANARY}}},
        {"extra_body": {"thread": {"type": "continue", "previous_message_id": CANARY}}},
        {"output_config": {"effort": CANARY}},
        {"messages": [{"role": CANARY, "content": SAID}]},
        {"messages": [{"role": "user", "content": [{"type": CANARY, CANARY: SAID}]}]},
        {"messages": [{"role": "user", "content": SAID}, {"role": "assistant", "content": SAID}]},
        {"messages": [*asked()["messages"], {"role": "assistant", "content": SAID}, *asked()["messages"]]},
        {"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": CANARY, "content": SAID}]}]},
        {"extra_headers": {"Turnlog-Session": CANARY, "Idempotency-Key": CANARY}},
        {"extra_headers": {"Turnlog-Session": "new", "Idempotency-Key": CANARY * 50}},
    ],
    ids=str,
)
def test_nothing_of_a_request_comes_out_but_in_its_reply(
    client: anthropic.Anthropic, backstage: Backstage, logged: io.StringIO, more: dict[str, Any]
) -> None:
    failed = ""
    try:
        client.messages.create(**asked(**more))
    except anthropic.APIStatusError as error:
        assert error.status_code < 500
        failed = error.response.text + str(error.response.headers)
    assert CANARY not in failed + logged.getvalue() + json.dumps(backstage.audit.events)


def test_a_body_that_is_nested_without_end_is_refused(door: Served, backstage: Backstage) -> None:
    for depth in (200, 900, 15_000):
        body = '{"messages":[{"role":"user","content":' + '[{"content":' * depth + '"a"' + "}]" * depth + "}]}"
        answer = httpx2.post(
            f"{door.url}/v1/messages",
            content=body,
            headers={"Authorization": "Bearer ada", "Content-Type": "application/json"} | asked()["extra_headers"],
        )
        assert answer.status_code == 400, depth
    assert backstage.model.requests == []


@pytest.mark.parametrize("kind", [{}, [], 1, True])
def test_a_tool_whose_type_is_no_text_is_refused(kind: Any, client: anthropic.Anthropic, backstage: Backstage) -> None:
    with pytest.raises(anthropic.BadRequestError):
        client.messages.create(**asked(), extra_body={"tools": [{"type": kind, "name": "look_up", "input_schema": {}}]})
    assert backstage.model.requests == []


def test_a_turn_that_is_refused_is_no_refusal_of_its_session(client: anthropic.Anthropic, backstage: Backstage) -> None:
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "7"}
    with pytest.raises(anthropic.APIStatusError) as refused:
        client.messages.create(**asked(messages=[{"role": "user", "content": [result]}]))
    body: Any = refused.value.body
    assert body["error"]["details"]["error_code"] == "tool_result_unexpected"
    assert backstage.audit.actions == ["create"]
