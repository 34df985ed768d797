"""The session protocol, once for all stores that keep their sessions under a lock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from typing import Protocol

from turnlog.domain.conditions import (
    alive,
    can_be_renewed,
    can_be_taken,
    has_lapsed,
    is_held,
    require_rest_storable,
    require_step_storable,
    require_turn_storable,
)
from turnlog.domain.messages import Message
from turnlog.domain.quotas import QuotaCharge, QuotaCharges, QuotaCounters, by_owner
from turnlog.domain.sessions import ListedSession, Metadata, Move, Session, SessionChanges, SessionView
from turnlog.domain.turns import Lease, ModelCall, Slot, Step, Tombstone, Turn, busy
from turnlog.errors import ItemVersionUnknown, LeaseLost, SessionNotFound, SessionUnreadable, TurnsMissing


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The values that one checkpoint of a running turn stores: the lease, and either a step's reply or its results.

    `number` is the step's. `message` are the caller's messages, beside the first step's reply.
    """

    lease: Lease
    number: int
    reply: Message | None = None
    call: ModelCall | None = None
    results: Message | None = None
    message: tuple[Message, ...] = ()

    @classmethod
    def of(cls, lease: Lease, step: Step, message: Sequence[Message]) -> Checkpoint:
        """The checkpoint of a step: of its results, if it has them."""
        if step.results:
            return cls(lease, step.number, results=step.results)
        return cls(lease, step.number, step.reply, step.call, message=tuple(message))


@dataclass(frozen=True, slots=True)
class StoredSession:
    """A session with its turns 1..n and, if somebody holds it, slot n + 1. It may have expired.

    `checkpoints` are those of the running turn, in the order in which they were stored.
    """

    session: Session
    title: str
    turns: Sequence[Turn] = ()
    running: Lease | None = None
    checkpoints: Sequence[Checkpoint] = ()
    metadata: Metadata = ()

    def is_next(self, number: int) -> bool:
        """True for the slot after the last turn."""
        return number == len(self.turns) + 1

    def slot(self, number: int) -> Slot | None:
        """The turn or the lease in a slot."""
        if 1 <= number <= len(self.turns):
            return self.turns[number - 1]
        return self.running if self.is_next(number) else None

    def with_lease(self, lease: Lease | None) -> StoredSession:
        """The session with another lease, which goes on from the steps that are there if it says so."""
        return replace(self, running=lease, checkpoints=self.checkpoints if lease and lease.steps else ())

    def steps(self, last: int) -> tuple[tuple[Message, ...], tuple[Step, ...]]:
        """The caller's messages and the steps 1..`last` of the running turn. Raises a kind of SessionCorrupt."""
        message: tuple[Message, ...] = ()
        steps: list[Step] = []
        for each in self.checkpoints:
            if each.reply and each.call and each.number == len(steps) + 1:
                steps.append(Step(each.number, each.reply, each.call))
                message = message or each.message
            elif each.results and each.number == len(steps):
                steps[-1] = replace(steps[-1], results=each.results)
            else:
                raise TurnsMissing
        if len(steps) < last:
            raise TurnsMissing
        return message, tuple(steps[:last])

    def view(self, newest: int = 1) -> SessionView:
        """The session with its newest turns."""
        turns = tuple(self.turns[-newest:])
        return SessionView(self.session, self.title, len(self.turns), turns, self.running, metadata=self.metadata)


class LockedSessions(Protocol):
    """The sessions and counters that a lock protects, wherever they are kept.

    All methods but `locked` and `sweep` want the lock to be held. Each change happens whole or not at all.

    A method that reads a session, tombstone or counter that is damaged, or of a later version, raises a kind of
    SessionUnreadable.
    """

    def locked(self, *, shared: bool = False) -> AbstractContextManager[None]:
        """Holds the lock, for a change or `shared` with other readers. Raises StoreUnavailable."""

    def find(self, owner: str, session_id: str) -> StoredSession | None:
        """The session, or None when there is none."""

    def session_ids(self, owner: str) -> list[str]:
        """See SessionStore."""

    def is_taken(self, owner: str, session_id: str) -> bool:
        """True if there is a tombstone for this id."""

    def has_moved(self, move: Move) -> bool:
        """True if a tombstone says that this very move was made."""

    def make(self, new: StoredSession) -> None:
        """Keeps a new session."""

    def change(self, changed: StoredSession, *, lazily: bool = False) -> None:
        """Gives a session its new title and lease; if it is done `lazily`, a crash may undo it."""

    def change_metadata(self, changed: StoredSession) -> None:
        """Gives a session its new title and metadata."""

    def add(self, stored: StoredSession, turn: Turn, *, lazily: bool = False) -> None:
        """Adds a turn, which takes the place of the lease and its steps.

        If it is done `lazily`, a crash may undo it.
        """

    def add_checkpoint(self, stored: StoredSession, checkpoint: Checkpoint, *, lazily: bool = False) -> None:
        """Gives a session its new lease, and keeps with it a part of a step; if `lazily`, a crash may undo it."""

    def move(self, stored: StoredSession, move: Move) -> None:
        """Gives a session its new owner and id, no lease and no steps, and leaves a tombstone."""

    def remove(self, owner: str, session_id: str, now_ms: int) -> bool:
        """Removes a session, and leaves a tombstone until its `ttl_s`. False when there is none."""

    def remove_all(self, owner: str, now_ms: int, has_time: Callable[[], bool]) -> int:
        """Removes all sessions of the owner, half-made ones too; says how many.

        Raises ErasureUnfinished once `has_time` is false, which is asked before each session.
        """

    def counters(self, owner: str) -> QuotaCounters:
        """A copy of what the owner has used."""

    def keep_counters(self, owner: str, counters: QuotaCounters) -> None:
        """Keeps what the owner has used."""

    def sweep(self, now_ms: int) -> int:
        """See SessionStore. Takes the lock itself, for as little at a time as it can."""


class LockedSessionStore:
    """SessionStore, TurnStore and QuotaStore over LockedSessions, whose changes follow one another.

    It never leaves out the content of a turn.
    """

    def __init__(self, kept: LockedSessions) -> None:
        self._kept = kept

    # --- what a turn needs

    def read(
        self,
        owner: str,
        session_id: str,
        now_ms: int,
        newest: int,
        *,
        consistent: bool = True,  # noqa: ARG002
        with_content: bool = True,  # noqa: ARG002
    ) -> SessionView:
        with self._kept.locked(shared=True):
            return alive(self._find(owner, session_id).view(newest), now_ms)

    def turns(self, session: Session, first: int, last: int) -> list[Turn]:
        with self._kept.locked(shared=True):
            stored = self._kept.find(session.owner, session.id)
            return list(stored.turns[max(first, 1) - 1 : max(last, 0)]) if stored else []

    def acquire(self, session: Session, lease: Lease, over: Lease | None) -> Slot | None:
        with self._kept.locked():
            stored = self._kept.find(session.owner, session.id)
            if stored is None:
                return Tombstone(lease.number)
            held = stored.slot(lease.number)
            if not can_be_taken(held, lease, over) or not stored.is_next(lease.number):
                return held
            self._take(QuotaCharges(session.owner, lease.charges), lease.at_ms)
            self._kept.change(stored.with_lease(lease), lazily=not lease.charges)
            return lease

    def release(self, session: Session, lease: Lease, billed: bool, now_ms: int) -> None:
        with self._kept.locked():
            stored = self._kept.find(session.owner, session.id)
            if stored is None or not is_held(stored.slot(lease.number), lease.token, lease.sequence):
                return
            left = lease.after_release(billed, now_ms)
            self._kept.change(stored.with_lease(left), lazily=not lease.charges)
            if not billed:
                self._change(session.owner, lease.charges, QuotaCounters.give_back)

    def commit(self, session: Session, turn: Turn, settlement: tuple[QuotaCharge, ...] = ()) -> Slot | None:
        if not turn.steps:
            require_turn_storable(turn)
        with self._kept.locked():
            stored = self._kept.find(session.owner, session.id)
            if stored is None:
                return Tombstone(turn.number)
            held = stored.slot(turn.number)
            if not is_held(held, turn.token):
                return held
            if turn.steps:
                require_rest_storable(turn, *stored.steps(turn.steps))
            # Whoever dies in between leaves too much charged, never too little.
            self._settle(session.owner, [charge for charge in settlement if charge.amount > 0])
            self._kept.add(stored, turn, lazily=not settlement)
            self._settle(session.owner, [charge for charge in settlement if charge.amount < 0])
            return turn

    # --- what a turn of several calls needs

    def renew(self, session: Session, lease: Lease, seen: int) -> Slot | None:
        with self._kept.locked():
            stored = self._kept.find(session.owner, session.id)
            if stored is None:
                return Tombstone(lease.number)
            held = stored.slot(lease.number)
            if is_held(held, lease.token, lease.sequence):
                return lease  # an earlier try, which was not answered
            if not can_be_renewed(held, lease, seen):
                return held
            self._kept.change(stored.with_lease(lease), lazily=True)
            return lease

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
        require_step_storable(step, message)
        with self._kept.locked():
            stored = self._kept.find(session.owner, session.id)
            if stored is None:
                return Tombstone(lease.number)
            held = stored.slot(lease.number)
            if is_held(held, lease.token, lease.sequence):
                return lease  # an earlier try, which was not answered
            if not can_be_renewed(held, lease, seen):
                return held
            self._require_fits(QuotaCharges(session.owner, charges), settlement, lease.at_ms)
            # Whoever dies in between leaves too much charged, never too little.
            self._settle(session.owner, [charge for charge in (*settlement, *charges) if charge.amount > 0])
            lazily = not (settlement or charges)
            self._kept.add_checkpoint(stored, Checkpoint.of(lease, step, message), lazily=lazily)
            self._settle(session.owner, [charge for charge in settlement if charge.amount < 0])
            return lease

    def steps(self, session: Session, lease: Lease) -> tuple[tuple[Message, ...], tuple[Step, ...]]:
        with self._kept.locked(shared=True):
            stored = self._kept.find(session.owner, session.id)
            if stored is None:
                raise SessionNotFound
            if not is_held(stored.slot(lease.number), lease.token):
                raise LeaseLost
            return stored.steps(lease.steps)

    def interrupt(self, session: Session, turn: Turn, over: Lease) -> Slot | None:
        with self._kept.locked():
            stored = self._kept.find(session.owner, session.id)
            if stored is None:
                return Tombstone(turn.number)
            held = stored.slot(turn.number)  # all of the turn's content is stored already, so its size is no question
            if not has_lapsed(held, over, turn.at_ms):
                return held
            self._kept.add(stored, turn, lazily=True)
            return turn

    def ask_to_stop(self, session: Session, lease: Lease) -> bool:
        with self._kept.locked():
            stored = self._kept.find(session.owner, session.id)
            held = stored.slot(lease.number) if stored else None
            if stored is None or not is_held(held, lease.token):
                return False
            if not held.stop_asked:
                self._kept.change(stored.with_lease(replace(held, stop_asked=True)), lazily=True)
            return True

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
        if first:
            require_turn_storable(first)
        with self._kept.locked():
            if existing := self._kept.find(session.owner, session.id):
                return alive(existing.view(), session.created_ms).session
            self._make(StoredSession(session, title, [first] if first else [], metadata=metadata), quota)
            return session

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
        with self._kept.locked():
            if self._kept.find(child.owner, child.id):
                return  # a repeat
            turns = self._find(parent.owner, parent.id).turns
            if number > len(turns):
                raise SessionNotFound
            forked = [turn.forked() for turn in turns[:number]]
            self._make(StoredSession(child, title, forked, metadata=metadata), quota)

    def change(self, owner: str, session_id: str, changes: SessionChanges, now_ms: int) -> None:
        with self._kept.locked():
            stored = self._find(owner, session_id)
            alive(stored.view(), now_ms)
            title = stored.title if changes.title is None else changes.title
            metadata = stored.metadata if changes.metadata is None else changes.metadata
            changed = replace(stored, title=title, metadata=metadata)
            if metadata == stored.metadata:
                self._kept.change(changed)
            else:
                self._kept.change_metadata(changed)

    def move(self, move: Move) -> Session:
        with self._kept.locked():
            stored = self._kept.find(move.owner, move.session_id)
            if stored is None and self._kept.has_moved(move):
                return self._find(move.to_owner, move.to_id).session
            stored = self._find(move.owner, move.session_id)
            view = alive(stored.view(), move.at_ms)
            if view.running and (view.running_at(move.at_ms) or view.running.steps):
                raise busy(view.running, move.at_ms)  # one with steps must become a turn first
            if self._kept.find(move.to_owner, move.to_id) or self._kept.is_taken(move.to_owner, move.to_id):
                raise LeaseLost
            if move.quota:
                self._take(move.quota, move.at_ms)
            self._kept.move(stored, move)
            return replace(stored.session, owner=move.to_owner, id=move.to_id)

    def delete(self, owner: str, session_id: str, now_ms: int) -> bool:
        with self._kept.locked():
            was_alive = True
            with suppress(SessionUnreadable):
                stored = self._kept.find(owner, session_id)
                was_alive = stored is not None and stored.view().alive_at(now_ms)
            return self._kept.remove(owner, session_id, now_ms) and was_alive

    def session_ids(self, owner: str) -> list[str]:
        with self._kept.locked(shared=True):
            return self._kept.session_ids(owner)

    def listed(self, owner: str) -> list[ListedSession]:
        with self._kept.locked(shared=True):
            return [ListedSession(each, self._created_ms(owner, each)) for each in self._kept.session_ids(owner)]

    def erase(self, owner: str, now_ms: int, *, has_time: Callable[[], bool] = lambda: True) -> int:
        with self._kept.locked():
            erased = self._kept.remove_all(owner, now_ms, has_time)
            with suppress(ItemVersionUnknown):  # those of a later version stay: whether their period is over is unknown
                counters = self._kept.counters(owner)
                counters.erase(now_ms)
                self._kept.keep_counters(owner, counters)
            return erased

    def sweep(self, now_ms: int) -> int:
        return self._kept.sweep(now_ms)

    # --- quotas apart from sessions

    def charge(self, quota: QuotaCharges, now_ms: int) -> None:
        with self._kept.locked():
            self._take(quota, now_ms)

    def settle(self, quota: QuotaCharges) -> None:
        with self._kept.locked():
            self._settle(quota.owner, quota.charges)

    # --- under the lock

    def _find(self, owner: str, session_id: str) -> StoredSession:
        if (stored := self._kept.find(owner, session_id)) is None:
            raise SessionNotFound
        return stored

    def _created_ms(self, owner: str, session_id: str) -> int:
        with suppress(SessionNotFound, SessionUnreadable):
            return self._find(owner, session_id).session.created_ms
        return 0

    def _make(self, new: StoredSession, quota: QuotaCharges | None) -> None:
        if self._kept.is_taken(new.session.owner, new.session.id):
            raise SessionNotFound
        if quota:
            self._take(quota, new.session.created_ms)
        self._kept.make(new)

    def _take(self, quota: QuotaCharges, now_ms: int) -> None:
        self._change(quota.owner, quota.charges, lambda counters, charges: counters.take(charges, now_ms))

    def _require_fits(self, quota: QuotaCharges, settlement: Iterable[QuotaCharge], now_ms: int) -> None:
        """Raises QuotaExceeded when the charges do not fit into their counters after the settlement; keeps nothing."""
        settled = by_owner(quota.owner, settlement)
        for each, own in by_owner(quota.owner, quota.charges).items():
            counters = self._kept.counters(each)
            counters.settle(settled.get(each, ()))
            counters.take(own, now_ms)

    def _settle(self, owner: str, charges: Iterable[QuotaCharge]) -> None:
        self._change(owner, charges, QuotaCounters.settle)

    def _change(
        self, owner: str, charges: Iterable[QuotaCharge], change: Callable[[QuotaCounters, list[QuotaCharge]], None]
    ) -> None:
        """Changes the counters of all owners that the charges are for, or of none when `change` raises."""
        changed = []
        for each, own in by_owner(owner, charges).items():
            counters = self._kept.counters(each)
            change(counters, own)
            changed.append((each, counters))
        for each, counters in changed:
            self._kept.keep_counters(each, counters)
