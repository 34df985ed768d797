"""P1, P10: what the reader of a stream is shown as finished is what is stored, and nothing goes on in vain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.promises.oracle.lineage import Lineage
from tests.promises.world.history import Cancelling, Shown, Taking
from tests.promises.world.world import World
from tests.readers import Events
from turnlog.domain.turns import STOPPED, Turn
from turnlog.errors import TurnStopped

_ENDS = ("message_delta", "message_stop")


def broken_streams(world: World, lineage: Lineage) -> Iterator[str]:
    """P1 and P10: looks at all that readers were shown."""
    for taking in lineage.takings:
        if taking.is_streamed:
            yield from _ends_too_early(world, lineage, taking)
            yield from _pretends(taking)
            yield from _goes_on_in_vain(taking)
    yield from _stopped_by_nobody(world, lineage)


def _ends_too_early(world: World, lineage: Lineage, taking: Taking) -> Iterator[str]:
    """P1: an end is shown once the turn is stored."""
    ends = [shown.at_ms for shown in taking.shown if shown.event.type in _ENDS]
    if not ends:
        return
    stored = [
        version.at_ms
        for at in lineage.addresses
        for version, _ in world.journal.stored(at.pk)
        if version.turn.key == taking.want.key
    ]
    if not stored or min(ends) < min(stored):
        yield f"P1 {taking.process.name} was shown the end of a turn that was not stored"


def _pretends(taking: Taking) -> Iterator[str]:
    """P1: who was shown a turn to its end was shown the one that is stored, and who got an error saw no end."""
    is_whole = taking.leaves_after is None or len(taking.shown) < taking.leaves_after
    if taking.result and is_whole:
        yield from _differs(taking, taking.result.turn)
    elif not taking.result and any(shown.event.type in _ENDS for shown in taking.shown):
        yield f"P10 {taking.process.name} got {taking.error!r} after the end of its stream"
    if isinstance(taking.error, TurnStopped) and any(shown.event.type == "message_start" for shown in taking.shown):
        yield f"P1 {taking.process.name} was stopped, and what it had shown is not stored"


def _differs(taking: Taking, turn: Turn) -> Iterator[str]:
    events = Events(shown.event for shown in taking.shown)
    if [events.types.count(each) for each in ("turnlog.turn", "message_start", *_ENDS)] != [1, 1, 1, 1]:
        yield f"P1 {taking.process.name} was shown {events.types}"
        return
    if events.types[0] != "turnlog.turn" or events.types[-1] != "message_stop":
        yield f"P1 {taking.process.name} was shown a stream that begins or ends otherwise"
    shown, left_out = events.message, {each["index"] for each in events.own("left_out")}
    blocks = [block for index, block in enumerate(shown.message.blocks) if index not in left_out]
    stored = [block for message in turn.messages if message.role == "assistant" for block in message.blocks]
    if blocks != stored:
        yield f"P1 {taking.process.name} was shown another reply than the one that is stored"
    if (shown.stop_reason, shown.usage.fields) != (turn.stop_reason, turn.usage.fields):
        yield f"P1 {taking.process.name} was shown another end than the one that is stored"


def _goes_on_in_vain(taking: Taking) -> Iterator[str]:
    """P10: once its handler knows that nobody wants the rest of a reply, no more than one further piece comes."""
    stopped = [each.at_ms for each in taking.written if each.lease.stop_asked]
    known = [*stopped[:1], *([taking.lost_ms] if taking.lost_ms >= 0 else [])]
    if known and len(_pieces_after(taking.shown, min(known))) > 1:
        yield f"P10 nobody wanted the rest of a reply, and {taking.process.name} went on with it"


def _pieces_after(shown: Sequence[Shown], ms: int) -> list[Shown]:
    return [each for each in shown if each.at_ms > ms and each.event.type == "content_block_delta"]


def _stopped_by_nobody(world: World, lineage: Lineage) -> Iterator[str]:
    """P10: a turn is stored as stopped only if its owner asked for that."""
    asked = {cancelling.token for cancelling in lineage.done(Cancelling)}
    for at in lineage.addresses:
        for version in world.journal.commits(at.pk):
            if version.turn.stop_reason == STOPPED and version.turn.token not in asked:
                yield f"P10 turn {version.number} of {at.id} was stored as stopped, and nobody had asked for that"
