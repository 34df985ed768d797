"""The addresses that belong together: those that one session had, one after the other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.promises.world.history import Act, Address, Creating, Forking, Moving, Taking
from turnlog.domain.turns import Turn
from turnlog.usecases.turn_protocol import TakenTurn


@dataclass(frozen=True)
class Lineage:
    """A session and all acts at any of its addresses, the first of which is `origin`."""

    origin: Address
    addresses: frozenset[Address]
    acts: tuple[Act[Any], ...]

    def done(self, kind: type[Act[Any]]) -> list[Any]:
        return [act for act in self.acts if isinstance(act, kind)]

    @property
    def takings(self) -> list[Taking]:
        return self.done(Taking)

    def returned(self, before_ms: int) -> list[tuple[Taking, Turn]]:
        """Returns the turns whose replies had been returned before that. Within a millisecond there is no order."""
        found = [(act, act.result) for act in self.takings if act.ended_ms < before_ms]
        return [(act, result.turn) for act, result in found if isinstance(result, TakenTurn)]


def lineages(acts: Iterable[Act[Any]]) -> list[Lineage]:
    """Returns one for each session that was made, or tried to be made, in the order of their first acts."""
    acts = list(acts)
    moves = [act for act in acts if isinstance(act, Moving)]
    origins = dict.fromkeys(act.address for act in acts if isinstance(act, Creating))
    origins |= dict.fromkeys(act.child for act in acts if isinstance(act, Forking))
    found = []
    for origin in origins:
        addresses = {origin}
        while more := {move.to for move in moves if move.address in addresses} - addresses:
            addresses |= more
        here = tuple(act for act in acts if act.address in addresses)
        found.append(Lineage(origin, frozenset(addresses), here))
    return found
