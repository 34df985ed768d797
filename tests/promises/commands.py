"""Replays a run of the promises, or proves them all.

python -m tests.promises --seed 17
python -m tests.promises --scenario writer-and-mover --fault 12:crash-after --fault 15:late
python -m tests.promises prove              10,000 random runs, single and double faults, mutants
python -m tests.promises prove --runs 500   fewer of them
python -m tests.promises counts             how many promises, scenarios, mutants and facts the tests hold
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from tests.promises.counts import counts, is_fewer, line
from tests.promises.mutants.mutation_run import run_all_mutants
from tests.promises.runs.batches import Tally, random_runs, with_double_faults, with_single_faults
from tests.promises.runs.runs import Run, random_run
from tests.promises.runs.scenarios import SCENARIOS, scenario_run
from tests.promises.simulator.faults import Fault


def main(arguments: list[str]) -> int:
    """Returns 1 when a promise was broken, a mutant came out otherwise than listed, or a count fell below its floor."""
    parser = argparse.ArgumentParser(prog="python -m tests.promises", description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=["prove", "counts"])
    parser.add_argument("--runs", type=int, default=10_000, help="random runs of prove")
    parser.add_argument("--seed", type=int, help="replay this random run")
    parser.add_argument("--scenario", choices=SCENARIOS, help="replay this scenario")
    parser.add_argument("--fault", action="append", default=[], type=_fault, help="of the scenario, as in 12:late")
    given = parser.parse_args(arguments)
    if given.what:
        return prove(given.runs) if given.what == "prove" else counted()
    if given.seed is None and given.scenario is None:
        parser.error("prove, counts, --seed or --scenario")
    run = random_run(given.seed) if given.seed is not None else scenario_run(given.scenario, dict(given.fault))
    return replayed(run)


def replayed(run: Run) -> int:
    _say(run.report())
    return 1 if run.broken else 0


def counted() -> int:
    found = counts()
    _say(line(found))
    return 1 if is_fewer(found) else 0


def prove(runs: int) -> int:
    found = [
        _tallied("random runs", lambda: random_runs(range(runs))),
        _tallied("single faults, all of them", with_single_faults),
        _tallied("double faults, all of them", with_double_faults),
    ]
    began = time.monotonic()
    results = run_all_mutants()
    _say(f"{len(results)} mutants, {time.monotonic() - began:.0f} s")
    for result in results:
        _say(f"  {result}")
    is_less = counted() > 0
    return 1 if is_less or any(found) or any(result.is_unexpected for result in results) else 0


def _tallied(what: str, work: Callable[[], Tally]) -> bool:
    began = time.monotonic()
    tally = work()
    _say(f"{what}: {tally}, {time.monotonic() - began:.0f} s")
    for name, sentences in list(tally.broken.items())[:10]:
        _say(f"  python -m tests.promises {name}\n    " + "\n    ".join(sentences[:5]))
    return bool(tally.broken)


def _fault(text: str) -> tuple[int, Fault]:
    index, _, name = text.partition(":")
    return int(index), Fault(name)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
