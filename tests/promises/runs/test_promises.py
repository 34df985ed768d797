"""The promises hold in simulated worlds: for many seeds, and under each fault of the scenarios.

`make prove` does the same with 10,000 seeds and every two faults. A run that breaks a promise prints how to replay it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.promises.runs.batches import Tally, random_runs, with_single_faults
from tests.promises.runs.runs import Run, random_run
from tests.promises.runs.scenarios import SCENARIOS, scenario_run
from tests.promises.simulator.faults import Fault

SEEDS = 300
WITH_A_DELETE = {name for name in SCENARIOS if "deleter" in name or "eras" in name} | {
    "two-creators",
    "large-turns",
    "steps-in-parts",
    "old-views",
}
"""Scenarios in which a turn may be paid and then refused, since its session was deleted meanwhile."""
PAID_IN_VAIN = WITH_A_DELETE | {
    "writers-who-wait-in-vain",
    "streamed-writer-overtaken-by-its-key",
    "streamed-writer-overtaken-by-another",
    "streams-until-the-end",
}


def require_kept(tally: Tally) -> None:
    """Prints the first run that broke a promise, in full."""
    for name, sentences in tally.broken.items():
        pytest.fail(f"{tally}\n\n{_again(name).report()}\n\nfirst in {name}: {sentences[0]}", pytrace=False)


def _again(name: str) -> Run:
    """Runs again what the name replays."""
    words = name.split()
    if words[0] == "--seed":
        return random_run(int(words[1]))
    faults = dict(word.split(":") for word in words[3::2])
    return scenario_run(words[1], {int(index): Fault(fault) for index, fault in faults.items()})


def test_every_promise_holds_in_300_random_worlds() -> None:
    tally = random_runs(range(SEEDS))
    require_kept(tally)
    assert tally.runs == SEEDS
    assert tally.turns > 3 * SEEDS
    assert 1 < tally.model_calls / tally.replies < 1.3
    assert tally.replies > 1.2 * tally.turns


@pytest.mark.parametrize("name", [name for name, scenario in SCENARIOS.items() if scenario.quick])
def test_every_promise_holds_under_each_single_fault(name: str) -> None:
    tally = with_single_faults([name])
    require_kept(tally)
    assert tally.runs > 50


@pytest.mark.parametrize("name", sorted(set(SCENARIOS) - PAID_IN_VAIN))
def test_without_faults_a_reply_costs_one_model_call(name: str) -> None:
    run = scenario_run(name, {})
    assert run.broken == []
    assert run.model_calls == run.replies


def test_a_seed_always_gives_the_same_run_whatever_the_process() -> None:
    def traced(hash_seed: str) -> str:
        environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": "layers/turnlog/python"}
        command = [sys.executable, "-m", "tests.promises", "--seed", "8"]
        root = Path(__file__).parents[3]
        return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False).stdout

    assert len(traced("1")) > 1000
    assert traced("1") == traced("2")
