"""Turn, Claim, Ended: what a slot of a session can hold."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from decimal import Decimal

from turnlog.domain.messages import Message, Reply
from turnlog.domain.quotas import QuotaCharge
from turnlog.errors import TurnInProgress

MAX_TURN_BYTES = 3_900_000
"""A turn's message and reply, packed: what one transaction of DynamoDB takes (4 MB) less the items around them."""


_LONGEST_RETRY_AFTER_S = 5


@dataclass(frozen=True, slots=True)
class Lease:
    """A slot taken by a handler that is asking the model. It holds no content.

    `token` is random for each try and fences the commit; until `until_ms` nobody else may take the slot; `attempt`
    counts the handlers that began under the same key, and `others` those under keys that have no turn so far. `charges`
    are taken together with the slot, all or nothing.
    """

    number: int
    token: str
    lease_expires_ms: int
    key: bytes
    fingerprint: bytes
    at_ms: int
    attempt: int = 1
    attempt_counts: bytes = b""
    charges: tuple[QuotaCharge, ...] = ()
    moving_to: str = ""
    """A store's own note: a move began, and what it has copied to that place so far must go if it does not finish."""
    unfinished_move_to: str = ""
    """A store's own note: a move to that place did not finish, and what it left there goes, or is gone."""

    @property
    def inherited_attempt_counts(self) -> bytes:
        """What whoever takes the slot over has to go on counting from: `others`, and this key's own attempts."""
        return self.attempt_counts + (key_hash(self.key) + bytes([self.attempt]) if self.attempt else b"")

    def after_release(self, billed: bool, now_ms: int) -> Lease | None:
        """What stays of it in the slot when it is given back: the counts of attempts, if any may have been billed."""
        if billed:
            return replace(self, lease_expires_ms=now_ms - 1)
        # Under another token, so that a release which is repeated gives nothing back a second time.
        left = replace(self, token=self.token + "~", lease_expires_ms=now_ms - 1, attempt=self.attempt - 1)
        return left if left.attempt or left.attempt_counts else None


def busy(running: Lease, now_ms: int) -> TurnInProgress:
    """What whoever finds the slot taken is told. Raise it."""
    left_s = -(-(running.lease_expires_ms - now_ms) // 1000)
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
    attempt_counts: bytes = b""

    def forked(self) -> Turn:
        """As a fork keeps it: a key names a turn of one session."""
        return replace(self, key=b"", fingerprint=b"", older_keys=b"", attempt_counts=b"")


KEY_HASH = 6
"""Bytes of an older key's hash: a false hit once in 4 trillion keys, and then it is looked up, not believed."""


def key_hash(key: bytes) -> bytes:
    """The form of an older key, which is itself the output of a keyed hash; zeros for none."""
    return key[:KEY_HASH].ljust(KEY_HASH, b"\0")


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A slot of a session that was deleted or moved away."""

    number: int


Slot = Lease | Turn | Tombstone
