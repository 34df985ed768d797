"""Session, Turn, Claim: what a conversation is made of, and the SessionStore port that keeps it.

A session is an append-only log. A turn's slot is claimed before the model is paid and filled after; whoever fills slot
n + 1 computed its reply from exactly slots 1..n, because nobody else can.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Protocol

from turnlog.messages import Message, Reply

GRACE = timedelta(hours=1)
"""How long items outlive their session before TTL may take them: longer than any lease and clock skew."""

RING = 64
"""How many older keys a turn remembers, so that a late retry finds its reply."""

_SESSION_ID = re.compile(r"ses_[A-Za-z0-9_-]{22}")


def new_session_id() -> str:
    """`ses_` and 22 characters: 128 random bits."""
    return "ses_" + secrets.token_urlsafe(16)


def is_session_id(text: str) -> bool:
    """Whether the text has the form of an id; any other text can be answered without a look into the store."""
    return _SESSION_ID.fullmatch(text) is not None


def owner_hash(owner: str) -> str:
    """The name under which an owner's things are filed: 43 URL-safe characters, never reversed to the owner.

    It is part of DynamoDB keys and S3 prefixes, so it must not change between versions.
    """
    return base64.urlsafe_b64encode(hashlib.sha256(b"v1|" + owner.encode()).digest()).rstrip(b"=").decode()


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """What the creator chose for every turn of the session."""

    model: str
    max_tokens: int
    system: str = ""


@dataclass(frozen=True, slots=True)
class Session:
    """The part of a session that never changes. Times are epoch milliseconds; `idle_ms` is a duration."""

    owner: str
    id: str
    created_ms: int
    dies_ms: int
    idle_ms: int
    settings: SessionSettings

    @property
    def ttl_s(self) -> int:
        """Epoch seconds after which TTL may remove the items, the same for all of them: the end plus GRACE."""
        return -(-self.dies_ms // 1000) + int(GRACE.total_seconds())


@dataclass(frozen=True, slots=True)
class Claim:
    """A slot taken by a handler that is asking the model. It holds no content.

    `token` is random for each try and fences the commit; until `until_ms` nobody else may take the slot; `attempt`
    counts the handlers that began under the same key.
    """

    number: int
    token: str
    until_ms: int
    key: bytes
    fingerprint: bytes
    at_ms: int
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over a session's turns so far. `cost_usd` counts only turns whose model has a known price."""

    tokens: int = 0
    cost_usd: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class Turn:
    """One finished turn: the caller's message and the reply computed from exactly the turns before it.

    `window_from` is the first turn that the next turn sends to the model. `older_keys` are six-byte hashes of the keys
    of up to RING turns before this one, oldest first. `cost_usd` is None when the model's price is not known.
    """

    number: int
    token: str
    key: bytes
    fingerprint: bytes
    message: Message
    reply: Reply
    cost_usd: Decimal | None
    totals: Totals
    at_ms: int
    window_from: int
    older_keys: bytes

    @property
    def keys(self) -> bytes:
        """The ring that the next turn stores."""
        return (self.older_keys + key_hash(self.key))[-RING * KEY_HASH :]


KEY_HASH = 6
"""Bytes of a key's hash in the ring: a false hit once in 4 trillion keys, and then it is looked up, not believed."""


def key_hash(key: bytes) -> bytes:
    """The ring's form of a key, which is itself the output of a keyed hash."""
    return key[:KEY_HASH]


@dataclass(frozen=True, slots=True)
class Ended:
    """A slot of a session that was deleted."""

    number: int


Slot = Claim | Turn | Ended


@dataclass(frozen=True, slots=True)
class Log:
    """A strongly consistent view of a live session.

    `turns` are the newest ones asked for, oldest first, without a gap up to `count`; `running` is the claim of slot
    `count + 1`, if there is one, whether or not its lease has run out.
    """

    session: Session
    title: str
    count: int
    turns: tuple[Turn, ...]
    running: Claim | None = None

    @property
    def active_ms(self) -> int:
        """When the session was last used; a running turn is use."""
        if self.running:
            return self.running.at_ms
        return self.turns[-1].at_ms if self.turns else self.session.created_ms

    @property
    def idle_expires_ms(self) -> int:
        """When the session ends unless a turn begins before; never later than its absolute end."""
        return min(self.active_ms + self.session.idle_ms, self.session.dies_ms)

    @property
    def totals(self) -> Totals:
        return self.turns[-1].totals if self.turns else Totals()

    def alive_at(self, now_ms: int) -> bool:
        """False from the very millisecond at which the session ends."""
        return now_ms < self.idle_expires_ms

    def running_at(self, now_ms: int) -> bool:
        """Whether a turn is in progress, its lease not yet over."""
        return self.running is not None and self.running.until_ms > now_ms


class SessionStore(Protocol):
    """Where sessions are kept. Every implementation passes the same contract suite.

    Reads are strongly consistent. Every write may be repeated safely, since each is conditional on what was seen.
    All methods raise StoreUnavailable when the store cannot be reached or throttles, retries included.
    """

    def create(self, session: Session, title: str) -> None:
        """Stores a new session; its id is new, so nothing can be there."""

    def read(self, owner: str, session_id: str, now_ms: int, newest: int) -> Log:
        """The session with its `newest` last turns (at least 1; fewer when it has fewer).

        Raises SessionNotFound when there is none for this owner, or it was deleted, or it has expired at `now_ms`,
        whether or not anything was swept; SessionCorrupt when the turns have a gap or cannot be read.
        """

    def turns(self, session: Session, first: int, last: int) -> list[Turn]:
        """The turns `first`..`last`, both included, oldest first; those that are not finished are left out."""

    def claim(self, session: Session, claim: Claim, over: Claim | None) -> Slot | None:
        """Takes the slot if it is empty, or still holds the claim `over` whose lease has run out at `claim.at_ms`.

        Returns what the slot holds afterwards: `claim` itself on success, also when only the answer of an earlier try
        was lost; else what another one put there; None when the slot is empty, because `over` was released.
        """

    def release(self, session: Session, claim: Claim, billed: bool, now_ms: int) -> None:
        """Gives the slot back, if it still holds this claim; does nothing otherwise.

        When the model call may have been billed the claim stays, its lease over, so that attempts stay counted.
        """

    def commit(self, session: Session, turn: Turn) -> Slot | None:
        """Stores the turn if its slot still holds the claim with the turn's token.

        Returns what the slot holds afterwards: the turn itself, what another one put there, or None when it is empty.
        """

    def delete(self, owner: str, session_id: str, now_ms: int) -> bool:
        """Removes all content, and returns only when it is gone and a running turn cannot bring it back.

        Works on whatever exists, so it may be repeated after a crash. False when there was nothing alive to delete.
        """
