"""The QuotaStore port: charges that belong to no session."""

from __future__ import annotations

from typing import Protocol

from turnlog.domain.quotas import QuotaCharges


class QuotaStore(Protocol):
    """The counters of owners, for charges that go with no session.

    A SessionStore charges the same counters, so that questions and turns share them. Both methods raise
    StoreUnavailable; then the charges may have been taken, and stay so.
    """

    def charge(self, quota: QuotaCharges, now_ms: int) -> None:
        """Takes all charges. Raises QuotaExceeded when one does not fit; then none was taken."""

    def settle(self, quota: QuotaCharges) -> None:
        """Adds the charges, which may be negative, whatever their limits."""
