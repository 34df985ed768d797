"""SessionStore that remembers, in this process, sessions whose last turn it stored itself."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from turnlog.domain.conditions import alive, content_bytes
from turnlog.domain.quotas import QuotaCharge, QuotaCharges
from turnlog.domain.sessions import Move, Session, SessionView
from turnlog.domain.turns import Lease, Slot, Turn
from turnlog.errors import ClockBehind, SessionNotFound
from turnlog.ports.session_store import SessionStore

Key = tuple[str, str]
"""Owner and session id: no view is ever found under another owner."""


class CachedSessionStore:
    """A durable store with a cache of proved views before it.

    A view is proved by a commit of this process: slot n + 1 was empty and became ours, so turns 1..n are final and
    those we know. It answers a read that need not be fresh until this process sees anything else than it expected;
    what other processes did meanwhile shows when the reader claims the next slot. All writes, and all reads that must
    be fresh, go to the durable store, so its promises are kept whole.

    It pays where one process takes most turns of a session one after the other, and reading is what costs: the look
    before each further turn is saved (on DynamoDB 10 read units, with a window of 25 turns of 1 KB, and one of three
    round trips). It costs a lost round, one refused claim, whenever another process took the turn between, and up to
    `most_bytes` of content in memory, where that of a session which another process deleted stays until it is used or
    pushed out.
    """

    def __init__(self, durable: SessionStore, most_sessions: int = 100, most_bytes: int = 32_000_000) -> None:
        self._durable = durable
        self._views = _Views(most_sessions, most_bytes)

    # --- what a turn needs

    def read(self, owner: str, session_id: str, now_ms: int, newest: int, *, consistent: bool = True) -> SessionView:
        key = owner, session_id
        if not consistent and (log := self._views.answer(key, now_ms, newest)):
            return log
        with self._dropped_on_failure(key):
            log = self._durable.read(owner, session_id, now_ms, newest, consistent=consistent)
        self._views.learn(key, log, newest)
        return log

    def turns(self, session: Session, first: int, last: int) -> list[Turn]:
        return self._durable.turns(session, first, last)

    def acquire(self, session: Session, lease: Lease, over: Lease | None) -> Slot | None:
        key = session.owner, session.id
        with self._dropped_on_failure(key):
            found = self._durable.acquire(session, lease, over)
        if isinstance(found, Lease) and found.token == lease.token:
            self._views.doubt(key)
        else:
            self._views.drop(key)
        return found

    def release(self, session: Session, lease: Lease, billed: bool, now_ms: int) -> None:
        self._views.drop((session.owner, session.id))
        self._durable.release(session, lease, billed, now_ms)

    def commit(self, session: Session, turn: Turn, settlement: tuple[QuotaCharge, ...] = ()) -> Slot | None:
        key = session.owner, session.id
        before = self._views.get(key)
        with self._dropped_on_failure(key):
            found = self._durable.commit(session, turn, settlement)
        if before and isinstance(found, Turn) and found.token == turn.token:
            self._views.prove(key, before, turn)
        else:
            self._views.drop(key)
        return found

    # --- the rest

    def create(
        self, session: Session, title: str, *, quota: QuotaCharges | None = None, first: Turn | None = None
    ) -> Session:
        return self._durable.create(session, title, quota=quota, first=first)

    def fork(
        self, parent: Session, number: int, child: Session, title: str, *, quota: QuotaCharges | None = None
    ) -> None:
        self._durable.fork(parent, number, child, title, quota=quota)

    def rename(self, owner: str, session_id: str, title: str, now_ms: int) -> None:
        with self._dropped((owner, session_id)):
            self._durable.rename(owner, session_id, title, now_ms)

    def move(self, move: Move) -> Session:
        with self._dropped((move.owner, move.session_id)):
            return self._durable.move(move)

    def delete(self, owner: str, session_id: str, now_ms: int) -> bool:
        with self._dropped((owner, session_id)):
            return self._durable.delete(owner, session_id, now_ms)

    def session_ids(self, owner: str) -> list[str]:
        return self._durable.session_ids(owner)

    def erase(self, owner: str, now_ms: int) -> int:
        try:
            return self._durable.erase(owner, now_ms)
        finally:
            self._views.clear()

    def sweep(self, now_ms: int) -> int:
        self._views.clear()
        return self._durable.sweep(now_ms)

    @contextmanager
    def _dropped(self, key: Key) -> Iterator[None]:
        """No view is left afterwards, whatever happens and whoever made one meanwhile."""
        try:
            yield
        finally:
            self._views.drop(key)

    @contextmanager
    def _dropped_on_failure(self, key: Key) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._views.drop(key)
            raise


@dataclass(frozen=True, slots=True)
class _View:
    """`newest` is how many turns were asked for when it was read; it keeps as many."""

    log: SessionView
    newest: int
    proved: bool = False

    @property
    def size(self) -> int:
        return sum(map(content_bytes, self.log.turns))

    def answers(self, now_ms: int, newest: int) -> bool:
        """Whether it is proved, has all that is asked for, and its session would be alive."""
        try:
            alive(self.log, now_ms)
        except (ClockBehind, SessionNotFound):
            return False  # which is for the durable store to say
        return self.proved and len(self.log.turns) >= min(newest, self.log.count)


class _Views:
    """The views, the one used least recently first; safe to use from any thread."""

    def __init__(self, most_sessions: int, most_bytes: int) -> None:
        self._most_sessions = most_sessions
        self._most_bytes = most_bytes
        self._bytes = 0
        self._views: OrderedDict[Key, _View] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Key) -> _View | None:
        with self._lock:
            return self._views.get(key)

    def answer(self, key: Key, now_ms: int, newest: int) -> SessionView | None:
        """What a view says that may be used."""
        view = self.get(key)
        if view is None or not view.answers(now_ms, newest):
            return None
        with self._lock:
            if key in self._views:
                self._views.move_to_end(key)
        return replace(view.log, turns=view.log.turns[-newest:])

    def learn(self, key: Key, log: SessionView, newest: int) -> None:
        """A view that a commit may prove; one that says no more than what is known changes nothing."""
        with self._lock:
            known = self._views.get(key)
            if known and known.log.count == log.count and known.newest >= newest and not log.running:
                return
            self._put(key, _View(log, newest))

    def doubt(self, key: Key) -> None:
        with self._lock:
            if view := self._views.get(key):
                self._views[key] = replace(view, proved=False)

    def prove(self, key: Key, before: _View, turn: Turn) -> None:
        """The view after the turn, if that came right after `before`, and `before` was not dropped meanwhile."""
        with self._lock:
            if self._views.get(key) is not before:
                return
            self._drop(key)
            if before.log.count == turn.number - 1:
                turns = (*before.log.turns, turn)[-before.newest :]
                log = replace(before.log, count=turn.number, turns=turns, running=None)
                self._put(key, _View(log, before.newest, proved=True))

    def drop(self, key: Key) -> None:
        with self._lock:
            self._drop(key)

    def clear(self) -> None:
        with self._lock:
            self._views.clear()
            self._bytes = 0

    def _put(self, key: Key, view: _View) -> None:
        self._drop(key)
        self._views[key] = view
        self._bytes += view.size
        while len(self._views) > self._most_sessions or self._bytes > self._most_bytes:
            self._drop(next(iter(self._views)))

    def _drop(self, key: Key) -> None:
        if view := self._views.pop(key, None):
            self._bytes -= view.size
