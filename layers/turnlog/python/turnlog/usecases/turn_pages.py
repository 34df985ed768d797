"""Pages of turns: as many as one answer holds, by size as well as by number."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from turnlog.domain.answers import MOST_TURN_BYTES, turn_bytes
from turnlog.domain.sessions import SessionView
from turnlog.domain.turns import MAX_CONTENT_BYTES, Turn
from turnlog.errors import TurnsMissing
from turnlog.ports.session_store import SessionStore

MOST_BYTES = MOST_TURN_BYTES
"""The most bytes of turns, and of sessions beside them, in one answer."""

MOST_TURNS = 1000
"""Turns of one part of an export; small ones have more around them than in them."""

READ_AT_ONCE = 50
"""Turns of one read of a session whose content is up to MOST_READ_BYTES."""

MOST_READ_BYTES = 30_000_000
"""Bytes of content that may be read at once. Turns of a larger session are read in groups of _LARGE_AT_ONCE."""

_LARGE_AT_ONCE = MOST_READ_BYTES // MAX_CONTENT_BYTES


def turns_after(
    store: SessionStore,
    view: SessionView,
    after: int,
    limit: int,
    now_ms: int,
    *,
    beside: Sequence[Turn] = (),
    beside_bytes: int = 0,
) -> Sequence[Turn]:
    """Returns the turns after number `after`, at most `limit`, as many as fit into one answer.

    The answer holds the turns `beside` and sessions of `beside_bytes` already. Without other turns it takes at least
    one, which always fits. Raises TurnsMissing if a turn of the view is not there, and SessionNotFound if the
    session was deleted or expired between two reads.
    """
    last, turns = min(after + limit, view.count), list[Turn]()
    while after + len(turns) < last and _fitting(beside, turns, beside_bytes) >= len(turns):
        first = after + len(turns) + 1
        at_once = READ_AT_ONCE if view.totals.content_bytes <= MOST_READ_BYTES else _LARGE_AT_ONCE
        upto = min(first + at_once - 1, last)
        turns += read_turns(store, view, first, upto, now_ms)
    return turns[: _fitting(beside, turns, beside_bytes)]


def read_turns(store: SessionStore, view: SessionView, first: int, last: int, now_ms: int) -> list[Turn]:
    """Returns the turns `first` to `last` of the view, reading those that it lacks.

    Raises TurnsMissing or SessionNotFound as `turns_after`.
    """
    held = [turn for turn in view.turns if first <= turn.number <= last and turn.is_read]
    if len(held) == last - first + 1:
        return held
    turns = store.turns(view.session, first, last)
    if len(turns) < last - first + 1:
        # Raises SessionNotFound if it is gone.
        store.read(view.session.owner, view.session.id, now_ms, newest=1, with_content=False)
        raise TurnsMissing
    return turns


def has_room(beside: Sequence[Turn], beside_bytes: int) -> bool:
    """True if an answer with these turns, and with sessions of so many bytes, has room for more."""
    return beside_bytes + sum(map(turn_bytes, beside)) < MOST_BYTES and len(beside) < MOST_TURNS


def _fitting(beside: Sequence[Turn], turns: Sequence[Turn], beside_bytes: int) -> int:
    """Returns the number of turns that fit; the first one always, if it is alone."""
    sizes = accumulate(map(turn_bytes, turns), initial=beside_bytes + sum(map(turn_bytes, beside)))
    return max(not beside, sum(size <= MOST_BYTES for size in sizes) - 1)
