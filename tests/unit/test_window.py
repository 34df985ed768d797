"""P14: the window appends until full, then one cut to half; what is sent is always valid for Claude."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.fakes import two_call_turn
from turnlog.domain.messages import Message, Reply, Usage, to_json
from turnlog.domain.tools import UNKNOWN_OUTCOME
from turnlog.domain.turns import INTERRUPTED, PAUSED, ModelCall, Totals, Turn
from turnlog.domain.window import (
    WindowPolicy,
    messages,
    next_from,
    sent_before,
    system_before,
    system_of,
    without_thinking,
)

POLICY = WindowPolicy(turns=4, tokens=1_000)
THINKING = {"type": "thinking", "thinking": "Hm.", "signature": "c2lnbmVk"}
ANSWER = {"type": "text", "text": "Yes."}


def reply(tokens: int = 10, *blocks: dict[str, str], stop_reason: str = "end_turn") -> Reply:
    usage = Usage(to_json({"input_tokens": tokens, "output_tokens": 0}))
    return Reply("claude-sonnet-5-5", to_json(blocks or [ANSWER]), stop_reason, usage)


def texts(sent: Sequence[Message]) -> list[str]:
    return ["".join(block.get("text", "") for block in message.blocks) for message in sent]


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
    held = [turn(each, window_from, reply()).messages for each in range(window_from, number + 1)]
    assert next_from(number, reply(tokens).usage, window_from, POLICY, held) == expected


def test_cached_tokens_count_as_sent() -> None:
    usage = Usage(to_json({"input_tokens": 1, "cache_read_input_tokens": 990, "output_tokens": 9}))
    assert next_from(2, usage, 1, POLICY, [turn(each, 1, reply()).messages for each in (1, 2)]) == 2


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


@pytest.mark.parametrize("window_from", [1, 2], ids=["uncut", "cut"])
def test_a_reply_of_thinking_alone_is_left_out(window_from: int) -> None:
    thought = reply(10, THINKING, stop_reason="max_tokens")
    turns = [turn(1, 1, reply()), turn(2, 1, thought), turn(3, window_from, reply())]
    sent = messages(turns, Message.of_text("next"))
    assert texts(sent)[-4:] == ["question 2", "question 3", "Yes.", "next"]


def test_a_reply_that_ends_with_thinking_loses_all_of_it() -> None:
    cut_short = reply(10, THINKING, ANSWER, THINKING, stop_reason="max_tokens")
    sent = messages([turn(1, 1, cut_short)], Message.of_text("next"))
    assert sent[1].blocks == [ANSWER]


def test_a_reply_that_the_model_goes_on_with_is_sent_as_it_is() -> None:
    paused = Message("assistant", to_json([ANSWER, THINKING]))
    assert messages([], Message.of_text("go"), paused) == (Message.of_text("go"), paused)


def test_a_paused_reply_and_what_follows_are_sent_as_they_are() -> None:
    paused = Message("assistant", to_json([ANSWER, THINKING]))
    first = turn(1, 1, reply())
    gone_on = replace(first, messages=(first.message, paused, first.reply.message), calls=first.calls * 2)
    assert messages([gone_on], Message.of_text("next"))[1:3] == (paused, first.reply.message)


@pytest.mark.parametrize("content", ["[]", to_json([{"type": "text", "text": " \n"}])], ids=["no blocks", "blank text"])
@pytest.mark.parametrize("stop_reason", ["end_turn", "stop_sequence", "max_tokens", "tool_use", "later"])
def test_an_empty_reply_is_left_out_and_the_question_stays(content: str, stop_reason: str) -> None:
    empty = replace(reply(), content=content, stop_reason=stop_reason)
    sent = messages([turn(1, 1, reply()), turn(2, 1, empty)], Message.of_text("next"))
    assert texts(sent) == ["question 1", "Yes.", "question 2", "next"]


def test_blank_text_beside_other_blocks_is_left_out_alone() -> None:
    blank = {"type": "text", "text": " "}
    sent = messages([turn(1, 1, reply(10, blank, THINKING, ANSWER))], Message.of_text("next"))
    assert sent[1].blocks == [THINKING, ANSWER]


def with_system(number: int, answered: Reply) -> Turn:
    plain = turn(number, 1, answered)
    return replace(plain, messages=(plain.message, system(number), answered.message))


def system(number: int) -> Message:
    return Message("system", to_json([{"type": "text", "text": f"rule {number}"}]))


def test_a_system_message_keeps_its_place() -> None:
    sent = messages([with_system(1, reply())], Message.of_text("next"), system(2))
    assert texts(sent) == ["question 1", "rule 1", "Yes.", "next", "rule 2"]


def test_a_system_message_never_stands_before_the_users() -> None:
    """The provider takes one after the user's message alone, and before a reply or at the end."""
    empty = replace(reply(), content="[]")
    sent = messages([with_system(1, empty), with_system(2, reply())], Message.of_text("next"))
    assert texts(sent) == ["question 1", "question 2", "rule 1rule 2", "Yes.", "next"]
    assert [message.role for message in sent] == ["user", "user", "system", "assistant", "user"]


def test_without_thinking_nothing_is_left_of_it() -> None:
    asked = Message.of_text("go")
    thought, mixed = (Message("assistant", to_json(blocks)) for blocks in ([THINKING], [THINKING, ANSWER]))
    sent = without_thinking((asked, thought, asked, mixed, asked))
    assert [message.blocks for message in sent] == [asked.blocks, asked.blocks, [ANSWER], asked.blocks]


def test_the_first_prompt_has_no_beginning_that_was_sent() -> None:
    assert sent_before([]) == 0


def test_a_prompt_begins_with_all_of_the_one_before() -> None:
    turns = [turn(1, 1, reply()), turn(2, 1, reply())]
    assert sent_before(turns[:1]) == 1
    assert sent_before(turns) == 3
    assert sent_before([two_call_turn()]) == 3  # question, call and result, of four


def test_after_a_cut_nothing_was_sent_before() -> None:
    assert sent_before([turn(1, 1, reply()), turn(2, 1, reply()), turn(3, 2, reply())]) == 0


def test_of_a_refused_turn_nothing_counts_as_sent() -> None:
    refused = turn(2, 1, reply(10, stop_reason="refusal"))
    assert sent_before([turn(1, 1, reply()), refused]) == 2


def test_of_an_empty_reply_the_question_was_sent() -> None:
    empty = replace(reply(), content="[]")
    assert sent_before([turn(1, 1, empty)]) == 1
    assert sent_before([with_system(1, empty)]) == 1  # the system message moves behind the next question


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


def test_of_a_turn_with_tools_an_empty_last_reply_is_left_out() -> None:
    used = two_call_turn()
    blank = Message("assistant", to_json([{"type": "text", "text": " "}]))
    emptied = replace(used, messages=(*used.messages[:3], blank))
    assert messages([emptied], Message.of_text("next")) == (*used.messages[:3], Message.of_text("next"))


def test_a_refused_turn_with_tools_is_left_out_whole() -> None:
    refused = replace(two_call_turn(), stop_reason="refusal")
    assert messages([refused], Message.of_text("next")) == (Message.of_text("next"),)


def test_a_call_without_a_result_gets_one_when_the_user_speaks_again() -> None:
    used = two_call_turn()
    interrupted = replace(used, messages=used.messages[:2], calls=used.calls[:1], stop_reason=INTERRUPTED)
    asked, call, outcome, following = messages([interrupted], Message.of_text("next"))
    assert (asked, call, following) == (*used.messages[:2], Message.of_text("next"))
    (block,) = outcome.blocks
    assert (block["type"], block["tool_use_id"], block["content"]) == ("tool_result", "toolu_1", UNKNOWN_OUTCOME)


def test_a_search_that_never_ended_is_left_out_when_the_user_speaks_again() -> None:
    search = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
    found = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}
    first, second = (Message("assistant", to_json(blocks)) for blocks in ([ANSWER, search], [found, ANSWER]))
    used = two_call_turn()
    for said, sent_on in ((first,), [[ANSWER]]), ((first, second), [[ANSWER, search], [found, ANSWER]]):
        paused = replace(used, messages=(used.message, *said), calls=used.calls[: len(said)], stop_reason=PAUSED)
        replies = messages([paused], Message.of_text("next"))[1:-1]
        assert [each.blocks for each in replies] == sent_on
    assert messages([], used.message, first)[-1] == first


def test_only_the_results_that_are_missing_are_added() -> None:
    used = two_call_turn()
    assert messages([used], Message.of_text("next")) == (*used.messages, Message.of_text("next"))


def test_what_a_refused_turn_changed_of_the_instructions_stays() -> None:
    refused = replace(with_system(1, reply()), stop_reason="refusal")
    sent = messages([refused, turn(2, 1, reply())], Message.of_text("next"))
    assert texts(sent) == ["question 2", "rule 1", "Yes.", "next"]


def test_after_a_cut_the_last_instructions_of_before_are_the_system_prompt() -> None:
    turns = [with_system(1, reply()), with_system(2, reply()), turn(3, 3, reply())]
    assert system_before(3, turns, "") == "rule 2"
    assert system_before(2, turns, "") == "rule 1"
    assert system_before(1, turns, "") == ""
    assert system_before(9, [turn(8, 1, reply())], "rule 2") == "rule 2"
    assert system_of([replace(turns[-1], window_system="rule 2")], "own") == "rule 2"
    assert system_of(turns, "own") == system_of([], "own") == "own"
