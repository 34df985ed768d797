"""run_turn(): one turn, from the look for an earlier reply to the commit, so that no reply is lost or paid twice."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from turnlog.clock import Clock, utc_date
from turnlog.domain.answers import require_answerable
from turnlog.domain.limits import (
    OwnerLimits,
    SessionLimits,
    charges,
    require_message_storable,
    require_room,
    settlement,
)
from turnlog.domain.messages import Message, ModelRequest, Reply
from turnlog.domain.models import require_not_retired
from turnlog.domain.prices import cost_usd
from turnlog.domain.sessions import SessionView
from turnlog.domain.turns import (
    COUNT_BYTES,
    KEY_HASH,
    Lease,
    ModelCall,
    Slot,
    Tombstone,
    Totals,
    Turn,
    busy,
    held_by_later_version,
    key_hash,
)
from turnlog.domain.window import WindowPolicy, messages, next_from
from turnlog.errors import (
    AttemptsExhausted,
    KeyReused,
    LeaseLost,
    ModelError,
    ModelProtocolError,
    SecretUnavailable,
    SessionNotFound,
    StoreUnavailable,
    TurnInProgress,
    TurnlogError,
    TurnNumberTaken,
    TurnTooLarge,
)
from turnlog.ports.chat_model import ChatModel
from turnlog.ports.session_store import TurnStore

COMMIT_RESERVE_S = 5.0
"""Seconds kept back from the model's time for the commit and its retries, or for the release of the slot."""

ATTEMPTS = 3
"""The most calls of the model for one key, those of handlers that died included."""

OLDER_KEYS = 64
"""The number of turns within which a late retry finds its reply."""

KEY_STRIDE = 16
"""The distance between the older keys that a turn remembers: it stores the hashes of the keys 16, 32, 48 and 64 turns
before it, the nearest first, at 24 bytes a turn. So any 16 neighbouring turns together hold all older keys. It must not
change between versions.
"""

OTHER_KEYS = 16
"""The most keys without a turn for which a session remembers how often the model was asked."""

_ROUNDS = 4
"""The most reads of a session that other requests keep changing."""


@dataclass(frozen=True, slots=True)
class TurnPolicy:
    """The limits of every turn. With `reads_cached` the first read may return the session as it was a moment ago.

    That is for a store which can do so more cheaply. Nothing is refused or replayed because of such a view.
    """

    window: WindowPolicy = field(default_factory=WindowPolicy)
    session: SessionLimits = field(default_factory=SessionLimits)
    owner: OwnerLimits = field(default_factory=OwnerLimits)
    reads_cached: bool = False


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """A request for a turn. `key` and `fingerprint` are keyed hashes of the idempotency key and of the canonical body.

    `number` is the turn that the caller expects to take, if it says so; then its key is found however old it is.
    `system` are instructions from this turn on; empty for none.
    """

    owner: str
    session_id: str
    key: bytes
    fingerprint: bytes
    message: Message
    number: int | None = None
    system: str = ""


@dataclass(frozen=True, slots=True)
class TakenTurn:
    """A stored turn and its session as the turn left it; `replayed` when the turn had been stored before."""

    turn: Turn
    view: SessionView
    replayed: bool = False

    @property
    def idle_expires_ms(self) -> int:
        """The time at which the session expires unless another turn begins, as of this turn: a replay says the same."""
        session = self.view.session
        return min(self.turn.at_ms + session.idle_ms, session.expires_ms)


def run_turn(
    request: TurnRequest,
    *,
    store: TurnStore,
    model: ChatModel,
    clock: Clock,
    remaining_s: Callable[[], float],
    answer_s: Callable[[], float] | None = None,
    policy: TurnPolicy,
) -> TakenTurn:
    """Takes the session's next turn: takes a lease of its slot, asks the model, commits, and only then returns.

    A key that has a stored turn returns that turn again, and the model is not asked. `remaining_s` returns the seconds
    that the handler has left; the lease outlasts it by COMMIT_RESERVE_S. `answer_s` returns those until nobody waits
    for the answer any more, which are the same unless it is given: a model that refuses is given up before.

    Raises SessionNotFound, KeyReused, TurnInProgress, TurnNumberTaken, LimitReached, TurnTooLarge, AttemptsExhausted,
    LeaseLost, SessionCorrupt, ItemVersionUnknown, ClockBehind, KeysUnavailable, SecretUnavailable, StoreUnavailable or
    a ModelError. After each of them but StoreUnavailable this handler has stored nothing; after that one a repeat with
    the same key finds out.
    """
    return _Taking(request, store, model, clock, remaining_s, answer_s or remaining_s, policy).take()


def lease_ms(remaining_s: float) -> int:
    """The length of a lease: it outlasts its handler."""
    return math.ceil((remaining_s + COMMIT_RESERVE_S) * 1000)


def first_turn(message: Message, reply: Reply, cost_usd: Decimal | None, at_ms: int, window: WindowPolicy) -> Turn:
    """The turn 1 of a session that goes on from a question. It has no key, because the question was asked without."""
    exchange = (message, reply.message)
    calls = (ModelCall(reply.model, reply.usage, cost_usd),)
    return Turn(
        number=1,
        token=secrets.token_urlsafe(12),
        key=b"",
        fingerprint=b"",
        messages=exchange,
        calls=calls,
        stop_reason=reply.stop_reason,
        totals=Totals().plus(exchange, calls),
        at_ms=at_ms,
        window_from=next_from(1, reply.usage, 1, window),
        older_keys=b"",
    )


@dataclass(frozen=True, slots=True)
class _Taking:
    """One handler's try to take a turn, with all that it needs."""

    request: TurnRequest
    store: TurnStore
    model: ChatModel
    clock: Clock
    remaining_s: Callable[[], float]
    answer_s: Callable[[], float]
    policy: TurnPolicy
    token: str = field(default_factory=lambda: secrets.token_urlsafe(12))

    def take(self) -> TakenTurn:
        """Does run_turn."""
        for consistent in [False] * self.policy.reads_cached + [True] * _ROUNDS:
            now = self.clock()
            look = self._read_consistent(now) if consistent else self._read_cached(now)
            if isinstance(look, TakenTurn):
                return look
            if look is None:
                continue
            view, lease = look
            found = self._acquire(view, lease)
            if isinstance(found, Lease) and found.token == self.token:
                return TakenTurn(self._answer(view, lease), view)
            if isinstance(found, Turn) and found.key == self.request.key:
                return self._replay(view, found)
            if isinstance(found, Lease) and found.lease_expires_ms > now:
                raise busy(found, now)
        raise TurnInProgress(1)

    def _read_consistent(self, now: int, *, consistent: bool = True) -> TakenTurn | tuple[SessionView, Lease]:
        """The turn if it is stored; else the session and the lease to take in it."""
        request = self.request
        newest = max(self.policy.window.turns, KEY_STRIDE)
        view = self.store.read(request.owner, request.session_id, now, newest, consistent=consistent)
        if stored := self._find_stored(view):
            return self._replay(view, stored)
        return view, self._next_lease(view, now)

    def _read_cached(self, now: int) -> tuple[SessionView, Lease] | None:
        """Like `_read_consistent`, from a possibly stale view, which may only be used to try a lease.

        Returns None when a consistent read must decide.
        """
        try:
            look = self._read_consistent(now, consistent=False)
        except StoreUnavailable:
            raise
        except TurnlogError:
            return None
        return None if isinstance(look, TakenTurn) else look

    def _find_stored(self, view: SessionView) -> Turn | None:
        """The turn under the request's key, also before those of the view. Raises TurnNumberTaken."""
        for turn in reversed(view.turns):
            if turn.key == self.request.key:
                return turn
        # Older keys, and the number that the caller expects, are hints; only the turn itself proves its key.
        for number in _numbers_to_check(view, self.request):
            for turn in self.store.turns(view.session, number, number):
                if turn.key == self.request.key:
                    return turn
        if self.request.number not in (None, view.count + 1):
            raise TurnNumberTaken(view.count + 1)
        return None

    def _replay(self, view: SessionView, turn: Turn) -> TakenTurn:
        self._require_same_body(turn)
        return TakenTurn(turn, view, replayed=True)

    def _next_lease(self, view: SessionView, now: int) -> Lease:
        request, attempts = self.request, _attempts(view)
        if view.running:
            if view.running.key == request.key:
                self._require_same_body(view.running)
            if view.running_at(now):
                raise busy(view.running, now)
        if view.unknown_lease:
            raise held_by_later_version(view.unknown_lease, now)
        attempt = attempts.pop(key_hash(request.key), 0) + 1
        if attempt > ATTEMPTS:
            raise AttemptsExhausted
        require_not_retired(view.session.settings.model, utc_date(now))
        require_room(view, self.policy.session, now)
        require_message_storable(request.message, view.session.settings.max_tokens)
        # By the clock of this moment: however long the read took, the lease outlasts the handler.
        until = self.clock() + lease_ms(self.remaining_s())
        taken = charges(view, request.message, self.policy.owner, now)
        return Lease(
            number=view.count + 1,
            token=self.token,
            lease_expires_ms=until,
            key=request.key,
            fingerprint=request.fingerprint,
            at_ms=now,
            attempt=attempt,
            attempt_counts=b"".join(hashed + bytes([count]) for hashed, count in attempts.items())[
                -OTHER_KEYS * COUNT_BYTES :
            ],
            charges=taken,
        )

    def _acquire(self, view: SessionView, lease: Lease) -> Slot | None:
        try:
            return self.store.acquire(view.session, lease, over=view.running)
        except StoreUnavailable:
            # Whether it was written is unknown, so take it back if it can be done; its lease ends it otherwise.
            self.store.release(view.session, lease, billed=False, now_ms=lease.at_ms)
            raise

    def _answer(self, view: SessionView, lease: Lease) -> Turn:
        settings = view.session.settings
        sent = messages(view.turns, self.request.message)
        question = ModelRequest(settings, sent, cached=settings.cache)
        try:
            seconds, retry_s = self.remaining_s() - COMMIT_RESERVE_S, self.answer_s() - COMMIT_RESERVE_S
            reply = self.model.reply(question, seconds, retry_s=retry_s)
            require_answerable(self.request.message, reply)
            turn = self._turn(view, lease, reply)
            found = self.store.commit(view.session, turn, settlement(lease.charges, turn.calls))
        except StoreUnavailable:
            raise  # the commit may have been applied, or may still be
        except Exception as error:
            # Whatever it is, the slot must not stay taken until its lease is over.
            self.store.release(view.session, lease, may_be_billed(error), self.clock())
            if isinstance(error, TurnTooLarge):  # by the reply, since the message was looked at before
                raise ModelProtocolError from error
            raise
        if isinstance(found, Turn) and found.key == self.request.key:
            self._require_same_body(found)
            return found  # mine, or that of a handler which overtook this one with the same request
        if isinstance(found, Tombstone):
            raise SessionNotFound
        raise LeaseLost

    def _turn(self, view: SessionView, lease: Lease, reply: Reply) -> Turn:
        """The turn to commit: the caller's message and the one reply."""
        last, now = view.turns[-1] if view.turns else None, self.clock()
        exchange = (self.request.message, reply.message)
        calls = (ModelCall(reply.model, reply.usage, cost_usd(reply.model, reply.usage, utc_date(now))),)
        return Turn(
            number=lease.number,
            token=lease.token,
            key=lease.key,
            fingerprint=lease.fingerprint,
            messages=exchange,
            calls=calls,
            stop_reason=reply.stop_reason,
            totals=view.totals.plus(exchange, calls),
            at_ms=now,
            window_from=next_from(lease.number, reply.usage, last.window_from if last else 1, self.policy.window),
            older_keys=_older_keys(view),
            attempt_counts=lease.attempt_counts,
        )

    def _require_same_body(self, held: Lease | Turn) -> None:
        if held.fingerprint != self.request.fingerprint:
            raise KeyReused


def _numbers_to_check(view: SessionView, request: TurnRequest) -> Iterator[int]:
    """Numbers of turns before those of the view that may have the request's key."""
    wanted = key_hash(request.key)
    for turn in view.turns:
        for back in range(len(turn.older_keys) // KEY_HASH):
            number = turn.number - KEY_STRIDE * (back + 1)
            if 0 < number < view.turns[0].number and turn.older_keys[back * KEY_HASH :].startswith(wanted):
                yield number
    if request.number is not None and request.number <= view.count:
        yield request.number


def _older_keys(view: SessionView) -> bytes:
    """The hashes of older keys that the next turn remembers: of one turn of the view, and those which that one has."""
    if view.count < KEY_STRIDE:
        return b""
    before = view.turns[-KEY_STRIDE]
    return (key_hash(before.key) + before.older_keys)[: OLDER_KEYS // KEY_STRIDE * KEY_HASH]


def _attempts(view: SessionView) -> dict[bytes, int]:
    """The number of handlers that began under each key without a turn, by the key's hash, the latest last."""
    held = view.running.attempt_counts if view.running else view.turns[-1].attempt_counts if view.turns else b""
    counts = {held[at : at + KEY_HASH]: held[at + KEY_HASH] for at in range(0, len(held), COUNT_BYTES)}
    if view.running and view.running.attempt:
        counts[key_hash(view.running.key)] = view.running.attempt
    return counts


def may_be_billed(error: Exception) -> bool:
    """True if the provider may charge for a call that ended with this error."""
    if isinstance(error, ModelError):
        return error.billed
    return not isinstance(error, SecretUnavailable)
