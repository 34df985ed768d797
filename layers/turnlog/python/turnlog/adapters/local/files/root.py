"""The folder that holds all sessions: its lock, and files that change in one instant.

lock                     held for every call; it has no content
<owner hash>/            all that one owner has
    quotas               what the owner has used
    <session hash>       a session, see `store`
    <session hash>.gone  a tombstone: until its time is over, no session is made under this id
    *.new                not finished: it means nothing, and goes when it is begun again or swept
"""

from __future__ import annotations

import fcntl
import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from turnlog.adapters.local.files.records import MARK_AT, mark, split
from turnlog.errors import StoreUnavailable

Sleep = Callable[[float], None]
Sync = Callable[[int], None]

PATIENCE_S = 5.0
"""The longest wait for the lock. Its holders need milliseconds, however long a turn takes."""

NEW = ".new"

_LONGEST_PAUSE_S = 0.032


class Root:
    """The folder, shared with other stores in any thread or process of this machine, or with `sole` with none.

    `sync` returns when what was written to a descriptor would outlast a loss of power. All methods but `locked` want
    the lock to be held, so unfinished files need no names of their own; what they did outlasts a loss of power.
    """

    def __init__(self, path: Path, *, sole: bool, sleep: Sleep, sync: Sync) -> None:
        self.path = path.absolute()
        self._sleep = sleep
        self._sync = sync
        with _disk_errors():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _make_dir(self.path)
            held = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            if not _lock(held, shared=not sole):
                os.close(held)
                raise StoreUnavailable
            self._opened = held
            self.close = weakref.finalize(self, os.close, held)

    @contextmanager
    def locked(self, *, shared: bool = False) -> Iterator[None]:
        """Holds the lock, for a change or `shared` with other readers.

        Raises StoreUnavailable when others hold it for longer than PATIENCE_S, when the folder is not the one that was
        opened (one that was unmounted is not an empty store), and when the disk fails, in the body too.
        """
        with _disk_errors():
            if not self.close.alive or not os.path.samestat(os.fstat(self._opened), self.path.stat()):
                raise StoreUnavailable
            fd = os.open(self.path / "lock", os.O_RDONLY | os.O_CREAT, 0o600)
            try:
                os.fchmod(fd, 0o600)  # a umask may have taken more away
                self._wait_for(fd, shared=shared)
                yield
            finally:
                os.close(fd)

    def read(self, path: Path) -> bytes:
        """The content of a file. Raises FileNotFoundError."""
        return path.read_bytes()

    def replace(self, path: Path, content: bytes) -> None:
        """Gives a file this content in one instant: a crash leaves the old or the new, never a part."""
        _make_dir(path.parent)
        is_new = not path.exists()
        new = path.with_name(path.name + NEW)
        new.unlink(missing_ok=True)
        fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.fchmod(fd, 0o600)
            _write(fd, content, 0)
            self._sync(fd)
            new.replace(path)
        finally:
            os.close(fd)
            new.unlink(missing_ok=True)
        self._sync_names(path.parent)
        if is_new:
            self._sync_names(self.path)  # the folder may be as new

    def append(self, path: Path, record: bytes, *, lazily: bool = False) -> None:  # noqa: ARG002
        """Adds a record to a file; it replaces a record that a dead writer did not finish.

        A record that is added `lazily` may be written later, by a store that is made for that.
        """
        _, end = split(path.read_bytes())
        fd = os.open(path, os.O_RDWR)
        try:
            os.ftruncate(fd, end)
            try:
                _write(fd, record, end)
                self._sync(fd)
            except BaseException:
                os.ftruncate(fd, end)
                raise
            _write(fd, mark(end + len(record)), MARK_AT)
        finally:
            os.close(fd)

    def rename(self, source: Path, target: Path) -> None:
        """Gives a file a new path, at which there is none."""
        _make_dir(target.parent)
        source.rename(target)
        for folder in (target.parent, source.parent, self.path):
            self._sync_names(folder)

    def unlink(self, path: Path) -> None:
        """Removes a file."""
        path.unlink()
        self._sync_names(path.parent)

    def _sync_names(self, folder: Path) -> None:
        fd = os.open(folder, os.O_RDONLY)
        try:
            self._sync(fd)
        finally:
            os.close(fd)

    def _wait_for(self, fd: int, *, shared: bool) -> None:
        waited_s, pause_s = 0.0, 0.001
        while not _lock(fd, shared=shared):
            if waited_s >= PATIENCE_S:
                raise StoreUnavailable
            self._sleep(pause_s)
            waited_s += pause_s
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _make_dir(path: Path) -> None:
    try:
        path.mkdir(0o700)
    except FileExistsError:
        return
    path.chmod(0o700)  # a umask may have taken more away


def _write(fd: int, content: bytes, at: int) -> None:
    while content:
        written = os.pwrite(fd, content, at)
        content, at = content[written:], at + written


def _lock(fd: int, *, shared: bool) -> bool:
    """Locks an open file until it is closed. Returns False when others hold it."""
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreUnavailable from error
