"""The folder that holds all sessions: how the folder of one is found, made and held."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

from turnlog.adapters.files import files, forms
from turnlog.adapters.files.files import PATIENCE_S, Sleep, Sync
from turnlog.adapters.files.place import Place, place_of
from turnlog.domain.owners import owner_hash
from turnlog.domain.quotas import QuotaCharge, QuotaCharges, QuotaCounters, by_owner
from turnlog.errors import SessionCorrupt, StoreUnavailable

_ROUNDS = 10


class Shelf:
    """A folder for each owner, in it one for each session and a file of what the owner used of allowances.

    A session's lock is taken before its owner's; two sessions' only where one of them is still being made, so that
    nobody can want them the other way round.
    """

    def __init__(self, root: Path, sole: bool, sleep: Sleep, sync: Sync) -> None:
        self.root = root.absolute()
        self.sync = sync
        self._sleep = sleep
        self.root.parent.mkdir(parents=True, exist_ok=True)
        files.make_folder(self.root)
        held = files.hold(self.root, shared=not sole)
        if held is None:
            raise StoreUnavailable
        self._held = held
        self.close = weakref.finalize(self, os.close, held)

    @contextmanager
    def open(self, owner: str, session_id: str, *, shared: bool = False) -> Iterator[Place | None]:
        """The folder of a session, held for a change or shared with other readers; None when there is none."""
        place = place_of(self.root, owner, session_id)
        found: Place | None = place
        with ExitStack() as stack:
            try:
                stack.enter_context(self.held(place.folder, shared=shared))
            except FileNotFoundError:
                self._require_root()
                found = None
            yield found

    @contextmanager
    def made(self, owner: str, session_id: str) -> Iterator[Place]:
        """The folder of a session, held for a change; made if there is none."""
        self._require_root()
        place = place_of(self.root, owner, session_id)
        with ExitStack() as stack:
            for _ in range(_ROUNDS):
                try:
                    files.make_folder(place.folder.parent)
                    files.make_folder(place.folder)
                    stack.enter_context(self.held(place.folder))
                    break
                except FileNotFoundError:
                    continue  # swept in between, since it was empty
            else:
                raise StoreUnavailable
            yield place

    @contextmanager
    def quotas(self, owner: str) -> Iterator[QuotaCounters]:
        """What the owner used, held for a change and written back, unless the change is refused."""
        path = self.root / owner_hash(owner) / "allowances"
        with self.held(path.parent):
            used = forms.quotas_of(path.read_bytes()) if path.exists() else QuotaCounters()
            yield used
            files.replace(path, forms.quotas_bytes(used), self.sync)

    def change(
        self, owner: str, charges: Iterable[QuotaCharge], how: Callable[[QuotaCounters, list[QuotaCharge]], None]
    ) -> None:
        """Changes all the allowances that the charges are of, or none if one of them refuses.

        An owner's own come before those that many share, so that nobody wants two the other way round.
        """
        with ExitStack() as stack:
            for each, own in by_owner(owner, charges).items():
                files.make_folder(self.root / owner_hash(each))
                how(stack.enter_context(self.quotas(each)), own)

    def charge(self, quota: QuotaCharges | None, now_ms: int) -> None:
        """Raises AllowanceUsedUp, and then nothing was charged. The bill's owner may have no folder yet."""
        if quota:
            files.make_folder(self.root / owner_hash(quota.owner))
            with self.quotas(quota.owner) as quotas:
                quotas.forget(now_ms)
                quotas.take(quota.charges, now_ms)

    def session_ids(self, owner: str) -> list[str]:
        """Of the sessions in the owner's folder; the place's name where the id cannot be read."""
        found = []
        for place in map(Place, self.folders(owner)):
            if not place.is_alive:
                continue  # one that is still being made is not waited for
            with suppress(FileNotFoundError), self.held(place.folder, shared=True):
                try:
                    if place.is_alive:
                        found.append(place.session(owner)[0].id)
                except SessionCorrupt:
                    found.append(place.folder.name)
        return found

    def folders(self, owner: str) -> list[Path]:
        """Of the owner's sessions, half-made and ended ones included."""
        try:
            return [path for path in (self.root / owner_hash(owner)).iterdir() if path.is_dir()]
        except FileNotFoundError:
            self._require_root()
            return []

    def held(
        self, folder: Path, *, shared: bool = False, patience_s: float = PATIENCE_S
    ) -> AbstractContextManager[None]:
        return files.held(folder, self._sleep, shared=shared, patience_s=patience_s)

    def keep(self, place: Place) -> None:
        """Returns when what was made, renamed or removed in the place outlasts a loss of power."""
        for folder in (place.folder, place.folder.parent, self.root):
            files.keep_names(folder, self.sync)

    def _require_root(self) -> None:
        """What is missing is only missing while the folder is there: one that was unmounted is not an empty store."""
        if not files.is_same(self._held, self.root):
            raise StoreUnavailable
