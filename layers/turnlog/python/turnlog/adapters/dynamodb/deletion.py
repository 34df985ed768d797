"""Deletion of a session: new turns are blocked first, then all content is removed, the header last.

It works on whatever exists, damaged or not, so it can be repeated after a crash at any point, and it leaves no slot
free in which an old lease could still commit. Items of a later version go, too, also under a lease that is running:
whoever holds it finds a tombstone and can store nothing more, and the right to have all deleted does not wait for the
end of a rollback.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from turnlog.adapters.dynamodb.encode import lease_values, tombstone_item
from turnlog.adapters.dynamodb.items import HEADER, META, is_header, is_slot, slot_sk, state_of
from turnlog.adapters.dynamodb.table import EMPTY, MINE, Item, Table, key
from turnlog.errors import ErasureUnfinished, StoreUnavailable

_ROUNDS = 10
_ITEMS_AT_ONCE = 100  # of several sessions; 25 of one turn have so many, which is one batch of each kind of item
_OUTLINE = "pk, sk, v, st, tok, til, ts, created, dies, idle, dst, und, #t"
"""The attributes that a deletion and a sweep look at; none of them is content."""


def outline(table: Table, pk: str) -> list[Item]:
    """Every item of a partition, newest first, without its content."""
    return table.query(pk, newest_first=True, only=_OUTLINE)


def has_session(table: Table, pk: str) -> bool:
    """True if a session was made in the partition and is not deleted, moved or swept."""
    return is_header(table.newest(pk))


def delete_session(
    table: Table, pk: str, index_key: Item, *, only_if: Callable[[Sequence[Item]], bool] = bool
) -> Item | None:
    """Removes all content of the partition and returns only when it is gone: the newest slot's tombstone.

    Returns None when `only_if` was false of the items; it is asked before each try, since a turn may have been taken
    in between. Raises StoreUnavailable when turns were taken again and again.
    """
    blocked = _block(table, pk, index_key, only_if)
    if blocked is None:
        return None
    _remove(table, [blocked])
    return blocked.top


def was_moved(top: Item) -> bool:
    """True if this is the tombstone of a moved session: then the move was faster than the deletion."""
    return "dst" in top


def delete_listed_sessions(table: Table, owner_pk: str, has_time: Callable[[], bool]) -> int:
    """Deletes all that the owner's partition names, half-made sessions too, and returns their number.

    It needs to decrypt nothing, so it works after the owner's keys were erased. The items of small sessions are removed
    together, which halves the calls. Raises ErasureUnfinished as SessionStore.erase.
    """
    listed = table.query(owner_pk, only="pk, sk, #t")
    blocked: list[_Blocked] = []
    for number, item in enumerate(listed):
        if not has_time():
            _remove(table, blocked)
            raise ErasureUnfinished(number, len(listed) - number)
        if found := _block_listed(table, item):
            blocked.append(found)
        if sum(len(each.items) for each in blocked) >= _ITEMS_AT_ONCE:
            _remove(table, blocked)
            blocked.clear()
    _remove(table, blocked)
    return len(listed)


@dataclass(frozen=True, slots=True)
class _Blocked:
    """A partition to which no turn can come any more: its items, their newest slot a tombstone, and its index item."""

    pk: str
    index_key: Item
    items: Sequence[Item]
    top: Item


def _block(table: Table, pk: str, index_key: Item, only_if: Callable[[Sequence[Item]], bool] = bool) -> _Blocked | None:
    """Blocks new turns; raises and returns None as `delete_session`."""
    for _ in range(_ROUNDS):
        items = outline(table, pk)
        if not only_if(items):
            return None
        top = _block_new_turns(table, items, pk)
        if top and top in items:
            return _Blocked(pk, index_key, items, top)
        # A query is no snapshot: an item that was stored while it ran may be missing. So it is read again, now that
        # nothing can come any more, or because a turn was faster.
    raise StoreUnavailable


def _block_listed(table: Table, item: Item) -> _Blocked | None:
    """Blocks new turns in the partition that an item of its owner's partition names, also where nothing is yet."""
    pk, index_key = item["sk"]["S"], key(item["pk"]["S"], item["sk"]["S"])
    if blocked := _block(table, pk, index_key):
        return blocked
    # A copy of a turn may be on its way to this partition: it must find the first slot taken.
    table.put(tombstone_item(pk, slot_sk(1), item.get("ttl")), EMPTY)
    return _block(table, pk, index_key)


def _block_new_turns(table: Table, items: Sequence[Item], pk: str) -> Item | None:
    """Returns the tombstone after which no turn can come, and stores it if it was not there.

    Returns None when a turn was faster.
    """
    top = next((item for item in items if is_slot(item)), None)
    state = state_of(top) if top else ""
    if top and state == "ended":
        return top
    if top and state == "running":
        tombstone = tombstone_item(pk, top["sk"]["S"], _ttl_of(top, items))
        if unfinished_move := top.get("dst") or top.get("und"):
            tombstone["und"] = unfinished_move
        if "S" in top.get("tok", {}):
            refused = table.put(tombstone, MINE, lease_values(top["tok"]["S"]))
        else:  # nobody can commit or take over a lease that has lost its token
            refused = table.put(tombstone)
    else:
        tombstone = tombstone_item(pk, slot_sk(int(top["sk"]["S"]) + 1 if top else 1), _ttl_of(items[0], items))
        refused = table.put(tombstone, EMPTY)
    return tombstone if refused is None else None


def _remove(table: Table, blocked: Sequence[_Blocked]) -> None:
    for each in blocked:
        if "und" in each.top:
            discard_copies(table, each.top["und"]["S"], int(each.top["sk"]["S"]) - 1, each.top.get("ttl"))
    replace_with_tombstones(table, [(each.items, each.top["sk"]["S"]) for each in blocked])
    for each in blocked:
        if not is_header(each.items[0]):  # content may have been on its way to a copied slot until a moment ago
            _delete_the_rest(table, outline(table, each.pk))
    table.delete_all([key(each.pk, META) for each in blocked])
    table.delete_all([key(each.pk, HEADER) for each in blocked])
    # The last, so that an erasure still finds a session that is not yet gone.
    table.delete_all([each.index_key for each in blocked])


def replace_with_tombstones(table: Table, sessions: Sequence[tuple[Sequence[Item], str]]) -> None:
    """Puts a tombstone into every slot, and deletes all else but the header and the title.

    Of each session it takes the items and the sort key of the newest slot, which has its tombstone already.
    """
    slots = [(item, items) for items, top in sessions for item in items if is_slot(item) and item["sk"]["S"] < top]
    left = [(item, _ttl_of(item, items)) for item, items in slots if state_of(item) != "ended"]
    table.put_all([tombstone_item(item["pk"]["S"], item["sk"]["S"], ttl) for item, ttl in left])
    _delete_the_rest(table, [item for items, _ in sessions for item in items])


def _ttl_of(item: Item, items: Sequence[Item]) -> Item | None:
    """The item's TTL or, if it has lost that, the TTL of its session's other items, which is the same."""
    return next((each["ttl"] for each in (item, *items) if "ttl" in each), None)


def discard_copies(table: Table, pk: str, last: int, ttl: Item | None) -> None:
    """Puts tombstones into slots 1..`last` of a partition to which a move did not finish, whatever they hold.

    So a copy that is still on its way finds its slot taken. To be called only when the move can no longer make a
    session of the partition. If a session lives there, it is another one and is left alone.
    """
    if has_session(table, pk):
        return
    table.put_all([tombstone_item(pk, slot_sk(number), ttl) for number in range(1, last + 1)])
    _delete_the_rest(table, outline(table, pk))


def _delete_the_rest(table: Table, items: Sequence[Item]) -> None:
    """Deletes steps and the parts of turns, and whatever kinds of items a later version has beside the slots."""
    rest = [item for item in items if not is_slot(item) and item["sk"]["S"] not in (META, HEADER)]
    table.delete_all([key(item["pk"]["S"], item["sk"]["S"]) for item in rest])
