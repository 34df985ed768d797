"""The end of a session: first a tombstone, from which on it is dead for everyone, then all content goes.

Each step works on whatever is left, so it can be repeated after a crash at any point.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from turnlog.adapters.files import files, forms
from turnlog.adapters.files.forms import End
from turnlog.adapters.files.place import Place
from turnlog.adapters.files.shelf import Shelf
from turnlog.domain.conditions import is_due
from turnlog.domain.owners import owner_hash
from turnlog.domain.quotas import QuotaCounters
from turnlog.errors import SessionCorrupt, StoreUnavailable

_LONG_S = 366 * 24 * 3600  # how long a tombstone stays whose session's own end cannot be read


def delete(shelf: Shelf, place: Place, now_ms: int) -> bool:
    """See SessionStore."""
    try:
        was_alive = place.is_alive and place.view("", newest=1).alive_at(now_ms)
    except SessionCorrupt:
        was_alive = True
    _end(shelf, place, now_ms)
    return was_alive


def _end(shelf: Shelf, place: Place, now_ms: int) -> bool:
    """Leaves a tombstone and nothing else, or nothing at all if there never was a session. False when nothing was left.

    Returns only when it would outlast a loss of power.
    """
    if place.is_alive:
        try:
            ttl_s = place.session("")[0].ttl_s
        except SessionCorrupt:
            ttl_s = now_ms // 1000 + _LONG_S
        files.replace(place.ended, forms.end_bytes(End(ttl_s)), shelf.sync)
        files.keep_names(place.folder, shelf.sync)
    removed = [files.remove(path) for path in (place.log, place.draft, place.header)]
    files.remove_rests(place.folder)
    files.keep_names(place.folder, shelf.sync)
    return any(removed)


def erase(shelf: Shelf, owner: str, now_ms: int) -> int:
    """See SessionStore."""
    ended = 0
    for folder in shelf.folders(owner):
        with suppress(FileNotFoundError), shelf.held(folder):
            ended += _end(shelf, Place(folder), now_ms)
    used = shelf.root / owner_hash(owner)
    with suppress(FileNotFoundError), shelf.held(used):
        _reduce(shelf, used / "allowances", lambda quotas: quotas.erase(now_ms))
        files.keep_names(used, shelf.sync)
    return ended


def sweep(shelf: Shelf, now_ms: int) -> int:
    """Ends what is due, finishes what others began, and forgets what nobody asks for any more. See SessionStore.

    Costs a lock, the names of the slots and two small files for each session. One that is in use at this moment waits
    for the next time; one that is damaged is removed at its absolute end, and if even that cannot be read it stays.
    """
    swept = 0
    for owner in _folders(shelf.root):
        for folder in _folders(owner):
            with suppress(FileNotFoundError, SessionCorrupt, StoreUnavailable), shelf.held(folder, patience_s=0):
                swept += _sweep_session(shelf, Place(folder), now_ms)
        with suppress(FileNotFoundError, SessionCorrupt, StoreUnavailable), shelf.held(owner, patience_s=0):
            _sweep_owner(shelf, owner, now_ms)
    return swept


def _sweep_session(shelf: Shelf, place: Place, now_ms: int) -> bool:
    for folder in (place.folder, place.log):
        files.remove_rests(folder)
    if place.is_alive and not is_due(_ends_ms(place), now_ms):
        return False
    removed = _end(shelf, place, now_ms)
    tombstone = place.end()
    if tombstone is None or tombstone.ttl_s * 1000 <= now_ms:
        files.remove(place.folder)
    return removed


def _ends_ms(place: Place) -> int:
    try:
        return place.view("", newest=1).idle_expires_ms
    except SessionCorrupt:
        return place.session("")[0].expires_ms


def _sweep_owner(shelf: Shelf, owner: Path, now_ms: int) -> None:
    files.remove_rests(owner)
    _reduce(shelf, owner / "allowances", lambda quotas: quotas.forget(now_ms))
    with suppress(OSError):
        owner.rmdir()  # only if it is empty


def _reduce(shelf: Shelf, path: Path, drop: Callable[[QuotaCounters], None]) -> None:
    """What an owner used, less what is dropped; the file goes with the last of it."""
    if not path.exists():
        return
    quotas = forms.quotas_of(path.read_bytes())
    drop(quotas)
    if quotas.used:
        files.replace(path, forms.quotas_bytes(quotas), shelf.sync)
    else:
        path.unlink()


def _folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()]
