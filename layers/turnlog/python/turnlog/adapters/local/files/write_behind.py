"""The store on files that keeps new turns in memory until their session is idle, or the store is closed."""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from turnlog.adapters.local.files.records import split
from turnlog.adapters.local.files.root import Sleep, Sync
from turnlog.adapters.local.files.store import FileSessions, FileSessionStore
from turnlog.clock import Clock, system_clock


class WriteBehindSessionStore(FileSessionStore):
    """Turns in memory over files, for one process that may lose its last minutes.

    New turns, steps and leases of a session are written to its file, all at once, when it was not used for `idle_s`
    seconds, or when more than `most_sessions` sessions are held, and by `close`. There is no thread: time passes only
    in calls of its methods. A file that cannot be written then is tried again by the next call.

    A crash loses every turn that was not yet written, though its reply was returned. What is left is the session as it
    was before them, whole and in order; later turns then get the numbers of the lost ones, and a repeat under a lost
    one's key is paid for again, and its tools run again. So a turn that was answered is safe only after `close`, and
    this is no store for production. Creations, deletions, moves, forks, titles, quotas, leases with charges, and turns
    and steps with a settlement or charges, which are those of a budget, are durable at once. Turns that are charged to
    a rate alone are not.

    The folder is this store's alone, until `close`.
    """

    def __init__(
        self,
        folder: Path,
        idle_s: float = 60,
        *,
        most_sessions: int = 1000,
        clock: Clock = system_clock,
        sleep: Sleep = time.sleep,
        sync: Sync = os.fsync,
    ) -> None:
        self._buffer = _BufferedSessions(folder, sole=True, sleep=sleep, sync=sync)
        self._buffer.limit(round(idle_s * 1000), most_sessions, clock)
        self._use(self._buffer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def flush(self) -> None:
        """Writes all there is. Raises StoreUnavailable after it has tried all sessions; the rest is still held."""
        with self._buffer.locked():
            self._buffer.write_all()

    def close(self) -> None:
        """Writes all there is, and lets the folder go if that succeeds. May be repeated. Raises as `flush` does."""
        if self._buffer.close.alive:
            self.flush()
            super().close()


@dataclass
class _Held:
    """All that the file of a session will hold, how much of it is written, and when it was last used."""

    content: bytes
    written: int
    used_ms: int


class _BufferedSessions(FileSessions):
    """Holds back what is added lazily. Every call comes through `locked`, so time passes there."""

    def limit(self, idle_ms: int, most_sessions: int, clock: Clock) -> None:
        """Begins to hold back."""
        self._idle_ms = idle_ms
        self._most_sessions = most_sessions
        self._clock = clock
        self._held: OrderedDict[Path, _Held] = OrderedDict()  # the one used least recently first

    @contextmanager
    def locked(self, *, shared: bool = False) -> Iterator[None]:  # noqa: ARG002
        with super().locked():  # not shared, since readers note what they use
            now_ms = self._clock()
            for path, held in list(self._held.items()):
                if held.used_ms + self._idle_ms > now_ms and len(self._held) <= self._most_sessions:
                    break
                with suppress(OSError):
                    self._write(path)
            yield

    def read(self, path: Path) -> bytes:
        held = self._held.get(path)
        if held is None:
            return super().read(path)
        held.used_ms = self._clock()
        self._held.move_to_end(path)
        return held.content

    def append(self, path: Path, record: bytes, *, lazily: bool = False) -> None:
        if not lazily:
            self._write(path)
            super().append(path, record)
            return
        if path not in self._held:
            content = super().read(path)
            end = split(content)[1]
            self._held[path] = _Held(content[:end], end, self._clock())
        self._held[path].content += record

    def unlink(self, path: Path) -> None:
        super().unlink(path)
        self._held.pop(path, None)

    def write_all(self) -> None:
        """Writes all there is. Raises the first error, after it has tried all sessions."""
        errors = []
        for path in list(self._held):
            try:
                self._write(path)
            except OSError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def _write(self, path: Path) -> None:
        if held := self._held.get(path):
            super().append(path, held.content[held.written :])
            del self._held[path]
