"""Session, SessionView and Move: the values of a conversation.

A session is an append-only log of turns. A lease of a turn's slot is taken before the model is paid, and the turn is
stored after. So the reply in slot n + 1 was computed from exactly the slots 1..n, because nobody else can fill it.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field

from turnlog.clock import is_time
from turnlog.domain import base64url
from turnlog.domain.content_encryption import PLAIN, ContentCipher
from turnlog.domain.margins import GRACE
from turnlog.domain.messages import CacheLifetime, ModelSettings
from turnlog.domain.quotas import QuotaCharges
from turnlog.domain.turns import Lease, Totals, Turn, UnknownLease

_SESSION_ID = re.compile(r"ses_[A-Za-z0-9_-]{22}")


def new_session_id() -> str:
    """A new id: `ses_` and 22 characters, 128 random bits."""
    return "ses_" + secrets.token_urlsafe(16)


def named_session_id(name: bytes) -> str:
    """The id of a session that is made under an idempotency key or a secret: `name` is a keyed hash of 16 bytes."""
    return "ses_" + base64url.encode(name)


def is_session_id(text: str) -> bool:
    """True if the text has the form of an id; any other text can be answered without a read of the store."""
    return _SESSION_ID.fullmatch(text) is not None


Metadata = tuple[tuple[str, str], ...]
"""Names with their values, which a session's owner gives it, by name. They are content, as its title is."""


@dataclass(frozen=True, slots=True)
class SessionChanges:
    """The parts of a session that its owner can change; None is one that stays. `metadata` replaces all there is."""

    title: str | None = None
    metadata: Metadata | None = None


@dataclass(frozen=True, slots=True)
class SessionSettings(ModelSettings):
    """The creator's choices for every turn of the session; `cache` is the lifetime of what the provider caches."""

    cache: CacheLifetime = "5m"


@dataclass(frozen=True, slots=True)
class Session:
    """The part of a session that never changes. Times are epoch milliseconds; `idle_ms` is a duration.

    `fingerprint` is that of the request that created the session under an idempotency key; empty without one.
    """

    owner: str
    id: str
    created_ms: int
    expires_ms: int
    idle_ms: int
    settings: SessionSettings
    fingerprint: bytes = b""
    cipher: ContentCipher = field(default=PLAIN, compare=False, repr=False)
    """A store's own note: the cipher for the session's content. Only a session that a store returned has it."""

    def __post_init__(self) -> None:
        """Raises ValueError when the times are no life of a session."""
        ends_in_time = is_time(self.expires_ms + int(GRACE.total_seconds()) * 1000)
        if not (ends_in_time and 0 <= self.created_ms < self.expires_ms and self.idle_ms > 0):
            raise ValueError("a session begins before it ends, and both are dates")

    @property
    def ttl_s(self) -> int:
        """Epoch seconds after which TTL may remove the items, the same for all of them: `expires_ms` plus GRACE."""
        return -(-self.expires_ms // 1000) + int(GRACE.total_seconds())


@dataclass(frozen=True, slots=True)
class Move:
    """A request to give a session another owner or another id, in one instant.

    `key` is a keyed hash of the idempotency key: a repeat under it finds the result of the first try.
    `token`, `at_ms` and `lease_expires_ms` are those of a lease, since the move takes the next turn's slot while it
    copies. `quota` is charged in the instant in which the session moves.
    """

    owner: str
    session_id: str
    to_owner: str
    to_id: str
    key: bytes
    token: str
    at_ms: int
    lease_expires_ms: int
    quota: QuotaCharges | None = None


@dataclass(frozen=True, slots=True)
class ListedSession:
    """A session as its owner's listing names it; only a read tells if it is alive.

    `created_ms` is the time of its creation, or 0 where that cannot be read.
    """

    id: str
    created_ms: int


@dataclass(frozen=True, slots=True)
class SessionView:
    """A live session as a store read it.

    `count` is the number of its turns. `turns` are the newest ones asked for, oldest first, without a gap up to
    `count`. `running` is the lease of slot `count + 1`, if there is one, whether or not it has run out; `unknown_lease`
    is that lease if a later version took it.
    """

    session: Session
    title: str
    count: int
    turns: tuple[Turn, ...]
    running: Lease | None = None
    unknown_lease: UnknownLease | None = None
    metadata: Metadata = ()

    @property
    def _lease(self) -> Lease | UnknownLease | None:
        return self.running or self.unknown_lease

    @property
    def active_ms(self) -> int:
        """The time of the last use: a turn, a running turn, or the creation, since a fork is younger than its turns."""
        last_ms = self._lease.at_ms if self._lease else self.turns[-1].at_ms if self.turns else 0
        return max(last_ms, self.session.created_ms)

    @property
    def idle_expires_ms(self) -> int:
        """The time at which the session expires unless a turn begins before; never later than `expires_ms`."""
        return min(self.active_ms + self.session.idle_ms, self.session.expires_ms)

    @property
    def totals(self) -> Totals:
        """The sums over all turns so far."""
        return self.turns[-1].totals if self.turns else Totals()

    def alive_at(self, now_ms: int) -> bool:
        """True before `idle_expires_ms`, False from that very millisecond on."""
        return now_ms < self.idle_expires_ms

    def running_at(self, now_ms: int) -> bool:
        """True if a turn is in progress and its lease has not run out."""
        return self._lease is not None and self._lease.lease_expires_ms > now_ms
