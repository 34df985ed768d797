"""Copies of turns into another session's slots, as forks and moves make them before that session exists."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

from turnlog.adapters.dynamodb.decode import has_content_below, piece_of, require_known_version
from turnlog.adapters.dynamodb.encode import piece_items, turn_item, turn_items
from turnlog.adapters.dynamodb.items import OWN, associated_data, kept_names, partition, slot_sk, state_of
from turnlog.adapters.dynamodb.reads import READS, pieces_between
from turnlog.adapters.dynamodb.table import COPIED, EMPTY, Item, Table, item_that_failed, key, readable, s
from turnlog.domain.sessions import Session
from turnlog.domain.turns import MAX_TURN_BYTES, Turn
from turnlog.errors import LeaseLost, SessionCorrupt, SessionNotFound

_MOST_ITEMS = 90  # of one transaction, which takes 100


def copy_turn(table: Table, old: Session, to: Session, turn: Turn) -> None:
    """Stores the turn of `old` in the same slot of `to`; may be repeated.

    The content is encrypted anew, under the key of `to`. What lies below the slot goes in as many transactions as it
    takes, each of which needs the copied slot: whoever discards the copies puts tombstones into the slots first, so
    nothing comes after. Raises LeaseLost when the slot holds something else, and SessionNotFound when the turn is gone.
    """
    slot, pieces = _copied(table, old, to, turn)
    first, *more = _batches(slot, pieces)
    actions = [table.put_action(slot, EMPTY), *map(table.put_action, first)]
    found = item_that_failed(table.transact(actions)) if first else table.put(slot, EMPTY)
    if found is not None and not _is_copy(found, slot):
        raise LeaseLost
    given = {":done": s("done"), ":token": slot["tok"]}
    # An earlier try may have stored the rest, or nothing of it; what it stored is replaced as a whole.
    for batch in more if found is None else _batches({}, pieces):
        is_there = table.check_action(key(slot["pk"]["S"], slot["sk"]["S"]), COPIED, given)
        if batch and table.transact([is_there, *map(table.put_action, batch)]):
            raise LeaseLost


def _copied(table: Table, old: Session, to: Session, turn: Turn) -> tuple[Item, list[list[Item]]]:
    """The slot's item for `to`, and the items of each piece of content below it."""
    if turn.is_read:
        slot, *parts = turn_items(to, turn)
        return slot, [parts] if parts else []
    for _ in range(READS - 1):
        with suppress(SessionCorrupt):  # it may be deleted while it is read: the next look says so
            return _copied_with_pieces(table, old, to, turn)
    return _copied_with_pieces(table, old, to, turn)


def _copied_with_pieces(table: Table, old: Session, to: Session, turn: Turn) -> tuple[Item, list[list[Item]]]:
    pk, number = partition(old.owner, old.id), turn.number
    stored = table.get(key(pk, slot_sk(number)))
    if stored is None or state_of(stored) != "done":
        raise SessionNotFound
    require_known_version(stored)
    below = pieces_between(table, pk, number, number) if has_content_below(stored) else {}
    slot = turn_item(to, turn, extended=True) | {
        name: stored[name] for name in ("usd", "kept", "below") if name in stored
    }
    with readable():
        if "body" in stored:
            content = old.cipher.decrypt(associated_data(stored, "body"), bytes(stored["body"]["B"]))
            slot["body"] = {"B": to.cipher.encrypt(associated_data(slot, "body"), content)}
        names = kept_names(stored["kept"]["S"]) if "kept" in stored else []
        names += [OWN] if "below" in stored else []
        packed = [(name, piece_of(below, number, name, old.cipher)) for name in names]
    return slot, [piece_items(to, number, name, content) for name, content in packed]


def _batches(slot: Item, pieces: Sequence[Sequence[Item]]) -> Iterator[list[Item]]:
    """The pieces in groups that fit into one transaction, the first together with the slot. It may be empty."""
    batch: list[Item] = []
    room = MAX_TURN_BYTES - _content_bytes(slot)
    for piece in pieces:
        size = sum(map(_content_bytes, piece))
        if size > room or len(batch) + len(piece) > _MOST_ITEMS:
            yield batch
            batch, room = [], MAX_TURN_BYTES
        batch += piece
        room -= size
    yield batch


def _content_bytes(item: Item) -> int:
    return sum(len(item[name]["B"]) for name in ("body", "part") if name in item)


def _is_copy(found: Item, copy: Item) -> bool:
    """True if an earlier try stored the item, under the same key."""
    return all(found.get(name) == copy.get(name) for name in ("st", "tok", "v", "kid"))
