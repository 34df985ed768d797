"""The promises of design.md, each as a check of what a run did: every sentence that comes back is a promise broken."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

from tests.fakes import expected_text
from tests.promises.oracle.lineage import Family
from tests.promises.simulator.attribute_values import Item
from tests.promises.simulator.tables import STALE_MS, Key
from tests.promises.world.history import (
    Act,
    Address,
    Creating,
    Deleting,
    Erasing,
    Forking,
    ModelCall,
    Moving,
    Reading,
    Taking,
)
from tests.promises.world.journal import Journal
from tests.promises.world.world import KEYS, SESSIONS, World, ttl_s
from turnlog.adapters.dynamodb.items import owner_partition
from turnlog.domain.expiry import CLOCK_TOLERANCE
from turnlog.domain.messages import to_json
from turnlog.domain.turns import KEY_HASH, Lease, Tombstone, Turn, key_hash
from turnlog.domain.window import messages
from turnlog.errors import (
    AttemptsExhausted,
    ClockBehind,
    ErasureInProgress,
    KeyReused,
    KeysUnavailable,
    LeaseLost,
    ModelError,
    QuotaExceeded,
    SessionLimitReached,
    SessionNotFound,
    StoreUnavailable,
    TurnInProgress,
)
from turnlog.usecases.take_turn import ATTEMPTS

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
    TurnInProgress,
)
_LEFT_OF_AN_ENDED_SLOT = {"pk", "sk", "v", "st", "ttl", "und", "mk", "dst", "tok"}


def broken_by_a_run(world: World, found: Sequence[Family]) -> Iterator[str]:
    """What can be told from what was asked and answered."""
    yield from _errors(world)
    yield from _counters(world, found)
    yield from _sealed(world)
    for family in found:
        yield from _order(world, family)
        yield from _lost_in_between(family)
        yield from _same_key(world, family)
        yield from _same_session(family)
        yield from _model_calls(world, family)
        yield from _capped(family)
        yield from _forgotten(world, family)
        yield from _at_once(world, family)
        yield from _after_the_end(world, family)
        yield from _answered_and_alive_elsewhere(world, family)
        yield from _refused_while_alive(world, family)


def broken_by_a_log(world: World, family: Family, turns: Sequence[Turn], at: Address, before_ms: int) -> Iterator[str]:
    """What can be told from a live session's turns: P1 and P2."""
    if [turn.number for turn in turns] != list(range(1, len(turns) + 1)):
        yield f"P2 the turns at {at.id} are numbered {[turn.number for turn in turns]}"
        return
    for turn in turns:
        if turn.reply.text != expected_text(messages(turns[: turn.number - 1], turn.message)):
            yield f"P2 the reply of turn {turn.number} at {at.id} was not computed from the turns before it"
    for taking, returned in family.returned(before_ms):
        kept = turns[returned.number - 1] if returned.number <= len(turns) else None
        if kept is None or _essence(kept) != _essence(returned):
            yield f"P1 turn {returned.number}, returned to {taking.process.name}, is lost or changed at {at.id}"
    keys = [turn.key for turn in turns if turn.key]
    if len(set(keys)) < len(keys):
        yield f"P3 a key was stored twice at {at.id}"


def content_left(world: World, at: Address) -> list[str]:
    """Which items of a session hold more than that it has ended. Those that TTL may take by now it may take at last."""
    now_s = world.schedule.now_ms // 1000
    items = [item for item in world.service.tables.partition(SESSIONS, at.pk) if ttl_s(item) >= now_s]
    return [item["sk"]["S"] for item in items if not _tells_the_end_alone(item)]


def _tells_the_end_alone(item: Item) -> bool:
    return item.get("st") == {"S": "ended"} and set(item) <= _LEFT_OF_AN_ENDED_SLOT


def _essence(turn: Turn) -> tuple[Any, ...]:
    """All of it that must never change. Contents may come back as another text of equal JSON."""
    said = to_json([turn.message.blocks, turn.reply.message.blocks, sorted(turn.reply.usage.fields.items())])
    settled = (turn.reply.model, turn.reply.stop_reason, turn.cost_usd, turn.totals, turn.at_ms, turn.window_from)
    return (turn.number, turn.key, said, settled)


def _errors(world: World) -> Iterator[str]:
    """P10: whatever fails, the error is one that tells the caller what to do."""
    if world.schedule.endless:
        yield "P9 somebody repeats something for ever"
    for actor in world.schedule.actors:
        if actor.error:
            yield f"P10 {actor.name} ended with {actor.error!r}"
    for act in world.acts:
        stood_still = act.ended_ms - act.began_ms > CLOCK_TOLERANCE.total_seconds() * 1000
        if isinstance(act.error, ClockBehind) and stood_still:
            continue  # the time that it goes by is that of its beginning
        if act.error and not isinstance(act.error, _CLEAR):
            yield f"P10 {act.process.name} got {act.error!r}, and nothing was damaged"


def _counters(world: World, found: Sequence[Family]) -> Iterator[str]:
    """P8: what is charged never exceeds the limit, and never falls short of what was used."""
    for sentence in world.journal.overdrawn:
        yield f"P8 {sentence}"
    used: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for at in (at for family in found for at in family.addresses):
        for version in world.journal.commits(at.pk):
            used[at.owner, "turns"] += 1
            used[at.owner, "tokens"] += version.turn.reply.usage.tokens
    for (owner, kind), amount in used.items():
        charged = [n for key, n in world.journal.charged.items() if _counts(key, owner, kind)]
        if kind in world.mood.quotas and sum(charged) < amount:
            yield f"P8 {owner} used {amount} {kind} and was charged {sum(charged)}"
    if "sessions" in world.mood.quotas:
        yield from _sessions_made(world, {at for family in found for at in family.addresses})


def _sessions_made(world: World, addresses: set[Address]) -> Iterator[str]:
    """P8: what was made, or moved there, was charged once, and nothing else but a fork that was begun."""
    made = Counter(at.owner for at in addresses if at.pk in world.journal.made_ms)
    begun = Counter(act.child.owner for act in world.done(Forking))
    for owner in {at.owner for at in addresses}:
        charged = sum(n for key, n in world.journal.charged.items() if _counts(key, owner, "sessions"))
        if not made[owner] <= charged <= made[owner] + begun[owner]:
            yield f"P8 {made[owner]} sessions were made for {owner}, and {charged} were charged"


def _sealed(world: World) -> Iterator[str]:
    """P6 and P7: content is never in the clear, and the keys of an owner that was erased are gone."""
    yield from world.journal.unsealed
    for act in world.acts:
        if isinstance(act, Erasing) and act.succeeded:
            for key in act.keys:
                item = world.service.tables.now(KEYS, key)
                if item is None or "key" in item:
                    yield f"P7 {act.process.name} erased {act.address.owner}, and its key {key[1]} is there"


def _counts(key: Key, owner: str, kind: str) -> bool:
    return key[0] == owner_partition(owner) and key[1].startswith(kind + "#")


def _order(world: World, family: Family) -> Iterator[str]:
    """P2, for each turn at the moment at which it was stored, whatever became of the session."""
    for at in family.addresses:
        for version, slots in world.journal.stored(at.pk):
            turn = version.turn
            before = [slots[number].turn for number in range(1, turn.number) if number in slots]
            if len(before) == turn.number - 1:
                if turn.reply.text != expected_text(messages(before, turn.message)):
                    yield f"P2 turn {turn.number} of {at.id} was stored with a reply to another history"
            elif version in world.journal.commits(at.pk) and version.at_ms < int(
                world.journal.headers[at.pk]["dies"]["N"]
            ):
                yield f"P2 turn {turn.number} of {at.id} was stored above a gap"  # which TTL may leave after the end


def _lost_in_between(family: Family) -> Iterator[str]:
    """P1 and P2 for whoever reads while others write."""
    for reading in family.done(Reading):
        if reading.result:
            yield from broken_by_a_log_read(family, reading)


def broken_by_a_log_read(family: Family, reading: Reading) -> Iterator[str]:
    view = reading.result
    assert view
    turns = view.turns
    held = {turn.number: turn for turn in turns}
    # Of what happened in the same millisecond nobody can say which was first.
    for taking, returned in family.returned(reading.began_ms - 1):
        kept = held.get(returned.number)
        if kept is None or _essence(kept) != _essence(returned):
            yield f"P1 {reading.process.name} did not see turn {returned.number} that {taking.process.name} was given"
    for turn in turns:
        if turn.reply.text != expected_text(messages(turns[: turn.number - 1], turn.message)):
            yield f"P2 {reading.process.name} saw turn {turn.number} with a reply to another history"


def _same_key(world: World, family: Family) -> Iterator[str]:
    """P3: a key has one reply, which is its own, and a second body under it has none."""
    replies: dict[bytes, set[Any]] = defaultdict(set)
    bodies: dict[bytes, set[bytes]] = defaultdict(set)
    for taking in family.takings:
        bodies[taking.want.key].add(taking.want.fingerprint)
        if taking.result:
            replies[taking.want.key].add((_essence(taking.result.turn), taking.want.fingerprint))
    for key, given in replies.items():
        if len(given) > 1:
            yield f"P3 the key {key.hex()[:6]} got {len(given)} different replies"
    own = {version.turn.token for at in family.addresses for version in world.journal.commits(at.pk)}
    for taking in family.takings:
        if taking.result and taking.result.turn.key != taking.want.key:
            yield f"P3 {taking.process.name} was given the reply to another key"
        if taking.result and taking.result.turn.token not in own:
            yield f"P3 {taking.process.name} was given the reply to a turn of another session"
        if isinstance(taking.error, KeyReused) and len(bodies[taking.want.key]) < 2:
            yield f"P3 {taking.process.name} was told that its key has another body, which it never had"


def _same_session(family: Family) -> Iterator[str]:
    """P3: all who create a session under one id get the same one."""
    made = {act.result for act in family.acts if isinstance(act, Creating) and act.result}
    if len(made) > 1:
        yield f"P3 {family.origin.id} was created {len(made)} times"


def _model_calls(world: World, family: Family) -> Iterator[str]:
    """P3: one call for a key, and one for each handler that died, lost its answer or outlived its lease."""
    by_key: dict[bytes, list[Taking]] = defaultdict(list)
    for taking in family.takings:
        by_key[taking.want.key].append(taking)
    for key, takings in by_key.items():
        calls = [call for taking in takings for call in taking.calls if call.billed]
        excused = sum(_is_excused(world, taking) for taking in takings)
        if len(calls) > 1 + excused:
            yield f"P3 the model was called {len(calls)} times for {key.hex()[:6]}, {excused} of them excused"
        for taking in takings:
            tries = sum(bool(other.claims) for other in takings if other.began_ms <= taking.ended_ms)
            if isinstance(taking.error, AttemptsExhausted) and tries < ATTEMPTS:
                yield f"P3 {taking.process.name} was told that its key is used up after {tries} tries"


def _capped(family: Family) -> Iterator[str]:
    """P3: the model is called for a key no more than so often, whoever else gets a turn. A move counts anew."""
    calls = [call for taking in family.takings for call in taking.calls if call.billed]
    for (_, key), count in Counter((call.address.pk, call.want.key) for call in calls).items():
        if count > ATTEMPTS:
            yield f"P3 the model was called {count} times for {key.hex()[:6]}"


def _forgotten(world: World, family: Family) -> Iterator[str]:
    """P3: whoever takes a claim over counts on, and so do the turns after it; but not a move."""
    for at in family.addresses:
        held: dict[int, Lease | Turn] = {}
        for version in world.journal.versions(at.pk):
            number, now = version.number, version.slot
            before = held.get(number) or held.get(number - 1)
            held.pop(number, None)
            if now is None or isinstance(now, Tombstone):
                continue
            held[number] = now
            if before is None or _moves(before) or _moves(now) or now.token == before.token + "~":
                continue
            counted = _attempts(now)
            for hashed, count in _attempts(before).items():
                if counted.get(hashed, 0) < count and not (isinstance(now, Turn) and key_hash(now.key) == hashed):
                    yield f"P3 {count} attempts under {hashed.hex()} were forgotten at {at.id}"


def _attempts(slot: Lease | Turn) -> dict[bytes, int]:
    """How many it knows of, by the hashes of the keys."""
    size = KEY_HASH + 1
    counts = {
        slot.attempt_counts[at : at + KEY_HASH]: slot.attempt_counts[at + KEY_HASH]
        for at in range(0, len(slot.attempt_counts), size)
    }
    return counts | {key_hash(slot.key): slot.attempt} if isinstance(slot, Lease) else counts


def _moves(slot: Lease | Turn) -> bool:
    return isinstance(slot, Lease) and bool(slot.moving_to or slot.undo)


def _is_excused(world: World, taking: Taking) -> bool:
    """Whether its handler called the model and died, lost the answer, could not store it or outlived its lease."""
    billed = [call for call in taking.calls if call.billed]
    if not billed:
        return False
    dead = taking.result is None and taking.error is None
    outlived = taking.ended_clock_ms + 2 * world.mood.skew_ms >= billed[-1].lease.lease_expires_ms
    return dead or outlived or billed[-1].lost or isinstance(taking.error, StoreUnavailable)


def _at_once(world: World, family: Family) -> Iterator[str]:
    """P2: no second turn is paid while the first one holds its lease, whichever clock one believes."""
    calls: list[ModelCall] = [call for taking in family.takings for call in taking.calls]
    for first in calls:
        for second in calls:
            overlap = first.began_ms <= second.began_ms < first.ended_ms
            held = second.began_ms + world.mood.skew_ms <= first.lease.lease_expires_ms
            if first is not second and overlap and held and not first.process.dead:
                yield f"P2 {second.process.name} paid the model while {first.process.name} was at it"


def _after_the_end(world: World, family: Family) -> Iterator[str]:
    """P5 and P7: what has ended answers nobody, and what has moved answers at its new address alone."""
    ends: list[tuple[int, Address, str]] = []
    for act in family.acts:
        if isinstance(act, Deleting) and has_ended_it(world, act):
            ends.append((act.ended_ms, act.address, "P7 it was deleted"))
        if isinstance(act, Moving) and act.succeeded:
            ends.append((act.ended_ms, act.address, "P1 it had moved"))
    for act in family.acts:
        if not (isinstance(act, Taking | Reading) and act.result):
            continue
        for ended_ms, at, why in ends:
            if act.address == at and act.began_ms >= ended_ms:
                yield f"{why}, and {act.process.name} was answered"
        possible = _ends_ms(world.journal, act)
        if possible and act.clock_ms >= max(possible):
            yield f"P5 it ended at {max(possible)}, and {act.process.name} was answered at {act.clock_ms}"


def _answered_and_alive_elsewhere(world: World, family: Family) -> Iterator[str]:
    """P7: who is told that a session is gone can be sure of it, also when it was moved meanwhile."""
    erasers = {act.process.name for act in world.done(Erasing)}  # for those it is enough that their owner lost it
    for act in family.done(Deleting):
        versions = world.journal.versions(act.address.pk)
        has_moved = any(version.item and "mk" in version.item for version in versions)
        if act.result and has_moved and act.process.name not in erasers:
            yield f"P7 {act.process.name} was told that {act.address.id} is gone, and it had moved"


def has_ended_it(world: World, deleting: Deleting) -> bool:
    """Whether there was something to end: a delete that is answered before the creation ends nothing."""
    made_ms = world.journal.made_ms.get(deleting.address.pk)
    return deleting.succeeded and made_ms is not None and made_ms <= deleting.began_ms


def _refused_while_alive(world: World, family: Family) -> Iterator[str]:
    """P1 and P10: a session that is there is found."""
    for act in family.acts:
        if not (isinstance(act, Taking | Reading) and isinstance(act.error, SessionNotFound)):
            continue
        if any(_may_end(other, act.address) and other.began_ms <= act.ended_ms for other in family.acts):
            continue
        possible = _ends_ms(world.journal, act)
        if possible and act.ended_clock_ms < min(possible) and _was_there(world, act):
            yield f"P1 {act.process.name} did not find the session, which was alive"


def _may_end(act: Act[Any], at: Address) -> bool:
    return (isinstance(act, Deleting) and act.address == at) or (
        isinstance(act, Moving) and at in (act.address, act.to)
    )


def _was_there(world: World, act: Act[Any]) -> bool:
    """Whether its header was stored before it was asked for."""
    return world.journal.made_ms.get(act.address.pk, 1 << 62) < act.began_ms


def _ends_ms(journal: Journal, act: Act[Any]) -> list[int]:
    return journal.ends_ms(act.address.pk, act.began_ms - STALE_MS, act.ended_ms)
