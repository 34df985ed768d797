"""The session protocol on files: what a turn reads and writes, and what the other modules add."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from turnlog.adapters.files import ending, files, forms, moving
from turnlog.adapters.files.files import Sleep, Sync
from turnlog.adapters.files.place import Place
from turnlog.adapters.files.shelf import Shelf
from turnlog.domain.conditions import alive, can_be_taken, is_held
from turnlog.domain.quotas import QuotaCharge, QuotaCharges, QuotaCounters
from turnlog.domain.sessions import Move, Session, SessionView
from turnlog.domain.turns import Lease, Slot, Tombstone, Turn
from turnlog.errors import SessionNotFound, StoreUnavailable


@contextmanager
def _available() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreUnavailable from error


class FileSessionStore:
    """Sessions in a folder of one machine, for any number of its threads and processes.

    The folder must lie on a local file system that knows flock and hard links (not NFS, not FAT). What a method
    reported as done survives the death of the process at any moment, and a loss of power as far as the disk keeps what
    it says it has written: a creation, a turn, an end, a move and a fork; claims and charges need not. Charges and
    slots are two files, so the death of a process between them leaves too much charged, never too little.

    A turn costs a look (a shared lock, the names of all slots and the files of the newest), two locks and three fsyncs.

    With `sole` the folder is this store's alone, and else it is shared with other stores that were not given it so;
    StoreUnavailable when that cannot be. It is let go by `close`, or when the store is no longer used.
    """

    def __init__(self, folder: Path, *, sole: bool = False, sleep: Sleep = time.sleep, sync: Sync = os.fsync) -> None:
        with _available():
            self._shelf = Shelf(folder, sole, sleep, sync)

    def close(self) -> None:
        self._shelf.close()

    # --- what a turn needs

    @_available()
    def read(self, owner: str, session_id: str, now_ms: int, newest: int, *, consistent: bool = True) -> SessionView:  # noqa: ARG002
        with self._shelf.open(owner, session_id, shared=True) as place:
            if place is None or not place.is_alive:
                raise SessionNotFound
            return alive(place.view(owner, newest), now_ms)

    @_available()
    def turns(self, session: Session, first: int, last: int) -> list[Turn]:
        with self._shelf.open(session.owner, session.id, shared=True) as place:
            if place is None or not place.is_alive:
                return []
            slots = [place.slot(number) for number in place.numbers() if first <= number <= last]
        return [slot for slot in slots if isinstance(slot, Turn)]

    @_available()
    def acquire(self, session: Session, lease: Lease, over: Lease | None) -> Slot | None:
        with self._shelf.open(session.owner, session.id) as place:
            if place is None or not place.is_alive:
                return Tombstone(lease.number)
            found = place.slot(lease.number)
            if not can_be_taken(found, lease, over) or not _is_next(place, lease.number):
                return found

            def take(quotas: QuotaCounters, charges: list[QuotaCharge]) -> None:
                quotas.forget(lease.at_ms)
                quotas.take(charges, lease.at_ms)

            self._shelf.change(session.owner, lease.charges, take)
            path, content = place.slot_path(lease.number), forms.lease_bytes(lease)
            if found:
                files.replace(path, content, self._shelf.sync)
            elif not files.create(path, content, self._shelf.sync):
                return place.slot(lease.number)
            return lease

    @_available()
    def release(self, session: Session, lease: Lease, billed: bool, now_ms: int) -> None:
        with self._shelf.open(session.owner, session.id) as place:
            if place is None or not place.is_alive or not is_held(place.slot(lease.number), lease.token):
                return
            path = place.slot_path(lease.number)
            if left := lease.after_release(billed, now_ms):
                files.replace(path, forms.lease_bytes(left), self._shelf.sync)
            else:
                path.unlink()
            if not billed:
                self._shelf.change(session.owner, lease.charges, QuotaCounters.give_back)

    @_available()
    def commit(self, session: Session, turn: Turn, settlement: tuple[QuotaCharge, ...] = ()) -> Slot | None:
        content = forms.turn_bytes(turn)
        with self._shelf.open(session.owner, session.id) as place:
            if place is None or not place.is_alive:
                return Tombstone(turn.number)
            found = place.slot(turn.number)
            if not is_held(found, turn.token):
                return found
            self._settle(session.owner, [charge for charge in settlement if charge.amount > 0])
            files.replace(place.slot_path(turn.number), content, self._shelf.sync)
            files.keep_names(place.log, self._shelf.sync)
            self._settle(session.owner, [charge for charge in settlement if charge.amount < 0])
            return turn

    # --- the rest

    @_available()
    def create(
        self, session: Session, title: str, *, quota: QuotaCharges | None = None, first: Turn | None = None
    ) -> Session:
        turn = first and forms.turn_bytes(first)
        with self._shelf.made(session.owner, session.id) as place:
            if place.is_alive:
                return alive(place.view(session.owner, newest=1), session.created_ms).session
            if not place.is_free:
                raise SessionNotFound
            self._shelf.charge(quota, session.created_ms)
            files.replace(place.header, forms.header_bytes(session, title), self._shelf.sync)
            files.remove(place.draft)
            files.make_folder(place.draft)
            if turn:
                files.create(place.draft / place.slot_path(1).name, turn, self._shelf.sync)
                files.keep_names(place.draft, self._shelf.sync)
            place.draft.rename(place.log)
            self._shelf.keep(place)
            return session

    @_available()
    def fork(
        self, parent: Session, number: int, child: Session, title: str, *, quota: QuotaCharges | None = None
    ) -> None:
        moving.fork(self._shelf, parent, number, child, title, quota)

    @_available()
    def rename(self, owner: str, session_id: str, title: str, now_ms: int) -> None:
        with self._shelf.open(owner, session_id) as place:
            if place is None or not place.is_alive:
                raise SessionNotFound
            session = alive(place.view(owner, newest=1), now_ms).session
            files.replace(place.header, forms.header_bytes(session, title), self._shelf.sync)
            files.keep_names(place.folder, self._shelf.sync)

    @_available()
    def move(self, move: Move) -> Session:
        return moving.move(self._shelf, move)

    @_available()
    def delete(self, owner: str, session_id: str, now_ms: int) -> bool:
        with self._shelf.open(owner, session_id) as place:
            return place is not None and ending.delete(self._shelf, place, now_ms)

    @_available()
    def session_ids(self, owner: str) -> list[str]:
        return self._shelf.session_ids(owner)

    @_available()
    def erase(self, owner: str, now_ms: int) -> int:
        return ending.erase(self._shelf, owner, now_ms)

    @_available()
    def sweep(self, now_ms: int) -> int:
        return ending.sweep(self._shelf, now_ms)

    def _settle(self, owner: str, charges: list[QuotaCharge]) -> None:
        if charges:
            with self._shelf.quotas(owner) as quotas:
                quotas.settle(charges)


def _is_next(place: Place, number: int) -> bool:
    """Whether the slot before it is not empty: a gap could not be read any more."""
    return number == 1 or place.slot_path(number - 1).exists()
