"""The folder of one session: what lies where, and what that says about the session."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from turnlog.adapters.files import forms
from turnlog.adapters.files.forms import End
from turnlog.domain.owners import owner_hash
from turnlog.domain.sessions import Session, SessionView
from turnlog.domain.turns import Lease, Slot, Turn
from turnlog.errors import SessionCorrupt, TurnsMissing

_PLACE = re.compile("[0-9a-f]{64}")
_SLOT = re.compile("[0-9]{9}")


def place_of(root: Path, owner: str, session_id: str) -> Place:
    """Neither the owner nor the id is ever part of a path, so neither can lead out of the root.

    A place whose session's id cannot be read goes by its own name, which is no id.
    """
    if _PLACE.fullmatch(session_id):
        return Place(root / owner_hash(owner) / session_id)
    name = hashlib.sha256(f"{owner_hash(owner)}|{session_id}".encode()).hexdigest()
    return Place(root / owner_hash(owner) / name)


@dataclass(frozen=True, slots=True)
class Place:
    """A folder in the folder of its owner, and its lock. In it are

        log/        000000001, …: a file a slot, a claim or a turn; where there is no log there is no session
        session     what never changes of the session, and its title; made before the log
        ended       that it was deleted or swept; from then on there is none, whatever is left
        moving      where to and under which key a move goes that has begun; it is done when the log is gone from here
        draft/      a log that a fork has not finished

    All methods want the lock to be held by the caller, those that change something exclusively.
    """

    folder: Path

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def draft(self) -> Path:
        return self.folder / "draft"

    @property
    def header(self) -> Path:
        return self.folder / "session"

    @property
    def ended(self) -> Path:
        return self.folder / "ended"

    @property
    def moving(self) -> Path:
        return self.folder / "moving"

    @property
    def is_alive(self) -> bool:
        """Whether there is a session, which may have expired."""
        return self.log.is_dir() and not self.ended.exists()

    @property
    def is_free(self) -> bool:
        """Whether no session is here or was; a half-made one is none. Raises a kind of SessionCorrupt."""
        return not self.is_alive and self.end() is None

    def slot_path(self, number: int) -> Path:
        return self.log / f"{number:09d}"

    def numbers(self) -> list[int]:
        """Of the slots that hold something, in order."""
        with os.scandir(self.log) as entries:
            return sorted(int(entry.name) for entry in entries if _SLOT.fullmatch(entry.name))

    def slot(self, number: int) -> Slot | None:
        """Raises a kind of SessionCorrupt."""
        try:
            data = self.slot_path(number).read_bytes()
        except FileNotFoundError:
            return None
        return forms.slot_of(number, data)

    def session(self, owner: str) -> tuple[Session, str]:
        """The session and its title. Raises a kind of SessionCorrupt."""
        try:
            return forms.header_of(owner, self.header.read_bytes())
        except FileNotFoundError as error:
            raise SessionCorrupt from error

    def view(self, owner: str, newest: int) -> SessionView:
        """The session at any time, out of the names of all slots and the newest ones' files.

        Raises a kind of SessionCorrupt.
        """
        session, title = self.session(owner)
        numbers = self.numbers()
        if numbers != list(range(1, len(numbers) + 1)):
            raise TurnsMissing
        top = self.slot(len(numbers)) if numbers else None
        running = top if isinstance(top, Lease) else None
        count = len(numbers) - (running is not None)
        last = [top] if isinstance(top, Turn) else []
        older = [self.slot(number) for number in range(max(1, count - newest + 1), count + 1 - len(last))]
        turns = tuple(slot for slot in [*older, *last] if isinstance(slot, Turn))
        if len(turns) != min(newest, count):
            raise TurnsMissing
        return SessionView(session, title, count, turns, running)

    def end(self) -> End | None:
        """Of a place where no session is alive: how it left; None if it never was. Raises a kind of SessionCorrupt."""
        for path in (self.ended, self.moving):
            if path.exists():
                return forms.end_of(path.read_bytes())
        return None
