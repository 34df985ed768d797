"""P9 and P10: nobody repeats something for ever, and every failure tells the caller what to do next."""

from __future__ import annotations

from collections.abc import Iterator

from tests.promises.world.world import World
from turnlog.domain.margins import CLOCK_TOLERANCE
from turnlog.errors import (
    AttemptsExhausted,
    ClockBehind,
    ErasureInProgress,
    ItemVersionUnknown,
    KeyReused,
    KeysUnavailable,
    LeaseLost,
    ModelError,
    QuotaExceeded,
    SessionLimitReached,
    SessionNotFound,
    StoreUnavailable,
    StreamOvertaken,
    TurnInProgress,
    TurnNotRunning,
    TurnStopped,
    TurnUnfinished,
)

_CLEAR = (
    QuotaExceeded,
    AttemptsExhausted,
    LeaseLost,
    ErasureInProgress,
    KeyReused,
    KeysUnavailable,
    ModelError,
    SessionLimitReached,
    SessionNotFound,
    StoreUnavailable,
    StreamOvertaken,
    TurnInProgress,
    TurnNotRunning,
    TurnStopped,
    TurnUnfinished,
)


def unclear_errors(world: World) -> Iterator[str]:
    """P9 and P10: finds endless repeats, and errors that tell the caller nothing."""
    if world.schedule.endless:
        yield "P9 somebody repeats something for ever"
    for actor in world.schedule.actors:
        if actor.error:
            yield f"P10 {actor.name} ended with {actor.error!r}"
    for act in world.acts:
        stood_still = act.ended_ms - act.began_ms > CLOCK_TOLERANCE.total_seconds() * 1000
        if isinstance(act.error, ClockBehind) and stood_still:
            continue  # the time that it goes by is that of its beginning
        if isinstance(act.error, ItemVersionUnknown) and world.journal.later_has_come:
            continue
        if act.error and not isinstance(act.error, _CLEAR):
            yield f"P10 {act.process.name} got {act.error!r}, and nothing was damaged"
