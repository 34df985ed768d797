"""The turn to store: all that was said in it, and what it hands on to the turns after it."""

from __future__ import annotations

from dataclasses import replace

from turnlog.domain.messages import Message
from turnlog.domain.older_keys import older_keys
from turnlog.domain.sessions import SessionView
from turnlog.domain.turns import INTERRUPTED, Lease, ModelCall, Turn
from turnlog.domain.window import WindowPolicy, next_from, system_before
from turnlog.domain.window_start import first_sent
from turnlog.ports.session_store import TurnStore


def turn_of(
    view: SessionView,
    lease: Lease,
    said: tuple[Message, ...],
    calls: tuple[ModelCall, ...],
    stop_reason: str,
    now_ms: int,
    window: WindowPolicy,
    sent_from: int = 1,
) -> Turn:
    """The turn to store in the slot of the lease, after the view. No turn before `sent_from` was sent for it."""
    last = view.turns[-1] if view.turns else None
    start = max(sent_from, first_sent(view.turns, said))
    held = [*(each.messages for each in view.turns if each.number >= start), said]
    window_from = next_from(lease.number, calls[-1].usage, start, window, held)
    turn = Turn(
        number=lease.number,
        token=lease.token,
        key=lease.key,
        fingerprint=lease.fingerprint,
        messages=said,
        calls=calls,
        stop_reason=stop_reason,
        totals=view.totals.plus(said, calls),
        at_ms=now_ms,
        window_from=window_from,
        older_keys=older_keys(view),
        attempt_counts=lease.attempt_counts,
        steps=lease.steps,
    )
    system = system_before(window_from, [*view.turns, turn], last.window_system if last else "")
    return replace(turn, window_system=system)


def keep_interrupted(store: TurnStore, view: SessionView, now_ms: int, window: WindowPolicy) -> bool:
    """Stores the finished steps of a turn whose handler died as a turn, so that another request can go on after it.

    False when there is nothing to keep. The session is to be read again after True: another request may have been
    faster. To be called by whoever has another key.
    """
    lease = view.running
    if lease is None or not lease.steps or view.running_at(now_ms):
        return False
    begun, steps = store.steps(view.session, lease)
    said = (*begun, *(message for step in steps for message in step.messages))
    turn = turn_of(view, lease, said, tuple(step.call for step in steps), INTERRUPTED, now_ms, window)
    store.interrupt(view.session, turn, lease)
    return True
