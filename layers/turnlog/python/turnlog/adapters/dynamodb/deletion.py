"""The end of a session: new turns are stopped first, then all content goes, the header last.

It works on whatever exists, so it can be repeated after a crash at any point, and nothing is left free for a stale
claim to land on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from turnlog.adapters.dynamodb.items import HEADER, META, is_content, is_slot, slot_sk, tombstone, tombstone_of, values
from turnlog.adapters.dynamodb.table import EMPTY, MINE, Item, Table, key
from turnlog.errors import StoreUnavailable

_ROUNDS = 10
_KEYS = "pk, sk, v, st, tok, til, ts, created, dies, idle, dst, und, #t"
"""All that an end looks at; none of it is content."""


def outline(table: Table, pk: str) -> list[Item]:
    """Every item of a partition, newest first, without its content."""
    return table.query(pk, newest_first=True, only=_KEYS)


def end(table: Table, pk: str, index: Item, *, only_if: Callable[[Sequence[Item]], bool] = bool) -> Item | None:
    """Removes all content of the partition, and returns only when it is gone: the slot with which it ends, or None when
    it was not to be ended.

    `only_if` is asked about the items before each try, since a turn may get in between. Raises StoreUnavailable when
    turns got in again and again.
    """
    for _ in range(_ROUNDS):
        items = outline(table, pk)
        if not only_if(items):
            return None
        top = _stopped(table, items, pk)
        if top and top in items:
            _empty(table, items, pk, index, top)
            return top
        # A query is no snapshot: what was stored while it ran may be missing, so it is asked again now that nothing can
        # come any more, or since a turn got in.
    raise StoreUnavailable


def has_left(top: Item) -> bool:
    """Whether the session whose place ends with this slot went elsewhere: then a move was faster than the end."""
    return "dst" in top


def end_all(table: Table, names: str) -> int:
    """Ends whatever the partition `names` lists of an owner, half-made sessions too; says how many there were.

    It needs nothing of what it ends to be readable, so it works after the owner's keys are gone.
    """
    listed = table.query(names)
    for item in listed:
        pk, index = item["sk"]["S"], key(item["pk"]["S"], item["sk"]["S"])
        if not end(table, pk, index):
            # What was to be copied there may be on its way: it must find the first slot taken.
            table.put(tombstone(pk, slot_sk(1), item["ttl"]), EMPTY)
            end(table, pk, index)
    return len(listed)


def _stopped(table: Table, items: Sequence[Item], pk: str) -> Item | None:
    """The tombstone after which no turn can come, put there if it was not; None when a turn got in first."""
    top = next((item for item in items if is_slot(item)), None)
    state = top["st"]["S"] if top else ""
    if top and state == "ended":
        return top
    if top and state == "running":
        ended = tombstone_of(top)
        if place := top.get("dst") or top.get("und"):
            ended["und"] = place
        refused = table.put(ended, MINE, values(top["tok"]["S"]))
    else:
        ended = tombstone(pk, slot_sk(int(top["sk"]["S"]) + 1 if top else 1), items[0]["ttl"])
        refused = table.put(ended, EMPTY)
    return ended if refused is None else None


def _empty(table: Table, items: Sequence[Item], pk: str, index: Item, top: Item) -> None:
    if "und" in top:
        undo_move(table, top["und"]["S"], int(top["sk"]["S"]) - 1, top["ttl"])
    blank(table, items, below=top["sk"]["S"])
    table.delete(key(pk, META))
    table.delete(key(pk, HEADER))
    table.delete(index)  # the last, so that whoever walks the owner's sessions finds one that is not yet gone


def blank(table: Table, items: Sequence[Item], below: str) -> None:
    """Leaves a tombstone in every slot before the one at `below`, and no part of a turn."""
    slots = [item for item in items if is_slot(item) and item["sk"]["S"] < below]
    table.put_all([tombstone_of(item) for item in slots if item["st"]["S"] != "ended"])
    _delete_parts(table, items)


def _delete_parts(table: Table, items: Sequence[Item]) -> None:
    parts = [item for item in items if is_content(item) and not is_slot(item)]
    table.delete_all([key(item["pk"]["S"], item["sk"]["S"]) for item in parts])


def has_session(table: Table, pk: str) -> bool:
    """Whether one was made in the partition and has not ended."""
    newest = table.query(pk, newest_first=True, limit=1, until=bool)
    return bool(newest) and bool(newest[0]["sk"]["S"] == HEADER)


def undo_move(table: Table, pk: str, last: int, ttl: Item) -> None:
    """Takes slots 1..`last` of a place to which a move did not finish, whatever is there, so that a copy which is still
    on its way finds them taken. To be called only when the move can make no session of it any more.

    A session that lives there is then another one, and is left alone.
    """
    if has_session(table, pk):
        return
    table.put_all([tombstone(pk, slot_sk(number), ttl) for number in range(1, last + 1)])
    _delete_parts(table, outline(table, pk))
