"""SessionStore and QuotaStore on files: a file for each session, to which its turns are added."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar, overload

from turnlog.adapters.local.files.records import (
    Head,
    Labels,
    SessionTombstone,
    decode,
    decode_only,
    encode,
    is_a,
    split,
    whole,
)
from turnlog.adapters.local.files.root import NEW, Root, Sleep, Sync
from turnlog.adapters.local.locked_store import Checkpoint, LockedSessionStore, StoredSession
from turnlog.domain.conditions import is_due
from turnlog.domain.owners import owner_hash
from turnlog.domain.quotas import QuotaCounters
from turnlog.domain.sessions import Move, Session, SessionSettings
from turnlog.domain.turns import Lease, Turn
from turnlog.errors import ErasureUnfinished, ItemUnreadable, SessionUnreadable, TurnsMissing

T = TypeVar("T")

GONE = ".gone"

_LONG_S = 366 * 24 * 3600  # the time that a tombstone stays whose session cannot be read
_OWNER = re.compile("[A-Za-z0-9_-]{43}")
_NAME = re.compile("[0-9a-f]{64}")


def session_path(root: Path, owner: str, session_id: str) -> Path:
    """The file of a session, which need not be there.

    Neither the owner nor the id is ever part of it. A session whose id cannot be read goes by its file's name.
    """
    name = session_id
    if not _NAME.fullmatch(name):
        name = hashlib.sha256(f"{owner_hash(owner)}|{session_id}".encode()).hexdigest()
    return root / owner_hash(owner) / name


class FileSessionStore(LockedSessionStore):
    """Sessions and quotas in a folder of one machine, for any number of its threads and processes.

    The folder must lie on a local file system that has flock (not NFS). What a method reported as done survives the
    death of the process at any moment, and a loss of power as far as the disk keeps what it says it has written.
    Charges and slots are two files, so the death of a process between them leaves too much charged, never too little.

    There is one lock, shared by readers and held by one writer, never while the model works: the turns of all sessions
    are stored one after the other, at the speed of the disk. A turn costs two fsyncs, and two more for each change of
    an owner's quotas. Each look at a session reads and checks its whole file, which SESSION_BYTES bounds, and decodes
    only the turns that are asked for: a turn of a session of 250 KB takes some milliseconds, one of 20 MB (the
    template's limit) some tenths of a second. A move renames one file. A fork writes all its turns, about as long as a
    second for 20 MB.

    With `sole` no other store may open the folder. Raises StoreUnavailable when another store has it in a way that
    forbids this. `close` frees it, and so does garbage collection.
    """

    def __init__(self, folder: Path, *, sole: bool = False, sleep: Sleep = time.sleep, sync: Sync = os.fsync) -> None:
        self._use(FileSessions(folder, sole=sole, sleep=sleep, sync=sync))

    def _use(self, files: FileSessions) -> None:
        super().__init__(files)
        self._files = files

    def close(self) -> None:
        """Frees the folder. May be repeated."""
        self._files.close()


class FileSessions(Root):
    """The LockedSessions of a FileSessionStore.

    The file of a session holds its settings and a Head, and then, as they were written, turns, checkpoints of their
    steps, Labels and later Heads. The steps of a turn that is finished stay in the file and mean nothing. If it is
    there, there is a session, whatever tombstone lies beside it.
    """

    def find(self, owner: str, session_id: str) -> StoredSession | None:
        path = session_path(self.path, owner, session_id)
        return _stored(owner, path, self.read(path)) if path.exists() else None

    def session_ids(self, owner: str) -> list[str]:
        return [self._id_in(path) for path in _sessions_in(self._folder(owner))]

    def is_taken(self, owner: str, session_id: str) -> bool:
        return self._tombstone(owner, session_id) is not None

    def has_moved(self, move: Move) -> bool:
        tombstone = self._tombstone(move.owner, move.session_id)
        new = session_path(self.path, move.to_owner, move.to_id)
        return tombstone is not None and (tombstone.key, tombstone.moved_to) == (move.key, new.name)

    def make(self, new: StoredSession) -> None:
        session = new.session
        path = session_path(self.path, session.owner, session.id)
        labels = [Labels(new.title, new.metadata)] if new.metadata else []
        self.replace(path, whole(*map(encode, (session.settings, _head(new, path), *labels, *new.turns))))

    def change(self, changed: StoredSession, *, lazily: bool = False) -> None:
        path = session_path(self.path, changed.session.owner, changed.session.id)
        self.append(path, encode(_head(changed, path)), lazily=lazily)

    def change_metadata(self, changed: StoredSession) -> None:
        path = session_path(self.path, changed.session.owner, changed.session.id)
        self.append(path, encode(Labels(changed.title, changed.metadata)))

    def add(self, stored: StoredSession, turn: Turn, *, lazily: bool = False) -> None:
        self.append(session_path(self.path, stored.session.owner, stored.session.id), encode(turn), lazily=lazily)

    def add_checkpoint(self, stored: StoredSession, checkpoint: Checkpoint, *, lazily: bool = False) -> None:
        path = session_path(self.path, stored.session.owner, stored.session.id)
        lease = replace(checkpoint.lease, charges=())  # those are counted elsewhere
        self.append(path, encode(replace(checkpoint, lease=lease)), lazily=lazily)

    def move(self, stored: StoredSession, move: Move) -> None:
        """Renames the file; what is written before that means nothing without it."""
        path = session_path(self.path, move.owner, move.session_id)
        new = session_path(self.path, move.to_owner, move.to_id)
        head = _head(replace(stored, running=None), path)
        self.append(path, encode(replace(head, ids=head.ids | {new.name: move.to_id})))
        self._leave(path, SessionTombstone(stored.session.ttl_s, move.key, new.name))
        self.rename(path, new)

    def remove(self, owner: str, session_id: str, now_ms: int) -> bool:
        return self._remove(session_path(self.path, owner, session_id), now_ms)

    def remove_all(self, owner: str, now_ms: int, has_time: Callable[[], bool]) -> int:
        folder = self._folder(owner)
        unfinished, paths = self._remove_unfinished(folder), _sessions_in(folder)
        for removed, path in enumerate(paths):
            if not has_time():
                raise ErasureUnfinished(unfinished + removed, len(paths) - removed)
            self._remove(path, now_ms)
        return unfinished + len(paths)

    def counters(self, owner: str) -> QuotaCounters:
        return self._counters(self._folder(owner))

    def keep_counters(self, owner: str, counters: QuotaCounters) -> None:
        self._keep_counters(self._folder(owner), counters)

    def sweep(self, now_ms: int) -> int:
        """See SessionStore. Holds the lock for one owner at a time, and reads all of the owner's sessions.

        A damaged session is removed at its absolute end; one whose end cannot be read stays, and so do damaged quotas,
        and all that a later version wrote.
        """
        with self.locked(shared=True):
            folders = [path for path in self.path.iterdir() if _OWNER.fullmatch(path.name)]
        swept = 0
        for folder in folders:
            with self.locked():
                swept += self._sweep(folder, now_ms)
        return swept

    def _sweep(self, folder: Path, now_ms: int) -> int:
        swept = self._remove_unfinished(folder)
        for path in _sessions_in(folder):
            with suppress(SessionUnreadable):
                if is_due(_ends_ms(_stored("", path, self.read(path))), now_ms):
                    swept += self._remove(path, now_ms)
        for path in folder.glob(f"*{GONE}"):
            with suppress(SessionUnreadable):
                if decode_only(SessionTombstone, self.read(path)).ttl_s * 1000 <= now_ms:
                    self.unlink(path)
        with suppress(SessionUnreadable):
            counters = self._counters(folder)
            counters.forget(now_ms)
            self._keep_counters(folder, counters)
        with suppress(OSError):
            folder.rmdir()  # only if it is empty
        return swept

    def _folder(self, owner: str) -> Path:
        return self.path / owner_hash(owner)

    def _id_in(self, path: Path) -> str:
        try:
            return _stored("", path, self.read(path)).session.id
        except SessionUnreadable:
            return path.name

    def _tombstone(self, owner: str, session_id: str) -> SessionTombstone | None:
        path = session_path(self.path, owner, session_id).with_suffix(GONE)
        return decode_only(SessionTombstone, self.read(path)) if path.exists() else None

    def _remove(self, path: Path, now_ms: int) -> bool:
        path.with_suffix(NEW).unlink(missing_ok=True)
        if not path.exists():
            return False
        try:
            ttl_s = _stored("", path, self.read(path)).session.ttl_s
        except SessionUnreadable:
            ttl_s = now_ms // 1000 + _LONG_S
        self._leave(path, SessionTombstone(ttl_s))
        self.unlink(path)
        return True

    def _leave(self, path: Path, tombstone: SessionTombstone) -> None:
        self.replace(path.with_suffix(GONE), whole(encode(tombstone)))

    def _remove_unfinished(self, folder: Path) -> int:
        """Removes what writers that died left. Returns the number of half-made sessions."""
        paths = list(folder.glob(f"*{NEW}"))
        for path in paths:
            self.unlink(path)
        return sum(_NAME.fullmatch(path.stem) is not None for path in paths)

    def _counters(self, folder: Path) -> QuotaCounters:
        path = folder / "quotas"
        return decode_only(QuotaCounters, self.read(path)) if path.exists() else QuotaCounters()

    def _keep_counters(self, folder: Path, counters: QuotaCounters) -> None:
        path = folder / "quotas"
        if counters.used:
            self.replace(path, whole(encode(counters)))
        elif path.exists():
            self.unlink(path)


class _Values(Sequence[T]):
    """The values of records, each decoded when it is asked for. Raises a kind of SessionUnreadable then."""

    def __init__(self, kind: type[T], records: list[bytes]) -> None:
        self._kind = kind
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, at: int) -> T: ...

    @overload
    def __getitem__(self, at: slice) -> list[T]: ...

    def __getitem__(self, at: int | slice) -> T | list[T]:
        if isinstance(at, slice):
            return [self[index] for index in range(*at.indices(len(self)))]
        value = decode(self._kind, self._records[at])
        if isinstance(value, Turn) and value.number != range(1, len(self) + 1)[at]:
            raise TurnsMissing
        return value


def _sessions_in(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*") if _NAME.fullmatch(path.name)]


def _head(stored: StoredSession, path: Path) -> Head:
    session = stored.session
    times = session.created_ms, session.expires_ms, session.idle_ms
    lease = stored.running and replace(stored.running, charges=())  # those are counted elsewhere
    return Head({path.name: session.id}, stored.title, *times, session.fingerprint, lease)


def _stored(owner: str, path: Path, data: bytes) -> StoredSession:
    """The session of a file. Raises a kind of SessionUnreadable."""
    records, _ = split(data)
    turns = [record for record in records if is_a(Turn, record)]
    heads = [record for record in records if is_a(Head, record)]
    if not heads:
        raise ItemUnreadable
    settings, head = decode(SessionSettings, records[0]), decode(Head, heads[-1])
    if path.name not in head.ids:
        raise ItemUnreadable
    times = head.created_ms, head.expires_ms, head.idle_ms
    try:
        session = Session(owner, head.ids[path.name], *times, settings, head.fingerprint)
    except ValueError as error:
        raise ItemUnreadable from error
    running, steps = _open_turn(records)
    labels = _labels(records, head)
    checkpoints = _Values(Checkpoint, steps)
    return StoredSession(session, labels.title, _Values(Turn, turns), running, checkpoints, labels.metadata)


def _labels(records: list[bytes], head: Head) -> Labels:
    """The title and the metadata: a title may be changed alone, by a Head. Raises ItemUnreadable."""
    changes = [record for record in records if is_a(Head, record) or is_a(Labels, record)]
    labels = next((decode(Labels, record) for record in reversed(changes) if is_a(Labels, record)), Labels(head.title))
    return labels if is_a(Labels, changes[-1]) else replace(labels, title=head.title)


def _open_turn(records: list[bytes]) -> tuple[Lease | None, list[bytes]]:
    """The lease of the turn that runs, if one does, and its checkpoints: those since the slot had no steps.

    Decodes none of the checkpoints but the last, since they may be large. Raises ItemUnreadable.
    """
    leases: list[Lease | None] = []
    checkpoints: list[bytes] = []
    for record in reversed(records[1:]):
        if is_a(Turn, record):
            break
        if is_a(Checkpoint, record):
            checkpoints.insert(0, record)
            if not leases:
                leases.append(decode(Checkpoint, record).lease)
        elif is_a(Head, record):
            leases.append(decode(Head, record).lease)
            if not (leases[-1] and leases[-1].steps):
                break
    return leases[0] if leases else None, checkpoints


def _ends_ms(stored: StoredSession) -> int:
    try:
        return stored.view().idle_expires_ms
    except SessionUnreadable:
        return stored.session.expires_ms
