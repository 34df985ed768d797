"""A turn is one message of the model to clients, and a conversation of theirs goes on after the newest one or not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.fakes import called, two_call_turn
from turnlog.domain.messages import Message, to_json
from turnlog.domain.shown_turns import Said, goes_on_after, plain_blocks, shown_blocks
from turnlog.domain.turns import Turn


def text(words: str, **more: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": words, **more}]


def turn_of(number: int, question: str, *replies: list[dict[str, Any]], stop_reason: str = "end_turn") -> Turn:
    """A turn of these replies, with the results of tools between them."""
    results = to_json([{"type": "tool_result", "tool_use_id": "toolu_1", "content": "7"}])
    said = [Message("assistant", to_json(blocks)) for blocks in replies]
    between = [message for reply in said[:-1] for message in (reply, Message("user", results))]
    made = two_call_turn(number)
    calls = made.calls[:1] * len(replies)
    messages = (Message.of_text(question), *between, said[-1])
    return replace(made, messages=messages, calls=calls, stop_reason=stop_reason)


OWN = called(("clock", {}), text="I look.")
FIRST = turn_of(1, "one", text("1"))
SECOND = turn_of(2, "two", OWN, text("2"))
REFUSED = turn_of(3, "three", text("I may not."), stop_reason="refusal")
ONE: list[Said] = [("user", text("one")), ("assistant", text("1"))]
TWO: list[Said] = [("user", text("two")), ("assistant", text("I look.") + text("2"))]
THREE: list[Said] = [("user", text("three")), ("assistant", text("I may not."))]


def test_calls_of_the_services_own_tools_are_left_out() -> None:
    both = turn_of(1, "one", called(("clock", {}), ("look_up", {"word": "ada"}), text="I look."))
    assert [block["type"] for block in shown_blocks(both, ["clock"])] == ["text", "tool_use"]
    assert [block["name"] for block in shown_blocks(both, ["clock"])[1:]] == ["look_up"]


def test_marks_and_nulls_change_nothing_but_within_data() -> None:
    mark = {"cache_control": {"type": "ephemeral"}, "citations": None}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": text("7", **mark), **mark}
    assert plain_blocks([result]) == [{"type": "tool_result", "tool_use_id": "toolu_1", "content": text("7")}]
    called_with = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": mark}
    assert plain_blocks([called_with]) == [called_with]


@pytest.mark.parametrize(
    ("earlier", "turns"),
    [
        (ONE, [FIRST]),
        (ONE + TWO, [FIRST, SECOND]),
        (TWO, [FIRST, SECOND]),  # a client that came later
        (TWO[1:], [FIRST, SECOND]),
        (ONE + TWO, [replace(FIRST, messages=(), calls=()), SECOND]),  # its content is not read any more
        (ONE + TWO, [SECOND]),
        (ONE + TWO + THREE, [FIRST, SECOND, REFUSED]),
        (ONE + TWO, [FIRST, SECOND, REFUSED]),  # as clients leave it out
    ],
    ids=str,
)
def test_a_conversation_with_the_newest_turns_goes_on_after_them(earlier: list[Said], turns: list[Turn]) -> None:
    assert goes_on_after(earlier, turns, ["clock"])


@pytest.mark.parametrize(
    ("earlier", "turns"),
    [
        (ONE, []),
        (ONE, [FIRST, SECOND]),
        (ONE + TWO, [FIRST]),
        (TWO + ONE, [FIRST, SECOND]),
        (THREE + ONE, [FIRST]),  # more than there ever was
        ([("user", text("uno")), ONE[1]], [FIRST]),
        ([ONE[0], ("assistant", text("one"))], [FIRST]),
        (ONE + THREE, [FIRST, SECOND, REFUSED]),
        ([("system", text("Be brief.")), *TWO], [FIRST, SECOND]),
        (ONE, [replace(FIRST, messages=(), calls=())]),
    ],
    ids=str,
)
def test_any_other_does_not(earlier: list[Said], turns: list[Turn]) -> None:
    assert not goes_on_after(earlier, turns, ["clock"])


def test_new_instructions_are_part_of_the_conversation() -> None:
    system = Message.of_system("Be brief.")
    changed = replace(FIRST, messages=(FIRST.messages[0], system, *FIRST.messages[1:]))
    said: list[Said] = [ONE[0], ("system", text("Be brief.")), ONE[1]]
    assert goes_on_after(said, [changed], [])
    assert not goes_on_after(ONE, [changed], [])
