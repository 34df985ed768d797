"""How long things outlive their use, and how far a clock may be off."""

from __future__ import annotations

from datetime import timedelta

GRACE = timedelta(hours=1)
"""How long items outlive their session before TTL may take them: longer than any lease and clock skew."""

SWEEP_MARGIN = timedelta(minutes=15)
"""How long a session that nobody uses stays after its end, since a turn may have been accepted before it."""

CLOCK_TOLERANCE = timedelta(minutes=5)
"""How far a clock may be behind what a session has seen, before nothing is decided by it."""
