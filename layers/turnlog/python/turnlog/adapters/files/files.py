"""Files and folders that are whole at every moment, and belong to one writer at a time.

A file gets its name only when all of it is on the disk, so that whoever dies leaves the old one, the new one or a
nameless rest, never a part. A folder is its own lock: there is no lock file that somebody could delete under another.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from turnlog.errors import StoreUnavailable

Sleep = Callable[[float], None]
Sync = Callable[[int], None]

PATIENCE_S = 5.0
"""How long a folder is waited for; whoever holds one needs milliseconds, however long a turn takes."""

_REST = ".unfinished-"
_LONGEST_PAUSE_S = 0.032


def make_folder(folder: Path) -> bool:
    """Makes it, for this user alone. False when it is there."""
    try:
        folder.mkdir(0o700)
    except FileExistsError:
        return False
    folder.chmod(0o700)  # a umask may have taken more away
    return True


def create(path: Path, content: bytes, sync: Sync) -> bool:
    """False when there is such a file already: of two who try at once one succeeds, whatever locks they hold."""
    with _unnamed(path.parent, content, sync) as written:
        try:
            path.hardlink_to(written)
        except FileExistsError:
            return False
    return True


def replace(path: Path, content: bytes, sync: Sync) -> None:
    """In one instant, for readers and for crashes."""
    with _unnamed(path.parent, content, sync) as written:
        written.replace(path)


def keep_names(folder: Path, sync: Sync) -> None:
    """Returns when what was created, replaced or removed in the folder would outlast a loss of power."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        sync(fd)
    finally:
        os.close(fd)


def remove(path: Path) -> bool:
    """A file, or a folder and all that is in it. False when there is none."""
    try:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    except FileNotFoundError:
        return False
    return True


def remove_rests(folder: Path) -> None:
    """What dead writers left. Only under the folder's lock, since a living one's looks the same."""
    for rest in folder.glob(f"{_REST}*"):
        rest.unlink()


@contextmanager
def held(folder: Path, sleep: Sleep, *, shared: bool = False, patience_s: float = PATIENCE_S) -> Iterator[None]:
    """The folder's lock: of one holder, or of many who share it, in any thread or process of this machine.

    Raises FileNotFoundError when there is no such folder, StoreUnavailable when others have it for too long.
    """
    waited_s, pause_s = 0.0, 0.001
    while (fd := hold(folder, shared=shared)) is None:
        if waited_s >= patience_s:
            raise StoreUnavailable
        sleep(pause_s)
        waited_s += pause_s
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
    try:
        yield
    finally:
        os.close(fd)


def hold(folder: Path, *, shared: bool = False) -> int | None:
    """The descriptor that holds the lock until it is closed, or None when others have it."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        # Between the two calls it may have been removed, and then the lock is one of nothing.
        if is_same(fd, folder):
            return fd
    except BlockingIOError:
        pass
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def is_same(fd: int, folder: Path) -> bool:
    """Whether the folder of this name is still the one that was opened."""
    try:
        return os.path.samestat(os.fstat(fd), folder.stat())
    except FileNotFoundError:
        return False


@contextmanager
def _unnamed(folder: Path, content: bytes, sync: Sync) -> Iterator[Path]:
    """A file that is whole on the disk and has no name yet that means anything; gone afterwards unless it got one."""
    path = folder / (_REST + secrets.token_hex(8))
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            os.fchmod(fd, 0o600)  # a umask may have taken more away
            file.write(content)
            file.flush()
            sync(fd)
        yield path
    finally:
        path.unlink(missing_ok=True)
