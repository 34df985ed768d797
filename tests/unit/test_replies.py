"""The JSON of answers: each field as its model says, and content exactly as it was received."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal

import pytest

from tests.fakes import two_call_turn, with_content
from turnlog.domain.messages import Message, Reply, Usage, to_json
from turnlog.domain.sessions import Session, SessionSettings, SessionView
from turnlog.domain.window import WindowPolicy
from turnlog.entrypoints.http import replies
from turnlog.entrypoints.http.problem_body import problem_body
from turnlog.entrypoints.http.problems import Problem
from turnlog.usecases.turn_protocol import TakenTurn, first_turn

NOW = 1_795_597_200_000
HOUR = 3_600_000


def reply(content: str = '[{"type":"text","text":"hi"}]', usage: str = '{"input_tokens":9}') -> Reply:
    return Reply("claude-sonnet-5-5", content, "end_turn", Usage(usage))


def view(lifetime_ms: int = 24 * HOUR, idle_ms: int = HOUR) -> SessionView:
    settings = SessionSettings("claude-sonnet-5-5", 4096)
    return SessionView(Session("o", "ses_" + "a" * 22, NOW, NOW + lifetime_ms, idle_ms, settings), "Reiher ü", 0, ())


def test_a_reply_is_compact_json_in_the_order_of_its_fields() -> None:
    assert replies.Reply.of(reply(to_json([{"type": "text", "text": "über"}])), Decimal("0.000218")).to_json() == (
        '{"text":"über","content":[{"type":"text","text":"über"}],"model":"claude-sonnet-5-5",'
        '"stop_reason":"end_turn","usage":{"input_tokens":9},"cost_usd":"0.000218"}'
    )


@pytest.mark.parametrize(
    "block",
    [
        {"type": "new_kind", "text": None, "warning": None, "nested": {"a": [1.5, 1e300, 10**30, True, None]}},
        {"type": "tool_use", "input": json.loads('{"a":' * 500 + "0" + "}" * 500)},
    ],
    ids=["of an unknown kind", "nested deeply"],
)
def test_content_and_usage_are_sent_as_they_were_received(block: dict[str, object]) -> None:
    received = to_json([block])
    sent = json.loads(replies.Reply.of(reply(received, to_json({"later": block})), None).to_json())
    assert sent["content"] == [block]
    assert sent["usage"] == {"later": block}


def test_the_providers_names_and_a_notice_are_sent_if_there_are_any() -> None:
    empty = replace(reply("[]"), id="msg_1", request_id="req_1", stop_sequence="END", stop_details='{"type":"later"}')
    sent = json.loads(replies.Reply.of(empty, None).to_json())
    assert (sent["message_id"], sent["provider_request_id"], sent["stop_sequence"]) == ("msg_1", "req_1", "END")
    assert sent["stop_details"] == {"type": "later"}
    assert sent["notice"]["code"] == "empty_reply"
    assert not {"message_id", "notice", "stop_details"} & json.loads(replies.Reply.of(reply(), None).to_json()).keys()


def test_a_stored_turn_says_the_same_as_when_it_was_taken() -> None:
    empty = replace(reply("[]"), id="msg_1", request_id="req_1")
    turn = with_content(two_call_turn(), reply=empty)
    turn = replace(turn, calls=(replace(turn.calls[0], id="msg_1", request_id="req_1"),))
    taken, stored = (
        json.loads(body.to_json()) for body in (replies.TakenTurn.of(TakenTurn(turn, view())), replies.Turn.of(turn))
    )
    for name in ("text", "notice", "message_id", "provider_request_id"):
        assert taken[name] == stored[name]
    assert taken["notice"]["code"] == "empty_reply"


def test_a_turn_tells_the_usage_and_cost_of_all_its_calls() -> None:
    turn = two_call_turn(tokens=100, cost_usd=Decimal("0.5"))
    for body in (replies.Turn.of(turn), replies.TakenTurn.of(TakenTurn(turn, view()))):
        sent = json.loads(body.to_json())
        assert sent["usage"] == {"input_tokens": 180, "output_tokens": 20}
        assert sent["cost_usd"] == "1.0"


def test_a_turn_of_one_call_sends_its_usage_as_it_was_received() -> None:
    usage = {"output_tokens": 5, "later": {"a": [1.5, None]}, "input_tokens": None}
    turn = first_turn(Message.of_text("one"), reply(usage=to_json(usage)), None, NOW, WindowPolicy())
    for body in (replies.Turn.of(turn), replies.TakenTurn.of(TakenTurn(turn, view()))):
        assert f'"usage":{to_json(usage)},' in body.to_json()


def test_dollars_are_an_exact_decimal_or_null() -> None:
    costs = [Decimal("1E-7"), Decimal("12.340"), Decimal(0), None]
    sent = [json.loads(replies.Reply.of(reply(), cost).to_json())["cost_usd"] for cost in costs]
    assert sent == ["0.0000001", "12.340", "0", None]


def test_a_continuation_is_absent_unless_it_is_given() -> None:
    assert "continuation" not in json.loads(replies.Reply.of(reply(), None).to_json())
    for continuation in ("abc", None):
        sent = json.loads(replies.Reply.of(reply(), None, continuation=continuation).to_json())
        assert sent["continuation"] == continuation


@pytest.mark.parametrize(
    ("lifetime_ms", "idle_ms", "code"),
    [
        (24 * HOUR, HOUR, None),
        (300_000, 300_000, None),
        (24 * HOUR, 299_999, "idle_expires_soon"),
        (299_999, 299_999, "expires_soon"),
    ],
)
def test_a_warning_is_there_only_in_the_last_five_minutes(lifetime_ms: int, idle_ms: int, code: str | None) -> None:
    sent = json.loads(replies.Session.of(view(lifetime_ms, idle_ms), NOW).to_json())
    assert sent.get("warning", {}).get("code") == code
    assert ("warning" in sent) == (code is not None)


def test_lists_show_no_prompt_and_administrators_no_title_or_metadata() -> None:
    session, listed, users = (
        list(json.loads(each.to_json()))
        for each in (
            replies.Session.of(view(), NOW),
            replies.ListedSession.of(view(), NOW),
            replies.UsersSession.of("ref", view(), NOW),
        )
    )
    assert session == [*listed, "system", "max_tokens", "cache"]
    assert users == ["ref", *listed[3:]]
    assert listed[:3] == ["session_id", "title", "metadata"]


def test_a_problem_has_only_the_fields_that_it_was_given() -> None:
    problem = Problem(429, "session_limit", "t", "d", {"limit": "turns", "errors": [{"reason": "x"}]})
    assert json.loads(problem_body(problem, "r").to_json()) == {
        "type": "urn:turnlog:problem:session_limit",
        "title": "t",
        "status": 429,
        "detail": "d",
        "instance": "urn:req:r",
        "code": "session_limit",
        "errors": [{"reason": "x"}],
        "limit": "turns",
    }
