"""SessionStore on DynamoDB: reads and conditional writes of one slot are here, the rest is in its own modules."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from turnlog.adapters.dynamodb import sweeper
from turnlog.adapters.dynamodb.data_keys import Keys, NoKeys
from turnlog.adapters.dynamodb.decode import NO_PIECES, has_content_below, listed_session, slot_of, steps_of
from turnlog.adapters.dynamodb.deletion import delete_listed_sessions, delete_session, was_moved
from turnlog.adapters.dynamodb.encode import (
    header_item,
    index_item,
    last_results,
    last_written,
    lease_item,
    lease_values,
    meta_item,
    step_items,
    turn_items,
)
from turnlog.adapters.dynamodb.fork import fork_session
from turnlog.adapters.dynamodb.items import (
    READ_RANGE,
    index_key,
    is_partition,
    owner_partition,
    partition,
    piece_sk,
    results_name,
    slot_sk,
)
from turnlog.adapters.dynamodb.move import fence_unfinished_move, move_session
from turnlog.adapters.dynamodb.quotas import charge_actions, erase_quotas, transact_charged
from turnlog.adapters.dynamodb.reads import (
    READS,
    has_all,
    in_window,
    page_size,
    pieces_between,
    pieces_of,
    slots_between,
    view_of,
)
from turnlog.adapters.dynamodb.table import (
    EMPTY,
    LAPSED,
    MINE,
    SAME_VERSION,
    UNSTOPPED,
    Item,
    Table,
    item_that_failed,
    key,
)
from turnlog.domain.conditions import is_held
from turnlog.domain.messages import Message
from turnlog.domain.quotas import QuotaCharge, QuotaCharges
from turnlog.domain.sessions import ListedSession, Metadata, Move, Session, SessionChanges, SessionView
from turnlog.domain.turns import Lease, Slot, Step, Tombstone, Turn
from turnlog.errors import (
    ItemUnreadable,
    ItemVersionUnknown,
    KeysUnavailable,
    LeaseLost,
    SessionCorrupt,
    SessionNotFound,
    SessionUnreadable,
)

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


class DynamoDBSessionStore:
    """Sessions in the table `table`, and the quotas of their owners in `usage_table`.

    The usage table may be left out when no lease carries charges. Both tables: pk (S), sk (S), TTL on `ttl`, no index.
    Needs Query, GetItem, PutItem, UpdateItem (for titles, metadata and wishes to stop), DeleteItem, BatchWriteItem and
    ConditionCheckItem; on the usage table UpdateItem, and for an erasure Query and BatchWriteItem. With `keys` all
    content is encrypted; without, encrypted sessions are refused. Give it a client without retries of its own
    (`total_max_attempts=1`) and with short timeouts: see Table.

    A turn of up to 1 KB packed costs, with a window of 25 turns, 3 calls and 2 or 3 write units. An owner's rate limit
    makes it 6 write units, since it is charged in one transaction with the lease, and a settled budget 10. With
    `eventual` a read that need not be `consistent` is eventually consistent, at half the price. Encryption adds 40
    bytes to an item and, while the owner's key is in memory, no call: data_keys.py says when it is not.

    To renew a lease costs 1 write unit, and to store a step 2 for the lease and 2 for each KB, plus 2 for each counter.
    A read costs one query more where turns of the window have content below their slots, and the commit of a turn of
    steps that ends with results of tools costs a look at their item.
    """

    def __init__(
        self,
        client: DynamoDBClient,
        table: str,
        usage_table: str = "",
        *,
        keys: Keys | None = None,
        eventual: bool = False,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._sessions = Table(client, table, sleep)
        self._quotas = Table(client, usage_table, sleep)
        self._keys = keys or NoKeys()
        self._eventual = eventual

    # --- what a turn needs

    def read(
        self,
        owner: str,
        session_id: str,
        now_ms: int,
        newest: int,
        *,
        consistent: bool = True,
        with_content: bool = True,
    ) -> SessionView:
        if is_partition(session_id):
            raise ItemUnreadable
        for _ in range(READS - 1):
            try:
                return self._view(owner, session_id, now_ms, newest, consistent, with_content)
            except SessionCorrupt:
                # A query is no snapshot: writes may have come between its pages. Real damage shows again.
                consistent = True
        return self._view(owner, session_id, now_ms, newest, consistent, with_content)

    def turns(self, session: Session, first: int, last: int) -> list[Turn]:
        return [slot for slot in self._slots(session, first, last) if isinstance(slot, Turn)]

    def acquire(self, session: Session, lease: Lease, over: Lease | None) -> Slot | None:
        if over and (over.moving_to or over.unfinished_move_to):
            over = fence_unfinished_move(self._sessions, session, over, lease.at_ms)
            if over is None:
                return self._slot(session, lease.number)
        item = lease_item(session, lease)
        condition, given = EMPTY, None
        if over:
            condition, given = last_written(LAPSED, over.sequence, lease_values(over.token, lease.at_ms))
        if lease.charges:
            put, quota = (
                self._sessions.put_action(item, condition, given),
                QuotaCharges(session.owner, lease.charges),
            )
            found = item_that_failed(transact_charged(self._sessions, [put], self._quotas.name, quota, lease.at_ms))
        else:
            found = self._sessions.put(item, condition, given)
        return lease if found is None else self._slot_in(session, lease.number, found)

    def release(self, session: Session, lease: Lease, billed: bool, now_ms: int) -> None:
        unchanged, mine = last_written(MINE, lease.sequence, lease_values(lease.token))
        left = lease.after_release(billed, now_ms)
        refunds = [] if billed else charge_actions(self._quotas.name, QuotaCharges(session.owner, lease.charges).refund)
        if left is not None:
            item = lease_item(session, left)
            if refunds:
                self._sessions.transact([self._sessions.put_action(item, unchanged, mine), *refunds])
            else:
                self._sessions.put(item, unchanged, mine)
            return
        slot = key(partition(session.owner, session.id), slot_sk(lease.number))
        if refunds:
            self._sessions.transact([self._sessions.delete_action(slot, unchanged, mine), *refunds])
        else:
            self._sessions.delete(slot, unchanged, mine)

    def commit(self, session: Session, turn: Turn, settlement: tuple[QuotaCharge, ...] = ()) -> Slot | None:
        has_results = turn.steps > 0 and last_results(turn) is not None and self._has_results(session, turn)
        first, *parts = turn_items(session, turn, has_results=has_results)
        mine = lease_values(turn.token)
        if parts or settlement:
            actions = [self._sessions.put_action(first, MINE, mine), *map(self._sessions.put_action, parts)]
            settled = charge_actions(self._quotas.name, QuotaCharges(session.owner, settlement))
            reasons = self._sessions.transact([*actions, *settled])
            found = item_that_failed(reasons)
        else:
            found = self._sessions.put(first, MINE, mine)
        return turn if found is None else self._slot_in(session, turn.number, found)

    # --- what a turn of several calls needs

    def renew(self, session: Session, lease: Lease, seen: int) -> Slot | None:
        unstopped = MINE if lease.stop_asked else f"{MINE} AND {UNSTOPPED}"
        condition, given = last_written(unstopped, seen, lease_values(lease.token))
        found = self._sessions.put(lease_item(session, lease), condition, given)
        return lease if found is None else self._written(session, lease, found)

    def checkpoint(
        self,
        session: Session,
        lease: Lease,
        seen: int,
        step: Step,
        *,
        message: Sequence[Message] = (),
        settlement: tuple[QuotaCharge, ...] = (),
        charges: tuple[QuotaCharge, ...] = (),
    ) -> Slot | None:
        pieces = step_items(session, lease.number, step, message)
        condition, given = last_written(f"{MINE} AND {UNSTOPPED}", seen, lease_values(lease.token))
        put = self._sessions.put_action(lease_item(session, lease), condition, given)
        reasons = transact_charged(
            self._sessions,
            [put, *map(self._sessions.put_action, pieces)],
            self._quotas.name,
            QuotaCharges(session.owner, charges),
            lease.at_ms,
            settlement=settlement,
        )
        found = item_that_failed(reasons)
        return lease if found is None else self._written(session, lease, found)

    def steps(self, session: Session, lease: Lease) -> tuple[tuple[Message, ...], tuple[Step, ...]]:
        for _ in range(READS - 1):
            with suppress(SessionCorrupt):
                return self._steps(session, lease)
            # A query is no snapshot: writes may have come between its items. Real damage shows again.
            self._require_held(session, lease)
        return self._steps(session, lease)

    def interrupt(self, session: Session, turn: Turn, over: Lease) -> Slot | None:
        first, *parts = turn_items(session, turn, has_results=last_results(turn) is not None)
        condition, given = last_written(LAPSED, over.sequence, lease_values(over.token, turn.at_ms))
        if parts:
            actions = [self._sessions.put_action(first, condition, given), *map(self._sessions.put_action, parts)]
            found = item_that_failed(self._sessions.transact(actions))
        else:
            found = self._sessions.put(first, condition, given)
        return turn if found is None else self._slot_in(session, turn.number, found)

    def ask_to_stop(self, session: Session, lease: Lease) -> bool:
        asked = {":stop": {"BOOL": True}} | lease_values(lease.token)
        return self._sessions.update(lease_item(session, lease), "SET stop = :stop", asked, MINE) is None

    # --- the rest

    def create(
        self,
        session: Session,
        title: str,
        *,
        metadata: Metadata = (),
        quota: QuotaCharges | None = None,
        first: Turn | None = None,
    ) -> Session:
        pk = partition(session.owner, session.id)
        if self._sessions.newest(pk):
            return self.read(session.owner, session.id, session.created_ms, newest=1, with_content=False).session
        session = replace(session, cipher=self._keys.current(session.owner))
        turn, *parts = turn_items(session, first) if first else [None]
        actions = [
            self._sessions.put_action(index_item(session)),
            self._sessions.put_action(sweeper.sweep_entry(session, session.created_ms)),
            self._sessions.put_action(header_item(session), EMPTY),
            self._sessions.put_action(meta_item(session, title, metadata)),
            # A session that its caller named may have been created since that query, and deleted again.
            self._sessions.put_action(turn, EMPTY) if turn else self._sessions.check_action(key(pk, slot_sk(1)), EMPTY),
            *(self._sessions.put_action(part) for part in parts if part),
            *self._keys.still_active(session),
        ]
        reasons = transact_charged(self._sessions, actions, self._quotas.name, quota, session.created_ms)
        if reasons and self._keys.was_erased(session, reasons):
            return self.create(session, title, metadata=metadata, quota=quota, first=first)
        return (
            self.read(session.owner, session.id, session.created_ms, newest=1, with_content=False).session
            if reasons
            else session
        )

    def fork(
        self,
        parent: Session,
        number: int,
        child: Session,
        title: str,
        *,
        metadata: Metadata = (),
        quota: QuotaCharges | None = None,
    ) -> None:
        fork_session(self._sessions, self._keys, parent, number, child, title, metadata, quota, self._quotas.name)

    def change(self, owner: str, session_id: str, changes: SessionChanges, now_ms: int) -> None:
        session = self.read(owner, session_id, now_ms, newest=1, with_content=False).session
        changed = meta_item(session, changes.title or "", changes.metadata or ())
        asked = [name for name, value in (("title", changes.title), ("md", changes.metadata)) if value is not None]
        kept = [name for name in asked if name in changed]
        expression = [f"SET {', '.join(f'{name} = :{name}' for name in kept)}"] if kept else []
        expression += [f"REMOVE {name}" for name in asked if name not in changed]
        if not expression:
            return
        given = {f":{name}": changed[name] for name in kept} | {":v": changed["v"]}
        # Only where the item is still as it was read: a title must not come back after its session was deleted.
        found = self._sessions.update(changed, " ".join(expression), given, SAME_VERSION)
        if found:
            raise ItemVersionUnknown
        if found is not None:
            raise SessionNotFound

    def move(self, move: Move) -> Session:
        return move_session(self._sessions, self._keys, move, self._quotas.name)

    def delete(self, owner: str, session_id: str, now_ms: int) -> bool:
        if is_partition(session_id):
            return self._delete_unreadable(owner, session_id)
        alive = True
        try:
            self.read(owner, session_id, now_ms, newest=1, with_content=False)
        except SessionNotFound:
            alive = False
        except (SessionUnreadable, KeysUnavailable):
            pass  # a session that cannot be read can still be deleted
        top = delete_session(self._sessions, partition(owner, session_id), index_key(owner, session_id))
        return alive and not (top and was_moved(top))  # it may have been moved since it was read

    def session_ids(self, owner: str) -> list[str]:
        return [each.id for each in self.listed(owner)]

    def listed(self, owner: str) -> list[ListedSession]:
        found = []
        for item in self._sessions.query(owner_partition(owner)):
            with suppress(SessionNotFound):  # left by a creation during which the owner was erased
                found.append(listed_session(owner, item, self._keys))
        return found

    def erase(self, owner: str, now_ms: int, *, has_time: Callable[[], bool] = lambda: True) -> int:
        self._keys.begin_erasure(owner)
        deleted = delete_listed_sessions(self._sessions, owner_partition(owner), has_time)
        if self._quotas.name:
            erase_quotas(self._quotas, owner, now_ms)
        self._keys.finish_erasure(owner)
        return deleted

    def sweep(self, now_ms: int) -> int:
        return sweeper.sweep(self._sessions, now_ms)

    def _delete_unreadable(self, owner: str, pk: str) -> bool:
        """Deletes a session whose id cannot be read, if the owner's partition names it. Returns as `delete`."""
        index = key(owner_partition(owner), pk)
        if self._sessions.get(index) is None:
            return False
        if delete_session(self._sessions, pk, index):
            return True
        self._sessions.delete_all([index])
        return False

    def _view(
        self, owner: str, session_id: str, now_ms: int, newest: int, consistent: bool, with_content: bool
    ) -> SessionView:
        pk, consistent = partition(owner, session_id), consistent or not self._eventual
        items = self._sessions.query(
            pk,
            newest_first=True,
            limit=page_size(newest),
            until=lambda found: has_all(found, newest),
            between=READ_RANGE,
            consistent=consistent,
        )
        shown = in_window(items, newest) if with_content else []
        pieces = pieces_of(self._sessions, pk, shown, consistent=consistent) if shown else NO_PIECES
        return view_of(owner, session_id, items, now_ms, self._keys, newest, pieces)

    # --- slots

    def _slot_in(self, session: Session, number: int, found: Item) -> Slot | None:
        """The slot in the item that failed a condition. A large turn is read again, for the rest of its content."""
        if "parts" not in found and not has_content_below(found):
            return slot_of(found, session.cipher) if found else None
        return self._slot(session, number)

    def _written(self, session: Session, lease: Lease, found: Item) -> Slot | None:
        """The slot after a write of one's own lease was refused: `lease` itself if an earlier try of it was stored."""
        slot = self._slot_in(session, lease.number, found)
        is_stored = isinstance(slot, Lease) and (slot.token, slot.sequence) == (lease.token, lease.sequence)
        return lease if is_stored else slot

    def _steps(self, session: Session, lease: Lease) -> tuple[tuple[Message, ...], tuple[Step, ...]]:
        pk = partition(session.owner, session.id)
        items = pieces_between(self._sessions, pk, lease.number, lease.number)
        return steps_of(items, lease.number, lease.steps, session.cipher)

    def _require_held(self, session: Session, lease: Lease) -> None:
        """Raises LeaseLost when another took the lease's slot, and SessionNotFound when the session was deleted."""
        found = self._slot(session, lease.number)
        if isinstance(found, Tombstone):
            raise SessionNotFound
        if not is_held(found, lease.token):
            raise LeaseLost

    def _has_results(self, session: Session, turn: Turn) -> bool:
        """True if the results of the turn's last step are stored with it."""
        sk = piece_sk(turn.number, results_name(turn.steps))
        return self._sessions.get(key(partition(session.owner, session.id), sk), only="pk") is not None

    def _slot(self, session: Session, number: int) -> Slot | None:
        return next(iter(self._slots(session, number, number)), None)

    def _slots(self, session: Session, first: int, last: int) -> list[Slot]:
        return slots_between(self._sessions, session, first, last)
