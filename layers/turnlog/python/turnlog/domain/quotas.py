"""Quotas: charges to the counters of owners, and the counters of one owner as a value."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from decimal import Decimal

from turnlog.domain.margins import GRACE
from turnlog.errors import QuotaExceeded, QuotaTooSmall

_GRACE_MS = int(GRACE.total_seconds() * 1000)


@dataclass(frozen=True, slots=True)
class QuotaCharge:
    """An amount to add to one counter, which must not exceed `limit` in all.

    `counter` names the quota and its period, such as `turns#2026-11-25T14:05`; that period ends at `resets_ms`.
    `owner` is set if the counter belongs to another owner than that of the other charges. A settlement is a charge,
    too: the difference between use and reservation, which may be negative.
    """

    counter: str
    amount: Decimal
    limit: Decimal
    resets_ms: int
    owner: str = ""


@dataclass(frozen=True, slots=True)
class QuotaCharges:
    """Charges that are taken all or not at all, and their owner.

    `owner` need not be a session's owner: anonymous sessions are charged to the address from which they are made.
    """

    owner: str
    charges: tuple[QuotaCharge, ...]

    @property
    def refund(self) -> QuotaCharges:
        """The charges that give these back."""
        return QuotaCharges(self.owner, tuple(replace(charge, amount=-charge.amount) for charge in self.charges))


def exceeded(charge: QuotaCharge, now_ms: int) -> QuotaExceeded:
    """The error to raise for a charge that does not fit: the quota, and seconds until its period ends, at least 1.

    For a charge that is larger than its limit no period's end helps.
    """
    quota = charge.counter.partition("#")[0]
    if charge.amount > charge.limit:
        return QuotaTooSmall(quota, charge.limit, charge.amount)
    return QuotaExceeded(quota, max(1, -(-(charge.resets_ms - now_ms) // 1000)))


def together(charges: Iterable[QuotaCharge]) -> tuple[QuotaCharge, ...]:
    """Returns one charge for each counter, of all that is to be added to it; none for nothing."""
    found: dict[tuple[str, str], QuotaCharge] = {}
    for charge in charges:
        name = charge.owner, charge.counter
        before = found[name].amount if name in found else Decimal(0)
        found[name] = replace(charge, amount=before + charge.amount)
    return tuple(charge for charge in found.values() if charge.amount)


def by_owner(owner: str, charges: Iterable[QuotaCharge]) -> dict[str, list[QuotaCharge]]:
    """The charges by the owner of their counter; `owner` for those that name none."""
    found: dict[str, list[QuotaCharge]] = {}
    for charge in charges:
        found.setdefault(charge.owner or owner, []).append(charge)
    return found


@dataclass
class QuotaCounters:
    """The counters of one owner: for each name the amount used and the end of its period."""

    used: dict[str, tuple[Decimal, int]] = field(default_factory=dict)

    def take(self, charges: Iterable[QuotaCharge], now_ms: int) -> None:
        """Takes all charges or none. Raises QuotaExceeded at the first that does not fit. Forgets old counters."""
        self.forget(now_ms)
        used = dict(self.used)
        for charge in charges:
            _add(used, charge, charge.amount)
            if used[charge.counter][0] > charge.limit:
                raise exceeded(charge, now_ms)
        self.used = used

    def settle(self, charges: Iterable[QuotaCharge]) -> None:
        """Adds the charges, whatever their limits."""
        for charge in charges:
            _add(self.used, charge, charge.amount)

    def give_back(self, charges: Iterable[QuotaCharge]) -> None:
        """Subtracts charges that were taken."""
        for charge in charges:
            _add(self.used, charge, -charge.amount)

    def forget(self, now_ms: int) -> None:
        """Drops counters whose period ended so long ago that no clock still asks for them."""
        self.used = {counter: each for counter, each in self.used.items() if each[1] + _GRACE_MS > now_ms}

    def erase(self, now_ms: int) -> None:
        """Drops counters whose period has ended; the others still limit whoever begins anew."""
        self.used = {counter: each for counter, each in self.used.items() if each[1] > now_ms}


def _add(used: dict[str, tuple[Decimal, int]], charge: QuotaCharge, amount: Decimal) -> None:
    before, _ = used.get(charge.counter, (Decimal(0), 0))
    used[charge.counter] = before + amount, charge.resets_ms
