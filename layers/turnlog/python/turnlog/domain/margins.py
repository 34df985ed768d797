"""The margins around a session's end, and the tolerance for wrong clocks."""

from __future__ import annotations

from datetime import timedelta

GRACE = timedelta(hours=1)
"""The time from a session's end to the TTL of its items: longer than any lease and clock skew."""

SWEEP_MARGIN = timedelta(minutes=15)
"""The time from a session's end to its removal by the sweeper, since a turn may have been accepted before the end."""

CLOCK_TOLERANCE = timedelta(minutes=5)
"""The most by which a clock may be behind the times stored in a session; further behind, it decides nothing."""
