"""Hunts a mutant: looks for a run that breaks a promise while the mutant is planted."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from tests.promises.mutants.mutants import MUTANTS, Mutant
from tests.promises.mutants.patching import planted
from tests.promises.runs.runs import Run, random_run
from tests.promises.runs.scenarios import SCENARIOS, Faults, scenario_run, single_faults

Scenarios = list[tuple[str, Faults]]


@dataclass(frozen=True)
class Hunt:
    """`noticed_by` replays the run that broke a promise, and `broken` is which; both empty for a survivor."""

    mutant: Mutant
    runs: int
    noticed_by: str = ""
    broken: str = ""

    @property
    def is_wrong(self) -> bool:
        """Whether it came out otherwise than the table says."""
        return bool(self.noticed_by) == bool(self.mutant.harmless)

    def __str__(self) -> str:
        fate = f"noticed after {self.runs} by {self.noticed_by}: {self.broken}" if self.noticed_by else "survived"
        reason = f" (harmless: {self.mutant.harmless})" if self.mutant.harmless else ""
        return f"{'WRONG ' if self.is_wrong else ''}without: {self.mutant.without}: {fate}{reason}"


def hunt(mutant: Mutant, seeds: Iterable[int], scenarios: Scenarios) -> Hunt:
    """Tries the runs in this order until one notices."""
    tried = 0
    with planted(mutant.edits):
        for run in _runs(seeds, scenarios):
            tried += 1
            if run.broken:
                return Hunt(mutant, tried, run.name, run.broken[0])
    return Hunt(mutant, tried)


def hunt_all(most_seeds: int = 1500) -> list[Hunt]:
    """All mutants with random runs and every single fault."""
    scenarios = every_single_fault()
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        hunts = [pool.submit(_hunt_number, number, most_seeds, scenarios) for number in range(len(MUTANTS))]
        return [each.result() for each in hunts]


def every_single_fault() -> Scenarios:
    return [(name, faults) for name in SCENARIOS for faults in single_faults(scenario_run(name, {}).calls)]


def _hunt_number(number: int, most_seeds: int, scenarios: Scenarios) -> Hunt:
    return hunt(MUTANTS[number], range(most_seeds), scenarios)


def _runs(seeds: Iterable[int], scenarios: Scenarios) -> Iterator[Run]:
    seeds = iter(seeds)
    for seed in seeds:
        yield random_run(seed)
        if seed == 100:
            break
    for name, faults in scenarios:
        yield scenario_run(name, faults)
    for seed in seeds:
        yield random_run(seed)
