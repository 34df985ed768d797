"""The time, as epoch milliseconds: passed in everywhere, so that tests can hold it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

Clock = Callable[[], int]
"""Gives the present as milliseconds since 1970-01-01T00:00:00Z."""


LAST_MS = 253_402_300_799_999
"""The end of the year 9999, the last time that a date can hold."""


def system_clock() -> int:
    """The machine's clock. Lambda keeps it within a few milliseconds; leases and grace periods allow for minutes."""
    return time.time_ns() // 1_000_000


def rfc3339(epoch_ms: int) -> str:
    """Returns the time as text, in UTC: `2026-11-24T09:30:00.250Z`."""
    moment = datetime.fromtimestamp(epoch_ms // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{epoch_ms % 1000:03d}Z"


def is_time(epoch_ms: int) -> bool:
    """True if a date can hold it, from 1970 on."""
    return 0 <= epoch_ms <= LAST_MS


def utc(epoch_ms: int) -> datetime:
    """Returns the time in UTC, exactly."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=epoch_ms)


def utc_date(epoch_ms: int) -> date:
    """Returns the day in UTC, by which prices and quotas count."""
    return utc(epoch_ms).date()
