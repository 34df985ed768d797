"""Forks of a session: its turns are copied first, then one transaction makes a session of the copies."""

from __future__ import annotations

from dataclasses import replace

from turnlog.adapters.dynamodb.copies import copy_turn
from turnlog.adapters.dynamodb.data_keys import Keys
from turnlog.adapters.dynamodb.deletion import outline
from turnlog.adapters.dynamodb.encode import header_item, index_item, meta_item
from turnlog.adapters.dynamodb.items import is_header, is_of_later_version, is_slot, partition, slot_sk, state_of
from turnlog.adapters.dynamodb.quotas import transact_charged
from turnlog.adapters.dynamodb.reads import slots_between
from turnlog.adapters.dynamodb.sweeper import sweep_entry
from turnlog.adapters.dynamodb.table import DONE, EMPTY, Table, key, s
from turnlog.domain.quotas import QuotaCharges
from turnlog.domain.sessions import Metadata, Session
from turnlog.domain.turns import Turn
from turnlog.errors import ItemVersionUnknown, KeyReused, LeaseLost, SessionNotFound, StoreUnavailable, TurnsMissing


def fork_session(
    table: Table,
    keys: Keys,
    parent: Session,
    number: int,
    child: Session,
    title: str,
    metadata: Metadata,
    quota: QuotaCharges | None,
    usage_table: str,
) -> None:
    """Does SessionStore.fork. Until its last transaction there is no session, and after a crash the copies are swept.

    The first transaction reserves the child's id and takes the charge. Another fork under the same id finds it taken.
    """
    if _is_made(table, partition(child.owner, child.id)):
        return
    turns = _turns_of(table, parent, number)
    child = replace(child, cipher=keys.current(child.owner))
    _reserve_id(table, keys, child, quota, usage_table)
    for turn in turns:
        copy_turn(table, parent, child, turn.forked())
    made = [
        table.put_action(header_item(child), EMPTY),
        table.put_action(meta_item(child, title, metadata)),
        # Copies that were swept meanwhile must not become a session.
        table.check_action(key(partition(child.owner, child.id), slot_sk(number)), DONE, {":done": s("done")}),
        *keys.still_active(child),
    ]
    reasons = table.transact(made)
    if reasons and "Item" not in reasons[0]:
        raise SessionNotFound if keys.was_erased(child, reasons) else StoreUnavailable


def _turns_of(table: Table, parent: Session, number: int) -> list[Turn]:
    """The parent's turns 1..`number`, without content that lies below their slots.

    Raises SessionNotFound when it is gone or has fewer, a kind of SessionCorrupt when one of them is missing.
    """
    for _ in range(2):  # a turn may be committed between two reads, or a deletion begin: the second look is sure
        slots = slots_between(table, parent, 1, number, with_content=False)
        turns = [slot for slot in slots if isinstance(slot, Turn)]
        if [turn.number for turn in turns] == list(range(1, number + 1)):
            return turns
        items = outline(table, partition(parent.owner, parent.id))
        states = {int(item["sk"]["S"]): state_of(item) for item in items if is_slot(item)}
        is_gone = not items or not is_header(items[0]) or states.get(max(states, default=0)) == "ended"
        if is_gone or number > max((each for each, state in states.items() if state == "done"), default=0):
            raise SessionNotFound
    raise TurnsMissing


def _is_made(table: Table, pk: str) -> bool:
    """True if a session is in the partition. Raises LeaseLost when one was, and is deleted, moved or swept."""
    newest = table.newest(pk)
    if newest and newest.get("st") == s("ended"):
        raise LeaseLost
    return is_header(newest)


def _reserve_id(table: Table, keys: Keys, child: Session, quota: QuotaCharges | None, usage_table: str) -> None:
    """Names the session in its owner's partition, puts it onto the sweeper's list and takes the charges.

    All of it or nothing; nothing when this very fork was begun before. Raises KeyReused when another fork was begun
    under this id, ItemVersionUnknown when a later version began one, QuotaExceeded, and SessionNotFound when the
    owner's key was erased: no session may be named after an erasure has listed the sessions.
    """
    index = index_item(child) | ({"fp": {"B": child.fingerprint}} if child.fingerprint else {})
    entry = sweep_entry(child, child.created_ms)
    actions = [table.put_action(index, EMPTY), table.put_action(entry), *keys.still_active(child)]
    reasons = transact_charged(table, actions, usage_table, quota, child.created_ms)
    if not reasons:
        return
    if keys.was_erased(child, reasons):
        raise SessionNotFound
    if is_of_later_version(reasons[0]["Item"]):
        raise ItemVersionUnknown
    if bytes(reasons[0]["Item"].get("fp", {}).get("B", b"")) != child.fingerprint:
        raise KeyReused
