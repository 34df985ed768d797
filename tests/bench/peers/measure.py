"""All that is measured of one store: two conversations, and two races."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.peers import texts
from tests.bench.peers.catalog import Configuration
from tests.bench.peers.client import Client, client
from tests.bench.peers.costs import MOST_TURNS, MOST_TURNS_WITH_TOOLS, Conversation, converse
from tests.bench.peers.races import Race, race_thinking, race_writing
from tests.bench.peers.wire import Wire


@dataclass(frozen=True, slots=True)
class Result:
    """`plain` is the conversation of 2,000 characters a turn; in `tools` every tenth turn brings 60,000 more."""

    configuration: Configuration
    plain: Conversation
    tools: Conversation
    races: Sequence[Race]


def measure(configuration: Configuration, number: int, wire: Wire, folder: Path) -> Result:
    """One process talks, and later looks at what two others leave when they race. `number` keeps stores apart."""
    client_dir = folder / str(number)
    client_dir.mkdir()

    def start(name: str) -> AbstractContextManager[Client]:
        return client(f"{name}{number}", configuration, wire.url, client_dir)

    with start("observer") as observer:
        sessions = [observer.create(f"session-{number:02}-{which}") for which in range(4)]
        plain = converse(observer, wire.ledger, sessions[0], texts.question, MOST_TURNS)
        tools = converse(observer, wire.ledger, sessions[1], texts.question_with_tool_result, MOST_TURNS_WITH_TOOLS)
        with start("alice") as alice, start("bob") as bob:
            racers = {"A": alice, "B": bob}
            thinking = race_thinking(observer, racers, sessions[2], wire.ledger)
            writing = race_writing(observer, racers, sessions[3], wire.gate)
    return Result(configuration, plain, tools, (thinking, writing))
