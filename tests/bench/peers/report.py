"""The figures as one table for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from tests.bench.peers import dynamodb_local
from tests.bench.peers.costs import MOST_TURNS, MOST_TURNS_WITH_TOOLS, Conversation, Cost
from tests.bench.peers.ledger import READ_DOLLARS, WRITE_DOLLARS
from tests.bench.peers.measure import Result
from tests.bench.peers.targets import Target

SHOWN_AT = (1, 10, 50, 150)
KEPT_AT = (1, 10, 30, 50, 150)


def table(results: Sequence[Result]) -> Iterator[str]:
    """Line by line: what turns cost, where each store breaks, and what two turns at once leave."""
    yield f"{'':38} turn  calls  shown  bytes read  written  read units  write units  $ a million turns"
    for result in results:
        for turn in SHOWN_AT:
            name = result.configuration.name if turn == SHOWN_AT[0] else ""
            yield f"{name:38} {turn:4}" + _figures(result.plain, turn)
    yield ""
    yield f"{'The turn that fails':38} {'prose alone':>12}  {'with 60 KB of tool result every tenth turn':>43}"
    for result in results:
        alone, with_tools = _break(result.plain, MOST_TURNS), _break(result.tools, MOST_TURNS_WITH_TOOLS)
        yield f"{result.configuration.name:38} {alone:>12}  {with_tools:>43}"
    yield ""
    yield "Two turns at once"
    for result in results:
        yield result.configuration.name
        yield from (f"  {race.schedule}: {race.verdict}" for race in result.races)


def as_json(results: Sequence[Result], targets: Sequence[Target]) -> dict[str, Any]:
    """Everything that the table says, the versions and settings behind it, and the dollars of every turn."""
    return {
        "measured_on": f"DynamoDB Local, {dynamodb_local.VERSION}; units computed from the bytes of the items",
        "dollars_per_million_units": {"read": READ_DOLLARS, "write": WRITE_DOLLARS},
        "stores": [_store(result) for result in results],
        "targets": [asdict(target) for target in targets],
    }


def _figures(conversation: Conversation, turn: int) -> str:
    if turn > len(conversation.costs):
        return "      -" * 3
    cost = conversation.at(turn)
    return (
        f"  {cost.calls:5}  {cost.shown:5}  {cost.read_bytes:10}  {cost.written_bytes:7}  {cost.read_units:10.1f}"
        f"  {cost.write_units:11}  {cost.dollars:17.2f}"
    )


def _break(conversation: Conversation, most: int) -> str:
    return str(conversation.broke.turn) if conversation.broke else f"none of {most}"


def _store(result: Result) -> dict[str, Any]:
    configuration = result.configuration
    return {
        "name": configuration.name,
        "versions": configuration.versions,
        "settings": dict(configuration.settings),
        "note": configuration.note,
        "prose": _conversation(result.plain),
        "with_tool_results": _conversation(result.tools),
        "races": [asdict(race) | {"verdict": race.verdict} for race in result.races],
    }


def _conversation(conversation: Conversation) -> dict[str, Any]:
    return {
        "turns": [_cost(conversation.at(turn)) for turn in KEPT_AT if turn <= len(conversation.costs)],
        "broke": asdict(conversation.broke) if conversation.broke else None,
        "dollars_per_million": [round(cost.dollars, 4) for cost in conversation.costs],
    }


def _cost(cost: Cost) -> dict[str, Any]:
    return asdict(cost) | {"dollars_per_million": round(cost.dollars, 4)}
