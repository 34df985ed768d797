"""A run: a world, all that happened in it, and the promises that it broke."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from tests.promises.oracle.checks import broken_by_a_run
from tests.promises.oracle.lineage import lineages
from tests.promises.oracle.recovery import broken_afterwards
from tests.promises.runs.trace import trace
from tests.promises.simulator.faults import Plan, RandomFaults
from tests.promises.world import actors
from tests.promises.world.actors import KnownAddresses
from tests.promises.world.history import Taking
from tests.promises.world.journal import DamagedItem
from tests.promises.world.run_config import RunConfig, random_config, with_steps
from tests.promises.world.world import World, address, session_id, want
from turnlog.adapters.dynamodb import encode
from turnlog.domain import older_keys
from turnlog.domain.turns import Turn


@dataclass
class Run:
    """`name` is the arguments that replay it; `calls` are those of its actors, by operation; `trace` is long."""

    name: str
    broken: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    model_calls: int = 0
    replies: int = 0
    turns: int = 0
    trace: Callable[[], Iterator[str]] = lambda: iter(())

    def report(self) -> str:
        """Returns the text to print for a broken promise."""
        return "\n".join([*self.trace(), *self.broken, f"replay: python -m tests.promises {self.name}"])


def run_and_check(name: str, world: World) -> Run:
    """Lets the world run, then checks the promises."""
    world.schedule.run()
    calls = [step.operation for step in world.network.steps if step.index >= 0]
    found = lineages(world.acts)
    turns: list[Turn] = []
    try:
        broken = [*broken_by_a_run(world, found), *broken_afterwards(world, found)]
        turns = [version.turn for each in found for at in each.addresses for version in world.journal.commits(at.pk)]
    except DamagedItem as damaged:
        broken = [str(damaged)]
    takings = world.done(Taking)
    return Run(
        name,
        list(dict.fromkeys(broken)),
        calls,
        model_calls=sum(call.billed for taking in takings for call in taking.calls),
        replies=sum(len(turn.calls) for turn in turns),
        turns=len(turns),
        trace=partial(trace, world),
    )


@contextmanager
def seeded(seed: int, config: RunConfig) -> Iterator[None]:
    """Gives the run random numbers of its own, for jitter and for tokens, and the sizes that its config makes small."""
    state, token_bytes = random.getstate(), secrets.token_bytes
    part_bytes, key_stride = encode.PART_BYTES, older_keys.KEY_STRIDE
    tokens = random.Random(seed)
    random.seed(seed)
    secrets.token_bytes = lambda nbytes=None: tokens.randbytes(nbytes or 32)
    encode.PART_BYTES = config.part_bytes or part_bytes
    older_keys.KEY_STRIDE = config.key_stride
    try:
        yield
    finally:
        random.setstate(state)
        secrets.token_bytes = token_bytes
        encode.PART_BYTES, older_keys.KEY_STRIDE = part_bytes, key_stride


def prepared_world(
    config: RunConfig, plan: Plan, chance: random.Random, length: int, *, swept: bool = True
) -> tuple[World, KnownAddresses]:
    """Makes a world with a session of so many turns, which everyone knows."""
    world = World(config, plan, chance)
    if swept:
        world.was_swept_before()
    known = KnownAddresses([address("owner", session_id("main"))])
    world.create(known.addresses[0], "before")
    for number in range(length):
        world.take(want(f"before {number}"), known.addresses[0], "before")
    return world, known


ENCRYPTED_EVERY = 3
"""One in so many random runs has encrypted content, and may erase an owner."""

STEPS_EVERY = 2
"""One in so many has tools, and turns of several steps that may take minutes."""

STREAMS_EVERY = 4
"""One in so many, of those with steps, shows most of its turns as they come."""


def random_run(seed: int) -> Run:
    """Decides everything by the seed: the actors and their wishes, the delays and faults, and the order."""
    chance = random.Random(seed)
    config = random_config(chance)
    if seed % ENCRYPTED_EVERY == ENCRYPTED_EVERY - 1:
        config = replace(config, encrypted=True, keyless=0.02)
    if seed % STEPS_EVERY == STEPS_EVERY - 1:
        config = with_steps(config, chance)
    if seed % STREAMS_EVERY == STREAMS_EVERY - 1:
        config = replace(config, streams=0.7, leaves=0.2)
    plan = RandomFaults(chance, rate=chance.choice([0, 0.02, 0.06, 0.15]))
    with seeded(seed, config):
        world, known = prepared_world(
            config, plan, chance, length=chance.choice([0, 1, 3, 6]), swept=chance.random() < 0.9
        )
        _populate(world, known)
        return run_and_check(f"--seed {seed}", world)


def _populate(world: World, known: KnownAddresses) -> None:
    chance = world.chance
    created = KnownAddresses([address("owner", session_id("created"))])
    spread_ms = chance.choice([0, 10 * world.config.latency_ms, 5_000, 60_000])

    def some(most: int, how_often: float, name: str, work: Callable[..., None], *given: Any) -> None:
        for number in range(most):
            if chance.random() < how_often:
                called = f"{name}-{number}"
                in_ms = chance.randint(0, spread_ms)
                world.schedule.spawn(called, partial(work, world, called, *given), in_ms=in_ms)

    some(4, 0.7, "writer", _write, known)
    some(2, 0.2, "deleter", actors.delete, known)
    some(2, 0.25, "mover", actors.move, known)
    if world.config.encrypted:
        some(2, 0.15, "eraser", actors.erase, known.addresses[0].owner)
        some(1, 0.1, "heirs-eraser", actors.erase, actors.heir("mover-0"))
    some(2, 0.2, "forker", actors.fork, known, chance.randint(1, 4))
    some(2, 0.15, "creator", actors.create, created)
    some(1, 0.3, "reader", actors.read_often, known, 5)
    some(1, 0.25, "sweeper", actors.sweep_often, 3)
    some(1, 0.4, "ttl", actors.reap_often, 4)
    some(1, 0.3, "time", actors.let_time_jump, _jumps_ms(chance))
    if world.config.steps:
        some(2, 0.3, "canceller", actors.cancel_often, known, 4)


def _write(world: World, name: str, known: KnownAddresses) -> None:
    """Takes turns of its own, perhaps one that others want under the same key, and rarely with another body there."""
    chance = world.chance
    wants = [want(f"{name}, {number}") for number in range(chance.randint(1, 3))]
    if chance.random() < 0.4:
        wants.append(want("what two want"))
    if chance.random() < 0.05:
        wants.append(want(f"another body of {name}", key="what two want"))
    chance.shuffle(wants)
    actors.converse(world, name, known, wants)


def _jumps_ms(chance: random.Random) -> list[int]:
    """Returns jumps that are mostly about as long as a lease, and sometimes long enough for sessions to end."""
    jumps = [chance.choice([1_000, 20_000, 70_000]) for _ in range(2)]
    if chance.random() < 0.15:
        jumps.append(chance.choice([20, 80, 200]) * 60_000)
    return jumps
