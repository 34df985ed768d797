"""P5 and P7: an ended session answers nobody and leaves nothing; P1: a session that is alive is found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.promises.oracle.lineage import Lineage
from tests.promises.simulator.attribute_values import Item
from tests.promises.simulator.tables import STALE_MS
from tests.promises.world.history import (
    Act,
    Address,
    Deleting,
    Erasing,
    Moving,
    Reading,
    Taking,
)
from tests.promises.world.journal import Journal
from tests.promises.world.world import SESSIONS, World, ttl_s
from turnlog.errors import (
    SessionNotFound,
)

_LEFT_OF_AN_ENDED_SLOT = {"pk", "sk", "v", "st", "ttl", "und", "mk", "dst", "tok"}


def answers_after_the_end(world: World, lineage: Lineage) -> Iterator[str]:
    """P5 and P7: an ended session answers nobody, and one that moved answers at its new address alone."""
    ends: list[tuple[int, Address, str]] = []
    for act in lineage.acts:
        if isinstance(act, Deleting) and has_ended_it(world, act):
            ends.append((act.ended_ms, act.address, "P7 it was deleted"))
        if isinstance(act, Moving) and act.succeeded:
            ends.append((act.ended_ms, act.address, "P1 it had moved"))
    for act in lineage.acts:
        if not (isinstance(act, Taking | Reading) and act.result):
            continue
        for ended_ms, at, why in ends:
            if act.address == at and act.began_ms >= ended_ms:
                yield f"{why}, and {act.process.name} was answered"
        possible = _ends_ms(world.journal, act)
        if possible and act.clock_ms >= max(possible):
            yield f"P5 it ended at {max(possible)}, and {act.process.name} was answered at {act.clock_ms}"


def deleted_and_moved(world: World, lineage: Lineage) -> Iterator[str]:
    """P7: a caller who is told that a session is gone can be sure of it, also when it was moved meanwhile."""
    erasers = {act.process.name for act in world.done(Erasing)}  # for those it is enough that their owner lost it
    for act in lineage.done(Deleting):
        versions = world.journal.versions(act.address.pk)
        has_moved = any(version.item and "mk" in version.item for version in versions)
        if act.result and has_moved and act.process.name not in erasers:
            yield f"P7 {act.process.name} was told that {act.address.id} is gone, and it had moved"


def refusals_while_alive(world: World, lineage: Lineage) -> Iterator[str]:
    """P1 and P10: a session that is there is found."""
    for act in lineage.acts:
        if not (isinstance(act, Taking | Reading) and isinstance(act.error, SessionNotFound)):
            continue
        if any(_may_end(other, act.address) and other.began_ms <= act.ended_ms for other in lineage.acts):
            continue
        possible = _ends_ms(world.journal, act)
        if possible and act.ended_clock_ms < min(possible) and _was_there(world, act):
            yield f"P1 {act.process.name} did not find the session, which was alive"


def has_ended_it(world: World, deleting: Deleting) -> bool:
    """True when there was a session to end: a delete that is answered before the creation ends nothing."""
    made_ms = world.journal.made_ms.get(deleting.address.pk)
    return deleting.succeeded and made_ms is not None and made_ms <= deleting.began_ms


def content_left(world: World, at: Address) -> list[str]:
    """Returns the sort keys of a session that hold more than a tombstone, without those that TTL may take by now."""
    now_s = world.schedule.now_ms // 1000
    items = [item for item in world.service.tables.partition(SESSIONS, at.pk) if ttl_s(item) >= now_s]
    return [item["sk"]["S"] for item in items if not _tells_the_end_alone(item)]


def _tells_the_end_alone(item: Item) -> bool:
    return item.get("st") == {"S": "ended"} and set(item) <= _LEFT_OF_AN_ENDED_SLOT


def _may_end(act: Act[Any], at: Address) -> bool:
    return (isinstance(act, Deleting) and act.address == at) or (
        isinstance(act, Moving) and at in (act.address, act.to)
    )


def _was_there(world: World, act: Act[Any]) -> bool:
    """True when its header was stored before the act began."""
    return world.journal.made_ms.get(act.address.pk, 1 << 62) < act.began_ms


def _ends_ms(journal: Journal, act: Act[Any]) -> list[int]:
    return journal.ends_ms(act.address.pk, act.began_ms - STALE_MS, act.ended_ms)
