"""SessionStore in this process: nothing outlives it, and no other process sees it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from turnlog.domain.conditions import alive, can_be_taken, content_bytes, is_due, is_held, require_storable
from turnlog.domain.quotas import QuotaCharge, QuotaCharges, QuotaCounters, by_owner
from turnlog.domain.sessions import Move, Session, SessionView
from turnlog.domain.turns import Lease, Slot, Tombstone, Turn, busy
from turnlog.errors import LeaseLost, QuotaExceeded, SessionNotFound

Key = tuple[str, str]
"""Owner and session id."""


class MemorySessionStore:
    """Sessions in dictionaries under one lock, for tests and for a single process.

    It holds at most `most_sessions`, and `most_bytes` of content (as UTF-8; Python needs up to four times that). When
    another one does not fit, the session that was used least recently goes before its time, one whose turn is running
    only if there is no other; the one that is being written stays, however large it is. Ids of sessions that ended
    stay known until their `ttl_s`, those of the last `most_sessions`.
    """

    def __init__(self, most_sessions: int = 10_000, most_bytes: int = 256_000_000) -> None:
        self._most_sessions = most_sessions
        self._most_bytes = most_bytes
        self._bytes = 0
        self._sessions: OrderedDict[Key, _Kept] = OrderedDict()  # the least recently used first
        self._ended: OrderedDict[Key, _Tombstone] = OrderedDict()  # the oldest first
        self._quotas: OrderedDict[str, QuotaCounters] = OrderedDict()  # the one charged least recently first
        self._lock = threading.Lock()

    # --- what a turn needs

    def read(self, owner: str, session_id: str, now_ms: int, newest: int, *, consistent: bool = True) -> SessionView:  # noqa: ARG002
        with self._lock:
            return alive(self._used(owner, session_id).view(newest), now_ms)

    def turns(self, session: Session, first: int, last: int) -> list[Turn]:
        with self._lock:
            kept = self._sessions.get((session.owner, session.id))
            return kept.turns[max(first, 1) - 1 : max(last, 0)] if kept else []

    def acquire(self, session: Session, lease: Lease, over: Lease | None) -> Slot | None:
        with self._lock:
            try:
                kept = self._used(session.owner, session.id)
            except SessionNotFound:
                return Tombstone(lease.number)
            if kept.is_next(lease.number) and can_be_taken(kept.running, lease, over):
                self._take(session.owner, lease.charges, lease.at_ms)
                kept.running = lease
            return kept.slot(lease.number)

    def release(self, session: Session, lease: Lease, billed: bool, now_ms: int) -> None:
        with self._lock:
            kept = self._sessions.get((session.owner, session.id))
            if kept is None or not is_held(kept.slot(lease.number), lease.token):
                return
            kept.running = lease.after_release(billed, now_ms)
            if not billed:
                for owner, charges in by_owner(session.owner, lease.charges).items():
                    self._quotas_of(owner).give_back(charges)

    def commit(self, session: Session, turn: Turn, settlement: tuple[QuotaCharge, ...] = ()) -> Slot | None:
        require_storable(turn)
        with self._lock:
            try:
                kept = self._used(session.owner, session.id)
            except SessionNotFound:
                return Tombstone(turn.number)
            if is_held(kept.slot(turn.number), turn.token):
                kept.turns.append(turn)
                kept.running = None
                if settlement:
                    self._quotas_of(session.owner).settle(settlement)
                self._bytes += content_bytes(turn)
                self._make_room(turn.at_ms)
            return kept.slot(turn.number)

    # --- the rest

    def create(
        self, session: Session, title: str, *, quota: QuotaCharges | None = None, first: Turn | None = None
    ) -> Session:
        if first:
            require_storable(first)
        with self._lock:
            self._tidy(session.created_ms)
            return self._put(_Kept(session, title, [first] if first else []), quota).session

    def fork(
        self, parent: Session, number: int, child: Session, title: str, *, quota: QuotaCharges | None = None
    ) -> None:
        with self._lock:
            source = self._used(parent.owner, parent.id)
            if number > len(source.turns):
                raise SessionNotFound
            self._put(_Kept(child, title, [turn.forked() for turn in source.turns[:number]]), quota)

    def rename(self, owner: str, session_id: str, title: str, now_ms: int) -> None:
        with self._lock:
            kept = self._used(owner, session_id)
            alive(kept.view(), now_ms)
            kept.title = title

    def move(self, move: Move) -> Session:
        old, new = (move.owner, move.session_id), (move.to_owner, move.to_id)
        with self._lock:
            if (tombstone := self._ended.get(old)) and tombstone.moved == (move.key, new):
                return self._used(*new).session
            kept = self._used(*old)
            view = alive(kept.view(), move.at_ms)
            if view.running and view.running_at(move.at_ms):
                raise busy(view.running, move.at_ms)
            if new in self._sessions or new in self._ended:
                raise LeaseLost
            if move.quota:
                self._quotas_of(move.quota.owner).take(move.quota.charges, move.at_ms)
            self._end(old, moved=(move.key, new))
            session = replace(kept.session, owner=move.to_owner, id=move.to_id)
            return self._put(replace(kept, session=session, running=None)).session

    def delete(self, owner: str, session_id: str, now_ms: int) -> bool:
        with self._lock:
            kept = self._sessions.get((owner, session_id))
            if kept is None:
                return False
            self._end((owner, session_id))
            return kept.view().alive_at(now_ms)

    def session_ids(self, owner: str) -> list[str]:
        with self._lock:
            return [session_id for each, session_id in self._sessions if each == owner]

    def erase(self, owner: str, now_ms: int) -> int:
        with self._lock:
            owned = [key for key in self._sessions if key[0] == owner]
            for key in owned:
                self._end(key)
            if used := self._quotas.get(owner):
                used.erase(now_ms)
            return len(owned)

    def sweep(self, now_ms: int) -> int:
        with self._lock:
            due = [key for key, kept in self._sessions.items() if is_due(kept.view().idle_expires_ms, now_ms)]
            for key in due:
                self._end(key)
            for key in [key for key, tombstone in self._ended.items() if tombstone.ttl_ms <= now_ms]:
                del self._ended[key]
            self._tidy(now_ms)
            return len(due)

    # --- allowances apart from sessions

    def charge(self, quota: QuotaCharges, now_ms: int) -> None:
        with self._lock:
            self._take(quota.owner, quota.charges, now_ms)

    def settle(self, quota: QuotaCharges) -> None:
        with self._lock:
            for owner, charges in by_owner(quota.owner, quota.charges).items():
                self._quotas_of(owner).settle(charges)

    # --- under the lock

    def _used(self, owner: str, session_id: str) -> _Kept:
        """The session, from now on the one that was used last. Raises SessionNotFound."""
        if (kept := self._sessions.get((owner, session_id))) is None:
            raise SessionNotFound
        self._sessions.move_to_end((owner, session_id))
        return kept

    def _put(self, new: _Kept, quota: QuotaCharges | None = None) -> _Kept:
        """The one that is there under its id, or else the new one. Raises SessionNotFound when one was there."""
        key = new.session.owner, new.session.id
        if key in self._ended:
            raise SessionNotFound
        if there := self._sessions.get(key):
            alive(there.view(), new.session.created_ms)
            return there
        if quota:
            self._quotas_of(quota.owner).take(quota.charges, new.session.created_ms)
        self._sessions[key] = new
        self._bytes += new.size
        self._make_room(new.session.created_ms)
        return new

    def _end(self, key: Key, moved: tuple[bytes, Key] | None = None) -> None:
        kept = self._sessions.pop(key)
        self._bytes -= kept.size
        self._ended[key] = _Tombstone(kept.session.ttl_s * 1000, moved)
        if len(self._ended) > self._most_sessions:
            self._ended.popitem(last=False)

    def _make_room(self, now_ms: int) -> None:
        while len(self._sessions) > self._most_sessions or self._bytes > self._most_bytes:
            oldest, newest = next(iter(self._sessions)), next(reversed(self._sessions))
            if oldest == newest:
                break  # that is the one being written
            idle = (key for key, kept in self._sessions.items() if not kept.view().running_at(now_ms))
            free = next(idle, newest)
            self._end(oldest if free == newest else free)

    def _take(self, owner: str, charges: Sequence[QuotaCharge], now_ms: int) -> None:
        """All of them, or none: raises AllowanceUsedUp."""
        taken = by_owner(owner, charges)
        before = {each: self._quotas_of(each).used for each in taken}
        try:
            for each, own in taken.items():
                self._quotas_of(each).take(own, now_ms)
        except QuotaExceeded:
            for each, used in before.items():
                self._quotas_of(each).used = used
            raise

    def _quotas_of(self, owner: str) -> QuotaCounters:
        self._quotas.setdefault(owner, QuotaCounters())
        self._quotas.move_to_end(owner)
        return self._quotas[owner]

    def _tidy(self, now_ms: int) -> None:
        """Removes what is over, as far as it was used least recently: that is no search."""
        while self._sessions and is_due(next(iter(self._sessions.values())).view().idle_expires_ms, now_ms):
            self._end(next(iter(self._sessions)))
        while self._quotas:
            owner, quotas = next(iter(self._quotas.items()))
            quotas.forget(now_ms)
            if quotas.used:
                break
            del self._quotas[owner]


@dataclass
class _Kept:
    """A session with its turns 1..n and, if somebody holds it, slot n + 1."""

    session: Session
    title: str
    turns: list[Turn] = field(default_factory=list)
    running: Lease | None = None

    @property
    def size(self) -> int:
        return sum(map(content_bytes, self.turns))

    def view(self, newest: int = 1) -> SessionView:
        return SessionView(self.session, self.title, len(self.turns), tuple(self.turns[-newest:]), self.running)

    def is_next(self, number: int) -> bool:
        return number == len(self.turns) + 1

    def slot(self, number: int) -> Slot | None:
        if 1 <= number <= len(self.turns):
            return self.turns[number - 1]
        return self.running if self.is_next(number) else None


@dataclass(frozen=True, slots=True)
class _Tombstone:
    """Of an id that was used. `moved` is the key under which its session went, and where to."""

    ttl_ms: int
    moved: tuple[bytes, Key] | None = None
