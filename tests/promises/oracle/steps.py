"""P1, P2, P3, P5 and P10: steps that were stored are kept and never paid again, and a turn that runs is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from tests.promises.oracle.lineage import Lineage
from tests.promises.world.history import Acknowledged, Address, Cancelling, Deleting, Moving, Reading, Taking
from tests.promises.world.journal import Version
from tests.promises.world.world import SESSIONS, World
from turnlog.adapters.dynamodb.items import OWN, kept_names, piece_sk
from turnlog.domain.tools import calls_in
from turnlog.domain.turns import INTERRUPTED, STOPPED, Lease, Step, Tombstone, Turn
from turnlog.errors import LeaseLost, SessionNotFound, StreamOvertaken
from turnlog.usecases.held_lease import LEASE_S, MARGIN_S
from turnlog.usecases.renewal import RENEW_EVERY_S

_SPARE_MS = round((LEASE_S - RENEW_EVERY_S - MARGIN_S) * 1000)
"""By which clocks may be apart, so that a lease which is renewed in time is alive by all of them."""


def lost_steps(world: World, lineage: Lineage) -> Iterator[str]:
    """P1: what a slot has of a turn stays in it, under its key, until the session is deleted."""
    for at in lineage.addresses:
        for before, after in _changes(world, at):
            held, now = before.slot, after.slot
            if not isinstance(held, Lease) or not held.steps or isinstance(now, Tombstone):
                continue
            kept = now.steps if isinstance(now, Lease | Turn) and now.key == held.key else 0
            if kept < held.steps and not _is_past_its_end(world, at, after):
                yield f"P1 {held.steps - kept} steps of turn {held.number} of {at.id} are lost"


def changed_steps(world: World, lineage: Lineage) -> Iterator[str]:
    """P1: the turn has each step that was acknowledged, with its results, as it was."""
    acknowledged = [
        (taking, each, each.step) for taking in lineage.takings for each in taking.written if each.step is not None
    ]
    for at in lineage.addresses:
        turns = world.journal.last_stored(at.pk)
        for taking, written, step in acknowledged:
            turn = turns.get(written.lease.number)
            if taking.address != at or turn is None or turn.key != written.lease.key:
                continue
            if not _has(turn, step):
                yield f"P1 step {step.number} of turn {turn.number} of {at.id} is not the one that was acknowledged"


def _has(turn: Turn, step: Step) -> bool:
    replies = [index for index, message in enumerate(turn.messages) if message.role == "assistant"]
    begin = replies[step.number - 1] if step.number <= len(replies) else len(turn.messages)
    said = turn.messages[begin : begin + len(step.messages)]
    return [message.blocks for message in said] == [message.blocks for message in step.messages]


def repeated_steps(world: World, lineage: Lineage) -> Iterator[str]:
    """P3: after a step was acknowledged nobody asks the model for it again, and nobody runs its tools after its results
    were.
    """
    for taking in lineage.takings:
        for written in taking.written:
            if written.step is None:
                continue
            for other in lineage.takings:
                if (other.address, other.want.key) != (taking.address, taking.want.key):
                    continue
                yield from _repeated(world, written, written.step, other)


def _repeated(world: World, written: Acknowledged, step: Step, other: Taking) -> Iterator[str]:
    done = [call for call in other.calls if (call.number, call.step) == (written.lease.number, step.number)]
    for call in done:
        if call.began_ms > written.at_ms and _holds_at(world, other, call.began_ms):
            yield f"P3 {other.process.name} paid for step {step.number}, which had been acknowledged"
    ids = {call.id for call in calls_in(step.reply)} if step.results else set()
    for run in other.runs:
        if run.id in ids and run.began_ms > written.at_ms and _holds_at(world, other, run.began_ms):
            yield f"P3 {other.process.name} ran {run.id}, whose result had been acknowledged"


def _holds_at(world: World, taking: Taking, ms: int) -> bool:
    """False if its lease may have run out by then for others, and not yet by its own clock."""
    return ms + 2 * world.config.skew_ms < taking.lease_at(ms).lease_expires_ms


def early_tools(world: World, lineage: Lineage) -> Iterator[str]:
    """P3: a tool runs only after its call was stored, so under one id however often."""
    for taking in lineage.takings:
        for run in taking.runs:
            stored = {
                call.id
                for version in world.journal.versions(taking.address.pk)
                if version.number == run.number and version.at_ms <= run.began_ms
                for step in version.steps
                for call in calls_in(step.reply)
            }
            if run.id not in stored:
                yield f"P3 {taking.process.name} ran {run.id} before its call was stored"


def overtaken_while_alive(world: World, lineage: Lineage) -> Iterator[str]:
    """P2 and P5: nobody takes a slot whose lease is alive, and it is not written again after the session's end."""
    for at in lineage.addresses:
        header = world.journal.headers.get(at.pk)
        for before, after in _changes(world, at):
            held, now = before.slot, after.slot
            if not isinstance(held, Lease) or not isinstance(now, Lease | Turn):
                continue
            is_other = not now.token.startswith(held.token)  # that of who gives it back or fences it begins with it
            if is_other and held.lease_expires_ms >= now.at_ms:
                yield f"P2 the lease of turn {held.number} of {at.id} was overtaken while it was alive"
            is_written_again = isinstance(now, Lease) and now.token == held.token and now.sequence > held.sequence
            if header and is_written_again and now.at_ms >= min(held.at_ms + int(header["idle"]["N"]), _dies(header)):
                yield f"P5 {at.id} had ended, and its turn went on"


def lost_turns(world: World, lineage: Lineage) -> Iterator[str]:
    """P2 and P5: who works without a fault, and renews its lease, loses neither the turn nor the session."""
    for taking in lineage.takings:
        if not taking.written or not isinstance(taking.error, LeaseLost | SessionNotFound | StreamOvertaken):
            continue
        if _was_undisturbed(world, taking) and not _may_have_ended(world, lineage, taking):
            yield f"P2 nothing was wrong with {taking.process.name}, and it got {taking.error!r}"


def forgotten_use(world: World, lineage: Lineage) -> Iterator[str]:
    """P5: whatever was written for a turn of several calls counts as use of its session, also when the turn failed."""
    used = [(taking, each) for taking in lineage.takings for each in taking.written if each.lease.sequence]
    for act in lineage.acts:
        if not isinstance(act, Taking | Reading) or not isinstance(act.error, SessionNotFound):
            continue
        header = world.journal.headers.get(act.address.pk)
        if header is None or _may_have_ended(world, lineage, act):
            continue
        for taking, each in used:
            latest_ms = each.lease.at_ms + int(header["idle"]["N"]) - 2 * world.config.skew_ms
            if taking.address == act.address and each.at_ms < act.began_ms and act.ended_clock_ms < latest_ms:
                yield f"P5 {act.process.name} did not find the session, in which {taking.process.name} was at work"


def _was_undisturbed(world: World, taking: Taking) -> bool:
    process, steps = taking.process, world.network.steps
    if process.dead or process.stands_still_in_step:
        return False
    if any(step.fault for step in steps if step.process == process.name):
        return False
    if 2 * world.config.skew_ms > _SPARE_MS or (process.deadline_ms or 0) < taking.ended_ms:
        return False
    return not any(taking.began_ms <= ms <= taking.ended_ms for ms in world.jumps_ms)


def _may_have_ended(world: World, lineage: Lineage, act: Taking | Reading) -> bool:
    """True when it was deleted or moved by then, or at its absolute end."""
    header = world.journal.headers.get(act.address.pk)
    if header is None or act.ended_clock_ms + 2 * world.config.skew_ms >= _dies(header):
        return True
    enders = [other for other in lineage.acts if isinstance(other, Deleting | Moving)]
    return any(other.began_ms <= act.ended_ms for other in enders)


def ignored_cancels(world: World, lineage: Lineage) -> Iterator[str]:
    """P10: a turn that was asked to stop stores no further step, and ends as stopped with what there was.

    Its lease goes on to say so while a call comes to its end.
    """
    for cancelling in lineage.done(Cancelling):
        if not cancelling.succeeded:
            continue
        at, token = cancelling.address, cancelling.token
        for before, after in _changes(world, at):
            held, now = before.slot, after.slot
            if not isinstance(held, Lease) or held.token != token or after.at_ms <= cancelling.ended_ms:
                continue
            if isinstance(now, Lease) and now.token == token and now.sequence > held.sequence and not now.stop_asked:
                yield f"P10 turn {now.number} of {at.id} was asked to stop, and went on"
            if isinstance(now, Turn) and now.stop_reason not in (STOPPED, INTERRUPTED, "end_turn"):
                yield f"P10 turn {now.number} of {at.id} was asked to stop, and ended with {now.stop_reason}"


def stray_pieces(world: World, at: Address) -> list[str]:
    """Returns the sort keys of content that lies below a slot to which it does not belong."""
    items = world.service.tables.partition(SESSIONS, at.pk)
    slots = {int(item["sk"]["S"]): item for item in items if item["sk"]["S"].isdigit()}
    found = []
    for item in items:
        sk = item["sk"]["S"]
        if sk.startswith("!"):
            number = int(sk[1:10])
            slot = slots.get(number, {})
            names = kept_names(slot["kept"]["S"]) if "kept" in slot else []
            names += [OWN] if "below" in slot else []
            kept = tuple(piece_sk(number, name) for name in names)
            if ("ns" not in slot and not sk.startswith(kept)) or ("kept" in slot and not sk.startswith(kept)):
                found.append(sk)
    return found


def _changes(world: World, at: Address) -> Iterator[tuple[Version, Version]]:
    """Yields each version of each slot with the one after it."""
    by_slot: dict[int, list[Version]] = {}
    for version in world.journal.versions(at.pk):
        by_slot.setdefault(version.number, []).append(version)
    for versions in by_slot.values():
        yield from pairwise(versions)


def _dies(header: dict[str, dict[str, str]]) -> int:
    return int(header["dies"]["N"])


def _is_past_its_end(world: World, at: Address, version: Version) -> bool:
    """True from the time on at which TTL may remove the items."""
    header = world.journal.headers.get(at.pk)
    return header is not None and version.item is None and version.at_ms // 1000 > int(header["ttl"]["N"])
