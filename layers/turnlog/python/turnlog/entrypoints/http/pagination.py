"""How many turns one answer holds: pages are cut by size as well as by number."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from turnlog import runtime
from turnlog.domain.sessions import SessionView
from turnlog.domain.turns import Turn
from turnlog.errors import TurnsMissing

_CHARACTERS = 1_500_000  # of turns and system prompts: Lambda's answer may have 6 MB (quota), of UTF-8 in JSON in JSON
_READ_AT_ONCE = 50  # turns: 30 MB, if each is as large as a request and a reply can make it

WHOLE = 1000
"""Turns of one part of an export, since small ones have more around them than in them."""


def turns_after(
    view: SessionView, after: int, limit: int, beside: Sequence[Turn] = (), prompts: int = 0
) -> Sequence[Turn]:
    """The turns after that one, at most `limit`, as many as fit into one answer beside others and system prompts of
    `prompts` characters.

    Without others at least one, however large it is. Raises TurnsMissing unless they are all that the view had;
    SessionNotFound when it ended between two reads.
    """
    last, turns = min(after + limit, view.count), list[Turn]()
    while after + len(turns) < last and _fitting(beside, turns, prompts) >= len(turns):
        first = after + len(turns) + 1
        upto = min(first + _READ_AT_ONCE - 1, last)
        read = runtime.session_store().turns(view.session, first, upto)
        require_all(read, view, first - 1, upto)
        turns += read
    return turns[: _fitting(beside, turns, prompts)]


def has_room(beside: Sequence[Turn], prompts: int) -> bool:
    """Whether an answer with these, and system prompts of so many characters, has room for more."""
    return prompts + sum(map(_size, beside)) < _CHARACTERS and len(beside) < WHOLE


def require_all(turns: Sequence[Turn], view: SessionView, after: int, last: int) -> None:
    """Raises TurnsMissing unless they are all that the view had; SessionNotFound when it ended between two reads."""
    if len(turns) < last - after:
        runtime.session_store().read(view.session.owner, view.session.id, runtime.now_ms(), newest=1)
        raise TurnsMissing


def _fitting(beside: Sequence[Turn], turns: Sequence[Turn], prompts: int) -> int:
    """How many of the turns fit; the first in any case, if it is alone."""
    sizes = accumulate(map(_size, turns), initial=prompts + sum(map(_size, beside)))
    return max(not beside, sum(size <= _CHARACTERS for size in sizes) - 1)


def _size(turn: Turn) -> int:
    return len(turn.message.content) + 2 * len(turn.reply.content)
