"""SessionStore that remembers, in this process, sessions whose last turn it stored itself."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from turnlog.domain.conditions import alive, content_bytes
from turnlog.domain.quotas import QuotaCharge
from turnlog.domain.sessions import Move, Session, SessionChanges, SessionView
from turnlog.domain.turns import Lease, Slot, Turn
from turnlog.errors import ClockBehind, SessionNotFound
from turnlog.ports.session_store import SessionStore

Key = tuple[str, str]
"""Owner and session id: no view is ever found under another owner."""


class CachedSessionStore:
    """A durable store with a cache of proved views before it.

    A view is proved by a commit of this process: slot n + 1 was empty and became ours, so turns 1..n are final and are
    those in the view. It answers a read that need not be consistent until this process sees anything unexpected. What
    other processes did meanwhile shows when the reader acquires the next slot. All writes and all consistent reads go
    to the durable store, so its promises are kept whole.

    It pays where one process takes most turns of a session, one after the other, and reading is what costs: it saves
    the read before each further turn (on DynamoDB 10 read units with a window of 25 turns of 1 KB, and one of three
    round trips). When another process took the turn between, it costs one refused lease. It holds up to `most_bytes` of
    content in memory; that of a session which another process deleted stays until it is used or pushed out.
    """

    def __init__(self, durable: SessionStore, most_sessions: int = 100, most_bytes: int = 32_000_000) -> None:
        self._durable = durable
        self._views = _Views(most_sessions, most_bytes)
        # These change no session that may be in a view.
        self.turns, self.session_ids, self.listed = durable.turns, durable.session_ids, durable.listed
        self.create, self.fork = durable.create, durable.fork
        self.renew, self.checkpoint, self.steps = durable.renew, durable.checkpoint, durable.steps
        self.ask_to_stop = durable.ask_to_stop

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
        key = owner, session_id
        if not consistent and (known := self._views.get(key)) and known.answers(now_ms, newest):
            return replace(known.view, turns=known.view.turns[-newest:])
        with self._dropped(key, only_on_failure=True):
            found = self._durable.read(
                owner, session_id, now_ms, newest, consistent=consistent, with_content=with_content
            )
        if with_content:
            self._views.learn(key, _CachedView(found, newest))
        return found

    def acquire(self, session: Session, lease: Lease, over: Lease | None) -> Slot | None:
        key = session.owner, session.id
        with self._dropped(key, only_on_failure=True):
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
        with self._dropped(key, only_on_failure=True):
            found = self._durable.commit(session, turn, settlement)
        if before and isinstance(found, Turn) and found.token == turn.token:
            self._views.swap(key, before, before.after(turn))
        else:
            self._views.drop(key)
        return found

    def interrupt(self, session: Session, turn: Turn, over: Lease) -> Slot | None:
        with self._dropped((session.owner, session.id)):
            return self._durable.interrupt(session, turn, over)

    # --- the rest

    def change(self, owner: str, session_id: str, changes: SessionChanges, now_ms: int) -> None:
        with self._dropped((owner, session_id)):
            self._durable.change(owner, session_id, changes, now_ms)

    def move(self, move: Move) -> Session:
        with self._dropped((move.owner, move.session_id)):
            return self._durable.move(move)

    def delete(self, owner: str, session_id: str, now_ms: int) -> bool:
        with self._dropped((owner, session_id)):
            return self._durable.delete(owner, session_id, now_ms)

    def erase(self, owner: str, now_ms: int, *, has_time: Callable[[], bool] = lambda: True) -> int:
        try:
            return self._durable.erase(owner, now_ms, has_time=has_time)
        finally:
            self._views.clear()

    def sweep(self, now_ms: int) -> int:
        self._views.clear()
        return self._durable.sweep(now_ms)

    @contextmanager
    def _dropped(self, key: Key, *, only_on_failure: bool = False) -> Iterator[None]:
        """Leaves no view afterwards, whoever made one meanwhile."""
        is_dropped = True
        try:
            yield
            is_dropped = not only_on_failure
        finally:
            if is_dropped:
                self._views.drop(key)


@dataclass(frozen=True, slots=True)
class _CachedView:
    """A session as it was read or became by a commit. It keeps as many turns as were asked for: `newest`."""

    view: SessionView
    newest: int
    proved: bool = False

    @property
    def size(self) -> int:
        return sum(map(content_bytes, self.view.turns))

    def answers(self, now_ms: int, newest: int) -> bool:
        """True if it is proved, has all that is asked for, and its session would be alive."""
        try:
            alive(self.view, now_ms)
        except (ClockBehind, SessionNotFound):
            return False  # only the durable store may say that
        return self.proved and len(self.view.turns) >= min(newest, self.view.count)

    def after(self, turn: Turn) -> _CachedView | None:
        """The view that the turn proves, or None when it did not follow right after this one."""
        if turn.number != self.view.count + 1:
            return None
        turns = (*self.view.turns, turn)[-self.newest :]
        view = replace(self.view, count=turn.number, turns=turns, running=None, unknown_lease=None)
        return _CachedView(view, self.newest, proved=True)


class _Views:
    """The views, the one used least recently first; safe to use from any thread."""

    def __init__(self, most_sessions: int, most_bytes: int) -> None:
        self._most_sessions = most_sessions
        self._most_bytes = most_bytes
        self._bytes = 0
        self._views: OrderedDict[Key, _CachedView] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Key) -> _CachedView | None:
        with self._lock:
            if key in self._views:
                self._views.move_to_end(key)
            return self._views.get(key)

    def learn(self, key: Key, cached: _CachedView) -> None:
        """Takes up a view that a commit may prove; keeps the one it has if this one says no more."""
        with self._lock:
            known = self._views.get(key)
            is_more = not known or known.view.count != cached.view.count or known.newest < cached.newest
            if is_more or cached.view.running:
                self._put(key, cached)

    def doubt(self, key: Key) -> None:
        """Answers nothing from the view until it is proved again."""
        with self._lock:
            if cached := self._views.get(key):
                self._views[key] = replace(cached, proved=False)

    def swap(self, key: Key, before: _CachedView, after: _CachedView | None) -> None:
        """Puts `after` in the place of `before`, unless that was dropped or replaced meanwhile."""
        with self._lock:
            if self._views.get(key) is before:
                self._put(key, after)

    def drop(self, key: Key) -> None:
        with self._lock:
            self._put(key, None)

    def clear(self) -> None:
        with self._lock:
            self._views.clear()
            self._bytes = 0

    def _put(self, key: Key, cached: _CachedView | None) -> None:
        if old := self._views.pop(key, None):
            self._bytes -= old.size
        if cached:
            self._views[key] = cached
            self._bytes += cached.size
        while len(self._views) > self._most_sessions or self._bytes > self._most_bytes:
            self._put(next(iter(self._views)), None)
