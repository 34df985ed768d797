"""All checks of a run. Each returned sentence begins with the number of the promise that was broken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.promises.oracle.encryption import broken_encryption
from tests.promises.oracle.ends import answers_after_the_end, deleted_and_moved, refusals_while_alive
from tests.promises.oracle.errors import unclear_errors
from tests.promises.oracle.idempotency import (
    calls_above_the_cap,
    conflicting_creations,
    conflicting_replies,
    forgotten_attempts,
    surplus_model_calls,
)
from tests.promises.oracle.lineage import Lineage
from tests.promises.oracle.order import broken_by_reads, broken_order, paid_at_once
from tests.promises.oracle.quotas import broken_quotas
from tests.promises.oracle.steps import (
    changed_steps,
    early_tools,
    forgotten_use,
    ignored_cancels,
    lost_steps,
    lost_turns,
    overtaken_while_alive,
    repeated_steps,
)
from tests.promises.oracle.streams import broken_streams
from tests.promises.oracle.versions import lost_to_a_rollback
from tests.promises.world.world import World


def broken_by_a_run(world: World, found: Sequence[Lineage]) -> Iterator[str]:
    """Compares all that was asked with all that was answered and stored."""
    yield from unclear_errors(world)
    yield from broken_quotas(world, found)
    yield from broken_encryption(world)
    for lineage in found:
        yield from broken_order(world, lineage)
        yield from broken_by_reads(lineage)
        yield from conflicting_replies(world, lineage)
        yield from conflicting_creations(lineage)
        yield from surplus_model_calls(world, lineage)
        yield from calls_above_the_cap(lineage)
        yield from forgotten_attempts(world, lineage)
        yield from paid_at_once(world, lineage)
        yield from answers_after_the_end(world, lineage)
        yield from deleted_and_moved(world, lineage)
        yield from refusals_while_alive(world, lineage)
        yield from lost_to_a_rollback(world, lineage)
        yield from overtaken_while_alive(world, lineage)
        yield from lost_turns(world, lineage)
        yield from broken_streams(world, lineage)
        if world.config.steps:
            yield from lost_steps(world, lineage)
            yield from changed_steps(world, lineage)
            yield from repeated_steps(world, lineage)
            yield from early_tools(world, lineage)
            yield from forgotten_use(world, lineage)
            yield from ignored_cancels(world, lineage)
