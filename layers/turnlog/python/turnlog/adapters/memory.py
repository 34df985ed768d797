"""SessionStore in this process: nothing outlives it, and no other process sees it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from turnlog.domain.conditions import alive, can_be_taken, content_bytes, expect_storable, is_due, is_held
from turnlog.domain.quotas import Allowances, Bill, Charge, by_owner
from turnlog.domain.sessions import Log, Move, Session
from turnlog.domain.turns import Claim, Ended, Slot, Turn, busy
from turnlog.errors import AllowanceUsedUp, ClaimLost, SessionNotFound

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
        self._allowances: OrderedDict[str, Allowances] = OrderedDict()  # the one charged least recently first
        self._lock = threading.Lock()

    # --- what a turn needs

    def read(self, owner: str, session_id: str, now_ms: int, newest: int, *, fresh: bool = True) -> Log:  # noqa: ARG002
        with self._lock:
            return alive(self._used(owner, session_id).log(newest), now_ms)

    def turns(self, session: Session, first: int, last: int) -> list[Turn]:
        with self._lock:
            kept = self._sessions.get((session.owner, session.id))
            return kept.turns[max(first, 1) - 1 : max(last, 0)] if kept else []

    def claim(self, session: Session, claim: Claim, over: Claim | None) -> Slot | None:
        with self._lock:
            try:
                kept = self._used(session.owner, session.id)
            except SessionNotFound:
                return Ended(claim.number)
            if kept.is_next(claim.number) and can_be_taken(kept.running, claim, over):
                self._take(session.owner, claim.charges, claim.at_ms)
                kept.running = claim
            return kept.slot(claim.number)

    def release(self, session: Session, claim: Claim, billed: bool, now_ms: int) -> None:
        with self._lock:
            kept = self._sessions.get((session.owner, session.id))
            if kept is None or not is_held(kept.slot(claim.number), claim.token):
                return
            kept.running = claim.after_release(billed, now_ms)
            if not billed:
                for owner, charges in by_owner(session.owner, claim.charges).items():
                    self._allowance(owner).give_back(charges)

    def commit(self, session: Session, turn: Turn, settlement: tuple[Charge, ...] = ()) -> Slot | None:
        expect_storable(turn)
        with self._lock:
            try:
                kept = self._used(session.owner, session.id)
            except SessionNotFound:
                return Ended(turn.number)
            if is_held(kept.slot(turn.number), turn.token):
                kept.turns.append(turn)
                kept.running = None
                if settlement:
                    self._allowance(session.owner).settle(settlement)
                self._bytes += content_bytes(turn)
                self._make_room(turn.at_ms)
            return kept.slot(turn.number)

    # --- the rest

    def create(self, session: Session, title: str, *, bill: Bill | None = None, first: Turn | None = None) -> Session:
        if first:
            expect_storable(first)
        with self._lock:
            self._tidy(session.created_ms)
            return self._put(_Kept(session, title, [first] if first else []), bill).session

    def fork(self, parent: Session, number: int, child: Session, title: str, *, bill: Bill | None = None) -> None:
        with self._lock:
            source = self._used(parent.owner, parent.id)
            if number > len(source.turns):
                raise SessionNotFound
            self._put(_Kept(child, title, [turn.forked() for turn in source.turns[:number]]), bill)

    def rename(self, owner: str, session_id: str, title: str, now_ms: int) -> None:
        with self._lock:
            kept = self._used(owner, session_id)
            alive(kept.log(), now_ms)
            kept.title = title

    def move(self, move: Move) -> Session:
        old, new = (move.owner, move.session_id), (move.to_owner, move.to_id)
        with self._lock:
            if (tombstone := self._ended.get(old)) and tombstone.moved == (move.key, new):
                return self._used(*new).session
            kept = self._used(*old)
            log = alive(kept.log(), move.at_ms)
            if log.running and log.running_at(move.at_ms):
                raise busy(log.running, move.at_ms)
            if new in self._sessions or new in self._ended:
                raise ClaimLost
            if move.bill:
                self._allowance(move.bill.owner).take(move.bill.charges, move.at_ms)
            self._end(old, moved=(move.key, new))
            session = replace(kept.session, owner=move.to_owner, id=move.to_id)
            return self._put(replace(kept, session=session, running=None)).session

    def delete(self, owner: str, session_id: str, now_ms: int) -> bool:
        with self._lock:
            kept = self._sessions.get((owner, session_id))
            if kept is None:
                return False
            self._end((owner, session_id))
            return kept.log().alive_at(now_ms)

    def session_ids(self, owner: str) -> list[str]:
        with self._lock:
            return [session_id for each, session_id in self._sessions if each == owner]

    def erase(self, owner: str, now_ms: int) -> int:
        with self._lock:
            owned = [key for key in self._sessions if key[0] == owner]
            for key in owned:
                self._end(key)
            if used := self._allowances.get(owner):
                used.erase(now_ms)
            return len(owned)

    def sweep(self, now_ms: int) -> int:
        with self._lock:
            due = [key for key, kept in self._sessions.items() if is_due(kept.log().idle_expires_ms, now_ms)]
            for key in due:
                self._end(key)
            for key in [key for key, tombstone in self._ended.items() if tombstone.ttl_ms <= now_ms]:
                del self._ended[key]
            self._tidy(now_ms)
            return len(due)

    # --- allowances apart from sessions

    def charge(self, bill: Bill, now_ms: int) -> None:
        with self._lock:
            self._take(bill.owner, bill.charges, now_ms)

    def settle(self, bill: Bill) -> None:
        with self._lock:
            for owner, charges in by_owner(bill.owner, bill.charges).items():
                self._allowance(owner).settle(charges)

    # --- under the lock

    def _used(self, owner: str, session_id: str) -> _Kept:
        """The session, from now on the one that was used last. Raises SessionNotFound."""
        if (kept := self._sessions.get((owner, session_id))) is None:
            raise SessionNotFound
        self._sessions.move_to_end((owner, session_id))
        return kept

    def _put(self, new: _Kept, bill: Bill | None = None) -> _Kept:
        """The one that is there under its id, or else the new one. Raises SessionNotFound when one was there."""
        key = new.session.owner, new.session.id
        if key in self._ended:
            raise SessionNotFound
        if there := self._sessions.get(key):
            alive(there.log(), new.session.created_ms)
            return there
        if bill:
            self._allowance(bill.owner).take(bill.charges, new.session.created_ms)
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
            idle = (key for key, kept in self._sessions.items() if not kept.log().running_at(now_ms))
            free = next(idle, newest)
            self._end(oldest if free == newest else free)

    def _take(self, owner: str, charges: Sequence[Charge], now_ms: int) -> None:
        """All of them, or none: raises AllowanceUsedUp."""
        taken = by_owner(owner, charges)
        before = {each: self._allowance(each).used for each in taken}
        try:
            for each, own in taken.items():
                self._allowance(each).take(own, now_ms)
        except AllowanceUsedUp:
            for each, used in before.items():
                self._allowance(each).used = used
            raise

    def _allowance(self, owner: str) -> Allowances:
        self._allowances.setdefault(owner, Allowances())
        self._allowances.move_to_end(owner)
        return self._allowances[owner]

    def _tidy(self, now_ms: int) -> None:
        """Removes what is over, as far as it was used least recently: that is no search."""
        while self._sessions and is_due(next(iter(self._sessions.values())).log().idle_expires_ms, now_ms):
            self._end(next(iter(self._sessions)))
        while self._allowances:
            owner, allowances = next(iter(self._allowances.items()))
            allowances.forget(now_ms)
            if allowances.used:
                break
            del self._allowances[owner]


@dataclass
class _Kept:
    """A session with its turns 1..n and, if somebody holds it, slot n + 1."""

    session: Session
    title: str
    turns: list[Turn] = field(default_factory=list)
    running: Claim | None = None

    @property
    def size(self) -> int:
        return sum(map(content_bytes, self.turns))

    def log(self, newest: int = 1) -> Log:
        return Log(self.session, self.title, len(self.turns), tuple(self.turns[-newest:]), self.running)

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
