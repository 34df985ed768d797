"""SessionStore that keeps the turns of sessions in use in memory, and writes them down when it is quiet or closed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self

from turnlog.clock import Clock, system_clock
from turnlog.domain.conditions import alive, can_be_taken, is_held, require_storable
from turnlog.domain.quotas import QuotaCharge, QuotaCharges
from turnlog.domain.sessions import Move, Session, SessionView
from turnlog.domain.turns import Lease, Slot, Tombstone, Turn
from turnlog.errors import LeaseLost, StoreUnavailable
from turnlog.ports.session_store import SessionStore

Key = tuple[str, str]
"""Owner and session id."""


class WriteBehindSessionStore:
    """Turns in memory over a durable store, for one process that may lose its last minutes.

    A session is taken up from the durable store when it is used, and written back, its new turns replayed through the
    durable store's own claims and commits, when it was not used for `idle_s` seconds, when `most_sessions` others were,
    and by `close`. There is no thread: time passes only in calls, of this store's methods or of `flush_idle`.

    A crash loses every turn that was not yet written back, though its reply was returned: those since the session was
    last quiet for `idle_s` and anything was called after that. What is left is the session as it was before them, whole
    and in order; turns that are taken then get the lost ones' numbers, and a repeat under a lost one's key is paid for
    again. So promise P1 holds only after `close`, and this is no store for production. Creations, ends, moves, forks
    and titles are durable at once, and so are turns with charges, which other sessions count on.

    Nobody else may write to the durable store meanwhile: give it a FileSessionStore made with `sole`, which refuses
    every other process.
    """

    def __init__(
        self, durable: SessionStore, idle_s: float = 60, *, most_sessions: int = 1000, clock: Clock = system_clock
    ) -> None:
        self._durable = durable
        self._idle_ms = round(idle_s * 1000)
        self._most_sessions = most_sessions
        self._clock = clock
        self._held: OrderedDict[Key, _Held] = OrderedDict()  # the one used least recently first
        self._lock = threading.RLock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Writes back all there is, and may be repeated. Raises the first error, after it has tried them all."""
        errors: list[Exception] = []
        with self._lock:
            for key in list(self._held):
                try:
                    self._write_back(key)
                except (LeaseLost, StoreUnavailable) as error:
                    errors.append(error)
        if errors:
            raise errors[0]

    def flush_idle(self, now_ms: int) -> None:
        """Writes back what has been idle for long enough; what cannot be written now stays for the next time.

        Raises ClaimLost, as any method may, when somebody else wrote to one of the sessions, and forgets it then.
        """
        with self._lock:
            for key, held in list(self._held.items()):
                if held.used_ms + self._idle_ms > now_ms and len(self._held) <= self._most_sessions:
                    break
                with suppress(StoreUnavailable):
                    self._write_back(key)

    # --- what a turn needs

    def read(self, owner: str, session_id: str, now_ms: int, newest: int, *, consistent: bool = True) -> SessionView:  # noqa: ARG002
        key = owner, session_id
        with self._lock:
            held = self._used(key)
            if held and held.knows(newest):
                held.newest = max(held.newest, newest)
                return alive(replace(held.view, turns=held.view.turns[-newest:]), now_ms)
            self._write_back(key)
            view = self._durable.read(owner, session_id, now_ms, newest)
            if view.running is None:  # a claim that lies in the durable store is dealt with there
                self._held[key] = _Held(view, newest, self._clock())
            return view

    def turns(self, session: Session, first: int, last: int) -> list[Turn]:
        with self._lock:
            held = self._used((session.owner, session.id))
            pending = [turn for _, turn in held.pending] if held else []
            new = [turn for turn in pending if first <= turn.number <= last]
            if pending:
                last = min(last, pending[0].number - 1)
            return [*(self._durable.turns(session, first, last) if first <= last else []), *new]

    def acquire(self, session: Session, lease: Lease, over: Lease | None) -> Slot | None:
        key = session.owner, session.id
        with self._lock:
            held = self._used(key)
            if held is None or lease.charges or lease.number != held.view.count + 1:
                self._write_back(key)
                return self._durable.acquire(session, lease, over)
            if can_be_taken(held.view.running, lease, over):
                held.view = replace(held.view, running=lease)
            return held.view.running

    def release(self, session: Session, lease: Lease, billed: bool, now_ms: int) -> None:
        with self._lock:
            held = self._used((session.owner, session.id))
            if held is None:
                self._durable.release(session, lease, billed, now_ms)
            elif is_held(held.view.running, lease.token):
                held.view = replace(held.view, running=lease.after_release(billed, now_ms))

    def commit(self, session: Session, turn: Turn, settlement: tuple[QuotaCharge, ...] = ()) -> Slot | None:
        require_storable(turn)
        key = session.owner, session.id
        with self._lock:
            held = self._used(key)
            if held and is_held(held.view.running, turn.token) and not settlement:
                held.take(held.view.running, turn)
                return turn
            self._write_back(key)
            return self._durable.commit(session, turn, settlement)

    # --- the rest

    def create(
        self, session: Session, title: str, *, quota: QuotaCharges | None = None, first: Turn | None = None
    ) -> Session:
        with self._lock:
            self._write_back((session.owner, session.id))
            return self._durable.create(session, title, quota=quota, first=first)

    def fork(
        self, parent: Session, number: int, child: Session, title: str, *, quota: QuotaCharges | None = None
    ) -> None:
        with self._lock:
            self._write_back((parent.owner, parent.id))
            self._durable.fork(parent, number, child, title, quota=quota)

    def rename(self, owner: str, session_id: str, title: str, now_ms: int) -> None:
        with self._lock:
            self._write_back((owner, session_id))
            self._durable.rename(owner, session_id, title, now_ms)

    def move(self, move: Move) -> Session:
        with self._lock:
            self._write_back((move.owner, move.session_id))
            return self._durable.move(move)

    def delete(self, owner: str, session_id: str, now_ms: int) -> bool:
        with self._lock:
            was_alive = self._durable.delete(owner, session_id, now_ms)
            held = self._held.pop((owner, session_id), None)
            return was_alive or (held is not None and held.view.alive_at(now_ms))

    def session_ids(self, owner: str) -> list[str]:
        return self._durable.session_ids(owner)

    def erase(self, owner: str, now_ms: int) -> int:
        with self._lock:
            ended = self._durable.erase(owner, now_ms)
            for key in [key for key in self._held if key[0] == owner]:
                del self._held[key]
            return ended

    def sweep(self, now_ms: int) -> int:
        with self._lock:
            self.close()  # the durable store must not take for idle what was only not written back
            return self._durable.sweep(now_ms)

    # --- under the lock

    def _used(self, key: Key) -> _Held | None:
        """The session if it is held, from now on the one that was used last."""
        now_ms = self._clock()
        self.flush_idle(now_ms)
        if held := self._held.get(key):
            held.used_ms = now_ms
            self._held.move_to_end(key)
        return held

    def _write_back(self, key: Key) -> None:
        """Afterwards the durable store has all of the session, and it is held no more.

        Raises StoreUnavailable, and then the rest is still held; ClaimLost when somebody else wrote to the session.
        """
        if (held := self._held.get(key)) is None:
            return
        while held.pending:
            found = self._placed(held.view.session, *held.pending[0])
            if not isinstance(found, Turn):
                del self._held[key]
                if isinstance(found, Tombstone):
                    return
                raise LeaseLost
            held.pending.pop(0)
        if held.view.running:
            self._durable.acquire(held.view.session, held.view.running, over=None)
        del self._held[key]

    def _placed(self, session: Session, lease: Lease, turn: Turn) -> Slot | None:
        """What the turn's slot of the durable store holds afterwards: the turn, unless somebody else got in."""
        found = self._durable.acquire(session, lease, over=None)
        if isinstance(found, Lease) and found.token != lease.token:
            found = self._durable.acquire(session, lease, over=found)  # one of ours, written back but taken over since
        if is_held(found, lease.token):
            found = self._durable.commit(session, turn)
        return found if not isinstance(found, Turn) or found.token == turn.token else None


@dataclass
class _Held:
    """A session in memory: its view, and the turns that the durable store lacks, each with the claim that led to it.

    The durable store has no claim of such a session: a running one is in the view alone.
    """

    view: SessionView
    newest: int
    used_ms: int
    pending: list[tuple[Lease, Turn]] = field(default_factory=list)

    def knows(self, newest: int) -> bool:
        """Whether the view has as many turns as asked for, or all."""
        return newest <= self.newest or len(self.view.turns) == self.view.count

    def take(self, lease: Lease, turn: Turn) -> None:
        turns = (*self.view.turns, turn)[-self.newest :]
        self.view = replace(self.view, count=turn.number, turns=turns, running=None)
        self.pending.append((lease, turn))
