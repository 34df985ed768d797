"""SessionStore and QuotaStore in this process: nothing outlives it, and no other process sees it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from turnlog.adapters.local.locked_store import Checkpoint, LockedSessionStore, StoredSession
from turnlog.domain.conditions import bytes_of, content_bytes, is_due
from turnlog.domain.quotas import QuotaCounters
from turnlog.domain.sessions import Move
from turnlog.domain.turns import Turn
from turnlog.errors import ErasureUnfinished

Key = tuple[str, str]
"""Owner and session id."""


class MemorySessionStore(LockedSessionStore):
    """Sessions in dictionaries under one lock, for tests and for a single process.

    It holds at most `most_sessions`, and `most_bytes` of content, steps of running turns and metadata included (as
    UTF-8; Python needs up to four times that). When it is full it drops the session that was used least recently. It
    drops one with a running turn only if all others run too, and never the one being written, however large that is.
    Ids of sessions that are gone stay known until their `ttl_s`, those of the last `most_sessions`. It can hold nothing
    of a later version, since it ends with its process.
    """

    def __init__(self, most_sessions: int = 10_000, most_bytes: int = 256_000_000) -> None:
        self._memory = _Memory(most_sessions, most_bytes)
        super().__init__(self._memory)


@dataclass(frozen=True, slots=True)
class SessionTombstone:
    """A session id that stays taken, though its session is gone; `moved` is the key of its move, and where to."""

    ttl_ms: int
    moved: tuple[bytes, Key] | None = None


class _Memory:
    """The LockedSessions of a MemorySessionStore."""

    def __init__(self, most_sessions: int, most_bytes: int) -> None:
        self.most_sessions = most_sessions
        self.most_bytes = most_bytes
        self.bytes = 0
        self.sessions: OrderedDict[Key, StoredSession] = OrderedDict()  # the least recently used first
        self.tombstones: OrderedDict[Key, SessionTombstone] = OrderedDict()  # the oldest first
        self.quotas: OrderedDict[str, QuotaCounters] = OrderedDict()  # the one charged least recently first
        self._lock = threading.Lock()

    @contextmanager
    def locked(self, *, shared: bool = False) -> Iterator[None]:  # noqa: ARG002
        with self._lock:
            yield

    def find(self, owner: str, session_id: str) -> StoredSession | None:
        """The session, from now on the one that was used last."""
        if (owner, session_id) in self.sessions:
            self.sessions.move_to_end((owner, session_id))
        return self.sessions.get((owner, session_id))

    def session_ids(self, owner: str) -> list[str]:
        return [session_id for each, session_id in self.sessions if each == owner]

    def is_taken(self, owner: str, session_id: str) -> bool:
        return (owner, session_id) in self.tombstones

    def has_moved(self, move: Move) -> bool:
        tombstone = self.tombstones.get((move.owner, move.session_id))
        return tombstone is not None and tombstone.moved == (move.key, (move.to_owner, move.to_id))

    def make(self, new: StoredSession) -> None:
        self._tidy(new.session.created_ms)
        self.sessions[_key(new)] = new
        self.bytes += _size(new)
        self._make_room(new.session.created_ms)

    def change(self, changed: StoredSession, *, lazily: bool = False) -> None:  # noqa: ARG002
        before = self.sessions[_key(changed)]
        self.sessions[_key(changed)] = changed
        if before.checkpoints and not changed.checkpoints:
            self.bytes -= _size_of_steps(before)

    def change_metadata(self, changed: StoredSession) -> None:
        self.bytes += _size_of_metadata(changed) - _size_of_metadata(self.sessions[_key(changed)])
        self.sessions[_key(changed)] = changed
        self._make_room(changed.view().active_ms)

    def add(self, stored: StoredSession, turn: Turn, *, lazily: bool = False) -> None:  # noqa: ARG002
        self.sessions[_key(stored)] = replace(stored.with_lease(None), turns=[*stored.turns, turn])
        self.bytes += content_bytes(turn) - _size_of_steps(stored)
        self._make_room(turn.at_ms)

    def add_checkpoint(self, stored: StoredSession, checkpoint: Checkpoint, *, lazily: bool = False) -> None:  # noqa: ARG002
        checkpoints = [*stored.checkpoints, checkpoint]
        self.sessions[_key(stored)] = replace(stored, running=checkpoint.lease, checkpoints=checkpoints)
        self.bytes += _size_of(checkpoint)
        self._make_room(checkpoint.lease.at_ms)

    def move(self, stored: StoredSession, move: Move) -> None:
        new = move.to_owner, move.to_id
        self._end(_key(stored), moved=(move.key, new))
        session = replace(stored.session, owner=move.to_owner, id=move.to_id)
        self.sessions[new] = replace(stored.with_lease(None), session=session)
        self.bytes += _size(self.sessions[new])

    def remove(self, owner: str, session_id: str, now_ms: int) -> bool:  # noqa: ARG002
        if (owner, session_id) not in self.sessions:
            return False
        self._end((owner, session_id))
        return True

    def remove_all(self, owner: str, now_ms: int, has_time: Callable[[], bool]) -> int:
        ids = self.session_ids(owner)
        for removed, session_id in enumerate(ids):
            if not has_time():
                raise ErasureUnfinished(removed, len(ids) - removed)
            self.remove(owner, session_id, now_ms)
        return len(ids)

    def counters(self, owner: str) -> QuotaCounters:
        return QuotaCounters(dict(self.quotas[owner].used)) if owner in self.quotas else QuotaCounters()

    def keep_counters(self, owner: str, counters: QuotaCounters) -> None:
        self.quotas.pop(owner, None)
        if counters.used:
            self.quotas[owner] = counters

    def sweep(self, now_ms: int) -> int:
        with self._lock:
            due = [key for key, stored in self.sessions.items() if is_due(stored.view().idle_expires_ms, now_ms)]
            for key in due:
                self._end(key)
            live = ((key, each) for key, each in self.tombstones.items() if each.ttl_ms > now_ms)
            self.tombstones = OrderedDict(live)
            self._tidy(now_ms)
            return len(due)

    def _end(self, key: Key, moved: tuple[bytes, Key] | None = None) -> None:
        stored = self.sessions.pop(key)
        self.bytes -= _size(stored)
        self.tombstones[key] = SessionTombstone(stored.session.ttl_s * 1000, moved)
        if len(self.tombstones) > self.most_sessions:
            self.tombstones.popitem(last=False)

    def _make_room(self, now_ms: int) -> None:
        while len(self.sessions) > self.most_sessions or self.bytes > self.most_bytes:
            oldest, newest = next(iter(self.sessions)), next(reversed(self.sessions))
            if oldest == newest:
                break  # that is the one being written
            idle = (key for key, stored in self.sessions.items() if not stored.view().running_at(now_ms))
            free = next(idle, newest)
            self._end(oldest if free == newest else free)

    def _tidy(self, now_ms: int) -> None:
        """Removes what is over, as far as it was used least recently: that is no search."""
        while self.sessions and is_due(next(iter(self.sessions.values())).view().idle_expires_ms, now_ms):
            self._end(next(iter(self.sessions)))
        while self.quotas:
            owner, counters = next(iter(self.quotas.items()))
            counters.forget(now_ms)
            if counters.used:
                break
            del self.quotas[owner]


def _key(stored: StoredSession) -> Key:
    return stored.session.owner, stored.session.id


def _size(stored: StoredSession) -> int:
    return sum(map(content_bytes, stored.turns)) + _size_of_steps(stored) + _size_of_metadata(stored)


def _size_of_metadata(stored: StoredSession) -> int:
    return sum(len(text.encode()) for pair in stored.metadata for text in pair)


def _size_of_steps(stored: StoredSession) -> int:
    return sum(map(_size_of, stored.checkpoints))


def _size_of(checkpoint: Checkpoint) -> int:
    messages = (*checkpoint.message, checkpoint.reply, checkpoint.results)
    return bytes_of(filter(None, messages), filter(None, [checkpoint.call]))
