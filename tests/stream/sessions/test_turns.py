"""Turns of a session through Anthropic's own SDK, as people use it."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import pytest

from tests.fakes import MODEL, OWNER, expected_text
from tests.stream.conftest import Backstage, Served
from tests.stream.sessions.named_model import NamedModel
from turnlog.domain.sessions import SessionView
from turnlog.entrypoints.stream.streamed import LONGEST_SILENCE_S
from turnlog.errors import ModelUnavailable

HELLO: Any = [{"role": "user", "content": "hello"}]
LOOK_UP = {"name": "look_up", "description": "Finds a name.", "input_schema": {"type": "object", "properties": {}}}
ASKED: dict[str, Any] = {"model": MODEL, "max_tokens": 1000}


def headers(key: str, session: str = "new") -> dict[str, str]:
    return {"Turnlog-Session": session, "Idempotency-Key": key}


def events(text: str) -> tuple[list[str], list[dict[str, Any]]]:
    """The names and the data of a stream's events."""
    lines = text.splitlines()
    names = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    return names, [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]


def details(error: anthropic.APIStatusError) -> Any:
    """The details of an error, our code among them."""
    body: Any = error.body
    return body["error"]["details"]


def stored(stage: Backstage, session_id: str) -> SessionView:
    return stage.store.read(OWNER, session_id, stage.clock(), newest=25)


def begin(client: anthropic.Anthropic, key: str = "first", **more: Any) -> str:
    """A new session with one turn; its id."""
    answer = client.messages.with_raw_response.create(messages=HELLO, **ASKED | more, extra_headers=headers(key))
    return answer.headers["turnlog-session"]


def test_a_session_begins_and_its_message_is_claudes(client: anthropic.Anthropic, backstage: Backstage) -> None:
    answer = client.messages.with_raw_response.create(
        messages=HELLO, system="Be brief.", **ASKED, extra_headers=headers("a")
    )
    message, session_id = answer.parse(), answer.headers["turnlog-session"]
    turn = stored(backstage, session_id).turns[0]
    assert message.id == "msg_1"
    assert (message.type, message.role, message.model, message.stop_reason) == (
        "message",
        "assistant",
        MODEL,
        "end_turn",
    )
    assert [block.to_dict() for block in message.content] == turn.reply.message.blocks
    assert message.usage.to_dict() == turn.usage.fields
    assert answer.headers["turnlog-turn"] == "1"
    assert answer.headers["turnlog-expires"] == message.to_dict()["turnlog"]["expires_at"]
    assert "idempotent-replayed" not in answer.headers


def test_the_next_turn_brings_its_history(client: anthropic.Anthropic, model: NamedModel, backstage: Backstage) -> None:
    session_id = begin(client)
    message = client.messages.create(
        messages=[{"role": "user", "content": "and now?"}], **ASKED, extra_headers=headers("b", session_id)
    )
    sent = model.requests[-1].messages
    assert [each.text for each in sent] == ["hello", stored(backstage, session_id).turns[0].reply.text, "and now?"]
    assert message.content[0].to_dict()["text"] == expected_text(sent)


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_model_that_refuses_is_given_up_while_a_status_can_say_so(
    is_stream: bool, client: anthropic.Anthropic, model: NamedModel
) -> None:
    """After a minute of silence a whole answer begins without one, so that clients take an error for a message."""
    client.messages.create(messages=HELLO, **ASKED, stream=is_stream, extra_headers=headers("a"))
    assert model.retry_s[0] is not None
    assert 50 < model.retry_s[0] < LONGEST_SILENCE_S


def test_a_stream_is_put_together_to_the_same_message(client: anthropic.Anthropic, model: NamedModel) -> None:
    with client.messages.stream(messages=HELLO, **ASKED, extra_headers=headers("a")) as stream:
        text = "".join(stream.text_stream)
        streamed = stream.get_final_message().to_dict()
    whole = client.messages.create(messages=HELLO, **ASKED, extra_headers=headers("a")).to_dict()
    assert whole.pop("turnlog")
    assert streamed == whole
    assert text == whole["content"][0]["text"]
    assert len(model.requests) == 1


def test_the_last_event_has_what_the_messages_api_has_no_field_for(door: Served, client: anthropic.Anthropic) -> None:
    answer = client.messages.with_raw_response.create(messages=HELLO, **ASKED, extra_headers=headers("a"), stream=True)
    kinds, data = events(answer.http_response.read().decode())
    assert kinds[0] == "turnlog.turn"
    assert kinds[-2:] == ["message_stop", "turnlog.done"]
    first, last = data[0], data[-1]
    session_id = answer.headers["turnlog-session"]
    assert first == {
        "type": "turnlog.turn",
        "session_id": session_id,
        "turn": 1,
        "replayed": False,
        "idempotency_key": "a",
    }
    again = client.messages.create(messages=HELLO, **ASKED, extra_headers=headers("a")).to_dict()
    facts: Any = again["turnlog"]
    assert last == {"type": "turnlog.done", "usage": again["usage"], "replayed": False} | facts
    assert (facts["session_id"], facts["turn"]) == (session_id, 1)


def test_settings_may_be_named_as_they_are(client: anthropic.Anthropic, backstage: Backstage) -> None:
    settings: Any = {
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "tools": [LOOK_UP],
        "tool_choice": {"type": "auto"},
        "thinking": {"type": "adaptive"},
        "output_config": {"effort": "low"},
        "stop_sequences": ["END"],
    }
    session_id = begin(client, **settings)
    again = settings | {"system": "Be brief."}
    client.messages.create(messages=HELLO, **ASKED, **again, extra_headers=headers("b", session_id))
    assert stored(backstage, session_id).count == 2


def test_another_setting_is_refused_with_the_sessions_own(client: anthropic.Anthropic, model: NamedModel) -> None:
    session_id = begin(client)
    for named in ("new", session_id):
        with pytest.raises(anthropic.BadRequestError) as refused:
            client.messages.create(
                messages=HELLO,
                **ASKED | {"max_tokens": 2000},
                extra_headers=headers("first" if named == "new" else "b", named),
            )
    assert details(refused.value) == {"error_code": "setting_settled", "pointer": "/max_tokens", "allowed": ["1000"]}
    assert len(model.requests) == 1


# --- refusals, in the envelope


@pytest.mark.parametrize("named", ["", "ses_", "NEW", "ses_" + "a" * 23, "new, new"])
def test_a_malformed_session_is_refused(client: anthropic.Anthropic, model: NamedModel, named: str) -> None:
    with pytest.raises(anthropic.BadRequestError) as refused:
        client.messages.create(messages=HELLO, **ASKED, extra_headers=headers("a", named))
    assert details(refused.value)["error_code"] == "turnlog_session_invalid"
    assert model.requests == []


def test_a_session_needs_a_key(client: anthropic.Anthropic, model: NamedModel) -> None:
    with pytest.raises(anthropic.BadRequestError) as refused:
        client.messages.create(messages=HELLO, **ASKED, extra_headers={"Turnlog-Session": "new"})
    assert details(refused.value)["error_code"] == "idempotency_key_missing"
    assert model.requests == []


def test_a_foreign_an_ended_and_an_unknown_session_are_one_answer(
    client: anthropic.Anthropic, door: Served, backstage: Backstage
) -> None:
    ended, foreign = begin(client, "a"), begin(client.with_options(auth_token="grace"), "b")
    backstage.store.delete(OWNER, ended, backstage.clock())
    bodies = set()
    for named in (ended, foreign, "ses_" + "a" * 22):
        with pytest.raises(anthropic.NotFoundError) as refused:
            client.messages.create(messages=HELLO, **ASKED, extra_headers=headers("c", named))
        body: Any = refused.value.body
        assert body["error"]["type"] == "not_found_error"
        bodies.add(json.dumps(body["error"]))
    assert len(bodies) == 1
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(messages=HELLO, **ASKED, extra_headers=headers("a"))  # and none begins under its key


def test_a_key_stands_for_one_message(client: anthropic.Anthropic, model: NamedModel) -> None:
    begin(client, "a")
    with pytest.raises(anthropic.UnprocessableEntityError) as refused:
        client.messages.create(messages=[{"role": "user", "content": "another"}], **ASKED, extra_headers=headers("a"))
    assert details(refused.value)["error_code"] == "idempotency_key_reused"
    assert len(model.requests) == 1


def test_a_busy_session_says_when_to_come_again(client: anthropic.Anthropic, model: NamedModel) -> None:
    session_id = begin(client)
    seen: list[anthropic.APIStatusError] = []

    def meanwhile() -> None:
        model.during = None
        with pytest.raises(anthropic.ConflictError) as refused:
            client.messages.create(messages=HELLO, **ASKED, extra_headers=headers("c", session_id))
        seen.append(refused.value)

    model.during = meanwhile
    client.messages.create(messages=HELLO, **ASKED, extra_headers=headers("b", session_id))
    assert details(seen[0])["error_code"] == "turn_in_progress"
    assert int(seen[0].response.headers["retry-after"]) > 0
    assert "x-should-retry" not in seen[0].response.headers
    assert "max_retries" in seen[0].message


def test_nothing_is_begun_for_a_conversation_that_began_elsewhere(
    client: anthropic.Anthropic, model: NamedModel, backstage: Backstage
) -> None:
    elsewhere: Any = [*HELLO, {"role": "assistant", "content": "Hi."}, {"role": "user", "content": "and now?"}]
    with pytest.raises(anthropic.BadRequestError) as refused:
        client.messages.create(messages=elsewhere, **ASKED, extra_headers=headers("a"))
    assert details(refused.value)["error_code"] == "history_differs"
    assert "leave out Turnlog-Session" in refused.value.message
    assert (model.requests, backstage.store.session_ids(OWNER)) == ([], [])


def test_a_model_that_is_not_on_offer_is_not_found(client: anthropic.Anthropic, model: NamedModel) -> None:
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(messages=HELLO, **ASKED | {"model": "claude-9"}, extra_headers=headers("a"))
    assert model.requests == []


def test_after_a_failure_the_same_key_finds_the_session_that_began(
    client: anthropic.Anthropic, model: NamedModel, backstage: Backstage
) -> None:
    model.fail_with = [ModelUnavailable(1)]
    with pytest.raises(anthropic.InternalServerError):
        begin(client)
    session_id = begin(client)
    assert backstage.store.session_ids(OWNER) == [session_id]
    assert stored(backstage, session_id).count == 1
    assert "refused" not in backstage.audit.actions


# --- conversations that are sent whole


def test_a_client_may_send_the_whole_conversation(client: anthropic.Anthropic, model: NamedModel) -> None:
    session_id, said = (
        begin(client),
        [*HELLO, {"role": "assistant", "content": expected_text(model.requests[0].messages)}],
    )
    for key in ("b", "c"):
        said.append({"role": "user", "content": f"message {key}"})
        message = client.messages.create(messages=said, **ASKED, extra_headers=headers(key, session_id))
        said.append({"role": "assistant", "content": message.content})
    assert [len(request.messages) for request in model.requests] == [1, 3, 5]


def test_a_conversation_that_was_changed_is_refused(client: anthropic.Anthropic, model: NamedModel) -> None:
    session_id = begin(client)
    said: Any = [*HELLO, {"role": "assistant", "content": "Something else."}, {"role": "user", "content": "and now?"}]
    with pytest.raises(anthropic.BadRequestError) as refused:
        client.messages.create(messages=said, **ASKED, extra_headers=headers("b", session_id))
    assert details(refused.value)["error_code"] == "history_differs"
    assert len(model.requests) == 1


def test_a_repeat_is_found_however_far_the_session_has_gone_on(client: anthropic.Anthropic, model: NamedModel) -> None:
    session_id = begin(client)
    for key in ("b", "c"):
        client.messages.create(messages=HELLO, **ASKED, extra_headers=headers(key, session_id))
    reply: Any = {"role": "assistant", "content": expected_text(model.requests[0].messages)}
    again = client.messages.with_raw_response.create(
        messages=[*HELLO, reply, *HELLO], **ASKED, extra_headers=headers("b", session_id)
    )
    assert (again.headers["turnlog-turn"], again.headers["idempotent-replayed"]) == ("2", "true")
    assert len(model.requests) == 3
