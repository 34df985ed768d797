"""The first turn that is sent: where the window is cut, so that what is left can be sent.

A cut lies between two turns. It does not separate a call of a tool from its results, unless the window has nothing but
one long chain of calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

from turnlog.domain.blocks.media import Load, load_of, surely_fits
from turnlog.domain.messages import Message
from turnlog.domain.tools import results_in
from turnlog.domain.turns import Turn
from turnlog.errors import ContextTooLong

MOST_SENT_BYTES = 20_000_000
"""Bytes of all messages of a request. The API takes 32 MB (its page on limits), and needs some for all else."""


def first_sent(turns: Sequence[Turn], asked: Sequence[Message], most_bytes: int = MOST_SENT_BYTES) -> int:
    """The first turn to send with the turn `asked`: that of the window, or a later one if not all of it can be sent.

    That depends on what is asked, since a message may bring a hundred images. If the window must be cut, half of all
    that fits stays, so that the next cut is not the next turn. A turn that called tools is sent with their results, as
    `require_sendable` allows.
    """
    if not turns:
        return 1
    window_from, last = turns[-1].window_from, turns[-1].number
    held = [turn for turn in turns if turn.number >= window_from]
    shown = [[] if turn.stop_reason == "refusal" else [*turn.messages] for turn in held]
    if surely_fits([*_joined(shown), *asked], most_bytes):
        return window_from
    loads, own = [load_of(messages) for messages in shown], load_of(asked)
    if _total([*loads, own]).fits(most_bytes):
        return window_from
    starts = [
        turn.number
        for index, turn in enumerate(held)
        if index and _total(loads[index:]).fits(most_bytes, 0.5) and _total([*loads[index:], own]).fits(most_bytes)
    ]
    if begins_with_results(asked):
        starts = starts or [last]
    else:
        starts.append(last + 1)
    begin = {last + 1: asked, **{turn.number: turn.messages for turn in held}}
    return next((each for each in starts if not begins_with_results(begin[each])), starts[0])


def require_sendable(turns: Sequence[Turn], asked: Sequence[Message], most_bytes: int = MOST_SENT_BYTES) -> None:
    """Raises ContextTooLong if results of tools do not fit into one request beside the turn that called them."""
    if turns and begins_with_results(asked):
        sent = [*turns[-1].messages, *asked]
        if not surely_fits(sent, most_bytes) and not load_of(sent).fits(most_bytes):
            raise ContextTooLong


def next_start(first: int, wanted: int, held: Sequence[Sequence[Message]], most_bytes: int) -> int:
    """The turn at which to cut: about `wanted`, of the turns from `first` on, whose messages are `held`.

    It is moved to where half of the bytes fit, and then away from results of tools: back by half of what is cut at
    most, else on. The newest turn always stays.
    """
    last = first + len(held) - 1
    while wanted < last and load_of(_joined(held[wanted - first :])).content_bytes > most_bytes // 2:
        wanted += 1
    earliest = wanted - (wanted - first) // 2
    for number in chain(range(wanted, earliest - 1, -1), range(wanted + 1, last + 1)):
        if not begins_with_results(held[number - first]):
            return number
    return wanted


def begins_with_results(messages: Sequence[Message]) -> bool:
    """True if a turn's first message has results of tools that the turn before called."""
    first = next((message for message in messages if message.role == "user"), None)
    return first is not None and bool(results_in(first))


def _total(loads: Iterable[Load]) -> Load:
    return sum(loads, Load())


def _joined(turns: Sequence[Sequence[Message]]) -> list[Message]:
    return [message for messages in turns for message in messages]
