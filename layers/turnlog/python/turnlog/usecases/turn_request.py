"""TurnRequest and TurnPolicy: a request for a turn, and the rules of every turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from turnlog.domain.limits import OwnerLimits, SessionLimits
from turnlog.domain.messages import Message
from turnlog.domain.sessions import SessionView
from turnlog.domain.turns import Turn
from turnlog.domain.window import WindowPolicy

Require = Callable[[SessionView, Turn | None], None]
"""Raises a TurnlogError for a session that the turn must not go on with. A stored turn, which is to be returned again,
is given with it.
"""


def require_nothing(_: SessionView, __: Turn | None) -> None:
    """Takes any session."""


@dataclass(frozen=True, slots=True)
class TurnPolicy:
    """The limits of every turn. With `reads_cached` the first read may return the session as it was a moment ago.

    That is for a store which can do so more cheaply. Nothing is refused or replayed because of such a view. Without
    `web_tools` a session that was made with some goes on without them.
    """

    window: WindowPolicy = field(default_factory=WindowPolicy)
    session: SessionLimits = field(default_factory=SessionLimits)
    owner: OwnerLimits = field(default_factory=OwnerLimits)
    reads_cached: bool = False
    web_tools: bool = True


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """A request for a turn. `key` and `fingerprint` are keyed hashes of the idempotency key and of the canonical body.

    `number` is the turn that the caller expects to take, if it says so; then its key is found however old it is.
    `system` are instructions that hold from this turn on, in the place of those before. `require` looks at the session
    before a turn is begun, and before a stored one is returned.
    """

    owner: str
    session_id: str
    key: bytes
    fingerprint: bytes
    message: Message
    number: int | None = None
    system: str = ""
    require: Require = require_nothing

    @property
    def messages(self) -> tuple[Message, ...]:
        """The messages with which the turn begins: the provider wants instructions after the user's message."""
        return (self.message, Message.of_system(self.system)) if self.system else (self.message,)
