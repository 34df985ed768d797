"""P12: after a rollback nothing that the later version stored is lost, unless its session was deleted."""

from __future__ import annotations

from collections.abc import Iterator

from tests.promises.oracle.lineage import Lineage
from tests.promises.world.history import Deleting
from tests.promises.world.journal import is_later
from tests.promises.world.world import World


def lost_to_a_rollback(world: World, lineage: Lineage) -> Iterator[str]:
    """P12: finds items of a later version that an older one overwrote, swept or removed."""
    addresses = {at.pk: at.id for at in lineage.addresses}
    deletions = [(act.address.pk, act.began_ms) for act in lineage.acts if isinstance(act, Deleting)]
    for at_ms, (pk, sk), old, new in world.journal.later:
        if pk not in addresses or any(pk == deleted and began_ms <= at_ms for deleted, began_ms in deletions):
            continue
        if sk.startswith("!") and not _is_held(world, pk, int(sk[1:10]), at_ms):
            continue  # a step goes with the lease that it belongs to
        if new is None or new["st"] == {"S": "ended"}:
            yield f"P12 {sk} of {addresses[pk]} is of a later version, and was removed"
        elif new.get("tok") != old.get("tok"):  # under its own token it is that version which goes on
            yield f"P12 {sk} of {addresses[pk]} is of a later version, and was overwritten"


def _is_held(world: World, pk: str, number: int, at_ms: int) -> bool:
    """True if the slot held an item of a later version at that time."""
    held = [version for version in world.journal.versions(pk) if version.number == number and version.at_ms <= at_ms]
    return bool(held) and is_later(held[-1].item)
