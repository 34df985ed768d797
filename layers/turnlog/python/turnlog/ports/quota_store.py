"""The port to what owners have used of their allowances."""

from __future__ import annotations

from typing import Protocol

from turnlog.domain.quotas import QuotaCharges


class QuotaStore(Protocol):
    """What owners have used of their allowances, for those who have no session to charge it with.

    The counters are those that a SessionStore charges, so that questions and turns share them. Both methods raise
    StoreUnavailable; then it may have been charged, and stays so.
    """

    def charge(self, quota: QuotaCharges, now_ms: int) -> None:
        """Raises AllowanceUsedUp when a charge does not fit; then nothing was charged."""

    def settle(self, quota: QuotaCharges) -> None:
        """Adds what was used beyond what was charged, or takes back what was not, whatever the limit."""
