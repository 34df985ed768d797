"""A few small worlds in which every single fault, and every two, can be tried out."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial

from tests.promises.runs.runs import Run, prepared_world, run_and_check, seeded
from tests.promises.simulator.faults import Fault, ListedFaults, possible
from tests.promises.world import actors
from tests.promises.world.actors import KnownAddresses
from tests.promises.world.history import Address
from tests.promises.world.run_config import RunConfig
from tests.promises.world.world import LaterStore, World, address, session_id, want
from turnlog.domain.limits import OwnerLimits
from turnlog.domain.window import WindowPolicy
from turnlog.usecases.turn_request import TurnPolicy

Faults = Mapping[int, Fault]


_CONFIG = RunConfig(latency_ms=4, freezes=1.0, patience=0.5, tries=6)


@dataclass(frozen=True)
class Scenario:
    """A world of that config with a session of two turns, and the actors that do something to it.

    The faults of those that are not `quick` are left to `make prove`.
    """

    happens: Callable[[World, KnownAddresses], None]
    config: RunConfig = _CONFIG
    quick: bool = True


def scenario_run(name: str, faults: Faults) -> Run:
    """Runs the scenario with these faults; without any, its `calls` say which are possible."""
    scenario = SCENARIOS[name]
    with seeded(0, scenario.config):
        world, known = prepared_world(scenario.config, ListedFaults(faults), random.Random(0), length=2)
        scenario.happens(world, known)
        listed = "".join(f" --fault {index}:{fault}" for index, fault in faults.items())
        return run_and_check(f"--scenario {name}{listed}", world)


def single_faults(calls: Sequence[str]) -> Iterator[dict[int, Fault]]:
    """Yields every fault of every call."""
    for index, operation in enumerate(calls):
        for fault in possible(operation):
            yield {index: fault}


def second_faults(first: Mapping[int, Fault], calls: Sequence[str]) -> Iterator[dict[int, Fault]]:
    """Yields every lasting fault that can follow, given the calls of a run with the first one."""
    after = max(first) + 1
    for index, operation in enumerate(calls[after:], after):
        for fault in possible(operation):
            if fault.lasts:
                yield {**first, index: fault}


def _two_writers(world: World, known: KnownAddresses) -> None:
    for name in ("ada", "bob"):
        _speaks(world, known, name, f"{name} speaks")


def _one_key_twice(world: World, known: KnownAddresses) -> None:
    for name in ("ada", "ada again"):
        _speaks(world, known, name, "ada speaks")


def _writer_and_deleter(world: World, known: KnownAddresses) -> None:
    _speaks(world, known, "ada", "ada speaks")
    world.schedule.spawn("deleter", partial(actors.delete, world, "deleter", known), in_ms=12)


def _writer_and_mover(world: World, known: KnownAddresses) -> None:
    world.schedule.spawn("mover", partial(actors.move, world, "mover", known))
    _speaks(world, known, "ada", "ada speaks", in_ms=10)


def _writer_and_forker(world: World, known: KnownAddresses) -> None:
    _speaks(world, known, "ada", "ada speaks")
    world.schedule.spawn("forker", partial(actors.fork, world, "forker", known, 2))


def _mover_that_stands_still(world: World, known: KnownAddresses) -> None:
    """The mover waits so long that the sweeper comes by before it goes on."""
    world.schedule.spawn("mover", partial(actors.move, world, "mover", known))
    world.schedule.spawn("time", partial(actors.let_time_jump, world, "time", [20 * 60_000]))
    world.schedule.spawn("sweeper", partial(actors.sweep_often, world, "sweeper", 2), in_ms=60)


def _writer_and_deleter_after_a_mover_died(world: World, known: KnownAddresses) -> None:
    world.abandon_move(known.addresses[0], address("owner after before", session_id("moved")), "before")
    _speaks(world, known, "ada", "ada speaks")
    world.schedule.spawn("deleter", partial(actors.delete, world, "deleter", known), in_ms=70_000)


def _writer_after_a_slow_mover(world: World, known: KnownAddresses) -> None:
    """The mover goes on when its lease is over and the writer has begun to undo its copies."""
    at, to = known.addresses[0], address("owner after mover", session_id("moved"))
    world.schedule.spawn("mover", lambda: _moved_slowly(world, known, at, to))
    _speaks(world, known, "ada", "ada speaks", in_ms=66_000)


def _moved_slowly(world: World, known: KnownAddresses, at: Address, to: Address, commits_in_ms: int = 67_000) -> None:
    if world.move(at, to, "mover", "mover", commits_in_ms=commits_in_ms).succeeded:
        known.addresses.append(to)


def _slow_mover_and_its_repeat(world: World, known: KnownAddresses) -> None:
    """The repeat has taken the lease over and is about to finish when the first mover goes on."""
    at, to = known.addresses[0], address("owner after mover", session_id("moved"))
    world.schedule.spawn("mover", lambda: _moved_slowly(world, known, at, to))
    world.schedule.spawn("mover again", lambda: _moved_slowly(world, known, at, to, commits_in_ms=1_500), in_ms=66_400)


def _forker_and_deleter(world: World, known: KnownAddresses) -> None:
    world.schedule.spawn("forker", partial(actors.fork, world, "forker", known, 2))
    world.schedule.spawn("deleter", partial(actors.delete, world, "deleter", known), in_ms=30)


def _writers_and_deleters(world: World, known: KnownAddresses) -> None:
    """Three sessions, so that some delete reads just while a turn is written."""
    for name in ("ada", "bob", "cyd"):
        another = KnownAddresses([address(known.addresses[0].owner, session_id(name))])
        world.create(another.addresses[0], "before")
        _speaks(world, another, name, f"{name} speaks")
        deleter = f"deleter after {name}"
        world.schedule.spawn(deleter, partial(actors.delete, world, deleter, another), in_ms=100)


def _two_creators(world: World, known: KnownAddresses) -> None:
    created = KnownAddresses([address(known.addresses[0].owner, session_id("created"))])
    for name in ("ada", "bob"):
        world.schedule.spawn(name, partial(actors.create, world, name, created))
    world.schedule.spawn("deleter", partial(actors.delete, world, "deleter", created), in_ms=40)


def _two_writers_after_a_crash(world: World, known: KnownAddresses) -> None:
    world.abandon(known.addresses[0], "before")
    _two_writers(world, known)


def _mover_and_deleter_after_a_crash(world: World, known: KnownAddresses) -> None:
    world.abandon(known.addresses[0], "before")
    world.schedule.spawn("mover", partial(actors.move, world, "mover", known))
    world.schedule.spawn("deleter", partial(actors.delete, world, "deleter", known))


def _repeaters_and_deleter(world: World, known: KnownAddresses) -> None:
    """Callers ask one after the other for a stored turn, until it is deleted."""
    world.schedule.spawn("deleter", partial(actors.delete, world, "deleter", known), in_ms=5_000)
    for number in range(10):
        _speaks(world, known, f"repeater-{number}", "before 1", in_ms=5_000 + 10 * number)


def _creators_and_eraser(world: World, known: KnownAddresses) -> None:
    """A creator begins under an active key, and a writer is answered or told that the session is gone."""
    _speaks(world, known, "ada", "ada speaks")
    created = KnownAddresses([address(known.addresses[0].owner, session_id("created"))])
    for number, name in enumerate(("bob", "bob again")):
        work = partial(actors.create, world, name, created)
        world.schedule.spawn(name, work, in_ms=20 * number)
    world.schedule.spawn("eraser", partial(actors.erase, world, "eraser", known.addresses[0].owner), in_ms=8)


def _mover_into_an_erasure(world: World, known: KnownAddresses) -> None:
    world.schedule.spawn("mover", partial(actors.move, world, "mover", known))
    world.schedule.spawn("eraser", partial(actors.erase, world, "eraser", actors.heir("mover")), in_ms=42)


def _forker_into_an_erasure(world: World, known: KnownAddresses) -> None:
    world.schedule.spawn("forker", partial(actors.fork, world, "forker", known, 2))
    world.schedule.spawn("eraser", partial(actors.erase, world, "eraser", known.addresses[0].owner), in_ms=9)


def _mover_and_creator(world: World, known: KnownAddresses) -> None:
    """Both are for one owner, whose quota has room for one session."""
    created = KnownAddresses([address(actors.heir("mover"), session_id("created"))])
    world.schedule.spawn("mover", partial(actors.move, world, "mover", known))
    world.schedule.spawn("ada", partial(actors.create, world, "ada", created), in_ms=15)


_RETURNS_IN_MS = 400_000
"""Later than any write of a process that began at once, however late that comes."""


def _rollback(world: World, known: KnownAddresses) -> None:
    """The version that is rolled back was taking a turn. Others go on, and it returns."""
    later = partial(actors.speak_as_later_version, world, "later", known, want("later speaks"))
    world.schedule.spawn("later", later)
    _speaks(world, known, "ada", "ada speaks", in_ms=30)
    world.schedule.spawn("mover", partial(actors.move, world, "mover", known), in_ms=90_000)
    world.schedule.spawn("reader", partial(actors.read_often, world, "reader", known, 2), in_ms=60)
    world.schedule.spawn("return", partial(actors.let_later_version_return, world, "return"), in_ms=_RETURNS_IN_MS)


def _rollback_and_deleter(world: World, known: KnownAddresses) -> None:
    later = partial(actors.speak_as_later_version, world, "later", known, want("later speaks"))
    world.schedule.spawn("later", later)
    world.schedule.spawn("deleter", partial(actors.delete, world, "deleter", known), in_ms=40)
    world.schedule.spawn("return", partial(actors.let_later_version_return, world, "return"), in_ms=_RETURNS_IN_MS)


def _sweeper_after_a_rollback(world: World, known: KnownAddresses) -> None:
    """The session expires under the lease that the later version left."""
    jump_ms = 200 * 60_000
    world.abandon(known.addresses[0], "before", LaterStore)
    _speaks(world, known, "ada", "ada speaks")
    world.schedule.spawn("time", partial(actors.let_time_jump, world, "time", [jump_ms]), in_ms=1_000)
    world.schedule.spawn("sweeper", partial(actors.sweep_often, world, "sweeper", 2), in_ms=2_000)
    in_ms = jump_ms + _RETURNS_IN_MS
    world.schedule.spawn("return", partial(actors.let_later_version_return, world, "return"), in_ms=in_ms)


def _writers_and_canceller(world: World, known: KnownAddresses) -> None:
    """The turn is asked to stop while its first call runs; another key waits for its slot."""
    _two_writers(world, known)
    world.schedule.spawn("canceller", partial(actors.cancel_often, world, "canceller", known, 2), in_ms=60)


def _writers_after_a_dead_step(world: World, known: KnownAddresses) -> None:
    """A handler left a step whose tools it had not run. Its own key comes back, and another one does."""
    world.abandon_steps(known.addresses[0], _STEPPED[0], "before")
    _speaks(world, known, "ada", _STEPPED[0])
    _speaks(world, known, "bob", _STEPPED[1], in_ms=20)


def _mover_and_writer_after_a_dead_step(world: World, known: KnownAddresses) -> None:
    world.abandon_steps(known.addresses[0], _STEPPED[0], "before")
    world.schedule.spawn("mover", partial(actors.move, world, "mover", known))
    _speaks(world, known, "ada", _STEPPED[0], in_ms=25)


def _stepped_writer_and_mover(world: World, known: KnownAddresses) -> None:
    """The mover waits for the turn, and takes its steps along."""
    _speaks(world, known, "ada", _STEPPED[0])
    world.schedule.spawn("mover", partial(actors.move, world, "mover", known), in_ms=300)


def _stepped_writer_and_deleter(world: World, known: KnownAddresses) -> None:
    _speaks(world, known, "ada", _STEPPED[0])
    world.schedule.spawn("deleter", partial(actors.delete, world, "deleter", known), in_ms=80)


def _stepped_writer_and_forker(world: World, known: KnownAddresses) -> None:
    _speaks(world, known, "ada", _STEPPED[0])
    world.schedule.spawn("forker", partial(actors.fork, world, "forker", known, 3), in_ms=200)


def _stepped_writer(world: World, known: KnownAddresses) -> None:
    """After a failure it comes back so late that the session is alive only because its lease was renewed."""
    _speaks(world, known, "ada", _STEPPED[0])


def _stepped_writer_and_late_one(world: World, known: KnownAddresses) -> None:
    """The other one comes when the first lease would be over if it were not renewed."""
    _speaks(world, known, "ada", _STEPPED[0])
    _speaks(world, known, "bob", _STEPPED[1], in_ms=70_000)


def _two_stepped_writers(world: World, known: KnownAddresses) -> None:
    for name, text in zip(("ada", "bob"), _STEPPED, strict=True):
        _speaks(world, known, name, text)


def _slow_writer_and_deleter(world: World, known: KnownAddresses) -> None:
    """The session is deleted while a reply comes."""
    _speaks(world, known, "ada", _STEPPED[0])
    world.schedule.spawn("deleter", partial(actors.delete, world, "deleter", known), in_ms=10_000)


def _streamed_writer_overtaken_by_its_key(world: World, known: KnownAddresses) -> None:
    """A handler stands still while a reply is shown; when it goes on, its turn is stored with another reply."""
    _stands_still(world, known, step=1)
    _speaks(world, known, "ada again", _STEPPED[0], in_ms=65_200)


def _streamed_writer_overtaken_by_another(world: World, known: KnownAddresses) -> None:
    """Once it goes on, its finished step is a turn, kept by the next one."""
    _stands_still(world, known, step=2)
    _speaks(world, known, "bob", _STEPPED[1], in_ms=65_300)


def _stands_still(world: World, known: KnownAddresses, step: int) -> None:
    work = partial(world.take, want(_STEPPED[0]), known.addresses[-1], "ada", stands_still_in_step=step)
    world.schedule.spawn("ada", work)


def _stepped_writer_twice(world: World, known: KnownAddresses) -> None:
    """The second one comes under the same key when the first one has lost its lease, if it stands still."""
    _speaks(world, known, "ada", _STEPPED[0])
    _speaks(world, known, "ada again", _STEPPED[0], in_ms=66_000)


_STEPPED = "bob speaks", "ada speaks"
"""Turns with a step in the scenarios: one that calls two tools, and one that pauses."""


def _speaks(world: World, known: KnownAddresses, name: str, *texts: str, in_ms: int = 0) -> None:
    wants = [want(text) for text in texts]
    world.schedule.spawn(name, partial(actors.converse, world, name, known, wants), in_ms=in_ms)


_ROLLBACK = replace(_CONFIG, freezes=0, thinks_ms=(20_000, 40_000))
_STEPS = replace(_CONFIG, steps=2, handler_s=900)
_STREAMS = replace(_STEPS, streams=1.0)
_OLD_VIEWS = TurnPolicy(WindowPolicy(turns=4), reads_cached=True)
_BUDGET = TurnPolicy(WindowPolicy(turns=4), owner=OwnerLimits(budget_a_day=Decimal(20_000)))
_LIMITED = TurnPolicy(WindowPolicy(turns=4), owner=OwnerLimits(turns_a_minute=5, budget_a_day=Decimal(3_500)))

SCENARIOS: dict[str, Scenario] = {
    "two-writers": Scenario(_two_writers),
    "one-key-twice": Scenario(_one_key_twice),
    "writer-and-deleter": Scenario(_writer_and_deleter),
    "writer-and-mover": Scenario(_writer_and_mover),
    "writer-and-forker": Scenario(_writer_and_forker),
    "two-creators": Scenario(_two_creators),
    "creators-and-eraser": Scenario(_creators_and_eraser, replace(_CONFIG, encrypted=True)),
    "mover-into-an-erasure": Scenario(_mover_into_an_erasure, replace(_CONFIG, encrypted=True)),
    "forker-into-an-erasure": Scenario(_forker_into_an_erasure, replace(_CONFIG, encrypted=True)),
    "limited-writers": Scenario(_two_writers, replace(_CONFIG, policy=_LIMITED)),
    "mover-and-creator-for-one": Scenario(
        _mover_and_creator,
        replace(_CONFIG, policy=TurnPolicy(WindowPolicy(turns=4), owner=OwnerLimits(sessions_a_day=1))),
    ),
    "large-turns": Scenario(_writer_and_deleter, replace(_CONFIG, part_bytes=150)),
    "writers-and-deleters-over-torn-reads": Scenario(
        _writers_and_deleters, replace(_CONFIG, latency_ms=40, torn=True, part_bytes=150)
    ),
    "forker-and-deleter-over-pages": Scenario(
        _forker_and_deleter, replace(_CONFIG, torn=True, page_bytes=600, part_bytes=150)
    ),
    "slow-model": Scenario(_two_writers, replace(_CONFIG, thinks_ms=(6_000, 15_000))),
    "old-views": Scenario(_repeaters_and_deleter, replace(_CONFIG, eventual=True, policy=_OLD_VIEWS)),
    "writers-after-a-crash": Scenario(_two_writers_after_a_crash),
    "writers-who-wait-in-vain": Scenario(
        _two_writers_after_a_crash, replace(_CONFIG, thinks_ms=(70_000, 90_000), freezes=0.5, skew_ms=110_000)
    ),
    "mover-and-deleter-after-a-crash": Scenario(_mover_and_deleter_after_a_crash),
    "mover-that-stands-still": Scenario(_mover_that_stands_still),
    "writer-after-a-slow-mover": Scenario(_writer_after_a_slow_mover),
    "slow-mover-and-its-repeat": Scenario(_slow_mover_and_its_repeat),
    "deleter-after-a-mover-that-died": Scenario(_writer_and_deleter_after_a_mover_died),
    "steps": Scenario(_two_stepped_writers, _STEPS),
    "steps-that-take-minutes": Scenario(
        _stepped_writer_and_late_one,
        replace(_STEPS, steps=3, thinks_ms=(80_000, 120_000), tools_take_ms=(15_000, 70_000)),
        quick=False,
    ),
    "stepped-writer-who-waits": Scenario(
        _stepped_writer, replace(_STEPS, thinks_ms=(45_000, 50_000), idle_s=90, patience=1.0), quick=False
    ),
    "steps-under-a-budget": Scenario(_two_stepped_writers, replace(_STEPS, policy=_BUDGET), quick=False),
    "steps-in-parts": Scenario(
        _stepped_writer_and_deleter,
        replace(_STEPS, steps=3, part_bytes=150, page_bytes=1500, encrypted=True),
        quick=False,
    ),
    "steps-until-the-end": Scenario(
        _two_stepped_writers,
        replace(_STEPS, steps=3, thinks_ms=(30_000, 50_000), tools_take_ms=(20_000, 30_000), life_s=150, idle_s=90),
        quick=False,
    ),
    "stepped-writers-and-canceller": Scenario(_writers_and_canceller, replace(_STEPS, thinks_ms=(50, 90)), quick=False),
    "slow-steps-and-canceller": Scenario(
        _writers_and_canceller, replace(_STEPS, thinks_ms=(100_000, 120_000)), quick=False
    ),
    "stepped-writer-and-deleter": Scenario(_stepped_writer_and_deleter, _STEPS, quick=False),
    "stepped-writer-and-forker": Scenario(_stepped_writer_and_forker, _STEPS, quick=False),
    "stepped-writer-and-mover": Scenario(_stepped_writer_and_mover, replace(_STEPS, encrypted=True), quick=False),
    "writers-after-a-dead-step": Scenario(_writers_after_a_dead_step, _STEPS),
    "mover-and-writer-after-a-dead-step": Scenario(_mover_and_writer_after_a_dead_step, _STEPS, quick=False),
    "streamed-writers-and-canceller": Scenario(
        _writers_and_canceller, replace(_STREAMS, thinks_ms=(100_000, 120_000)), quick=False
    ),
    "streamed-writers-and-canceller-under-a-budget": Scenario(
        _writers_and_canceller, replace(_STREAMS, thinks_ms=(100_000, 120_000), policy=_BUDGET), quick=False
    ),
    "streamed-writer-and-deleter": Scenario(
        _slow_writer_and_deleter, replace(_STREAMS, thinks_ms=(100_000, 120_000)), quick=False
    ),
    "streamed-writers-under-one-key": Scenario(_stepped_writer_twice, _STREAMS),
    "streamed-writer-and-late-one": Scenario(_stepped_writer_and_late_one, _STREAMS, quick=False),
    "streamed-writer-overtaken-by-its-key": Scenario(_streamed_writer_overtaken_by_its_key, _STREAMS, quick=False),
    "streamed-writer-overtaken-by-another": Scenario(_streamed_writer_overtaken_by_another, _STREAMS, quick=False),
    "streams-until-the-end": Scenario(
        _two_stepped_writers,
        replace(_STREAMS, steps=3, thinks_ms=(30_000, 50_000), tools_take_ms=(20_000, 30_000), life_s=150, idle_s=90),
        quick=False,
    ),
    "streamed-writers-after-a-dead-step": Scenario(_writers_after_a_dead_step, _STREAMS, quick=False),
    "rollback": Scenario(_rollback, _ROLLBACK),
    "rollback-and-deleter": Scenario(_rollback_and_deleter, _ROLLBACK),
    "sweeper-after-a-rollback": Scenario(_sweeper_after_a_rollback, _ROLLBACK),
}
