"""P3: a key has one reply, and the model is called no more often than the protocol allows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from tests.promises.oracle.lineage import Lineage
from tests.promises.oracle.order import essence
from tests.promises.world.history import (
    Creating,
    Taking,
)
from tests.promises.world.world import World
from turnlog.domain.turns import KEY_HASH, Lease, Turn, key_hash
from turnlog.errors import (
    AttemptsExhausted,
    KeyReused,
    StoreUnavailable,
)
from turnlog.usecases.turn_protocol import ATTEMPTS


def conflicting_replies(world: World, lineage: Lineage) -> Iterator[str]:
    """P3: a key has one reply, which is its own, and a second body under it has none."""
    replies: dict[bytes, set[Any]] = defaultdict(set)
    bodies: dict[bytes, set[bytes]] = defaultdict(set)
    for taking in lineage.takings:
        bodies[taking.want.key].add(taking.want.fingerprint)
        if taking.result:
            replies[taking.want.key].add((essence(taking.result.turn), taking.want.fingerprint))
    for key, given in replies.items():
        if len(given) > 1:
            yield f"P3 the key {key.hex()[:6]} got {len(given)} different replies"
    own = {version.turn.token for at in lineage.addresses for version in world.journal.commits(at.pk)}
    for taking in lineage.takings:
        if taking.result and taking.result.turn.key != taking.want.key:
            yield f"P3 {taking.process.name} was given the reply to another key"
        if taking.result and taking.result.turn.token not in own:
            yield f"P3 {taking.process.name} was given the reply to a turn of another session"
        if isinstance(taking.error, KeyReused) and len(bodies[taking.want.key]) < 2:
            yield f"P3 {taking.process.name} was told that its key has another body, which it never had"


def conflicting_creations(lineage: Lineage) -> Iterator[str]:
    """P3: all who create a session under one id get the same one."""
    made = {act.result for act in lineage.acts if isinstance(act, Creating) and act.result}
    if len(made) > 1:
        yield f"P3 {lineage.origin.id} was created {len(made)} times"


def surplus_model_calls(world: World, lineage: Lineage) -> Iterator[str]:
    """P3: one call for a step of a key, and one for each handler that died, lost its answer or outlived its lease."""
    by_key: dict[bytes, list[Taking]] = defaultdict(list)
    for taking in lineage.takings:
        by_key[taking.want.key].append(taking)
    for key, takings in by_key.items():
        for step in sorted({call.step for taking in takings for call in taking.calls}):
            calls = [call for taking in takings for call in taking.calls if call.billed and call.step == step]
            excused = sum(_is_excused(world, taking, step) for taking in takings)
            if len(calls) > 1 + excused:
                yield f"P3 step {step} of {key.hex()[:6]} was called {len(calls)} times, {excused} of them excused"
        for taking in takings:
            tries = sum(bool(other.leases) for other in takings if other.began_ms <= taking.ended_ms)
            if isinstance(taking.error, AttemptsExhausted) and tries < ATTEMPTS:
                yield f"P3 {taking.process.name} was told that its key is used up after {tries} tries"


def calls_above_the_cap(lineage: Lineage) -> Iterator[str]:
    """P3: at most ATTEMPTS calls for a step of a key, even when other keys get turns. A move counts anew."""
    called = [(taking, call.step) for taking in lineage.takings for call in taking.calls if call.billed]
    for (_, key, step), count in Counter((each.address.pk, each.want.key, step) for each, step in called).items():
        if count > ATTEMPTS:
            yield f"P3 the model was called {count} times for step {step} of {key.hex()[:6]}"


def forgotten_attempts(world: World, lineage: Lineage) -> Iterator[str]:
    """P3: the next lease of the slot counts on, and so do the turns after it; but not a move."""
    for at in lineage.addresses:
        held: dict[int, Lease | Turn] = {}
        for version in world.journal.versions(at.pk):
            number, now = version.number, version.slot
            before = held.get(number) or held.get(number - 1)
            held.pop(number, None)
            if not isinstance(now, Lease | Turn):
                continue
            held[number] = now
            if before is None or _moves(before) or _moves(now) or now.token == before.token + "~":
                continue
            counted = _attempts(now)
            for hashed, count in _attempts(before).items():
                if hashed == key_hash(now.key) and (isinstance(now, Turn) or _has_more_steps(now, before)):
                    continue  # a step that is stored begins to count anew
                if counted.get(hashed, 0) < count:
                    yield f"P3 {count} attempts under {hashed.hex()} were forgotten at {at.id}"


def _attempts(slot: Lease | Turn) -> dict[bytes, int]:
    """Returns the counts that the slot knows, by the hashes of the keys."""
    size = KEY_HASH + 1
    counts = {
        slot.attempt_counts[at : at + KEY_HASH]: slot.attempt_counts[at + KEY_HASH]
        for at in range(0, len(slot.attempt_counts), size)
    }
    return counts | {key_hash(slot.key): slot.attempt} if isinstance(slot, Lease) else counts


def _has_more_steps(now: Lease, before: Lease | Turn) -> bool:
    return isinstance(before, Lease) and now.steps > before.steps


def _moves(slot: Lease | Turn) -> bool:
    return isinstance(slot, Lease) and bool(slot.moving_to or slot.unfinished_move_to)


def _is_excused(world: World, taking: Taking, step: int) -> bool:
    """True when its handler called the model for that step, with which it died, lost the answer, could not store it or
    outlived its lease.
    """
    billed = [call for call in taking.calls if call.billed]
    if not billed or billed[-1].step != step:
        return False
    dead = taking.result is None and taking.error is None
    outlived = taking.ended_clock_ms + 2 * world.config.skew_ms >= taking.written[-1].lease.lease_expires_ms
    return dead or outlived or billed[-1].lost or isinstance(taking.error, StoreUnavailable)
