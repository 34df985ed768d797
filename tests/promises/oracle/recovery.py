"""After the faults have stopped: every session goes on or is gone, and in the end nothing is left of any."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.promises.oracle.ends import content_left, has_ended_it
from tests.promises.oracle.lineage import Lineage
from tests.promises.oracle.order import broken_by_a_view
from tests.promises.oracle.steps import stray_pieces
from tests.promises.world.actors import reap
from tests.promises.world.history import Address, Deleting, Moving, Taking
from tests.promises.world.world import ALL_TURNS, LEASE_MS, SESSIONS, World, ttl_s, want
from turnlog.adapters.dynamodb.items import index_key
from turnlog.domain.margins import GRACE, SWEEP_MARGIN
from turnlog.domain.sessions import SessionView
from turnlog.errors import QuotaExceeded, SessionLimitReached, SessionNotFound, TurnInProgress

_SPAN_MS = 15 * 60 * 1000


def broken_afterwards(world: World, found: Sequence[Lineage]) -> Iterator[str]:
    """Checks that every session recovers, and ends the world's sessions on the way."""
    for lineage in found:
        yield from _goes_on(world, lineage)
    for lineage in found:
        yield from _is_deleted(world, lineage)
    yield from _ends(world, found)


def _goes_on(world: World, lineage: Lineage) -> Iterator[str]:
    """P9, P1: exactly one address lives, a further turn proceeds there, and all returned turns are there."""
    living = [at for at in sorted(lineage.addresses, key=lambda at: at.pk) if _living(world, at)]
    if len(living) > 1:
        yield f"P1 the session lives at {len(living)} addresses"
    if not living:
        if not _may_be_gone(world, lineage):
            yield f"P1 the session that began at {lineage.origin.id} is lost"
        return
    taking = _next_turn(world, living[0])
    if taking.succeeded or isinstance(taking.error, SessionLimitReached | QuotaExceeded):
        yield from _is_whole(world, lineage, living[0], goes_on=taking.succeeded)
    elif not isinstance(taking.error, SessionNotFound) or not _may_be_gone(world, lineage):
        yield f"P9 a further turn at {living[0].id} got {taking.error!r}"


def _is_whole(world: World, lineage: Lineage, at: Address, *, goes_on: bool) -> Iterator[str]:
    view = _living(world, at)
    if view is None:
        if not _may_be_gone(world, lineage):
            yield f"P1 {at.id} is gone after a further turn"
        return
    yield from broken_by_a_view(world, lineage, view.turns, at, before_ms=world.schedule.now_ms)
    if world.config.steps and (stray := stray_pieces(world, at)):  # a later version leaves some elsewhere
        yield f"P1 {stray} at {at.id} belong to no turn"
    for other in _cleared(world, lineage, at) if goes_on else ():
        if left := content_left(world, other):
            yield f"P7 a move left {left} at {other.id}"
    yield from _repeats_its_move(world, lineage, at)


def _cleared(world: World, lineage: Lineage, living: Address) -> Iterator[Address]:
    """Yields the addresses that must be empty: those that a finished move left, and those that no move came to.

    A move may have taken effect without being finished. The sweeper clears what it left, or a repeat of the move.
    """
    left = {act.address for act in lineage.acts if isinstance(act, Moving) and act.succeeded}
    for at in sorted(lineage.addresses - {living}, key=lambda at: at.pk):
        if at in left or at.pk not in world.journal.headers:
            yield at


def _living(world: World, at: Address) -> SessionView | None:
    return world.read(at, "after").result


def _next_turn(world: World, at: Address) -> Taking:
    taking = world.take(want("a further turn"), at, "after")
    if isinstance(taking.error, TurnInProgress):
        world.schedule.pause(LEASE_MS + 2 * world.config.skew_ms)
        taking = world.take(want("a further turn"), at, "after")
    return taking


def _may_be_gone(world: World, lineage: Lineage) -> bool:
    """True when it was deleted, or may have been, or has expired, or was never made."""
    if any(isinstance(act, Deleting) for act in lineage.acts):
        return True
    now_ms = world.schedule.now_ms
    ends = [end for at in lineage.addresses for end in world.journal.ends_ms(at.pk, now_ms, now_ms)]
    return not ends or now_ms + 2 * world.config.skew_ms >= max(ends)


def _repeats_its_move(world: World, lineage: Lineage, at: Address) -> Iterator[str]:
    """P3: a repeat under the same key returns the session again."""
    for moving in [act for act in lineage.acts if isinstance(act, Moving) and act.succeeded and act.to == at]:
        again = world.move(moving.address, at, moving.key, "after")
        if again.result != moving.result:
            yield f"P3 a move was repeated and gave {again.error!r}"


def _is_deleted(world: World, lineage: Lineage) -> Iterator[str]:
    """P7: after a delete was answered nothing is left, also at an address to which a move had begun to copy."""
    for at in sorted(lineage.addresses, key=lambda at: at.pk):
        if not any(
            isinstance(act, Deleting) and has_ended_it(world, act) and act.address == at for act in lineage.acts
        ):
            continue
        begun = {act.to for act in lineage.acts if isinstance(act, Moving) and act.address == at}
        copies = sorted((to for to in begun if to.pk not in world.journal.headers), key=lambda to: to.pk)
        for _ in range(2):
            for other in (at, *copies):
                if left := content_left(world, other):
                    yield f"P7 {at.id} was deleted, and {left} is there at {other.id}"
            if world.delete(at, "after").result is not False:
                yield f"P7 {at.id} was deleted, and again"


def _ends(world: World, found: Sequence[Lineage]) -> Iterator[str]:
    """P5: ends all sessions by sweeping or by TTL."""
    addresses = sorted({at for lineage in found for at in lineage.addresses}, key=lambda at: at.pk)
    reaped_first = world.chance.random() < 0.3
    lives = world.config.life_s * 1000 if reaped_first else min(world.config.idle_s, world.config.life_s) * 1000
    world.schedule.pause(lives + 2 * world.config.skew_ms + 1)
    yield from _all_gone(world, addresses)
    if reaped_first:
        yield from _is_reaped(world, addresses)
    else:
        yield from _is_swept(world, addresses)


def _is_reaped(world: World, addresses: Sequence[Address]) -> Iterator[str]:
    """P5: TTL may remove any subset of the items; nobody finds the session, and in the end nothing is left."""
    world.schedule.pause(2 * round(GRACE.total_seconds() * 1000))
    for _ in range(4):
        reap(world, most=3)
        yield from _all_gone(world, addresses)
    reap(world, most=ALL_TURNS)
    if left := [item["sk"]["S"] for item in world.service.tables.items(SESSIONS) if "ttl" in item]:
        yield f"P5 TTL is done, and {left} are left"


def _is_swept(world: World, addresses: Sequence[Address]) -> Iterator[str]:
    """P7: an hour after the end the sweeper has removed all content."""
    world.schedule.pause(round(SWEEP_MARGIN.total_seconds() * 1000) + 2 * _SPAN_MS)
    for _ in range(2):
        world.sweep("after")
        world.schedule.pause(_SPAN_MS)
    for at in addresses:
        if left := content_left(world, at):
            yield f"P7 {at.id} has ended and was swept, and {left} is there"
        key = index_key(at.owner, at.id)
        named = world.service.tables.now(SESSIONS, (key["pk"]["S"], key["sk"]["S"]))
        if named and ttl_s(named) * 1000 > world.schedule.now_ms:
            yield f"P7 {at.id} has ended and was swept, and its owner still has it on the list"


def _all_gone(world: World, addresses: Sequence[Address]) -> Iterator[str]:
    for at in addresses:
        reading, taking = world.read(at, "after the end"), world.take(want("too late"), at, "after the end")
        for act in (reading, taking):
            if not isinstance(act.error, SessionNotFound):
                yield f"P5 {at.id} has ended, and {act.process.name} got {act.error!r}"
