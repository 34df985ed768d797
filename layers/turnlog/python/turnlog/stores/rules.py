"""What every store that keeps whole values decides alike: the port's conditions as pure functions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeGuard

from turnlog.errors import AllowanceUsedUp, ClockBehind, SessionNotFound
from turnlog.packing import pack_turn
from turnlog.sessions import CLOCK_TOLERANCE, GRACE, MAX_TURN_BYTES, SWEEP_MARGIN, Charge, Claim, Log, Slot, Turn

_TOLERANCE_MS = int(CLOCK_TOLERANCE.total_seconds() * 1000)
_MARGIN_MS = int(SWEEP_MARGIN.total_seconds() * 1000)
_GRACE_MS = int(GRACE.total_seconds() * 1000)
_FRAME_BYTES = 100  # more than packing puts around a turn's texts


def alive(log: Log, now_ms: int) -> Log:
    """The view, if its session is alive. Raises SessionNotFound, or ClockBehind when `now_ms` cannot be right."""
    if now_ms + _TOLERANCE_MS < log.active_ms:
        raise ClockBehind
    if not log.alive_at(now_ms):
        raise SessionNotFound
    return log


def is_due(ended_ms: int, now_ms: int) -> bool:
    """Whether a session that ended at `ended_ms` may be swept."""
    return ended_ms + _MARGIN_MS <= now_ms


def can_be_taken(held: Slot | None, claim: Claim, over: Claim | None) -> bool:
    """Whether the slot is as the claim expects: empty, or held by `over`, whose lease has run out."""
    if over is None:
        return held is None
    return is_held(held, over.token) and held.until_ms < claim.at_ms


def is_held(held: Slot | None, token: str) -> TypeGuard[Claim]:
    """Whether the slot holds the claim with this token."""
    return isinstance(held, Claim) and held.token == token


def content_bytes(turn: Turn) -> int:
    """Of the turn's texts in UTF-8, before compression."""
    reply = turn.reply
    return sum(len(text.encode()) for text in (turn.message.content, reply.content, reply.usage.received, reply.model))


def expect_storable(turn: Turn) -> None:
    """Raises TurnTooLarge. Deflates only what might be too large, which takes tenths of a second."""
    if content_bytes(turn) + _FRAME_BYTES > MAX_TURN_BYTES:
        pack_turn(turn)


def by_owner(owner: str, charges: Iterable[Charge]) -> dict[str, list[Charge]]:
    """The charges by whose allowance they are of, when `owner` is charged with them."""
    found: dict[str, list[Charge]] = {}
    for charge in charges:
        found.setdefault(charge.owner or owner, []).append(charge)
    return found


@dataclass
class Allowances:
    """What one owner has used of each allowance, and when the allowance's window of time ends."""

    used: dict[str, tuple[Decimal, int]] = field(default_factory=dict)

    def take(self, charges: Iterable[Charge], now_ms: int) -> None:
        """All of them, or none: raises AllowanceUsedUp."""
        used = dict(self.used)
        for charge in charges:
            _add(used, charge, charge.amount)
            if used[charge.counter][0] > charge.limit:
                wait_s = -(-(charge.resets_ms - now_ms) // 1000)
                raise AllowanceUsedUp(charge.counter.partition("#")[0], max(1, wait_s))
        self.used = used

    def settle(self, charges: Iterable[Charge]) -> None:
        """Adds what was used beyond what was taken, whatever the limit."""
        for charge in charges:
            _add(self.used, charge, charge.amount)

    def give_back(self, charges: Iterable[Charge]) -> None:
        for charge in charges:
            _add(self.used, charge, -charge.amount)

    def forget(self, now_ms: int) -> None:
        """Drops what no clock that is not far behind can ask for any more."""
        self.used = {counter: each for counter, each in self.used.items() if each[1] + _GRACE_MS > now_ms}

    def erase(self, now_ms: int) -> None:
        """Drops all that no limit holds to any more."""
        self.used = {counter: each for counter, each in self.used.items() if each[1] > now_ms}


def _add(used: dict[str, tuple[Decimal, int]], charge: Charge, amount: Decimal) -> None:
    before, _ = used.get(charge.counter, (Decimal(0), 0))
    used[charge.counter] = before + amount, charge.resets_ms
