"""The conditions of the session protocol, as pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeGuard

from turnlog.domain.margins import CLOCK_TOLERANCE, GRACE, SWEEP_MARGIN
from turnlog.domain.messages import Message
from turnlog.domain.packing import pack_content, pack_messages, pack_reply, pack_turn
from turnlog.domain.sessions import SessionView
from turnlog.domain.turns import MAX_TURN_BYTES, Lease, ModelCall, Slot, Step, Turn
from turnlog.errors import ClockBehind, ItemUnreadable, SessionNotFound, TurnTooLarge

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
    return held is None if over is None else has_lapsed(held, over, lease.at_ms)


def has_lapsed(held: Slot | None, over: Lease, now_ms: int) -> bool:
    """True if the slot still holds `over` as it was last written, and that has expired."""
    return is_held(held, over.token, over.sequence) and held.lease_expires_ms < now_ms


def can_be_renewed(held: Slot | None, lease: Lease, seen: int) -> bool:
    """True if the slot holds the lease as it was written under the number `seen`.

    If somebody asked it to stop, only a lease that says so itself can be written.
    """
    return is_held(held, lease.token, seen) and (lease.stop_asked or not held.stop_asked)


def is_held(held: Slot | None, token: str, sequence: int | None = None) -> TypeGuard[Lease]:
    """True if the slot holds the lease with this token and, if one is given, this number."""
    return isinstance(held, Lease) and held.token == token and sequence in (None, held.sequence)


def content_bytes(turn: Turn) -> int:
    """Returns the bytes of the turn's texts in UTF-8, before compression."""
    return bytes_of(turn.messages, turn.calls)


def bytes_of(messages: Iterable[Message], calls: Iterable[ModelCall]) -> int:
    """Returns the bytes of these texts in UTF-8, before compression."""
    texts = [message.content for message in messages]
    for call in calls:
        texts += [call.usage.received, call.model, call.id, call.request_id, call.stop_sequence, call.stop_details]
    return sum(len(text.encode()) for text in texts)


def require_turn_storable(turn: Turn) -> None:
    """Raises TurnTooLarge. Deflates only large turns, since that takes 0.1 s or more."""
    if content_bytes(turn) + _FRAME_BYTES > MAX_TURN_BYTES:
        pack_turn(turn)


def require_rest_storable(turn: Turn, message: Sequence[Message], steps: Sequence[Step]) -> None:
    """Raises TurnTooLarge when what the turn has beside these steps packs to more than MAX_TURN_BYTES."""
    stored = len(message) + sum(len(step.messages) for step in steps)
    messages, calls = turn.messages[stored:], turn.calls[len(steps) :]
    if bytes_of(messages, calls) + _FRAME_BYTES > MAX_TURN_BYTES:
        pack_content(messages, calls, turn.window_system)


def require_step_storable(step: Step, message: Sequence[Message]) -> None:
    """Raises TurnTooLarge when what one checkpoint stores packs to more than MAX_TURN_BYTES: reply or results."""
    messages = (step.results,) if step.results else (*message, step.reply)
    calls = () if step.results else (step.call,)
    if bytes_of(messages, calls) + 2 * _FRAME_BYTES <= MAX_TURN_BYTES:
        return
    packed = [pack_messages([step.results])] if step.results else [pack_messages(message), pack_reply(step)]
    if sum(map(len, packed)) > MAX_TURN_BYTES:
        raise TurnTooLarge
