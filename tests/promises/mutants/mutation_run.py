"""Runs the suite on a mutant: looks for a run that breaks a promise while a rule is missing."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from tests.promises.mutants.catalogue import MUTANTS
from tests.promises.mutants.mutant import Mutant
from tests.promises.mutants.patching import patched
from tests.promises.runs.runs import Run, random_run
from tests.promises.runs.scenarios import SCENARIOS, Faults, scenario_run, single_faults

Scenarios = list[tuple[str, Faults]]


@dataclass(frozen=True)
class MutationResult:
    """`noticed_by` replays the run that broke a promise, and `broken` is which; both empty for a survivor."""

    mutant: Mutant
    runs: int
    noticed_by: str = ""
    broken: str = ""

    @property
    def is_unexpected(self) -> bool:
        """True when a mutant survived that is not harmless, or a harmless one was noticed."""
        return bool(self.noticed_by) == bool(self.mutant.harmless)

    def __str__(self) -> str:
        fate = f"noticed after {self.runs} by {self.noticed_by}: {self.broken}" if self.noticed_by else "survived"
        reason = f" (harmless: {self.mutant.harmless})" if self.mutant.harmless else ""
        return f"{'WRONG ' if self.is_unexpected else ''}without: {self.mutant.rule}: {fate}{reason}"


def run_mutant(mutant: Mutant, seeds: Iterable[int], scenarios: Scenarios) -> MutationResult:
    """Tries the runs in this order until one notices."""
    tried = 0
    with patched(mutant.edits):
        for run in _runs(seeds, scenarios):
            tried += 1
            if run.broken:
                return MutationResult(mutant, tried, run.name, run.broken[0])
    return MutationResult(mutant, tried)


def run_all_mutants(most_seeds: int = 1500) -> list[MutationResult]:
    """Runs each mutant with random runs and every single fault, on all processors."""
    scenarios = every_single_fault()
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        results = [pool.submit(_run_mutant_number, number, most_seeds, scenarios) for number in range(len(MUTANTS))]
        return [each.result() for each in results]


def every_single_fault() -> Scenarios:
    return [(name, faults) for name in SCENARIOS for faults in single_faults(scenario_run(name, {}).calls)]


def _run_mutant_number(number: int, most_seeds: int, scenarios: Scenarios) -> MutationResult:
    return run_mutant(MUTANTS[number], range(most_seeds), scenarios)


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
