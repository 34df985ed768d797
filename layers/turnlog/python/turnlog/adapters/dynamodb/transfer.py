"""Forking a session, and giving it another owner or id: copies first, then one transaction makes them a session."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from turnlog.adapters.dynamodb.deletion import blank, has_session, outline, undo_move
from turnlog.adapters.dynamodb.expiry import entry_of, remember
from turnlog.adapters.dynamodb.items import (
    HEADER,
    META,
    header_item,
    index_item,
    index_key,
    is_slot,
    lease_item,
    meta_item,
    partition,
    session_of,
    slot_sk,
    title_of,
    tombstone,
    turn_items,
    values,
)
from turnlog.adapters.dynamodb.keys import Keys
from turnlog.adapters.dynamodb.quotas import charge_actions, charged, refusal
from turnlog.adapters.dynamodb.reads import LOOKS, log_of, slots_between
from turnlog.adapters.dynamodb.table import (
    DONE,
    EMPTY,
    LAPSED,
    MINE,
    TITLED,
    Item,
    Table,
    failed,
    item_that_failed,
    key,
    s,
)
from turnlog.domain.quotas import QuotaCharges
from turnlog.domain.sessions import Move, Session, SessionView
from turnlog.domain.turns import Lease, Turn, busy
from turnlog.errors import (
    ItemUnreadable,
    KeyReused,
    LeaseLost,
    SessionCorrupt,
    SessionNotFound,
    StoreUnavailable,
    TurnInProgress,
    TurnlogError,
)

_ROUNDS = 4


def fork(
    table: Table,
    keys: Keys,
    parent: Session,
    number: int,
    child: Session,
    title: str,
    quota: QuotaCharges | None,
    usage: str,
) -> None:
    """See SessionStore. Until the last transaction there is no session, and what is left of a crash is swept.

    The first one takes the name and the charge: whoever comes under the same name for something else finds it taken.
    """
    if _is_made(table, partition(child.owner, child.id)):
        return
    turns = [slot.forked() for slot in slots_between(table, parent, 1, number) if isinstance(slot, Turn)]
    if [turn.number for turn in turns] != list(range(1, number + 1)):
        raise SessionNotFound
    child = replace(child, cipher=keys.current(child.owner))
    _take_name(table, keys, child, quota, usage)
    for turn in turns:
        _copy(table, child, turn)
    made = [
        table.put_action(header_item(child), EMPTY),
        table.put_action(meta_item(child, title)),
        # What was swept meanwhile must not become a session.
        table.check_action(key(partition(child.owner, child.id), slot_sk(number)), DONE, {":done": s("done")}),
        *keys.still_active(child),
    ]
    reasons = table.transact(made)
    if reasons and "Item" not in reasons[0]:
        raise SessionNotFound if keys.was_erased(child, reasons) else StoreUnavailable


def _is_made(table: Table, place: str) -> bool:
    """Whether a session is there. Raises ClaimLost when one was, and has ended."""
    there = table.query(place, newest_first=True, limit=1, until=bool)
    if there and there[0].get("st") == s("ended"):
        raise LeaseLost
    return bool(there) and bool(there[0]["sk"]["S"] == HEADER)


def _take_name(table: Table, keys: Keys, child: Session, quota: QuotaCharges | None, usage: str) -> None:
    """Names the session in its owner's partition, puts it onto the sweeper's list and charges for it, all or nothing;
    or none of it, when this very fork was begun before. Raises KeyReused when another one was, AllowanceUsedUp, and
    SessionNotFound when the key was erased: from then on nothing may be named that the erasure would not see.
    """
    named = index_item(child) | ({"fp": {"B": child.fingerprint}} if child.fingerprint else {})
    entry = entry_of(child, child.created_ms)
    actions = [table.put_action(named, EMPTY), table.put_action(entry), *keys.still_active(child)]
    reasons = charged(table, actions, usage, quota, child.created_ms)
    if not reasons:
        return
    if keys.was_erased(child, reasons):
        raise SessionNotFound
    if bytes(reasons[0]["Item"].get("fp", {}).get("B", b"")) != child.fingerprint:
        raise KeyReused


def move(table: Table, keys: Keys, asked: Move, usage: str) -> Session:
    """See SessionStore. What was sealed is sealed anew, under the key of the new owner and for its new place.

    Before the copies it is asked whether the bill fits, and it is charged when the session is there: so nothing has to
    be given back.
    """
    for _ in range(_ROUNDS):
        seen = _seen(table, keys, asked)
        if isinstance(seen, dict):
            return _finish(table, keys, asked, seen)
        view, meta = seen
        if view.running and view.running.lease_expires_ms > asked.at_ms:
            raise busy(view.running, asked.at_ms)
        new = replace(view.session, owner=asked.to_owner, id=asked.to_id, cipher=keys.current(asked.to_owner))
        if (lease := _leased(table, asked, view, usage)) is not None:
            return _carry_over(table, keys, asked, view, meta, lease, new, usage)
    raise TurnInProgress(1)


def _seen(table: Table, keys: Keys, asked: Move) -> tuple[SessionView, Item] | Item:
    """The session with all its turns, and its meta item; or the marker that it has left. Raises SessionNotFound, a kind
    of SessionCorrupt.

    A query is no snapshot, and others may write between its items; so what seems to be damaged is looked at again.
    """
    for _ in range(LOOKS - 1):
        with suppress(SessionCorrupt):
            return _look(table, keys, asked)
    return _look(table, keys, asked)


def _look(table: Table, keys: Keys, asked: Move) -> tuple[SessionView, Item] | Item:
    items = table.query(partition(asked.owner, asked.session_id), newest_first=True)
    top = next((item for item in items if is_slot(item)), None)
    if top and "mk" in top:
        return top
    view = log_of(asked.owner, asked.session_id, items, asked.at_ms, keys)
    meta = next((item for item in items if item["sk"]["S"] == META), None)
    if meta is None:
        raise ItemUnreadable
    return view, meta


def _leased(table: Table, asked: Move, view: SessionView, usage: str) -> Lease | None:
    """The slot after the last turn, held by the move; None when another one was faster."""
    over, to = view.running, partition(asked.to_owner, asked.to_id)
    if over and (over.undo or over.moving_to not in ("", to)):
        over = fence(table, view.session, over, asked.at_ms)
        if over is None:
            return None
    counted = over.inherited_attempt_counts if over else view.turns[-1].attempt_counts if view.turns else b""
    lease = Lease(
        view.count + 1,
        asked.token,
        asked.lease_expires_ms,
        asked.key,
        b"",
        asked.at_ms,
        attempt_counts=counted,
        moving_to=to,
    )
    condition, given = (LAPSED, values(over.token, asked.at_ms)) if over else (EMPTY, None)
    item = lease_item(view.session, lease)
    if asked.quota:
        put = table.put_action(item, condition, given)
        found = item_that_failed(charged(table, [put], usage, asked.quota, asked.at_ms, taken=False))
    else:
        found = table.put(item, condition, given)
    return lease if found is None or _is_mine(found, asked.token) else None


def fence(table: Table, session: Session, over: Lease, now_ms: int) -> Lease | None:
    """The lapsed claim of a move that did not finish, after what it left was undone; None when it is no longer there.

    Its token is another one from then on, so that the mover, should it still live, can finish nothing. It goes on to
    name the other place until the slot is used, so that whoever deletes the session meanwhile undoes the move again.
    """
    mine = replace(
        over, token=over.token + "!", lease_expires_ms=now_ms - 1, moving_to="", undo=over.moving_to or over.undo
    )
    found = table.put(lease_item(session, mine), LAPSED, values(over.token, now_ms))
    if found is not None and not _is_mine(found, mine.token):
        return None
    undo_move(table, mine.undo, over.number - 1, {"N": str(session.ttl_s)})
    return mine


def _is_mine(found: Item, token: str) -> bool:
    """Whether it is one's own claim, whose answer was lost."""
    return "tok" in found and found["tok"]["S"] == token and found["st"]["S"] == "running"


def _carry_over(
    table: Table, keys: Keys, asked: Move, view: SessionView, meta: Item, lease: Lease, new: Session, usage: str
) -> Session:
    old = view.session
    try:
        _copy_all(table, keys, asked, view, new)
    except LeaseLost:  # another session is there, or an earlier try of this move was undone
        _give_way(table, old, lease, asked.at_ms)
        raise
    marker = tombstone(partition(old.owner, old.id), slot_sk(lease.number), {"N": str(old.ttl_s)})
    marker |= {"mk": {"B": asked.key}, "dst": s(partition(new.owner, new.id)), "tok": s(lease.token)}
    refused = _flip(table, keys, asked, old, meta, marker, new, usage)
    if refused is None:
        _clear_out(table, old.owner, old.id, marker)
        return new
    slot, error = refused
    if slot is not None:
        # Whoever took the slot is in charge of the copies: a repeat of this move may be about to finish with them.
        if "mk" in slot:
            return _finish(table, keys, asked, slot)
        raise error
    _give_way(table, old, lease, asked.at_ms)
    if fence(table, old, lease, asked.at_ms):
        table.delete(index_key(new.owner, new.id))
    raise error


def _copy_all(table: Table, keys: Keys, asked: Move, view: SessionView, new: Session) -> None:
    """Raises ClaimLost when the place is another session's, or was taken from under the copies."""
    if has_session(table, partition(new.owner, new.id)):
        raise LeaseLost
    remember(table, new, asked.at_ms, source=partition(view.session.owner, view.session.id))
    reasons = table.transact([table.put_action(index_item(new)), *keys.still_active(new)])
    if reasons:  # nothing may be named that the erasure which took the key would not see
        keys.was_erased(new, reasons)
        raise LeaseLost
    for turn in view.turns:
        _copy(table, new, turn)


def _flip(
    table: Table, keys: Keys, asked: Move, old: Session, meta: Item, marker: Item, new: Session, usage: str
) -> tuple[Item | None, TurnlogError] | None:
    """Ends the old place and begins the new one in one instant: None. Else what holds the slot, if that is no longer
    this move's claim, and the error to raise.

    A title that was changed since goes along; one that is changed afterwards finds nothing to change.
    """
    while True:
        made = [
            table.put_action(marker, MINE, values(marker["tok"]["S"])),
            table.put_action(header_item(new), EMPTY),
            table.put_action(meta_item(new, title_of(meta, old.cipher))),
            table.delete_action(key(meta["pk"]["S"], META), TITLED, {":title": meta["title"]}),
            *keys.still_active(new),
        ]
        reasons = table.transact([*made, *charge_actions(usage, asked.quota, limited=True)])
        if not reasons:
            return None
        slot, newer = item_that_failed(reasons), reasons[3].get("Item")
        if slot is None and newer:
            meta = newer
            continue
        keys.was_erased(new, reasons[: len(made)])
        if any(map(failed, reasons[: len(made)])):
            return slot, LeaseLost()
        return None, refusal(asked.quota, reasons[len(made) :], asked.at_ms)


def _give_way(table: Table, session: Session, lease: Lease, now_ms: int) -> None:
    """The claim of a move that failed must not stand in the way of the next turn until its lease is over."""
    table.put(lease_item(session, replace(lease, lease_expires_ms=now_ms - 1)), MINE, values(lease.token))


def _finish(table: Table, keys: Keys, asked: Move, marker: Item) -> Session:
    """What a move under the same key did; SessionNotFound for any other."""
    place = partition(asked.to_owner, asked.to_id)
    if bytes(marker["mk"]["B"]) != asked.key or marker["dst"]["S"] != place:
        raise SessionNotFound
    _clear_out(table, asked.owner, asked.session_id, marker)
    header = table.get(key(place, HEADER))
    if header is None:
        raise SessionNotFound
    return session_of(asked.to_owner, asked.to_id, header, keys)


def _clear_out(table: Table, owner: str, session_id: str, marker: Item) -> None:
    """Removes the content of the place that the session has left; its marker stays, for repeats."""
    pk = partition(owner, session_id)
    blank(table, outline(table, pk), below=marker["sk"]["S"])
    table.delete(key(pk, META))
    table.delete(key(pk, HEADER))
    table.delete(index_key(owner, session_id))


def _copy(table: Table, to: Session, turn: Turn) -> None:
    """Puts the turn into the session's slot. Raises ClaimLost when the place was taken from under the copy."""
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
    """Whether an earlier try put it there, under the same key."""
    return all(found.get(name) == copy.get(name) for name in ("st", "tok", "v", "kid"))
