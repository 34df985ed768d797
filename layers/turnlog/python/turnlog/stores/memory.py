"""SessionStore in this process: nothing outlives it, and no other process sees it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace

from turnlog.errors import SessionCorrupt, SessionNotFound
from turnlog.sessions import Claim, Ended, Log, Session, Slot, Turn


@dataclass
class _Kept:
    session: Session
    title: str
    slots: dict[int, Slot] = field(default_factory=dict)


class MemorySessionStore:
    """Sessions in a dictionary under one lock, for tests and for a single process.

    Holds every session until it is deleted: give it no more than fits.
    """

    def __init__(self) -> None:
        self._sessions: dict[tuple[str, str], _Kept] = {}
        self._lock = threading.Lock()

    def create(self, session: Session, title: str) -> None:
        with self._lock:
            self._sessions[session.owner, session.id] = _Kept(session, title)

    def read(self, owner: str, session_id: str, now_ms: int, newest: int) -> Log:
        with self._lock:
            kept = self._sessions.get((owner, session_id))
            if kept is None:
                raise SessionNotFound
            count = len(kept.slots)
            top = kept.slots.get(count)
            running = top if isinstance(top, Claim) else None
            if running:
                count -= 1
            turns = tuple(_turn(kept.slots[number]) for number in range(max(1, count - newest + 1), count + 1))
        log = Log(kept.session, kept.title, count, turns, running)
        if not log.alive_at(now_ms):
            raise SessionNotFound
        return log

    def turns(self, session: Session, first: int, last: int) -> list[Turn]:
        with self._lock:
            slots = self._slots(session)
            found = [slots.get(number) for number in range(first, last + 1)]
        return [slot for slot in found if isinstance(slot, Turn)]

    def claim(self, session: Session, claim: Claim, over: Claim | None) -> Slot | None:
        with self._lock:
            if (session.owner, session.id) not in self._sessions:
                return Ended(claim.number)
            slots = self._slots(session)
            found = slots.get(claim.number)
            lapsed = isinstance(found, Claim) and over is not None and found.token == over.token
            if (found is None and over is None) or (lapsed and over is not None and over.until_ms < claim.at_ms):
                slots[claim.number] = claim
            return slots.get(claim.number)

    def release(self, session: Session, claim: Claim, billed: bool, now_ms: int) -> None:
        with self._lock:
            slots = self._slots(session)
            if not _holds(slots.get(claim.number), claim.token):
                return
            if billed:
                slots[claim.number] = replace(claim, until_ms=now_ms - 1)
            else:
                del slots[claim.number]

    def commit(self, session: Session, turn: Turn) -> Slot | None:
        with self._lock:
            if (session.owner, session.id) not in self._sessions:
                return Ended(turn.number)
            slots = self._slots(session)
            if _holds(slots.get(turn.number), turn.token):
                slots[turn.number] = turn
            return slots.get(turn.number)

    def delete(self, owner: str, session_id: str, now_ms: int) -> bool:
        try:
            self.read(owner, session_id, now_ms, newest=1)
            alive = True
        except SessionNotFound:
            alive = False
        with self._lock:
            self._sessions.pop((owner, session_id), None)
        return alive

    def _slots(self, session: Session) -> dict[int, Slot]:
        kept = self._sessions.get((session.owner, session.id))
        return kept.slots if kept else {}


def _turn(slot: Slot) -> Turn:
    if not isinstance(slot, Turn):
        raise SessionCorrupt
    return slot


def _holds(slot: Slot | None, token: str) -> bool:
    return isinstance(slot, Claim) and slot.token == token
