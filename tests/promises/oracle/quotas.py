"""P8: the charges never exceed a limit, and never fall short of the use."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from decimal import Decimal

from tests.promises.oracle.lineage import Lineage
from tests.promises.oracle.order import was_cut
from tests.promises.simulator.tables import Key
from tests.promises.world.history import (
    Address,
    Deleting,
    Forking,
    Taking,
)
from tests.promises.world.journal import Version
from tests.promises.world.world import World
from turnlog.adapters.dynamodb.items import owner_partition
from turnlog.domain.turns import INTERRUPTED


def broken_quotas(world: World, found: Sequence[Lineage]) -> Iterator[str]:
    """P8: finds counters above their limit, and use that was not charged."""
    for sentence in world.journal.overdrawn:
        yield f"P8 {sentence}"
    used: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for at in (at for lineage in found for at in lineage.addresses):
        for version in world.journal.commits(at.pk):
            used[at.owner, "turns"] += 1
            used[at.owner, "tokens"] += version.turn.usage.tokens
            if was_cut(version.turn):  # nobody knows what its last call used, so all that was reserved for it counts
                used[at.owner, "tokens"] += _reserved(world, version) - version.turn.calls[-1].usage.tokens
        used[at.owner, "tokens"] += sum(call.usage.tokens for call in world.journal.calls_of_unfinished(at.pk))
    for (owner, kind), amount in used.items():
        charged = [n for key, n in world.journal.charged.items() if _counts(key, owner, kind)]
        if kind in world.config.quotas and sum(charged) < amount:
            yield f"P8 {owner} used {amount} {kind} and was charged {sum(charged)}"
        if kind == "tokens" and kind in world.config.quotas and sum(charged) != amount and nothing_went_wrong(world):
            yield f"P8 {owner} used {amount} tokens, was charged {sum(charged)}, and nothing went wrong"
    if "sessions" in world.config.quotas:
        yield from _sessions_made(world, {at for lineage in found for at in lineage.addresses})


def nothing_went_wrong(world: World) -> bool:
    """True if nothing was lost and everybody who called the model stored a turn: then all reservations are settled."""
    takings = [taking for taking in world.done(Taking) if taking.written or taking.error is None]
    stored = all(taking.result and taking.result.turn.stop_reason != INTERRUPTED for taking in takings)
    return stored and not any(step.fault for step in world.network.steps) and not world.done(Deleting)


def _reserved(world: World, version: Version) -> Decimal:
    """The tokens that were reserved for the last call of the turn."""
    for taking in world.done(Taking):
        if taking.written and taking.written[-1].lease.token == version.turn.token:
            charges = taking.lease_at(version.at_ms).charges
            return sum((each.amount for each in charges if each.counter.startswith("tokens#")), Decimal(0))
    return Decimal(version.turn.calls[-1].usage.tokens)


def _sessions_made(world: World, addresses: set[Address]) -> Iterator[str]:
    """P8: each session that was made or moved is charged once, and nothing else but a fork that was begun."""
    made = Counter(at.owner for at in addresses if at.pk in world.journal.made_ms)
    begun = Counter(act.child.owner for act in world.done(Forking))
    for owner in {at.owner for at in addresses}:
        charged = sum(n for key, n in world.journal.charged.items() if _counts(key, owner, "sessions"))
        if not made[owner] <= charged <= made[owner] + begun[owner]:
            yield f"P8 {made[owner]} sessions were made for {owner}, and {charged} were charged"


def _counts(key: Key, owner: str, kind: str) -> bool:
    return key[0] == owner_partition(owner) and key[1].startswith(kind + "#")
