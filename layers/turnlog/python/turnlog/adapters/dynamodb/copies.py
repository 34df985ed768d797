"""Copies of turns into another session's slots, as forks and moves make them before that session exists."""

from __future__ import annotations

from turnlog.adapters.dynamodb.encode import turn_items
from turnlog.adapters.dynamodb.table import EMPTY, Item, Table
from turnlog.domain.sessions import Session
from turnlog.domain.turns import Turn
from turnlog.errors import LeaseLost


def copy_turn(table: Table, to: Session, turn: Turn) -> None:
    """Stores the turn in the same slot of `to`; may be repeated. Raises LeaseLost when the slot holds something else.

    The content is encrypted anew, under the key of `to`.
    """
    first, *parts = turn_items(to, turn)
    if parts:
        actions = [table.put_action(first, EMPTY), *map(table.put_action, parts)]
        reasons = table.transact(actions)
        found = reasons[0].get("Item", {}) if reasons else None
    else:
        found = table.put(first, EMPTY)
    if found is not None and not _is_copy(found, first):
        raise LeaseLost


def _is_copy(found: Item, copy: Item) -> bool:
    """True if an earlier try stored the item, under the same key."""
    return all(found.get(name) == copy.get(name) for name in ("st", "tok", "v", "kid"))
