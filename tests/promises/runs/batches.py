"""Many runs at once, on all processors: their number, their cost, and the promises that they broke."""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from typing import TypeVar

from tests.promises.runs.runs import Run, random_run
from tests.promises.runs.scenarios import SCENARIOS, scenario_run, second_faults, single_faults
from tests.promises.simulator.faults import Fault

Job = TypeVar("Job")
ScenarioFault = tuple[str, int, Fault]

_CHUNK = 20


@dataclass
class Tally:
    """Counts runs. `broken` holds the broken promises of a run under the arguments that replay it."""

    runs: int = 0
    calls: int = 0
    model_calls: int = 0
    replies: int = 0
    turns: int = 0
    broken: dict[str, list[str]] = field(default_factory=dict)

    def add(self, run: Run) -> None:
        self.runs += 1
        self.calls += len(run.calls)
        self.model_calls += run.model_calls
        self.replies += run.replies
        self.turns += run.turns
        if run.broken:
            self.broken[run.name] = run.broken

    def merge(self, other: Tally) -> None:
        self.runs += other.runs
        self.calls += other.calls
        self.model_calls += other.model_calls
        self.replies += other.replies
        self.turns += other.turns
        self.broken |= other.broken

    def __str__(self) -> str:
        per_reply = self.model_calls / self.replies if self.replies else 0
        return (
            f"{self.runs:,} runs, {self.calls:,} calls of DynamoDB and the model, {self.turns:,} committed turns "
            f"with {self.replies:,} replies, {per_reply:.3f} model calls a reply, {len(self.broken)} broke a promise"
        )


def random_runs(seeds: Iterable[int]) -> Tally:
    return in_parallel(_random_runs, seeds)


def with_single_faults(names: Iterable[str] = tuple(SCENARIOS)) -> Tally:
    """Runs every fault of every call of the scenarios, and each scenario without any."""
    tally = Tally()
    for name in names:
        tally.add(scenario_run(name, {}))
    tally.merge(in_parallel(_single, all_single_faults(names)))
    return tally


def with_double_faults(names: Iterable[str] = tuple(SCENARIOS)) -> Tally:
    """Runs every fault of every call that can follow a first one, without those that a retry absorbs."""
    first = [each for each in all_single_faults(names) if each[2].lasts]
    return in_parallel(_doubles, first)


def all_single_faults(names: Iterable[str] = tuple(SCENARIOS)) -> Iterator[ScenarioFault]:
    for name in names:
        for faults in single_faults(scenario_run(name, {}).calls):
            for index, fault in faults.items():
                yield name, index, fault


def in_parallel(work: Callable[[Sequence[Job]], Tally], jobs: Iterable[Job]) -> Tally:
    """Works in a process for each processor; in this one where pytest has started such processes already."""
    jobs, tally = iter(jobs), Tally()
    chunks = iter(lambda: list(islice(jobs, _CHUNK)), [])
    if "PYTEST_XDIST_WORKER" in os.environ:
        for chunk in chunks:
            tally.merge(work(chunk))
        return tally
    for done in _processes().map(work, chunks):
        tally.merge(done)
    return tally


@cache
def _processes() -> ProcessPoolExecutor:
    """Starts them once: to load all modules takes longer than most scenarios."""
    return ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn"), _begin)


def _begin() -> None:
    """Leaves what is loaded, which is all when this module is, out of every garbage collection."""
    gc.freeze()


def _random_runs(seeds: Sequence[int]) -> Tally:
    tally = Tally()
    for seed in seeds:
        tally.add(random_run(seed))
    return tally


def _single(faults: Sequence[ScenarioFault]) -> Tally:
    tally = Tally()
    for name, index, fault in faults:
        tally.add(scenario_run(name, {index: fault}))
    return tally


def _doubles(faults: Sequence[ScenarioFault]) -> Tally:
    tally = Tally()
    for name, index, fault in faults:
        first = {index: fault}
        for both in second_faults(first, scenario_run(name, first).calls):
            tally.add(scenario_run(name, both))
    return tally
