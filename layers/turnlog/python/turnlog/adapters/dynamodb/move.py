"""Moves of a session to another owner or id: its turns are copied first, then one transaction commits the move."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from turnlog.adapters.dynamodb.copies import copy_turn
from turnlog.adapters.dynamodb.data_keys import Keys
from turnlog.adapters.dynamodb.decode import metadata_of, session_of, title_of
from turnlog.adapters.dynamodb.deletion import discard_copies, has_session, outline, replace_with_tombstones
from turnlog.adapters.dynamodb.encode import (
    header_item,
    index_item,
    last_written,
    lease_item,
    lease_values,
    meta_item,
    tombstone_item,
)
from turnlog.adapters.dynamodb.items import (
    EXTENDED_VERSION,
    HEADER,
    META,
    READ_RANGE,
    index_key,
    is_of_later_version,
    is_slot,
    partition,
    slot_sk,
)
from turnlog.adapters.dynamodb.quotas import charge_actions, refusal, transact_charged
from turnlog.adapters.dynamodb.reads import READS, view_of
from turnlog.adapters.dynamodb.sweeper import add_to_sweep_list
from turnlog.adapters.dynamodb.table import (
    EMPTY,
    KNOWN,
    LABELLED,
    LAPSED,
    MINE,
    TITLED,
    UNLABELLED,
    Item,
    Table,
    failed,
    item_that_failed,
    key,
    n,
    readable,
    s,
)
from turnlog.domain.sessions import Move, Session, SessionView
from turnlog.domain.turns import Lease, busy, held_by_later_version
from turnlog.errors import (
    ItemVersionUnknown,
    LeaseLost,
    SessionCorrupt,
    SessionNotFound,
    TurnInProgress,
    TurnlogError,
)

_ROUNDS = 4


def move_session(table: Table, keys: Keys, request: Move, usage_table: str) -> Session:
    """Does SessionStore.move. Encrypted content is encrypted anew, under the new owner's key and for its new slot.

    Before it copies it checks that the charges fit, and the transaction that commits the move takes them: so nothing
    has to be given back.
    """
    for _ in range(_ROUNDS):
        seen = _read(table, keys, request)
        if isinstance(seen, dict):
            return _repeat(table, keys, request, seen)
        view, meta = seen
        if view.running and view.running.lease_expires_ms > request.at_ms:
            raise busy(view.running, request.at_ms)
        if view.unknown_lease:
            raise held_by_later_version(view.unknown_lease, request.at_ms)
        if view.running and view.running.steps:
            raise TurnInProgress(1)  # its steps are paid, and only a turn can carry them along
        new = replace(view.session, owner=request.to_owner, id=request.to_id, cipher=keys.current(request.to_owner))
        if (lease := _acquire(table, request, view, usage_table)) is not None:
            return _copy_and_commit(table, keys, request, view, meta, lease, new, usage_table)
    raise TurnInProgress(1)


def _read(table: Table, keys: Keys, request: Move) -> tuple[SessionView, Item] | Item:
    """The session with all its turns, and its meta item; or the tombstone with which an earlier move left it.

    Content that lies below the slots is left out.

    Raises SessionNotFound or a kind of SessionUnreadable. A query is no snapshot, and others may write between its
    items; so what seems to be damaged is read again.
    """
    for _ in range(READS - 1):
        with suppress(SessionCorrupt):
            return _read_once(table, keys, request)
    return _read_once(table, keys, request)


def _read_once(table: Table, keys: Keys, request: Move) -> tuple[SessionView, Item] | Item:
    items = table.query(partition(request.owner, request.session_id), newest_first=True, between=READ_RANGE)
    top = next((item for item in items if is_slot(item)), None)
    if top and "mk" in top:
        if is_of_later_version(top):
            raise ItemVersionUnknown
        return top
    view = view_of(request.owner, request.session_id, items, request.at_ms, keys)
    return view, next(item for item in items if item["sk"]["S"] == META)


def _acquire(table: Table, request: Move, view: SessionView, usage_table: str) -> Lease | None:
    """Takes the slot after the last turn for the move. Returns None when another lease was faster."""
    over, to = view.running, partition(request.to_owner, request.to_id)
    if over and (over.unfinished_move_to or over.moving_to not in ("", to)):
        over = fence_unfinished_move(table, view.session, over, request.at_ms)
        if over is None:
            return None
    counts = over.inherited_attempt_counts if over else view.turns[-1].attempt_counts if view.turns else b""
    lease = Lease(
        view.count + 1,
        request.token,
        request.lease_expires_ms,
        request.key,
        b"",
        request.at_ms,
        attempt_counts=counts,
        moving_to=to,
    )
    condition, given = EMPTY, None
    if over:
        condition, given = last_written(LAPSED, over.sequence, lease_values(over.token, request.at_ms))
    item = lease_item(view.session, lease)
    if request.quota:
        put = table.put_action(item, condition, given)
        reasons = transact_charged(table, [put], usage_table, request.quota, request.at_ms, check_only=True)
        found = item_that_failed(reasons)
    else:
        found = table.put(item, condition, given)
    return lease if found is None or _is_own_lease(found, request.token) else None


def fence_unfinished_move(table: Table, session: Session, over: Lease, now_ms: int) -> Lease | None:
    """Takes over the lapsed lease of a move that did not finish, and discards its copies.

    Returns the lease as it is then, or None when the slot no longer holds it. It has another token, so that the mover,
    should it still run, can commit nothing. It goes on to name the move's target until the slot is used, so that a
    deletion of the session meanwhile discards the copies again.
    """
    mine = replace(
        over,
        token=over.token + "!",
        lease_expires_ms=min(over.lease_expires_ms, now_ms - 1),
        moving_to="",
        unfinished_move_to=over.moving_to or over.unfinished_move_to,
    )
    condition, given = last_written(LAPSED, over.sequence, lease_values(over.token, now_ms))
    found = table.put(lease_item(session, mine), condition, given)
    if found is not None and not _is_own_lease(found, mine.token):
        return None
    discard_copies(table, mine.unfinished_move_to, over.number - 1, {"N": str(session.ttl_s)})
    return mine


def _is_own_lease(found: Item, token: str) -> bool:
    """True if an earlier try stored the lease, and only its answer was lost."""
    return "tok" in found and found["tok"]["S"] == token and found["st"]["S"] == "running"


def _copy_and_commit(
    table: Table, keys: Keys, request: Move, view: SessionView, meta: Item, lease: Lease, new: Session, usage_table: str
) -> Session:
    old = view.session
    try:
        _copy_turns(table, keys, request, view, new)
    # Another's session or copies are there, or this move's were discarded, or the session was deleted.
    except (LeaseLost, ItemVersionUnknown, SessionNotFound):
        _expire_lease(table, old, lease, request.at_ms)
        raise
    tombstone = tombstone_item(partition(old.owner, old.id), slot_sk(lease.number), {"N": str(old.ttl_s)})
    tombstone |= {"mk": {"B": request.key}, "dst": s(partition(new.owner, new.id)), "tok": s(lease.token)}
    refused = _commit(table, keys, request, old, meta, tombstone, new, usage_table)
    if refused is None:
        _remove_moved_session(table, old.owner, old.id, tombstone)
        return new
    slot, error = refused
    if slot is not None:
        # Whoever took the slot is in charge of the copies: a repeat of this move may be about to commit them.
        if "mk" in slot:
            return _repeat(table, keys, request, slot)
        raise error
    _expire_lease(table, old, lease, request.at_ms)
    if fence_unfinished_move(table, old, lease, request.at_ms):
        table.delete(index_key(new.owner, new.id))
    raise error


def _copy_turns(table: Table, keys: Keys, request: Move, view: SessionView, new: Session) -> None:
    """Copies all turns. Raises LeaseLost when the target is another session's, or the copies were discarded, and
    ItemVersionUnknown when a later version began to copy to it.
    """
    if has_session(table, partition(new.owner, new.id)):
        raise LeaseLost
    add_to_sweep_list(table, new, request.at_ms, source=partition(view.session.owner, view.session.id))
    named = table.put_action(index_item(new), KNOWN, {":newest": n(EXTENDED_VERSION)})
    reasons = table.transact([named, *keys.still_active(new)])
    if reasons and failed(reasons[0]):
        raise ItemVersionUnknown
    if reasons:  # no session may be named that the erasure which took the key would not see
        keys.was_erased(new, reasons)
        raise LeaseLost
    for turn in view.turns:
        copy_turn(table, view.session, new, turn)


def _commit(
    table: Table,
    keys: Keys,
    request: Move,
    old: Session,
    meta: Item,
    tombstone: Item,
    new: Session,
    usage_table: str,
) -> tuple[Item | None, TurnlogError] | None:
    """Commits the move in one transaction: the old session is gone and the new one exists.

    Returns None on success. Else nothing happened: returns the item now in the slot, if it is no longer this move's
    lease, and the error to raise. A title or metadata that were changed since go along; who changes them afterwards
    finds nothing to change.
    """
    while True:
        as_read = f"{TITLED} AND {LABELLED if 'md' in meta else UNLABELLED}"
        labels = {f":{name}": meta[name] for name in ("title", "md") if name in meta}
        made = [
            table.put_action(tombstone, MINE, lease_values(tombstone["tok"]["S"])),
            table.put_action(header_item(new), EMPTY),
            table.put_action(meta_item(new, title_of(meta, old.cipher), metadata_of(meta, old.cipher))),
            table.delete_action(key(meta["pk"]["S"], META), as_read, labels),
            *keys.still_active(new),
        ]
        reasons = table.transact([*made, *charge_actions(usage_table, request.quota, limited=True)])
        if not reasons:
            return None
        slot, newer = item_that_failed(reasons), reasons[3].get("Item")
        if slot is None and newer:
            meta = newer
            continue
        keys.was_erased(new, reasons[: len(made)])
        if any(map(failed, reasons[: len(made)])):
            return slot, LeaseLost()
        return None, refusal(request.quota, reasons[len(made) :], request.at_ms)


def _expire_lease(table: Table, session: Session, lease: Lease, now_ms: int) -> None:
    """Ends the lease of a move that failed, so that the next turn need not wait for its end."""
    table.put(lease_item(session, replace(lease, lease_expires_ms=now_ms - 1)), MINE, lease_values(lease.token))


def _repeat(table: Table, keys: Keys, request: Move, tombstone: Item) -> Session:
    """The session that a move under the same key made. Raises SessionNotFound if it was another move."""
    pk = partition(request.to_owner, request.to_id)
    with readable():
        is_this_move = bytes(tombstone["mk"]["B"]) == request.key and tombstone["dst"]["S"] == pk
    if not is_this_move:
        raise SessionNotFound
    _remove_moved_session(table, request.owner, request.session_id, tombstone)
    header = table.get(key(pk, HEADER))
    if header is None:
        raise SessionNotFound
    return session_of(request.to_owner, request.to_id, header, keys)


def _remove_moved_session(table: Table, owner: str, session_id: str, tombstone: Item) -> None:
    """Removes the content that the session left behind; its tombstone stays, for repeats of the move."""
    pk = partition(owner, session_id)
    replace_with_tombstones(table, [(outline(table, pk), tombstone["sk"]["S"])])
    table.delete(key(pk, META))
    table.delete(key(pk, HEADER))
    table.delete(index_key(owner, session_id))
