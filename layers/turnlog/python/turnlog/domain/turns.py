"""Turn, Lease, UnknownLease and Tombstone: the values that a slot of a session can hold."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from turnlog.clock import is_time
from turnlog.domain.margins import GRACE
from turnlog.domain.messages import Message, Reply, Usage, total_usage
from turnlog.domain.quotas import QuotaCharge
from turnlog.errors import ItemVersionUnknown, ModelProtocolError, TurnInProgress

MAX_TURN_BYTES = 3_900_000
"""The most bytes of a packed turn: one transaction of DynamoDB takes 4 MB, less the items around the turn."""

MAX_STEPS = 100
"""The most calls of the model in one turn."""

MAX_CONTENT_BYTES = 5_500_000
"""The most bytes of a turn's messages as JSON in UTF-8. One answer of Lambda, of 6 MB, must be able to return them."""

_LONGEST_RETRY_AFTER_S = 5
_GRACE_MS = int(GRACE.total_seconds() * 1000)

KEY_HASH = 6
"""Bytes of an older key's hash: a false hit once in 4 trillion keys, and each hit is checked against its turn."""

COUNT_BYTES = KEY_HASH + 1
"""Bytes of an attempt count: a key's hash and the count."""

_MOST_COUNTED = 255


@dataclass(frozen=True, slots=True)
class Lease:
    """A slot taken by a handler that is asking the model. It holds no content.

    `token` is random for each try and fences the commit. Until `lease_expires_ms` nobody else may take the slot.
    `attempt` counts the handlers that began the same step under the same key, and `attempt_counts` those under keys
    that have no turn so far. `charges` are taken together with the slot, all or nothing; they are those of the call
    that runs.

    Its handler writes it again while the turn goes on: `sequence` is 0 at first and another number at each such write,
    so that a write that comes late changes nothing. `steps` is the number of finished steps that are stored with it,
    and `stop_asked` is true when the owner wants the turn to stop.
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
    sequence: int = 0
    steps: int = 0
    stop_asked: bool = False
    moving_to: str = ""
    """A store's own note: the target of a move that has begun. Its copies must go if the move does not finish."""
    unfinished_move_to: str = ""
    """A store's own note: the target of a move that did not finish. Its copies are being discarded, or are gone."""

    def __post_init__(self) -> None:
        """Raises ValueError for a lease that nobody can have taken: one that lasts for hours, for example."""
        if self.number < 1 or not 0 <= self.attempt <= _MOST_COUNTED or len(self.attempt_counts) % COUNT_BYTES:
            raise ValueError("no such slot, or no such number of attempts")
        if self.sequence < 0 or not 0 <= self.steps <= MAX_STEPS:
            raise ValueError("no such number of steps, or of writes")
        if (
            not is_time(self.at_ms)
            or not is_time(self.lease_expires_ms)
            or self.lease_expires_ms > self.at_ms + _GRACE_MS
        ):
            raise ValueError("no times of a lease")

    @property
    def inherited_attempt_counts(self) -> bytes:
        """Attempt counts that the next lease inherits: `attempt_counts` and this key's own."""
        return self.attempt_counts + (key_hash(self.key) + bytes([self.attempt]) if self.attempt else b"")

    def after_release(self, billed: bool, now_ms: int) -> Lease | None:
        """The lapsed lease that stays, for attempts that may have been billed or for steps; None without any."""
        lapsed_ms = min(self.lease_expires_ms, now_ms - 1)  # a handler may have stood still past its end
        if billed:
            return replace(self, lease_expires_ms=lapsed_ms)
        # Under another token, so that a release which is repeated gives nothing back a second time.
        left = replace(self, token=self.token + "~", lease_expires_ms=lapsed_ms, attempt=self.attempt - 1)
        # One that was written again tells how long the session was in use, and one with steps has content.
        return left if left.attempt or left.attempt_counts or left.sequence or left.steps else None


@dataclass(frozen=True, slots=True)
class UnknownLease:
    """A slot taken by a later version, in a form that this one does not know. Nobody takes it over here.

    Its times are those of a Lease.
    """

    number: int
    lease_expires_ms: int
    at_ms: int

    def __post_init__(self) -> None:
        """Raises ValueError when the times are no dates."""
        if not (is_time(self.at_ms) and is_time(self.lease_expires_ms)):
            raise ValueError("no times of a lease")


def busy(running: Lease | UnknownLease, now_ms: int) -> TurnInProgress:
    """The error to raise for a caller who finds the slot taken."""
    left_s = -(-(running.lease_expires_ms - now_ms) // 1000)
    # Jitter, so that those who were refused together do not come back together.
    return TurnInProgress(max(1, min(left_s, _LONGEST_RETRY_AFTER_S)) + random.randint(0, 2))  # noqa: S311 (no secret)


def held_by_later_version(lease: UnknownLease, now_ms: int) -> TurnInProgress | ItemVersionUnknown:
    """The error to raise for a caller who finds the slot taken by a later version.

    Its handler may finish before the lease ends. After that, only a later version can say what the lease left.
    """
    return busy(lease, now_ms) if lease.lease_expires_ms > now_ms else ItemVersionUnknown()


@dataclass(frozen=True, slots=True)
class ModelCall:
    """One call of the model: the model that answered, what it used and what that cost.

    `cost_usd` is None when the model's price is not known. `id`, `request_id`, `stop_sequence` and `stop_details` are
    those of the Reply.
    """

    model: str
    usage: Usage
    cost_usd: Decimal | None
    id: str = ""
    request_id: str = ""
    stop_sequence: str = ""
    stop_details: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One finished call of a turn that goes on: the model's message and, once its tools have run, their results.

    `number` counts from 1. `results` is a message of the user with a tool_result block for each call of a tool of the
    service; None while they are missing, or when there is nothing to run, as after `pause_turn`.
    """

    number: int
    reply: Message
    call: ModelCall
    results: Message | None = None

    @property
    def messages(self) -> tuple[Message, ...]:
        """The reply and, if there are any, the results."""
        return (self.reply, self.results) if self.results else (self.reply,)

    @property
    def as_reply(self) -> Reply:
        """The reply of the step as the model gave it, but for its stop reason, which nobody asks for."""
        call = self.call
        return Reply(call.model, self.reply.content, "tool_use", call.usage, call.id, call.request_id)


def total_cost(calls: Sequence[ModelCall]) -> Decimal | None:
    """The exact cost of all calls in US dollars; None when that of any is not known."""
    costs = [call.cost_usd for call in calls if call.cost_usd is not None]
    return sum(costs[1:], start=costs[0]) if costs and len(costs) == len(calls) else None


def total_tokens(calls: Sequence[ModelCall]) -> int:
    """All tokens that the calls sent and received."""
    return sum(call.usage.tokens for call in calls)


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over a session's turns so far. `cost_usd` counts only calls of a model with a known price.

    `content_bytes` are those of all messages as JSON text in UTF-8, before any compression.
    """

    tokens: int = 0
    cost_usd: Decimal = Decimal(0)
    content_bytes: int = 0

    def plus(self, messages: Sequence[Message], calls: Sequence[ModelCall]) -> Totals:
        """The totals after a turn of these messages and calls."""
        size = sum(len(message.content.encode()) for message in messages)
        cost = sum((call.cost_usd or Decimal(0) for call in calls), start=self.cost_usd)
        return Totals(self.tokens + total_tokens(calls), cost, self.content_bytes + size)


INTERRUPTED, STOPPED, PAUSED = "interrupted", "stopped", "pause_turn"
"""The stop reasons of a turn that ended between two calls: its handler died and another request went on, its owner
stopped it, or it had as many steps or bytes as a turn may have. The last one is the API's own word for that.
"""

_ENDS_WITH_RESULTS = (INTERRUPTED, STOPPED, PAUSED, "tool_use", "model_context_window_exceeded")


@dataclass(frozen=True, slots=True)
class Turn:
    """One finished turn: the caller's message and all up to the reply at which the model stopped for the caller.

    `messages` are in order: the caller's first, then the model's and those with the results of tools. `calls` has one
    entry for each message of the model, in the same order. The replies were computed from exactly the turns before this
    one. `stop_reason` is that of the last reply, or INTERRUPTED, STOPPED or PAUSED. The last message is the model's. It
    is one with results if the service ended the turn before their reply, or if the model waits for more results from
    the caller (`tool_use`).

    A store may leave out the content of turns that the model is not shown: then `messages` and `calls` are empty.
    `steps` is the number of calls that had been stored as steps before the turn was finished.

    A message of the role `system` follows the caller's when the turn changed the instructions. `window_from` is the
    first turn that the next turn sends to the model, and `window_system` are the instructions that hold before it, if a
    turn that is no longer sent changed them. `older_keys` are six-byte hashes of the keys
    of some turns before this one, and `attempt_counts` counts attempts as on a lease.
    """

    number: int
    token: str
    key: bytes
    fingerprint: bytes
    messages: tuple[Message, ...]
    calls: tuple[ModelCall, ...]
    stop_reason: str
    totals: Totals
    at_ms: int
    window_from: int
    older_keys: bytes
    attempt_counts: bytes = b""
    steps: int = 0
    window_system: str = ""

    def __post_init__(self) -> None:
        """Raises ModelProtocolError without a stop reason, and ValueError when the values are those of no turn."""
        if not self.stop_reason:
            raise ModelProtocolError
        if not (1 <= self.window_from <= self.number and is_time(self.at_ms)):
            raise ValueError("a turn has a time, and its window begins with it or before")
        if self.totals.tokens < 0 or self.totals.cost_usd < 0 or self.totals.content_bytes < 0:
            raise ValueError("sums of what is never negative")
        if len(self.attempt_counts) % COUNT_BYTES:
            raise ValueError("half a count of attempts")
        if not 0 <= self.steps <= MAX_STEPS:
            raise ValueError("no such number of steps")
        if self.is_read:
            self._require_roles()

    def _require_roles(self) -> None:
        roles = [message.role for message in self.messages if message.role != "system"]
        ends = ("assistant", "user") if self.stop_reason in _ENDS_WITH_RESULTS else ("assistant",)
        if roles[:1] != ["user"] or roles[-1] not in ends or not 0 < roles.count("assistant") == len(self.calls):
            raise ValueError("a turn goes from the caller's message to the model's, with a call for each of the latter")

    @property
    def is_read(self) -> bool:
        """True unless the store left out the content."""
        return bool(self.messages or self.calls)

    @property
    def message(self) -> Message:
        """The caller's message, with which the turn began."""
        return next(message for message in self.messages if message.role == "user")

    @property
    def reply(self) -> Reply:
        """The last reply, with the model and the usage of the call that gave it, and the turn's stop reason."""
        last = self.calls[-1]
        content = next(message.content for message in reversed(self.messages) if message.role == "assistant")
        return Reply(
            last.model,
            content,
            self.stop_reason,
            last.usage,
            last.id,
            last.request_id,
            last.stop_sequence,
            last.stop_details,
        )

    @property
    def replies(self) -> tuple[Reply, ...]:
        """All replies of the model, in order. Only the last one has a stop reason of its own: the turn's."""
        said = [message for message in self.messages if message.role == "assistant"]
        earlier = [
            Reply(call.model, message.content, "tool_use", call.usage, call.id, call.request_id)
            for message, call in zip(said[:-1], self.calls[:-1], strict=True)
        ]
        return (*earlier, self.reply)

    @property
    def usage(self) -> Usage:
        """The usage of all calls as one."""
        return total_usage([call.usage for call in self.calls])

    @property
    def cost_usd(self) -> Decimal | None:
        """The exact cost of all calls in US dollars; None when that of any is not known."""
        return total_cost(self.calls)

    def forked(self) -> Turn:
        """The turn as a fork keeps it: without keys, since a key names a turn of one session."""
        return replace(self, key=b"", fingerprint=b"", older_keys=b"", attempt_counts=b"", steps=0)


def key_hash(key: bytes) -> bytes:
    """The form of an older key, which is itself the output of a keyed hash; zeros for none."""
    return key[:KEY_HASH].ljust(KEY_HASH, b"\0")


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A slot of a session that was deleted or moved away."""

    number: int


Slot = Lease | UnknownLease | Turn | Tombstone
