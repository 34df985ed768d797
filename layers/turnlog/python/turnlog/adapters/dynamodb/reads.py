"""A session's view out of its items: alive, whole and in order, or an error that says which of these it is not."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from turnlog.adapters.dynamodb.data_keys import Keys
from turnlog.adapters.dynamodb.decode import (
    NO_PIECES,
    Pieces,
    has_content_below,
    metadata_of,
    session_of,
    slots_of,
    title_of,
)
from turnlog.adapters.dynamodb.items import HEADER, META, is_slot, partition, pieces_range, sk_range, state_of
from turnlog.adapters.dynamodb.table import Item, Table
from turnlog.domain.conditions import alive
from turnlog.domain.sessions import Session, SessionView
from turnlog.domain.turns import Lease, Slot, Tombstone, Turn, UnknownLease
from turnlog.errors import ItemUnreadable, ItemVersionUnknown, SessionCorrupt, SessionNotFound, TurnsMissing

READS = 3
"""Reads of a session that seems to be damaged, before that is believed: a query is no snapshot."""


def page_size(newest: int) -> int:
    """Items of a page with the newest turns: there is room for the header, the meta item and a lease, too."""
    return newest + 3


def slots_between(table: Table, session: Session, first: int, last: int, *, with_content: bool = True) -> list[Slot]:
    """The session's slots `first`..`last` that exist, oldest first. Raises a kind of SessionUnreadable.

    Without `with_content` that of turns which have it below the slots is left out. A query is no snapshot, and a
    deletion may come between its items; so what seems to be damaged is read again.
    """
    for _ in range(READS - 1):
        with suppress(SessionCorrupt):
            return _slots_between(table, session, first, last, with_content)
    return _slots_between(table, session, first, last, with_content)


def _slots_between(table: Table, session: Session, first: int, last: int, with_content: bool) -> list[Slot]:
    pk = partition(session.owner, session.id)
    items = table.query(pk, between=sk_range(first, last))
    pieces = pieces_of(table, pk, items) if with_content else NO_PIECES
    return slots_of(items, session.cipher, pieces)


def pieces_of(table: Table, pk: str, items: Sequence[Item], *, consistent: bool = True) -> Pieces:
    """The content below those of these slots that have some there: one query, or none."""
    numbers = [int(item["sk"]["S"]) for item in items if is_slot(item) and has_content_below(item)]
    if not numbers:
        return NO_PIECES
    first, last = min(numbers), max(numbers)
    return Pieces(first, last, pieces_between(table, pk, first, last, consistent=consistent))


def pieces_between(table: Table, pk: str, first: int, last: int, *, consistent: bool = True) -> dict[str, Item]:
    """All items below the slots `first`..`last`, by sort key."""
    found = table.query(pk, between=pieces_range(first, last), consistent=consistent)
    return {str(item["sk"]["S"]): item for item in found}


def in_window(items: Sequence[Item], newest: int) -> list[Item]:
    """Of the items, newest first, the turns that the model is shown, among the `newest` last ones.

    These are the newest turn, and all from the first one that it names. Empty if that is no number: then the newest
    turn cannot be read anyway.
    """
    turns = [item for item in items if is_slot(item) and state_of(item) == "done"][:newest]
    first = turns[0].get("from", {}).get("N", "") if turns else ""
    return [item for item in turns if first.isdigit() and int(item["sk"]["S"]) >= int(first)]


def has_all(items: Sequence[Item], newest: int) -> bool:
    """True if the `newest` last turns are among the items, newest first, with all their parts."""
    slots = [item for item in items if is_slot(item)]
    running = bool(slots) and state_of(slots[0]) == "running"
    return len(slots) >= newest + running


def view_of(
    owner: str,
    session_id: str,
    items: Sequence[Item],
    now_ms: int,
    keys: Keys,
    newest: int | None = None,
    pieces: Pieces = NO_PIECES,
) -> SessionView:
    """The view that the items give, with the `newest` last turns, or with all. The items come newest first.

    The content of turns that lies below their slots is left out unless it is among the `pieces`. Raises
    SessionNotFound, a kind of SessionUnreadable, ClockBehind, or what Keys.named raises.
    """
    if not items or items[0]["sk"]["S"] != HEADER:
        raise SessionNotFound
    session = session_of(owner, session_id, items[0], keys)
    if now_ms >= session.expires_ms:  # first, since TTL may have taken any of the items from then on
        raise SessionNotFound
    slots: list[Slot] = slots_of(items, session.cipher, pieces)
    if slots and isinstance(slots[-1], Tombstone):
        raise SessionNotFound
    meta = next((item for item in items if item["sk"]["S"] == META), None)
    if meta is None:
        raise ItemUnreadable
    title, metadata = title_of(meta, session.cipher), metadata_of(meta, session.cipher)
    top = slots.pop() if slots and isinstance(slots[-1], Lease | UnknownLease) else None
    if any(isinstance(slot, UnknownLease) for slot in slots):
        raise ItemVersionUnknown
    running, unknown = top if isinstance(top, Lease) else None, top if isinstance(top, UnknownLease) else None
    count = slots[-1].number if slots else 0
    turns = tuple(slot for slot in slots[-(newest or len(slots) or 1) :] if isinstance(slot, Turn))
    view = alive(SessionView(session, title, count, turns, running, unknown, metadata), now_ms)
    first = 1 if newest is None else max(1, count - newest + 1)
    if [turn.number for turn in turns] != list(range(first, count + 1)) or (top and top.number != count + 1):
        raise TurnsMissing
    return view
