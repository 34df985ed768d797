"""P1 and P2: turns have one order, none is lost or changed, and no two are paid at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tests.fakes import expected_text
from tests.promises.oracle.lineage import Lineage
from tests.promises.world.history import (
    Address,
    ModelCall,
    Reading,
)
from tests.promises.world.world import World
from turnlog.domain.messages import to_json
from turnlog.domain.turns import STOPPED, Totals, Turn
from turnlog.domain.window import messages


def broken_by_a_view(
    world: World, lineage: Lineage, turns: Sequence[Turn], at: Address, before_ms: int
) -> Iterator[str]:
    """P1, P2 and P3: checks all turns of a live session against the replies that were returned before."""
    if [turn.number for turn in turns] != list(range(1, len(turns) + 1)):
        yield f"P2 the turns at {at.id} are numbered {[turn.number for turn in turns]}"
        return
    for turn in turns:
        if not follows(turn, turns[: turn.number - 1]):
            yield f"P2 the reply of turn {turn.number} at {at.id} was not computed from the turns before it"
    for taking, returned in lineage.returned(before_ms):
        kept = turns[returned.number - 1] if returned.number <= len(turns) else None
        if kept is None or essence(kept) != essence(returned):
            yield f"P1 turn {returned.number}, returned to {taking.process.name}, is lost or changed at {at.id}"
    keys = [turn.key for turn in turns if turn.key]
    if len(set(keys)) < len(keys):
        yield f"P3 a key was stored twice at {at.id}"


def broken_by_reads(lineage: Lineage) -> Iterator[str]:
    """P1 and P2: checks the reads that went on while others wrote."""
    for reading in lineage.done(Reading):
        if reading.result:
            yield from broken_by_a_read(lineage, reading)


def broken_by_a_read(lineage: Lineage, reading: Reading) -> Iterator[str]:
    view = reading.result
    assert view
    turns = view.turns
    held = {turn.number: turn for turn in turns}
    # Acts of the same millisecond have no order.
    for taking, returned in lineage.returned(reading.began_ms - 1):
        kept = held.get(returned.number)
        if kept is None or essence(kept) != essence(returned):
            yield f"P1 {reading.process.name} did not see turn {returned.number} that {taking.process.name} was given"
    for turn in turns:
        if not follows(turn, turns[: turn.number - 1]):
            yield f"P2 {reading.process.name} saw turn {turn.number} with a reply to another history"


def broken_order(world: World, lineage: Lineage) -> Iterator[str]:
    """P2: checks each turn at the moment at which it was stored, whatever became of the session."""
    for at in lineage.addresses:
        for version, slots in world.journal.stored(at.pk):
            turn = version.turn
            before = [slots[number].turn for number in range(1, turn.number) if number in slots]
            if len(before) == turn.number - 1:
                if not follows(turn, before):
                    yield f"P2 turn {turn.number} of {at.id} was stored with a reply to another history"
                if turn.totals != (before[-1].totals if before else Totals()).plus(turn.messages, turn.calls):
                    yield f"P2 the totals of turn {turn.number} of {at.id} are not the sum of all calls"
            elif version in world.journal.commits(at.pk) and version.at_ms < int(
                world.journal.headers[at.pk]["dies"]["N"]
            ):
                yield f"P2 turn {turn.number} of {at.id} was stored above a gap"  # which TTL may leave after the end


def paid_at_once(world: World, lineage: Lineage) -> Iterator[str]:
    """P2: no second turn is paid while the first one holds its lease, by any clock."""
    calls: list[ModelCall] = [call for taking in lineage.takings for call in taking.calls]
    for first in calls:
        for second in calls:
            overlap = first.began_ms <= second.began_ms < first.ended_ms
            if first is second or not overlap or first.taking.process.dead:
                continue
            held = second.began_ms + world.config.skew_ms <= first.taking.lease_at(second.began_ms).lease_expires_ms
            if held:
                yield f"P2 {second.taking.process.name} paid the model while {first.taking.process.name} was at it"


def essence(turn: Turn) -> tuple[Any, ...]:
    """Returns all of a turn that must never change. Contents may come back as another text of equal JSON."""
    said = to_json([[message.role, message.blocks] for message in turn.messages])
    used = to_json([[call.model, sorted(call.usage.fields.items())] for call in turn.calls])
    settled = (turn.stop_reason, turn.cost_usd, turn.totals, turn.at_ms, turn.window_from)
    return (turn.number, turn.key, said, used, settled)


def follows(turn: Turn, before: Sequence[Turn]) -> bool:
    """True if each reply was computed from exactly the turns before and what the turn had said until then.

    One that was stopped is as much of that reply as had come.
    """
    replies = [at for at, message in enumerate(turn.messages) if message.role == "assistant"]
    for at in replies:
        said, expected = turn.messages[at].text, expected_text(messages(before, *turn.messages[:at]))
        is_cut = at == replies[-1] and was_cut(turn)
        if not (expected.startswith(said) if is_cut else said == expected):
            return False
    return True


def was_cut(turn: Turn) -> bool:
    """True if its last reply was stopped in the middle: only of such a call the cost is not known."""
    return turn.stop_reason == STOPPED and turn.calls[-1].cost_usd is None
