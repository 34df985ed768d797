"""The settings of questions, sessions and turns: each reaches the model, and what a model does not do is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.fakes import OWNER
from tests.handlers.conftest import Answered, Backstage, Call
from tests.handlers.test_anonymous import begin, new_secret
from tests.handlers.test_continuations import ask, go_on
from tests.handlers.test_session import create, get, session_id, take
from turnlog import runtime
from turnlog.domain.messages import ModelSettings, Reply, Usage
from turnlog.domain.model_limits import made_possible, require_possible
from turnlog.errors import ValueRefused

__all__ = ["session_id"]


def take_body(call: Call, session_id: str, body: dict[str, Any], key: str) -> Answered:
    return call(
        "session",
        "POST",
        "/sessions/{id}/turns",
        body,
        parameters={"id": session_id},
        headers={"Idempotency-Key": key},
    )


SETTINGS = {
    "max_tokens": 2048,
    "stop_sequences": ["END"],
    "thinking": {"type": "adaptive", "display": "omitted"},
    "effort": "xhigh",
    "cache": "1h",
}


@pytest.mark.parametrize("route", ["/sessions", "/anonymous/sessions"])
def test_a_session_keeps_its_settings_for_every_turn(call: Call, backstage: Backstage, route: str) -> None:
    secret = None if route == "/sessions" else new_secret()
    made = begin(call, secret, SETTINGS) if secret else create(call, SETTINGS)
    session_id = made.body["session_id"]
    assert made.status == 201
    for shown in (made.body, get(call, session_id, secret=secret).body):
        assert {name: shown[name] for name in SETTINGS} == SETTINGS
    for text in ("hello", "again"):
        assert take(call, session_id, text, secret=secret).status == 200
        request = backstage.model.requests[-1]
        settings = request.settings
        assert (settings.max_tokens, settings.stop_sequences, settings.effort) == (2048, ("END",), "xhigh")
        assert json.loads(settings.thinking) == SETTINGS["thinking"]
        assert request.cached == "1h"


def test_settings_say_the_same_in_any_order_of_their_fields(call: Call) -> None:
    named = {"Idempotency-Key": "k"}
    first, again = (
        create(call, {"thinking": thinking}, headers=named).body["session_id"]
        for thinking in ({"type": "adaptive", "display": "omitted"}, {"display": "omitted", "type": "adaptive"})
    )
    assert first == again
    assert create(call, {"thinking": {"type": "adaptive"}}, headers=named).body["code"] == "idempotency_key_reused"


def test_instructions_from_a_turn_on_are_a_part_of_its_request(
    call: Call, backstage: Backstage, session_id: str
) -> None:
    body = {"message": "hello", "system": "Today is Monday."}
    first = take_body(call, session_id, body, "k")
    assert take_body(call, session_id, body, "k").raw == first.raw
    assert len(backstage.model.requests) == 1
    for other in ({"message": "hello"}, {"message": "hello", "system": "Today is Tuesday."}):
        assert take_body(call, session_id, other, "k").body["code"] == "idempotency_key_reused"
    plain = take_body(call, session_id, {"message": "hello", "system": " "}, "k2")
    assert take_body(call, session_id, {"message": "hello"}, "k2").raw == plain.raw


def test_a_question_passes_on_thinking_and_effort(call: Call, backstage: Backstage) -> None:
    chosen = {"thinking": {"type": "between_tools"}, "effort": "max", "stop_sequences": ["END"]}
    assert call("query", "POST", "/query", {"message": "hello"} | chosen).status == 200
    settings = backstage.model.requests[-1].settings
    assert (settings.thinking, settings.effort, settings.stop_sequences) == (
        '{"type":"between_tools"}',
        "max",
        ("END",),
    )


@pytest.mark.parametrize("path", ["/summarize", "/analyze"])
def test_a_function_with_a_purpose_of_its_own_takes_neither(call: Call, path: str) -> None:
    function = {"/summarize": "summarize", "/analyze": "analyze_code"}[path]
    for field in ({"thinking": {"type": "adaptive"}}, {"effort": "low"}):
        assert call(function, "POST", path, {"message": "a"} | field).body["code"] == "unknown_field"


def test_what_is_left_out_is_left_to_the_model(call: Call, backstage: Backstage, session_id: str) -> None:
    take(call, session_id, "hello")
    settings = backstage.model.requests[-1].settings
    assert (settings.thinking, settings.effort, settings.stop_sequences) == ("", "", ())
    assert backstage.model.requests[-1].cached == "5m"
    assert not {"thinking", "effort", "stop_sequences"} & get(call, session_id).body.keys()


def test_what_a_model_does_not_do_is_refused_before_anything_is_paid(call: Call, backstage: Backstage) -> None:
    body = {"message": "a", "thinking": {"type": "enabled", "budget_tokens": 1024}}
    for function, path, asked in (("query", "/query", body), ("session", "/sessions", {"thinking": body["thinking"]})):
        answer = call(function, "POST", path, asked)
        assert (answer.status, answer.body["code"]) == (422, "thinking_range")
        assert answer.body["errors"][0]["allowed"] == ["adaptive", "between_tools"]
    assert backstage.model.requests == []
    assert backstage.store.session_ids(OWNER) == []


@pytest.mark.parametrize(
    ("model", "thinking", "effort", "pointer"),
    [
        ("claude-haiku-4-5", "", "low", "/effort"),
        ("claude-opus-4-5", "", "max", "/effort"),
        ("claude-sonnet-4-6", "", "xhigh", "/effort"),
        ("us.anthropic.claude-opus-5-5-v1:0", '{"type":"disabled"}', "", "/thinking/type"),
        ("claude-opus-4-5", '{"type":"enabled","budget_tokens":2000}', "", "/thinking/budget_tokens"),
        ("unknown", '{"type":"enabled","budget_tokens":2000}', "", "/thinking/budget_tokens"),
    ],
)
def test_each_model_has_its_own_limits(model: str, thinking: str, effort: Any, pointer: str) -> None:
    with pytest.raises(ValueRefused) as refused:
        require_possible(ModelSettings(model, 2000, thinking=thinking, effort=effort))
    assert refused.value.pointer == pointer


@pytest.mark.parametrize("model", ["claude-opus-4-6", "unknown"])
def test_what_a_model_does_or_may_do_is_let_through(model: str) -> None:
    settings = ModelSettings(model, 2000, thinking='{"type":"enabled","budget_tokens":1999}', effort="max")
    require_possible(settings)
    assert made_possible(settings) == settings


def test_a_fork_to_another_model_leaves_out_what_that_one_does_not_do(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "models", lambda: ("claude-sonnet-5-5", "claude-haiku-4-5"))
    made = create(call, {"thinking": {"type": "adaptive"}, "effort": "low", "cache": "1h"}).body["session_id"]
    take(call, made, "hello")
    child = call(
        "session",
        "POST",
        "/sessions/{id}/fork",
        {"turn": 1, "model": "claude-haiku-4-5"},
        parameters={"id": made},
    ).body
    assert child["cache"] == "1h"
    assert not {"thinking", "effort"} & child.keys()


def test_a_continuation_keeps_the_settings_of_its_question(call: Call, backstage: Backstage) -> None:
    chosen = {"stop_sequences": ["END"], "thinking": {"type": "adaptive"}, "effort": "low", "model": "claude-haiku-5-5"}
    continuation = ask(call, chosen).body["continuation"]
    begun = go_on(call, continuation, {"cache": "1h"}).body
    assert {name: begun[name] for name in chosen} == chosen
    assert begun["cache"] == "1h"
    take(call, begun["session_id"], "and then?")
    asked, went_on = (request.settings for request in backstage.model.requests)
    assert (went_on.stop_sequences, went_on.thinking, went_on.effort) == (("END",), asked.thinking, "low")


def test_a_continuation_keeps_what_the_provider_said_of_the_reply(
    call: Call, backstage: Backstage, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"id": "msg_1", "request_id": "req_1", "stop_sequence": "END", "stop_details": '{"type":"later"}'}
    reply = Reply("claude-haiku-5-5", "[]", "stop_sequence", Usage('{"output_tokens":1}'), **names)
    monkeypatch.setattr(backstage.model, "reply", lambda *_, **__: reply)
    asked = ask(call).body
    begun = go_on(call, asked["continuation"]).body["session_id"]
    (turn,) = get(call, begun, "/turns").body["items"]
    for name in ("message_id", "provider_request_id", "stop_sequence", "stop_details", "notice"):
        assert turn[name] == asked[name]


def test_instructions_follow_the_message_from_which_they_hold(
    call: Call, backstage: Backstage, session_id: str
) -> None:
    take_body(call, session_id, {"message": "hello", "system": "Today is Monday."}, "k")
    take(call, session_id, "again")
    for request, length in zip(backstage.model.requests, (2, 4), strict=True):
        assert [message.role for message in request.messages] == ["user", "system", "assistant", "user"][:length]
        assert request.messages[1].blocks == [{"type": "text", "text": "Today is Monday."}]
    assert backstage.model.requests[1].cached_messages == 2


@pytest.mark.parametrize(
    "field", [{"stop_sequences": ["END"]}, {"thinking": {"type": "adaptive"}}, {"effort": "low"}], ids=str
)
def test_what_the_question_settled_cannot_be_said_again(call: Call, field: dict[str, Any]) -> None:
    answer = go_on(call, ask(call).body["continuation"], field)
    assert (answer.status, answer.body["code"]) == (422, "continuation_settles")


def test_a_reply_may_be_as_long_as_its_model_writes_and_no_longer(
    call: Call, backstage: Backstage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "models", lambda: ("claude-sonnet-5-5", "claude-haiku-4-5"))
    long, short = {"max_tokens": 128_000}, {"model": "claude-haiku-4-5", "max_tokens": 64_001}
    assert create(call, long).body["max_tokens"] == 128_000
    asked = {("session", "/sessions"): short, ("stream", "/query/stream"): short | {"message": "a"}}
    asked["stream", "/summarize/stream"] = short | {"message": "a"}
    for (function, path), body in asked.items():
        answer = call(function, "POST", path, body)
        assert (answer.status, answer.body["code"]) == (422, "max_tokens_range")
        assert answer.body["errors"][0]["maximum"] == 64_000
    assert backstage.model.requests == []


def test_a_fork_to_a_model_that_writes_less_has_as_many_tokens_as_that_one_writes() -> None:
    settings = ModelSettings("claude-haiku-4-5", 128_000, thinking='{"type":"enabled","budget_tokens":100000}')
    possible = made_possible(settings)
    assert (possible.max_tokens, possible.thinking) == (64_000, "")
