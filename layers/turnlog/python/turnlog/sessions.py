"""Session, Turn, Claim: what a conversation is made of.

A session is an append-only log. A turn's slot is claimed before the model is paid and filled after; whoever fills slot
n + 1 computed its reply from exactly slots 1..n, because nobody else can.
"""

from __future__ import annotations

import base64
import hashlib
import random
import re
import secrets
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal

from turnlog.errors import TurnInProgress
from turnlog.messages import Message, Reply
from turnlog.sealing import PLAIN, Seal

GRACE = timedelta(hours=1)
"""How long items outlive their session before TTL may take them: longer than any lease and clock skew."""

SWEEP_MARGIN = timedelta(minutes=15)
"""How long a session that nobody uses stays after its end, since a turn may have been accepted before it."""

CLOCK_TOLERANCE = timedelta(minutes=5)
"""How far a clock may be behind what a session has seen, before nothing is decided by it."""

MAX_TURN_BYTES = 3_900_000
"""A turn's message and reply, packed: what one transaction of DynamoDB takes (4 MB) less the items around them."""

_LONGEST_RETRY_AFTER_S = 5

_SESSION_ID = re.compile(r"ses_[A-Za-z0-9_-]{22}")
_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")


def new_session_id() -> str:
    """`ses_` and 22 characters: 128 random bits."""
    return "ses_" + secrets.token_urlsafe(16)


def named_session_id(name: bytes) -> str:
    """The id of the session that a caller named: `name` is a keyed hash of 16 bytes."""
    return "ses_" + base64.urlsafe_b64encode(name).rstrip(b"=").decode()


def is_session_id(text: str) -> bool:
    """Whether the text has the form of an id; any other text can be answered without a look into the store."""
    return _SESSION_ID.fullmatch(text) is not None


def owner_hash(owner: str) -> str:
    """The name under which an owner's things are filed: 43 URL-safe characters, never reversed to the owner.

    It is part of DynamoDB keys and S3 prefixes, so it must not change between versions.
    """
    return base64.urlsafe_b64encode(hashlib.sha256(b"v1|" + owner.encode()).digest()).rstrip(b"=").decode()


def anonymous_owner(secret_sha256: str) -> str:
    """Who holds the secret with this hash, 64 lower-case hexadecimal digits.

    It can be no signed-in caller: those are `iss|sub`, and here is no bar.
    """
    return f"anonymous:{secret_sha256}"


def anonymous_owner_of(secret: str) -> str:
    """As `anonymous_owner`, for the secret itself: the hash is that of its characters as they are sent."""
    return anonymous_owner(hashlib.sha256(secret.encode()).hexdigest())


def is_secret(text: str) -> bool:
    """Whether the text has the form of an anonymous secret: 256 bits as base64url, without padding."""
    return _SECRET.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """What the creator chose for every turn of the session."""

    model: str
    max_tokens: int
    system: str = ""


@dataclass(frozen=True, slots=True)
class Session:
    """The part of a session that never changes. Times are epoch milliseconds; `idle_ms` is a duration.

    `fingerprint` is that of the request that created it, when the creator named it with a key; else empty.
    """

    owner: str
    id: str
    created_ms: int
    dies_ms: int
    idle_ms: int
    settings: SessionSettings
    fingerprint: bytes = b""
    seal: Seal = field(default=PLAIN, compare=False, repr=False)
    """A store's own note: how the content of the session is kept. Only the session that a store returned has it."""

    @property
    def ttl_s(self) -> int:
        """Epoch seconds after which TTL may remove the items, the same for all of them: the end plus GRACE."""
        return -(-self.dies_ms // 1000) + int(GRACE.total_seconds())


@dataclass(frozen=True, slots=True)
class Charge:
    """What a turn takes from an allowance of its owner, which must not exceed `limit` in all.

    `counter` names the allowance and its window of time, such as `turns#2026-11-25T14:05`, and `resets_ms` says when
    that window ends. `owner` is whose allowance it is, if it is not that of who is charged with the rest. A settlement
    is a charge too, of what was used beyond what was reserved, and may be negative.
    """

    counter: str
    amount: Decimal
    limit: Decimal
    resets_ms: int
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Bill:
    """What is charged apart from any turn's slot, and to whom: all of it or nothing.

    `owner` need not be a session's owner: what everybody behind one address creates is charged to that address.
    """

    owner: str
    charges: tuple[Charge, ...]

    @property
    def refund(self) -> Bill:
        """What gives it back."""
        return Bill(self.owner, tuple(replace(charge, amount=-charge.amount) for charge in self.charges))


@dataclass(frozen=True, slots=True)
class Claim:
    """A slot taken by a handler that is asking the model. It holds no content.

    `token` is random for each try and fences the commit; until `until_ms` nobody else may take the slot; `attempt`
    counts the handlers that began under the same key, and `others` those under keys that have no turn so far. `charges`
    are taken together with the slot, all or nothing.
    """

    number: int
    token: str
    until_ms: int
    key: bytes
    fingerprint: bytes
    at_ms: int
    attempt: int = 1
    others: bytes = b""
    charges: tuple[Charge, ...] = ()
    moving_to: str = ""
    """A store's own note: a move began, and what it has copied to that place so far must go if it does not finish."""
    undo: str = ""
    """A store's own note: a move to that place did not finish, and what it left there goes, or is gone."""

    @property
    def counted(self) -> bytes:
        """What whoever takes the slot over has to go on counting from: `others`, and this key's own attempts."""
        return self.others + (key_hash(self.key) + bytes([self.attempt]) if self.attempt else b"")

    def after_release(self, billed: bool, now_ms: int) -> Claim | None:
        """What stays of it in the slot when it is given back: the counts of attempts, if any may have been billed."""
        if billed:
            return replace(self, until_ms=now_ms - 1)
        # Under another token, so that a release which is repeated gives nothing back a second time.
        left = replace(self, token=self.token + "~", until_ms=now_ms - 1, attempt=self.attempt - 1)
        return left if left.attempt or left.others else None


def busy(running: Claim, now_ms: int) -> TurnInProgress:
    """What whoever finds the slot taken is told. Raise it."""
    left_s = -(-(running.until_ms - now_ms) // 1000)
    # Jitter, so that those who were refused together do not come back together.
    return TurnInProgress(max(1, min(left_s, _LONGEST_RETRY_AFTER_S)) + random.randint(0, 2))  # noqa: S311 (no secret)


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over a session's turns so far. `cost_usd` counts only turns whose model has a known price.

    `content_bytes` are those of messages and replies as JSON text in UTF-8, before any compression.
    """

    tokens: int = 0
    cost_usd: Decimal = Decimal(0)
    content_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Turn:
    """One finished turn: the caller's message and the reply computed from exactly the turns before it.

    `window_from` is the first turn that the next turn sends to the model. `older_keys` are six-byte hashes of the keys
    of some turns before this one, and `others` counts attempts as on a claim. `cost_usd` is None when the model's price
    is not known.
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
    others: bytes = b""

    def forked(self) -> Turn:
        """As a fork keeps it: a key names a turn of one session."""
        return replace(self, key=b"", fingerprint=b"", older_keys=b"", others=b"")


KEY_HASH = 6
"""Bytes of an older key's hash: a false hit once in 4 trillion keys, and then it is looked up, not believed."""


def key_hash(key: bytes) -> bytes:
    """The form of an older key, which is itself the output of a keyed hash; zeros for none."""
    return key[:KEY_HASH].ljust(KEY_HASH, b"\0")


@dataclass(frozen=True, slots=True)
class Ended:
    """A slot of a session that was deleted or moved away."""

    number: int


Slot = Claim | Turn | Ended


@dataclass(frozen=True, slots=True)
class Move:
    """A session that is to be another owner's, or to have another id, from one instant on.

    `key` is a keyed hash of the caller's name for the move: a repeat under it finds what the first try did. `token`,
    `at_ms` and `until_ms` are those of a claim, since the move takes the next turn's slot while it copies. `bill` is
    charged in the instant in which the session moves.
    """

    owner: str
    session_id: str
    to_owner: str
    to_id: str
    key: bytes
    token: str
    at_ms: int
    until_ms: int
    bill: Bill | None = None


@dataclass(frozen=True, slots=True)
class Log:
    """A view of a live session.

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
        """When the session was last used; a running turn is use, and so is its creation, by a fork of old turns too."""
        last_ms = self.running.at_ms if self.running else self.turns[-1].at_ms if self.turns else 0
        return max(last_ms, self.session.created_ms)

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
