"""ask() and take_turn(): the two things that Turnlog does."""

from __future__ import annotations

import math
import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal

from turnlog.clock import Clock
from turnlog.errors import (
    AttemptsExhausted,
    ClaimLost,
    KeyReused,
    ModelError,
    StoreUnavailable,
    TurnInProgress,
)
from turnlog.messages import Message, Reply
from turnlog.model import ChatModel, ModelRequest
from turnlog.prices import cost_usd
from turnlog.sessions import KEY_HASH, Claim, Log, SessionStore, Slot, Totals, Turn, key_hash
from turnlog.window import WindowPolicy, messages, next_from

COMMIT_RESERVE_S = 5.0
"""Kept back from the model's time for the commit and its retries (protocol: remaining time less 5 s)."""

ATTEMPTS = 3
"""How often the model may be called for one key, the handlers that died included."""

_ROUNDS = 4
"""How often a turn looks again after another one moved the session under it."""

_LONGEST_RETRY_AFTER_S = 5


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """A turn to take. `key` and `fingerprint` are keyed hashes of the idempotency key and of the canonical body."""

    owner: str
    session_id: str
    key: bytes
    fingerprint: bytes
    message: Message


@dataclass(frozen=True, slots=True)
class TakenTurn:
    """A stored turn and its session as the turn left it; `replayed` when the turn had been stored before."""

    turn: Turn
    log: Log
    replayed: bool = False

    @property
    def idle_expires_ms(self) -> int:
        """When the session ends unless another turn begins before."""
        session = self.log.session
        return min(max(self.turn.at_ms, self.log.active_ms) + session.idle_ms, session.dies_ms)


def ask(request: ModelRequest, *, model: ChatModel, seconds: float, clock: Clock) -> tuple[Reply, Decimal | None]:
    """One question, one reply and its price; nothing is stored. Raises ModelError."""
    reply = model.reply(request, seconds)
    return reply, cost_usd(reply.model, reply.usage, _day(clock()))


def take_turn(
    request: TurnRequest,
    *,
    store: SessionStore,
    model: ChatModel,
    clock: Clock,
    remaining_s: Callable[[], float],
    policy: WindowPolicy,
) -> TakenTurn:
    """Takes the session's next turn: claims its slot, asks the model, commits, and only then returns.

    A key that has a stored turn gives that turn again, and the model is not asked. `remaining_s` tells how many seconds
    the handler has left; the lease of the claim outlasts it by COMMIT_RESERVE_S.

    Raises SessionNotFound, KeyReused, TurnInProgress, AttemptsExhausted, ClaimLost, SessionCorrupt, StoreUnavailable or
    a ModelError. After each of them but StoreUnavailable nothing is stored; after that one a repeat with the same key
    finds out.
    """
    token = secrets.token_urlsafe(12)
    for _ in range(_ROUNDS):
        now = clock()
        log = store.read(request.owner, request.session_id, now, newest=policy.turns)
        if stored := _stored_turn(store, log, request.key):
            _expect_same_body(stored, request)
            return TakenTurn(stored, log, replayed=True)
        claim, lease_s = _next_claim(log, request, token, now, remaining_s())
        found = _place(store, log, claim, now)
        if isinstance(found, Claim) and found.token == token:
            turn = _answer(store, model, log, claim, request, clock, policy, min(remaining_s(), lease_s))
            return TakenTurn(turn, log)
        if isinstance(found, Turn) and found.key == request.key:
            _expect_same_body(found, request)
            return TakenTurn(found, log, replayed=True)
        if isinstance(found, Claim) and found.until_ms > now:
            raise TurnInProgress(_retry_after_s(found, now))
    raise TurnInProgress(1)


def _stored_turn(store: SessionStore, log: Log, key: bytes) -> Turn | None:
    for turn in reversed(log.turns):
        if turn.key == key:
            return turn
    if not log.turns:
        return None
    # The ring says where to look; only the slot itself proves it.
    ring = log.turns[-1].older_keys
    hashes = [ring[at : at + KEY_HASH] for at in range(0, len(ring), KEY_HASH)]
    for place, found in enumerate(hashes):
        if found == key_hash(key):
            number = log.count - len(hashes) + place
            for turn in store.turns(log.session, number, number):
                if turn.key == key:
                    return turn
    return None


def _next_claim(log: Log, request: TurnRequest, token: str, now: int, remaining_s: float) -> tuple[Claim, float]:
    attempt = 1
    if log.running:
        if log.running.key == request.key:
            _expect_same_body(log.running, request)
            attempt = log.running.attempt + 1
        if log.running_at(now):
            raise TurnInProgress(_retry_after_s(log.running, now))
        if attempt > ATTEMPTS:
            raise AttemptsExhausted
    lease_s = remaining_s + COMMIT_RESERVE_S
    until = now + math.ceil(lease_s * 1000)
    return Claim(log.count + 1, token, until, request.key, request.fingerprint, now, attempt), lease_s


def _place(store: SessionStore, log: Log, claim: Claim, now: int) -> Slot | None:
    try:
        return store.claim(log.session, claim, over=log.running)
    except StoreUnavailable:
        # Whether it was written is unknown, so take it back if it can be done; its lease ends it otherwise.
        store.release(log.session, claim, billed=False, now_ms=now)
        raise


def _answer(
    store: SessionStore,
    model: ChatModel,
    log: Log,
    claim: Claim,
    request: TurnRequest,
    clock: Clock,
    policy: WindowPolicy,
    seconds: float,
) -> Turn:
    settings = log.session.settings
    question = ModelRequest(
        settings.model, messages(log.turns, request.message), settings.max_tokens, settings.system, cached=True
    )
    try:
        reply = model.reply(question, seconds - COMMIT_RESERVE_S)
    except ModelError as error:
        store.release(log.session, claim, error.billed, clock())
        raise
    turn = _turn(log, claim, request, reply, clock(), policy)
    found = store.commit(log.session, turn)
    if isinstance(found, Turn) and found.key == request.key:
        return found  # mine, or that of a handler which overtook this one with the same request
    raise ClaimLost


def _turn(log: Log, claim: Claim, request: TurnRequest, reply: Reply, now: int, policy: WindowPolicy) -> Turn:
    last = log.turns[-1] if log.turns else None
    cost = cost_usd(reply.model, reply.usage, _day(now))
    return Turn(
        number=claim.number,
        token=claim.token,
        key=claim.key,
        fingerprint=claim.fingerprint,
        message=request.message,
        reply=reply,
        cost_usd=cost,
        totals=Totals(log.totals.tokens + reply.usage.tokens, log.totals.cost_usd + (cost or 0)),
        at_ms=now,
        window_from=next_from(claim.number, reply, last.window_from if last else 1, policy),
        older_keys=last.keys if last else b"",
    )


def _expect_same_body(held: Claim | Turn, request: TurnRequest) -> None:
    if held.fingerprint != request.fingerprint:
        raise KeyReused


def _retry_after_s(running: Claim, now: int) -> int:
    left_s = math.ceil((running.until_ms - now) / 1000)
    # Jitter, so that those who were refused together do not come back together.
    return min(left_s, _LONGEST_RETRY_AFTER_S) + random.randint(0, 2)  # noqa: S311 (no secret depends on it)


def _day(now_ms: int) -> date:
    return datetime.fromtimestamp(now_ms / 1000, UTC).date()
