"""Targets that Turnlog must reach beside its peers, each checked on the figures of the run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.bench.peers.catalog import RATE_LIMIT, SETTLED_BUDGET, WITHOUT_LIMITS
from tests.bench.peers.measure import Result

FLAT_FROM, MOST_GROWTH = 30, 1.05
COMPARED_AT = (50, 150)
MOST_CALLS = 3
MOST_WRITE_UNITS = {WITHOUT_LIMITS.name: 3, RATE_LIMIT.name: 6, SETTLED_BUDGET.name: 10}


@dataclass(frozen=True, slots=True)
class Target:
    """A sentence with the figures in it, and whether it is true."""

    says: str
    reached: bool


def targets(ours: Sequence[Result], peers: Sequence[Result]) -> Iterator[Target]:
    """The order is that of the design's table."""
    found = {result.configuration.name: result for result in ours}
    plain = found[WITHOUT_LIMITS.name].plain
    for turn in COMPARED_AT:
        best = min((peer for peer in peers if turn <= len(peer.plain.costs)), key=lambda peer: _dollars(peer, turn))
        own, theirs = plain.at(turn).dollars, _dollars(best, turn)
        says = f"turn {turn}: ${own:.2f} a million turns, the cheapest peer ({best.configuration.name}) ${theirs:.2f}"
        yield Target(says, own < theirs)
    early, late = plain.at(FLAT_FROM), plain.at(COMPARED_AT[-1])
    writes = f"write units at turn {late.turn} / {early.turn}: {late.write_units} / {early.write_units}"
    yield Target(f"{writes}, at most {MOST_GROWTH} times", late.write_units <= MOST_GROWTH * early.write_units)
    reads = f"read units at turn {late.turn} and {early.turn}: {late.read_units:g} and {early.read_units:g}"
    yield Target(f"{reads}, the same", late.read_units == early.read_units)
    for name, most in MOST_WRITE_UNITS.items():
        yield _within(found[name], most)
    yield Target("no turn that was answered is lost in a race, none is paid for in vain", all(map(_is_safe, ours)))


def _within(result: Result, most: int) -> Target:
    costs = result.plain.costs
    calls = max(cost.calls for cost in costs)
    units = max(cost.write_units for cost in costs)
    says = f"{result.configuration.name}: at most {calls} calls and {units} write units in any of {len(costs)} turns"
    return Target(f"{says}, where {MOST_CALLS} and {most} are allowed", calls <= MOST_CALLS and units <= most)


def _dollars(result: Result, turn: int) -> float:
    return result.plain.at(turn).dollars


def _is_safe(result: Result) -> bool:
    return all(race.kept == race.model_calls == race.answered and not race.is_blind for race in result.races)
