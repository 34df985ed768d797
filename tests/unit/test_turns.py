"""A turn: from the caller's message to the model's last reply, with the usage of each call."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from tests.fakes import MODEL, TOOL_USE, two_call_turn
from turnlog.domain.messages import Message, Usage, total_usage
from turnlog.domain.packing import pack_turn, unpack_turn
from turnlog.domain.turns import ModelCall, Totals, Turn, total_cost
from turnlog.errors import ModelProtocolError


def one_call_turn() -> Turn:
    whole = two_call_turn()
    return replace(whole, messages=(whole.message, whole.reply.message), calls=whole.calls[:1])


def test_a_turn_begins_with_the_message_and_ends_with_the_reply() -> None:
    turn = two_call_turn()
    assert turn.message == Message.of_text("question 1")
    assert (turn.reply.text, turn.reply.model, turn.reply.stop_reason) == ("A name.", MODEL, "end_turn")


def test_the_reply_has_the_usage_of_the_last_call() -> None:
    last = ModelCall("another model", Usage('{"input_tokens":7}'), None)
    reply = replace(two_call_turn(), calls=(two_call_turn().calls[0], last)).reply
    assert (reply.model, reply.usage) == ("another model", last.usage)


def test_the_usage_of_a_turn_sums_its_calls() -> None:
    assert two_call_turn(tokens=100).usage.fields == {"input_tokens": 180, "output_tokens": 20}


def test_the_usage_of_one_call_stays_as_received() -> None:
    received = Usage('{ "input_tokens": 3, "later": {"a": null} }')
    assert total_usage([received]) is received


def test_usage_is_summed_at_any_depth_and_unknown_values_come_from_the_last_call() -> None:
    first = Usage('{"input_tokens":1,"cache_creation":{"ephemeral_1h_input_tokens":2},"service_tier":"a","later":null}')
    second = Usage('{"input_tokens":10,"cache_creation":{"ephemeral_1h_input_tokens":20},"service_tier":"b","later":4}')
    third = Usage('{"input_tokens":null,"cache_creation":null,"output_tokens":5,"later":{"x":1}}')
    assert total_usage([first, second]).fields == {
        "input_tokens": 11,
        "cache_creation": {"ephemeral_1h_input_tokens": 22},
        "service_tier": "b",
        "later": 4,
    }
    assert total_usage([first, second, third]).fields == {
        "input_tokens": 11,
        "cache_creation": {"ephemeral_1h_input_tokens": 22},
        "service_tier": "b",
        "later": {"x": 1},
        "output_tokens": 5,
    }


def test_the_cost_of_a_turn_sums_its_calls_exactly() -> None:
    assert two_call_turn(cost_usd=Decimal("0.1000000000000000000000000001")).cost_usd == Decimal(
        "0.2000000000000000000000000002"
    )


def test_the_cost_is_not_known_when_that_of_one_call_is_not() -> None:
    priced, unpriced = ModelCall(MODEL, Usage("{}"), Decimal(1)), ModelCall(MODEL, Usage("{}"), None)
    assert total_cost([priced, unpriced]) is total_cost([unpriced]) is total_cost([]) is None
    assert total_cost([priced]) == Decimal(1)


def test_totals_sum_all_messages_and_all_calls() -> None:
    turn = two_call_turn(tokens=100, cost_usd=Decimal("0.5"))
    size = sum(len(message.content.encode()) for message in turn.messages)
    assert Totals(5, Decimal(2), 7).plus(turn.messages, turn.calls) == Totals(205, Decimal(3), 7 + size)


def test_totals_count_the_dollars_of_calls_with_a_price() -> None:
    turn = two_call_turn()
    calls = (turn.calls[0], replace(turn.calls[1], cost_usd=None))
    assert Totals().plus(turn.messages, calls).cost_usd == Decimal("0.5")


@pytest.mark.parametrize(
    ("messages", "calls"),
    [
        pytest.param((), 1, id="no messages"),
        pytest.param((Message.of_text("hello"),), 0, id="no reply"),
        pytest.param((Message("assistant", TOOL_USE), Message.of_text("hello")), 1, id="reply first"),
        pytest.param((Message.of_text("hello"), Message("assistant", TOOL_USE)), 2, id="a call without a reply"),
        pytest.param((Message.of_text("hello"), Message("assistant", TOOL_USE)), 0, id="a reply without a call"),
    ],
)
def test_messages_and_calls_that_make_no_turn_are_refused(messages: tuple[Message, ...], calls: int) -> None:
    with pytest.raises(ValueError):
        replace(two_call_turn(), messages=messages, calls=two_call_turn().calls[:calls])


def test_a_turn_needs_a_stop_reason() -> None:
    with pytest.raises(ModelProtocolError):
        replace(two_call_turn(), stop_reason="")


@pytest.mark.parametrize("calls", [1, 2])
def test_a_packed_turn_is_unpacked_as_it_was(calls: int) -> None:
    turn = one_call_turn() if calls == 1 else two_call_turn()
    assert unpack_turn(pack_turn(turn), turn.calls[0].cost_usd) == (turn.messages, turn.calls, "")


def test_the_instructions_of_the_window_are_packed_in_either_form() -> None:
    for turn in (one_call_turn(), two_call_turn()):
        assert unpack_turn(pack_turn(replace(turn, window_system="Be ☃.")), None).window_system == "Be ☃."


def test_the_names_of_a_call_are_packed_in_either_form() -> None:
    for turn in (one_call_turn(), two_call_turn()):
        named = [replace(call, id="msg_1", request_id="req_1", stop_sequence='"') for call in turn.calls]
        calls = tuple(replace(call, stop_details='{"type":"refusal"}') for call in named)
        assert unpack_turn(pack_turn(replace(turn, calls=calls)), turn.calls[0].cost_usd).calls == calls


@pytest.mark.parametrize(
    "packed",
    [
        b'j{"messages":[],"calls":{}}',
        b'j{"messages":[{"role":"robot","content":[]}],"calls":[]}',
        b'j{"messages":[{"role":"user","content":[{"text":"no type"}]}],"calls":[]}',
        b'j{"messages":[],"calls":[{"model":"m","usage":[]}]}',
        b'j{"messages":[],"calls":[{"model":"m","usage":{},"id":1}]}',
        b'j{"messages":[],"calls":[{"model":"m","usage":{},"cost_usd":"much"}]}',
    ],
)
def test_damaged_content_is_not_unpacked_to_less(packed: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError, ArithmeticError)):
        unpack_turn(packed, None)
