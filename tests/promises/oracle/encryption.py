"""P6 and P7: content is never in the clear, and an erased owner's keys are gone."""

from __future__ import annotations

from collections.abc import Iterator

from tests.promises.world.history import (
    Erasing,
)
from tests.promises.world.world import KEYS, World


def broken_encryption(world: World) -> Iterator[str]:
    """P6 and P7: finds content in the clear, and keys of an erased owner that are still there."""
    yield from world.journal.encryption_faults
    for act in world.acts:
        if isinstance(act, Erasing) and act.succeeded:
            for key in act.keys:
                item = world.service.tables.now(KEYS, key)
                if item is None or "key" in item:
                    yield f"P7 {act.process.name} erased {act.address.owner}, and its key {key[1]} is there"
