"""sweep(): the content of sessions that nobody uses any more is removed."""

from __future__ import annotations

from turnlog.ports.session_store import SessionStore


def sweep(*, store: SessionStore, now_ms: int) -> int:
    """Removes what expired sessions and half-made ones left behind. Returns the number of sessions.

    It may run at any time and beside itself; what one run leaves, the next one takes. Raises StoreUnavailable.
    """
    return store.sweep(now_ms)
