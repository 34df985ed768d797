"""The costs of each turn of a conversation in a store, and the turn at which the store gives up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.bench.peers import texts
from tests.bench.peers.client import Client
from tests.bench.peers.ledger import READ_DOLLARS, WRITE_DOLLARS, Call, Ledger

MEASURED_TURNS = 150
MOST_TURNS = 400
MOST_TURNS_WITH_TOOLS = 200


@dataclass(frozen=True, slots=True)
class Cost:
    """One turn, its rehydration included. Bytes are those of items; `shown` counts the messages before the new one."""

    turn: int
    calls: int
    shown: int
    read_bytes: int
    written_bytes: int
    read_units: float
    write_units: int

    @property
    def dollars(self) -> float:
        """For a million such turns, on demand."""
        return self.read_units * READ_DOLLARS + self.write_units * WRITE_DOLLARS


@dataclass(frozen=True, slots=True)
class Break:
    """The turn that failed, why, and whether the model had been asked, and so paid, by then."""

    turn: int
    error: str
    paid: bool


@dataclass(frozen=True, slots=True)
class Conversation:
    """The cost of every turn up to the one that broke, if one did."""

    costs: Sequence[Cost]
    broke: Break | None

    def at(self, turn: int) -> Cost:
        return self.costs[turn - 1]


def converse(client: Client, ledger: Ledger, session: str, question: Callable[[int], str], turns: int) -> Conversation:
    """Up to so many turns. Raises AssertionError when the model is shown a history that is not what was said."""
    ledger.take(client.name)
    said: list[str] = []
    costs: list[Cost] = []
    for turn in range(1, turns + 1):
        said.append(question(turn))
        taken = client.turn(session, said[-1], texts.answer(turn))
        if taken.error:
            return Conversation(costs, Break(turn, taken.error, taken.paid))
        assert taken.shown, f"turn {turn}: the model was not asked"
        assert taken.shown == said[-len(taken.shown) :], f"turn {turn}: the model was shown another history"
        said.append(texts.answer(turn))
        costs.append(_sum(turn, len(taken.shown) - 1, ledger.take(client.name)))
    return Conversation(costs, None)


def _sum(turn: int, shown: int, calls: Sequence[Call]) -> Cost:
    return Cost(
        turn,
        len(calls),
        shown,
        sum(call.read_bytes for call in calls),
        sum(call.written_bytes for call in calls),
        sum(call.read_units for call in calls),
        sum(call.write_units for call in calls),
    )
