"""P14: the window appends until full, then one cut to half; what is sent is always valid for Claude."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fakes import two_call_turn
from turnlog.domain.messages import Message, Reply, Usage, to_json
from turnlog.domain.turns import ModelCall, Totals, Turn
from turnlog.domain.window import WindowPolicy, messages, next_from

POLICY = WindowPolicy(turns=4, tokens=1000)
THINKING = {"type": "thinking", "thinking": "Hm.", "signature": "c2lnbmVk"}
ANSWER = {"type": "text", "text": "Yes."}


def reply(tokens: int = 10, *blocks: dict[str, str], stop_reason: str = "end_turn") -> Reply:
    usage = Usage(to_json({"input_tokens": tokens, "output_tokens": 0}))
    return Reply("claude-sonnet-5-5", to_json(blocks or [ANSWER]), stop_reason, usage)


def turn(number: int, window_from: int, answered: Reply) -> Turn:
    question = Message.of_text(f"question {number}")
    exchange, calls = (question, answered.message), (ModelCall(answered.model, answered.usage, None),)
    return Turn(number, "t", b"k", b"f", exchange, calls, answered.stop_reason, Totals(), 0, window_from, b"")


@pytest.mark.parametrize(
    ("number", "window_from", "tokens", "expected"),
    [
        (1, 1, 10, 1),
        (3, 1, 999, 1),
        (4, 1, 10, 3),  # four turns held: full, the newest two stay
        (2, 1, 1000, 2),  # out of tokens with two held: the newest one stays
        (5, 5, 5000, 5),  # one turn alone is too long: it stays, or the model would forget the question at hand
    ],
)
def test_a_full_window_is_cut_to_half(number: int, window_from: int, tokens: int, expected: int) -> None:
    assert next_from(number, reply(tokens).usage, window_from, POLICY) == expected


def test_cached_tokens_count_as_sent() -> None:
    usage = Usage(to_json({"input_tokens": 1, "cache_read_input_tokens": 990, "output_tokens": 9}))
    assert next_from(2, usage, 1, POLICY) == 2


def test_the_first_turn_is_sent_alone() -> None:
    assert messages([], Message.of_text("hello")) == (Message.of_text("hello"),)


def test_turns_before_the_cut_are_left_out() -> None:
    turns = [turn(1, 1, reply()), turn(2, 1, reply()), turn(3, 2, reply())]
    sent = messages(turns, Message.of_text("next"))
    assert [message.role for message in sent] == ["user", "assistant", "user", "assistant", "user"]
    assert sent[0] == turns[1].message


def test_thinking_is_sent_back_unchanged_without_a_cut() -> None:
    answered = reply(10, THINKING, ANSWER)
    turns = [turn(1, 1, answered), turn(2, 1, answered)]
    sent = messages(turns, Message.of_text("next"))
    assert [message.content for message in sent if message.role == "assistant"] == [answered.content] * 2


def test_a_cut_removes_the_thinking_before_it() -> None:
    answered = reply(10, THINKING, ANSWER)
    turns = [turn(1, 1, answered), turn(2, 1, answered), turn(3, 2, answered), turn(4, 2, answered)]
    replies = [message for message in messages(turns, Message.of_text("next")) if message.role == "assistant"]
    assert [message.blocks for message in replies] == [[ANSWER], [ANSWER], [THINKING, ANSWER]]


def test_a_cut_removes_a_turn_of_thinking_alone() -> None:
    turns = [turn(1, 1, reply()), turn(2, 1, reply(10, THINKING, stop_reason="max_tokens")), turn(3, 2, reply())]
    sent = messages(turns, Message.of_text("next"))
    assert [message.blocks[0].get("text") for message in sent] == ["question 3", "Yes.", "next"]


def test_a_refused_turn_is_left_out_whole() -> None:
    turns = [turn(1, 1, reply()), turn(2, 1, reply(10, stop_reason="refusal"))]
    assert len(messages(turns, Message.of_text("next"))) == 3


def test_all_messages_of_a_turn_with_tools_are_sent() -> None:
    used = two_call_turn()
    assert messages([used], Message.of_text("next")) == (*used.messages, Message.of_text("next"))


def test_a_cut_removes_thinking_and_keeps_tool_pairs() -> None:
    turns = [turn(1, 1, reply()), two_call_turn(2), turn(3, 2, reply())]
    sent = messages(turns, Message.of_text("next"))
    kinds = [[block["type"] for block in message.blocks] for message in sent]
    assert kinds == [["text"], ["tool_use"], ["tool_result"], ["text"], ["text"], ["text"], ["text"]]


@pytest.mark.parametrize("index", [1, 3], ids=["first reply", "last reply"])
def test_a_turn_with_one_empty_reply_is_left_out_whole(index: int) -> None:
    used = two_call_turn()
    blank = Message("assistant", to_json([{"type": "text", "text": " "}]))
    emptied = replace(used, messages=(*used.messages[:index], blank, *used.messages[index + 1 :]))
    assert messages([emptied], Message.of_text("next")) == (Message.of_text("next"),)


def test_a_refused_turn_with_tools_is_left_out_whole() -> None:
    refused = replace(two_call_turn(), stop_reason="refusal")
    assert messages([refused], Message.of_text("next")) == (Message.of_text("next"),)
