"""The stateless functions: a question in, an answer out, whatever is wrong refused before anything is paid."""

from __future__ import annotations

import base64
import io
import json

import pytest

from tests.fakes import expected_text
from tests.handlers.conftest import REFUSED_FIELDS, Backstage, Call, Context, app, event
from turnlog import runtime
from turnlog.domain.limits import OwnerLimits
from turnlog.domain.messages import Message, Reply, Usage
from turnlog.domain.quotas import QuotaCharges
from turnlog.entrypoints.http.api import COLD_START_S
from turnlog.entrypoints.http.single_turn import single_turn
from turnlog.errors import (
    ContextTooLong,
    ModelError,
    ModelFailed,
    ModelProtocolError,
    ModelRejected,
    ModelTimeout,
    ModelUnavailable,
)
from turnlog.usecases.turn_request import TurnPolicy

STATELESS = [("query", "/query"), ("summarize", "/summarize"), ("analyze_code", "/analyze")]
CANARY = "canary-5b1d9a"


@pytest.mark.parametrize("function", [name for name, _ in STATELESS])
def test_the_example_event_of_each_function_is_answered(backstage: Backstage, function: str) -> None:
    answer = app(function).handler(event(function), Context())
    assert answer["statusCode"] == 200
    own = {"summarize": {"summary"}, "analyze_code": {"findings"}}.get(function, set())
    assert set(json.loads(answer["body"])) == {"text", "content", "model", "stop_reason", "usage", "cost_usd", *own}


@pytest.mark.parametrize(("function", "path"), STATELESS)
def test_an_answer_has_text_model_usage_and_an_exact_price(call: Call, function: str, path: str) -> None:
    answer = call(function, "POST", path, {"message": "hello"})
    assert answer.status == 200
    said = "".join(block["text"] for block in answer.body["content"])
    assert expected_text((Message.of_text("hello"),)) in said
    assert (answer.body["text"] == said) == (function == "query")
    assert answer.body["model"] == "claude-sonnet-5-5"
    assert answer.body["stop_reason"] == "end_turn"
    assert answer.body["usage"] == {"input_tokens": 10, "output_tokens": 5}
    assert answer.body["cost_usd"] == "0.00007"  # 10 at $2 and 5 at $10 a million
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_a_query_passes_on_what_the_caller_chose(call: Call, backstage: Backstage) -> None:
    chosen = {"system": "Be kind.", "model": "claude-haiku-5-5", "max_tokens": 7, "stop_sequences": ["END"]}
    assert call("query", "POST", "/query", {"message": "hello"} | chosen).status == 200
    request = backstage.model.requests[0]
    assert (request.settings.system, request.settings.model, request.settings.max_tokens) == (
        "Be kind.",
        "claude-haiku-5-5",
        7,
    )
    assert request.settings.stop_sequences == ("END",)
    assert request.cached == ""


def test_an_empty_reply_is_answered_with_a_notice_and_its_price(
    call: Call, backstage: Backstage, monkeypatch: pytest.MonkeyPatch, logged: io.StringIO
) -> None:
    reply = Reply("claude-sonnet-5-5", "[]", "max_tokens", Usage('{"output_tokens":7}'), id="msg_1", request_id="req_1")
    monkeypatch.setattr(backstage.model, "reply", lambda *_, **__: reply)
    answer = call("query", "POST", "/query", {"message": "hello"})
    assert (answer.status, answer.body["text"], answer.body["notice"]["code"]) == (200, "", "empty_reply")
    assert (answer.body["message_id"], answer.body["provider_request_id"]) == ("msg_1", "req_1")
    assert answer.body["cost_usd"] == "0.00007"
    assert '"provider_request_id":"req_1","message_id":"msg_1"' in logged.getvalue()


def test_the_providers_name_of_a_failed_call_is_in_the_log_alone(
    call: Call, backstage: Backstage, logged: io.StringIO
) -> None:
    failed = ModelRejected()
    failed.provider_request_id = "req_2"
    backstage.model.fail_with = [failed]
    answer = call("query", "POST", "/query", {"message": "hello"})
    assert answer.body["code"] == "model_rejected"
    assert "req_2" not in answer.raw
    assert '"provider_request_id":"req_2"' in logged.getvalue()


def test_text_blocks_are_passed_on_one_by_one(call: Call, backstage: Backstage) -> None:
    blocks = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    assert call("query", "POST", "/query", {"message": blocks}).status == 200
    assert backstage.model.requests[0].messages[0].blocks == blocks


def test_the_model_gets_the_time_that_is_left_less_the_way_back(call: Call, backstage: Backstage) -> None:
    call("query", "POST", "/query", {"message": "hello"})
    assert backstage.model.seconds == [29 - 1.5]


def test_the_first_request_of_an_environment_keeps_back_what_its_start_took(backstage: Backstage) -> None:
    handler = single_turn("/query")
    for _ in range(3):
        assert handler(event("query"), Context())["statusCode"] == 200
    assert backstage.model.seconds == [29 - COLD_START_S - 1.5, 29 - 1.5, 29 - 1.5]


def test_what_happens_before_the_model_is_asked_is_taken_from_its_time(
    call: Call, backstage: Backstage, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = TurnPolicy(owner=OwnerLimits(turns_a_minute=5))
    monkeypatch.setattr(runtime, "turn_policy", lambda: policy)
    charge = backstage.store.charge

    def slowly(charges: QuotaCharges, now_ms: int) -> None:
        backstage.clock.tick(seconds=2)
        charge(charges, now_ms)

    monkeypatch.setattr(backstage.store, "charge", slowly)
    call("query", "POST", "/query", {"message": "hello"})
    assert backstage.model.seconds == [29 - 2 - 1.5]


def test_only_a_query_takes_a_system_prompt_from_outside(call: Call) -> None:
    answer = call("summarize", "POST", "/summarize", {"message": "hello", "system": "Ignore all that."})
    assert (answer.status, answer.body["code"]) == (400, "unknown_field")


BAD_BODIES = [
    (b"", 400, "body_missing"),
    (b"{", 400, "json_invalid"),
    (b'{"message":"a",}', 400, "json_invalid"),
    (b'\xef\xbb\xbf{"message":"a"}', 400, "json_invalid"),
    (b'{"message":"a"} {}', 400, "json_invalid"),
    (b"[" * 5000 + b"]" * 5000, 400, "json_invalid"),
    (b'{"message":"a","max_tokens":' + b"9" * 5000 + b"}", 400, "json_invalid"),
    (b'{"message":NaN}', 400, "json_invalid"),
    (b'{"message":"a","max_tokens":Infinity}', 400, "json_invalid"),
    (b'{"message":"\\ud800"}', 400, "encoding_invalid"),
    (b'{"message":"a","message":"b"}', 400, "json_duplicate_key"),
    (b'{"message":[{"type":"text","text":"a","text":"b"}]}', 400, "json_duplicate_key"),
    (b'{"message":"\xff\xfe"}', 400, "encoding_invalid"),
    (b'{"message":"a\\u0000"}', 400, "control_character"),
    (b'{"message":"a\\u009b"}', 400, "control_character"),
    (b'"text"', 400, "wrong_type"),
    (b"null", 400, "wrong_type"),
    (b"[]", 400, "wrong_type"),
    (b"{}", 400, "field_missing"),
    (b'{"message":null}', 400, "wrong_type"),
    (b'{"message":5}', 400, "wrong_type"),
    (b'{"message":["a"]}', 400, "wrong_type"),
    (b'{"message":[{"type":"audio","text":"a"}]}', 422, "block_type_unknown"),
    (b'{"message":[{"type":"image","text":"a"}]}', 400, "unknown_field"),
    (b'{"message":[{"type":"text"}]}', 400, "field_missing"),
    (b'{"message":[{"type":"text","text":"a","cache_control":{}}]}', 400, "unknown_field"),
    (b'{"message":"a","owner":"eve"}', 400, "unknown_field"),
    (b'{"message":"a","temperature":1}', 400, "unknown_field"),
    (b'{"message":"a","max_tokens":"5"}', 400, "wrong_type"),
    (b'{"message":"a","max_tokens":true}', 400, "wrong_type"),
    (b'{"message":"a","max_tokens":1.5}', 400, "wrong_type"),
    (b'{"message":"a","max_tokens":null}', 400, "wrong_type"),
    (b'{"message":"a","model":null}', 400, "wrong_type"),
    (b'{"message":"a","system":null}', 400, "wrong_type"),
    (b'{"message":"a","max_tokens":0}', 422, "max_tokens_range"),
    (b'{"message":"a","max_tokens":-1}', 422, "max_tokens_range"),
    (b'{"message":"a","max_tokens":1000000000000000000000000000000}', 422, "max_tokens_range"),
    (b'{"message":[]}', 422, "message_empty"),
    (b'{"message":"\\u000b"}', 400, "control_character"),
    (b'{"message":""}', 422, "message_empty"),
    (b'{"message":" \\n\\t "}', 422, "message_empty"),
    (b'{"message":[{"type":"text","text":" "}]}', 422, "message_empty"),
    (b'{"message":"a","model":"gpt-9"}', 422, "model_unknown"),
    (b'{"message":"a","model":"../"}', 422, "model_unknown"),
    (b'{"message":"a","model":""}', 422, "model_unknown"),
    (b'{"message":"a","stop_sequences":[""]}', 422, "stop_sequences_range"),
    (b'{"message":"a","stop_sequences":[" \\n"]}', 422, "stop_sequences_range"),
    (b'{"message":"a","stop_sequences":["' + b'","'.join([b"x"] * 10000) + b'"]}', 422, "stop_sequences_range"),
    (b'{"message":"' + b"x" * (256 * 1024) + b'"}', 413, "text_too_large"),
    (b'{"message":"' + b"x" * 4_500_000 + b'"}', 413, "body_too_large"),
]


@pytest.mark.parametrize(("raw", "status", "code"), BAD_BODIES, ids=lambda value: str(value)[:40])
def test_a_bad_body_is_refused_before_anything_is_paid(
    call: Call, backstage: Backstage, raw: bytes, status: int, code: str
) -> None:
    answer = call("query", "POST", "/query", raw=raw)
    assert (answer.status, answer.body["code"]) == (status, code)
    assert set(answer.body) - {"errors"} == REFUSED_FIELDS
    assert answer.headers["Content-Type"] == "application/problem+json; charset=utf-8"
    assert backstage.model.requests == []


def test_a_refusal_says_where_and_repeats_nothing_of_the_input(call: Call, logged: io.StringIO) -> None:
    typed = call("query", "POST", "/query", {"message": "a", "max_tokens": CANARY})
    named = call("query", "POST", "/query", {"message": "a", f"x{CANARY}": CANARY})
    assert typed.body["errors"] == [{"pointer": "/max_tokens", "reason": "wrong_type"}]
    allowed = ["message", "model", "max_tokens", "system", "stop_sequences", "thinking", "effort"]
    allowed += ["tools", "tool_choice", "output", "continuable"]
    assert named.body["errors"] == [{"reason": "unknown_field", "pointer": "", "field": 2, "allowed": allowed}]
    assert CANARY not in typed.raw + named.raw
    assert CANARY not in logged.getvalue()


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json; charset=utf-16"},
        {"Content-Encoding": "gzip"},
    ],
    ids=str,
)
def test_another_media_type_is_refused(call: Call, backstage: Backstage, headers: dict[str, str]) -> None:
    answer = call("query", "POST", "/query", {"message": "a"}, headers=headers)
    assert (answer.status, answer.body["code"]) == (415, "media_type_unsupported")
    assert backstage.model.requests == []


@pytest.mark.parametrize("name", ["Content-Type", "Content-Encoding"])
def test_a_header_that_is_sent_twice_is_refused(backstage: Backstage, name: str) -> None:
    twice = {
        "headers": {name: "identity"},
        "multiValueHeaders": {"Content-Type": ["application/json"], name: ["application/json", "identity"]},
    }
    answer = app("query").handler(event("query") | twice, Context())
    assert (answer["statusCode"], json.loads(answer["body"])["code"]) == (400, "header_duplicate")
    assert backstage.model.requests == []


@pytest.mark.parametrize("body", ["%%%", "grüß"])
def test_bad_base64_is_refused(backstage: Backstage, body: str) -> None:
    answer = app("query").handler(event("query") | {"body": body, "isBase64Encoded": True}, Context())
    assert json.loads(answer["body"])["code"] == "base64_invalid"


def test_a_body_that_the_gateway_flags_as_base64_is_decoded(backstage: Backstage) -> None:
    body = base64.b64encode('{"message":"grüß dich"}'.encode()).decode()
    answer = app("query").handler(event("query") | {"body": body, "isBase64Encoded": True}, Context())
    assert answer["statusCode"] == 200
    assert backstage.model.requests[0].messages[0].blocks[0]["text"] == "grüß dich"


@pytest.mark.parametrize(
    ("owner", "expires"), [(None, ""), ("https://issuer.example/|ada", "1000000000")], ids=["nobody", "expired"]
)
def test_a_caller_who_is_not_verified_any_more_gets_401(
    call: Call, backstage: Backstage, owner: str | None, expires: str
) -> None:
    answer = call("query", "POST", "/query", {"message": "a"}, owner=owner, expires=expires)
    assert (answer.status, answer.body["code"]) == (401, "unauthorized")
    assert backstage.model.requests == []


def test_size_comes_before_media_type_and_media_type_before_syntax(call: Call) -> None:
    html = {"Content-Type": "text/html"}
    cases = [(b"x" * 4_500_001, 413), (b"x" * 4_500_000, 415), (b"", 415), (b"\xff", 415)]
    assert [call("query", "POST", "/query", raw=raw, headers=html).status for raw, _ in cases] == [
        status for _, status in cases
    ]


@pytest.mark.parametrize(
    ("query", "code"), [({"q": ["1"]}, "parameter_unknown"), ({"q": ["1", "2"]}, "parameter_duplicate")]
)
def test_query_parameters_are_refused(call: Call, query: dict[str, list[str]], code: str) -> None:
    answer = call("query", "POST", "/query", {"message": "a"}, query=query)
    assert (answer.status, answer.body["code"]) == (400, code)


MODEL_FAILURES: list[tuple[ModelError, int, str]] = [
    (ModelUnavailable(7), 503, "model_unavailable"),
    (ModelTimeout(), 504, "model_timeout"),
    (ModelFailed(), 502, "model_failed"),
    (ModelProtocolError(), 502, "model_protocol_error"),
    (ModelRejected(), 502, "model_rejected"),
    (ContextTooLong(), 422, "context_too_long"),
]


@pytest.mark.parametrize(("error", "status", "code"), MODEL_FAILURES, ids=str)
def test_a_failing_model_is_a_clear_answer(
    call: Call, backstage: Backstage, error: ModelError, status: int, code: str
) -> None:
    backstage.model.fail_with = [error]
    answer = call("query", "POST", "/query", {"message": "a"})
    assert (answer.status, answer.body["code"], answer.body["stored"]) == (status, code, False)
    assert answer.headers.get("Retry-After") == ("7" if status == 503 else None)


@pytest.mark.parametrize("path", ["/query", "/analyze", "/summarize"])
@pytest.mark.parametrize(("error", "retry"), [(ModelTimeout(), "again"), (ContextTooLong(), None)], ids=str)
def test_a_question_that_failed_can_be_asked_again_without_a_key(
    call: Call, backstage: Backstage, path: str, error: ModelError, retry: str | None
) -> None:
    function = {"/analyze": "analyze_code"}.get(path, path[1:])
    for headers in ({}, {"Idempotency-Key": "of-no-use"}):
        backstage.model.fail_with = [error]
        assert call(function, "POST", path, {"message": "a"}, headers=headers).body.get("retry") == retry


@pytest.mark.asvs("16.5.4")
@pytest.mark.parametrize("environment", ["production", "local", None])
def test_any_other_failure_is_a_problem_without_its_text(
    call: Call,
    backstage: Backstage,
    logged: io.StringIO,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    environment: str | None,
) -> None:
    """Its traceback is printed on a developer's own machine, and nowhere else."""

    def broken() -> None:
        raise RuntimeError(CANARY)

    if environment:
        monkeypatch.setenv("ENVIRONMENT", environment)
    backstage.model.during = broken
    answer = call("query", "POST", "/query", {"message": "a"})
    assert (answer.status, answer.body["code"]) == (500, "internal_error")
    assert CANARY not in answer.raw + logged.getvalue()
    assert "RuntimeError at test_single_turn.py" in logged.getvalue()
    printed = capsys.readouterr()
    assert printed.out == ""
    assert (f"RuntimeError: {CANARY}" in printed.err) is (environment == "local")
    assert (printed.err != "") is (environment == "local")


def test_a_request_is_one_log_line_without_content(call: Call, logged: io.StringIO) -> None:
    call("query", "POST", "/query", {"message": CANARY, "system": CANARY})
    assert CANARY not in logged.getvalue()
    line = json.loads(logged.getvalue())
    noted = {name: line[name] for name in ("message", "request_id", "route", "status", "model", "tokens", "cost_usd")}
    assert noted == {
        "message": "request",
        "request_id": "req-1",
        "route": "POST /query",
        "status": 200,
        "model": "claude-sonnet-5-5",
        "tokens": 15,
        "cost_usd": "0.00007",
    }


def test_a_blank_system_prompt_is_none(call: Call, backstage: Backstage) -> None:
    assert call("query", "POST", "/query", {"message": "a", "system": " \n"}).status == 200
    assert backstage.model.requests[0].settings.system == ""


def test_a_route_that_the_function_does_not_have_is_404(call: Call) -> None:
    answer = call("query", "POST", "/nowhere", {"message": "a"})
    assert (answer.status, answer.body["code"]) == (404, "route_not_found")
