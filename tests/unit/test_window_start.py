"""The window is cut where Claude takes what is left: by bytes, images and pages, and beside no result of a tool."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.media import document, image, pdf, png, search_result, text_block, text_document, tool_result, tool_use
from turnlog.domain.blocks.citations import require_like_citations
from turnlog.domain.blocks.media import bytes_of
from turnlog.domain.messages import Message, Usage, to_json
from turnlog.domain.turns import ModelCall, Totals, Turn
from turnlog.domain.window import WindowPolicy, messages, next_from, sent_before, system_of
from turnlog.domain.window_start import MOST_SENT_BYTES, first_sent, require_sendable
from turnlog.errors import ContextTooLong, ValueRefused

USAGE = Usage(to_json({"input_tokens": 10, "output_tokens": 0}))
PICTURE = [image(png(4_000, 3_000, filling=3_000_000))]
LARGE, SMALL = image(png(2_001, 1)), image(png(9, 9))
CITED: dict[str, Any] = {"citations": {"enabled": True}}


def user(*blocks: dict[str, Any]) -> Message:
    return Message("user", to_json([*blocks]))


def turn(number: int, message: Message, *, window_from: int = 1, calls: str = "", stop_reason: str = "") -> Turn:
    reply = Message("assistant", to_json([tool_use(calls) if calls else text_block(f"answer {number}")]))
    stop_reason = stop_reason or ("tool_use" if calls else "end_turn")
    call = ModelCall("claude-sonnet-5-5", USAGE, None)
    return Turn(number, "t", b"", b"", (message, reply), (call,), stop_reason, Totals(), 0, window_from, b"")


def chain(length: int) -> list[Turn]:
    """Turns of which each calls a tool and all but the first begin with the result of the one before."""
    asked = [user(text_block("go")), *(user(tool_result(f"toolu_{number}")) for number in range(1, length))]
    return [turn(number, message, calls=f"toolu_{number}") for number, message in enumerate(asked, start=1)]


def cut(turns: list[Turn], policy: WindowPolicy) -> int:
    return next_from(len(turns), USAGE, 1, policy, [each.messages for each in turns])


def test_25_turns_with_pictures_of_3_mb_are_sent_in_20_mb_with_few_cuts() -> None:
    turns: list[Turn] = []
    starts, message = [], user(*PICTURE, text_block())
    assert 4_000_000 < bytes_of(message) < 4_500_000
    for number in range(1, 26):
        start = first_sent(turns, [message])
        starts.append(start)
        sent = messages(turns, message, start=start)
        assert sum(map(bytes_of, sent)) <= MOST_SENT_BYTES
        assert len(sent) >= min(3, 2 * number - 1), "the newest turn stays"
        new = turn(number, message)
        held = [*(each.messages for each in turns if each.number >= start), new.messages]
        turns.append(replace(new, window_from=next_from(number, USAGE, start, WindowPolicy(), held)))
    assert len(set(starts)) <= 13


def test_a_window_without_room_for_a_message_is_cut_to_half_of_the_bytes() -> None:
    turns = [turn(number, user(*PICTURE)) for number in range(1, 5)]
    assert cut(turns[:3], WindowPolicy()) == 1  # 12 MB, and 4.5 MB more fit
    assert cut(turns, WindowPolicy()) == 3  # 16 MB: two turns have half of 20 MB at most


def test_a_turn_that_is_larger_than_half_stays_alone() -> None:
    turns = [turn(1, user(text_block())), turn(2, user(text_block("x" * 15_600_000)))]
    assert cut(turns, WindowPolicy()) == 2


def test_a_full_window_that_has_too_many_bytes_is_cut_further() -> None:
    turns = [turn(number, user(text_block())) for number in range(1, 3)]
    turns += [turn(number, user(*PICTURE)) for number in range(3, 7)]
    assert cut(turns, WindowPolicy(turns=6)) == 5


def test_a_cut_moves_back_to_where_no_result_begins() -> None:
    turns = [turn(number, user(text_block()), calls="toolu_4" * (number == 4)) for number in range(1, 9)]
    turns[4] = turn(5, user(tool_result("toolu_4")))
    assert cut(turns, WindowPolicy(turns=8)) == 4


def test_a_cut_moves_on_when_the_chain_is_long() -> None:
    turns = chain(6)
    turns += [turn(7, user(tool_result("toolu_6"))), turn(8, user(text_block()))]
    assert cut(turns, WindowPolicy(turns=8)) == 8


def test_a_window_of_one_chain_is_cut_all_the_same() -> None:
    turns = chain(8)
    assert cut(turns, WindowPolicy(turns=8)) == 5
    turns[-1] = replace(turns[-1], window_from=5)
    first, second, *_, last = messages(turns, user(tool_result("toolu_8")))
    assert [block["type"] for block in first.blocks] == ["text"]
    assert "not shown" in first.blocks[0]["text"]
    assert (second, last) == (turns[4].messages[1], user(tool_result("toolu_8")))


def test_a_question_beside_lost_results_stays() -> None:
    turns = [turn(1, user(text_block()), calls="a"), turn(2, user(tool_result("a"), text_block("And?")), window_from=2)]
    assert messages(turns, user(text_block()))[0] == user(text_block("And?"))


@pytest.mark.parametrize(
    ("held", "asked", "start"),
    [
        ([[SMALL] * 50, [SMALL] * 50], [text_block()], 1),
        ([[SMALL] * 50, [SMALL] * 50], [SMALL], 2),
        ([[SMALL] * 50, [SMALL] * 50], [SMALL] * 60, 3),
        ([[LARGE] * 10, [SMALL] * 10], [text_block()], 1),
        ([[LARGE] * 10, [SMALL] * 10], [SMALL], 2),
        ([[SMALL] * 10, [SMALL] * 10], [LARGE], 2),
        ([[LARGE] * 9, [LARGE] * 11], [LARGE], 3),
        ([[document(pdf(50))], [document(pdf(50))]], [text_block()], 1),
        ([[document(pdf(50))], [document(pdf(50))]], [document(pdf(1))], 2),
        ([[document(pdf(50))], [document(pdf(51))]], [document(pdf(50))], 3),
    ],
)
def test_what_is_asked_decides_how_much_is_sent(held: list[Any], asked: list[Any], start: int) -> None:
    turns = [turn(number, user(*blocks)) for number, blocks in enumerate(held, start=1)]
    assert first_sent(turns, [user(*asked)]) == start
    shown = messages(turns, user(*asked))
    assert len(shown) == 2 * (3 - start) + 1


def test_bytes_that_do_not_fit_are_left_out() -> None:
    turns = [turn(number, user(text_block("x" * 400))) for number in (1, 2, 3)]
    asked = [user(text_block("y" * 200))]
    assert [first_sent(turns, asked, most) for most in (2_500, 1_500, 1_000, 500)] == [1, 3, 3, 4]


def test_a_refused_turn_counts_for_nothing() -> None:
    turns = [turn(1, user(*[SMALL] * 90), stop_reason="refusal"), turn(2, user(text_block()))]
    assert first_sent(turns, [user(*[SMALL] * 100)]) == 1


def test_the_turn_that_called_is_sent_with_the_results() -> None:
    turns = [turn(1, user(*[SMALL] * 60)), turn(2, user(*[SMALL] * 60), calls="a")]
    turns = [turns[0], replace(turns[1], window_from=2)]
    asked = user(tool_result("a", content=[SMALL] * 40))
    require_sendable(turns, [asked])
    assert first_sent(turns, [asked]) == 2


def test_results_that_do_not_fit_beside_their_calls_are_refused() -> None:
    turns = [turn(1, user(*[SMALL] * 61), calls="a")]
    with pytest.raises(ContextTooLong):
        require_sendable(turns, [user(tool_result("a", content=[SMALL] * 40))])
    require_sendable(turns, [user(*[SMALL] * 100)])
    require_sendable([], [user(tool_result("a"))])


def test_instructions_that_an_early_cut_leaves_out_are_the_system_prompt() -> None:
    plain = turn(1, user(*[SMALL] * 100))
    rule = Message("system", to_json([text_block("Be brief.")]))
    turns = [replace(plain, messages=(plain.message, rule, plain.messages[1]))]
    assert system_of(turns, "own", first_sent(turns, [user(SMALL)])) == "Be brief."
    assert system_of(turns, "own", first_sent(turns, [user(text_block())])) == "own"


def test_after_an_early_cut_nothing_was_sent_before() -> None:
    turns = [turn(1, user(*[SMALL] * 100)), turn(2, user(text_block()))]
    assert sent_before(turns, first_sent(turns, [user(SMALL)])) == 0
    assert sent_before(turns, first_sent(turns, [user(text_block())])) == 3


def test_citations_are_as_in_the_messages_before() -> None:
    cited, plain = text_document(**CITED), search_result()
    for before, asked in ((cited, plain), (plain, cited), (tool_result(content=[plain]), cited)):
        with pytest.raises(ValueRefused) as refused:
            require_like_citations([user(text_block()), user(before)], user(asked))
        assert (refused.value.code, refused.value.pointer) == ("citations_mixed", "/message")
    require_like_citations([user(cited)], user(text_block(), SMALL, tool_result(content="document")))
    require_like_citations([user(cited)], user(cited, tool_result(content=[search_result(**CITED)])))
    require_like_citations([Message("assistant", to_json([plain]))], user(cited))
