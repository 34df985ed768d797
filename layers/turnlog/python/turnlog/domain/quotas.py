"""Quotas: what is charged to an owner's counters, and the counters of one owner as a value."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from decimal import Decimal

from turnlog.domain.expiry import GRACE
from turnlog.errors import QuotaExceeded

_GRACE_MS = int(GRACE.total_seconds() * 1000)


@dataclass(frozen=True, slots=True)
class QuotaCharge:
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
class QuotaCharges:
    """What is charged apart from any turn's slot, and to whom: all of it or nothing.

    `owner` need not be a session's owner: what everybody behind one address creates is charged to that address.
    """

    owner: str
    charges: tuple[QuotaCharge, ...]

    @property
    def refund(self) -> QuotaCharges:
        """What gives it back."""
        return QuotaCharges(self.owner, tuple(replace(charge, amount=-charge.amount) for charge in self.charges))


def by_owner(owner: str, charges: Iterable[QuotaCharge]) -> dict[str, list[QuotaCharge]]:
    """The charges by whose allowance they are of, when `owner` is charged with them."""
    found: dict[str, list[QuotaCharge]] = {}
    for charge in charges:
        found.setdefault(charge.owner or owner, []).append(charge)
    return found


@dataclass
class QuotaCounters:
    """What one owner has used of each allowance, and when the allowance's window of time ends."""

    used: dict[str, tuple[Decimal, int]] = field(default_factory=dict)

    def take(self, charges: Iterable[QuotaCharge], now_ms: int) -> None:
        """All of them, or none: raises AllowanceUsedUp."""
        used = dict(self.used)
        for charge in charges:
            _add(used, charge, charge.amount)
            if used[charge.counter][0] > charge.limit:
                wait_s = -(-(charge.resets_ms - now_ms) // 1000)
                raise QuotaExceeded(charge.counter.partition("#")[0], max(1, wait_s))
        self.used = used

    def settle(self, charges: Iterable[QuotaCharge]) -> None:
        """Adds what was used beyond what was taken, whatever the limit."""
        for charge in charges:
            _add(self.used, charge, charge.amount)

    def give_back(self, charges: Iterable[QuotaCharge]) -> None:
        for charge in charges:
            _add(self.used, charge, -charge.amount)

    def forget(self, now_ms: int) -> None:
        """Drops what no clock that is not far behind can ask for any more."""
        self.used = {counter: each for counter, each in self.used.items() if each[1] + _GRACE_MS > now_ms}

    def erase(self, now_ms: int) -> None:
        """Drops all that no limit holds to any more."""
        self.used = {counter: each for counter, each in self.used.items() if each[1] > now_ms}


def _add(used: dict[str, tuple[Decimal, int]], charge: QuotaCharge, amount: Decimal) -> None:
    before, _ = used.get(charge.counter, (Decimal(0), 0))
    used[charge.counter] = before + amount, charge.resets_ms
