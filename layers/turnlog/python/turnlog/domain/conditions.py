"""The conditions of the session protocol, as pure functions."""

from __future__ import annotations

from typing import TypeGuard

from turnlog.domain.margins import CLOCK_TOLERANCE, GRACE, SWEEP_MARGIN
from turnlog.domain.packing import pack_turn, require_packable
from turnlog.domain.sessions import SessionView
from turnlog.domain.turns import MAX_TURN_BYTES, Lease, Slot, Turn
from turnlog.errors import ClockBehind, ItemUnreadable, SessionNotFound

_TOLERANCE_MS = int(CLOCK_TOLERANCE.total_seconds() * 1000)
_GRACE_MS = int(GRACE.total_seconds() * 1000)
_MARGIN_MS = int(SWEEP_MARGIN.total_seconds() * 1000)
_FRAME_BYTES = 100  # more than packing puts around a turn's texts


def alive(view: SessionView, now_ms: int) -> SessionView:
    """Returns the view if its session is alive.

    Raises SessionNotFound, ItemUnreadable when it was used after its end, and ClockBehind when `now_ms` must be wrong.
    """
    if view.active_ms > view.session.expires_ms + _GRACE_MS:
        raise ItemUnreadable
    if now_ms + _TOLERANCE_MS < view.active_ms:
        raise ClockBehind
    if not view.alive_at(now_ms):
        raise SessionNotFound
    return view


def is_due(ended_ms: int, now_ms: int) -> bool:
    """True if a session that ended at `ended_ms` may be swept."""
    return ended_ms + _MARGIN_MS <= now_ms


def can_be_taken(held: Slot | None, lease: Lease, over: Lease | None) -> bool:
    """True if the slot is as the lease expects: empty, or held by `over`, which has expired."""
    if over is None:
        return held is None
    return is_held(held, over.token) and held.lease_expires_ms < lease.at_ms


def is_held(held: Slot | None, token: str) -> TypeGuard[Lease]:
    """True if the slot holds the lease with this token."""
    return isinstance(held, Lease) and held.token == token


def content_bytes(turn: Turn) -> int:
    """Returns the bytes of the turn's texts in UTF-8, before compression."""
    texts = [message.content for message in turn.messages]
    texts += [text for call in turn.calls for text in (call.usage.received, call.model)]
    return sum(len(text.encode()) for text in texts)


def require_turn_storable(turn: Turn) -> None:
    """Raises TurnTooLarge or TurnFormUnsupported. Deflates only large turns, since that takes 0.1 s or more."""
    require_packable(turn)
    if content_bytes(turn) + _FRAME_BYTES > MAX_TURN_BYTES:
        pack_turn(turn)
