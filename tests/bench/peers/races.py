"""Two turns taken at once by two processes, in two schedules without chance, and what the store keeps of them.

`while the model thinks`: both have read the session and ask the model; then A gets its reply and saves, then B. This is
what a user does who sends again before the answer is there, over seconds.

`between read and write`: both have read all that they read before their first write, which the relay holds; then A goes
on to its end, then B. This is the narrow window that a store may leave open even if it reads again before it saves.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.bench.peers.client import Client, Taken
from tests.bench.peers.gate import Gate
from tests.bench.peers.ledger import Ledger

Racers = Mapping[str, Client]
"""A and B, in this order."""

THINKING, WRITING = "while the model thinks", "between read and write"

_BEFORE = [("question 1", "reply 1"), ("question 2", "reply 2")]


@dataclass(frozen=True, slots=True)
class Race:
    """The outcome of two turns at once: `stored` is read by a third process, `shown` is the input of each model."""

    schedule: str
    stored: Sequence[str]
    shown: Mapping[str, Sequence[str] | None]
    errors: Mapping[str, str]

    @property
    def model_calls(self) -> int:
        return sum(seen is not None for seen in self.shown.values())

    @property
    def kept(self) -> int:
        """Turns that are stored as they were answered: the reply after its question."""
        return sum(f"question {who} reply {who}" in " ".join(self.stored) for who in self.shown)

    @property
    def answered(self) -> int:
        return sum(not error for error in self.errors.values())

    @property
    def is_blind(self) -> bool:
        """True when a reply was computed from another history than the one that now stands before it."""
        return bool(self._blindness())

    @property
    def verdict(self) -> str:
        """Every promise that broke, in words; or that none did."""
        fates = [*map(self._fate, self.shown), self._interleaving() or self._blindness()]
        return "; ".join(filter(None, fates)) or _IN_ORDER

    def _fate(self, who: str) -> str:
        if error := self.errors[who]:
            when = "before the model was asked" if self.shown[who] is None else "after the model was paid"
            return f"{who} is refused {when} ({error.partition(':')[0]})"
        match f"question {who}" in self.stored, f"reply {who}" in self.stored:
            case False, False:
                return f"{who}'s turn is lost, though it was answered"
            case False, True:
                return f"{who}'s question is lost, its reply stands under another"
            case True, False:
                return f"{who}'s reply is lost, though it was given"
        return ""

    def _interleaving(self) -> str:
        """Both turns are whole, but not each for itself."""
        tail = self.stored[-4:]
        is_whole = set(tail) == {f"{part} {who}" for who in self.shown for part in ("question", "reply")}
        return f"the turns are interleaved: {', '.join(tail)}" if is_whole and self.kept < len(self.shown) else ""

    def _blindness(self) -> str:
        """The writers whose reply was computed from another history than the one that now stands before it."""
        placed = {who: f"reply {who}" for who, seen in self.shown.items() if seen and f"reply {who}" in self.stored}
        blind = [
            who
            for who, reply in placed.items()
            if list(self.shown[who] or ()) != list(self.stored[: self.stored.index(reply)])
        ]
        return f"{' and '.join(blind)} was answered without what now stands before it" if blind else ""


_IN_ORDER = "both kept, one after the other, each computed from the turns before it"


def race_thinking(observer: Client, racers: Racers, session: str, ledger: Ledger) -> Race:
    """Both begin, then both end, A first; what one writes in the background is written before the next step."""
    _talk(observer, session)
    taken: dict[str, Taken] = {}
    for who, client in racers.items():
        taken[who] = client.begin(session, f"question {who}")
        ledger.settle(client.name)
    for who, client in racers.items():
        if taken[who].paid and not taken[who].error:
            client.end(f"reply {who}")
            ledger.settle(client.name)
    return _left(THINKING, observer, session, taken)


def race_writing(observer: Client, racers: Racers, session: str, gate: Gate) -> Race:
    """Both read; then A writes to its end, then B."""
    _talk(observer, session)
    taken: dict[str, Taken] = {}

    def run(who: str, client: Client) -> None:
        try:
            taken[who] = client.turn(session, f"question {who}", f"reply {who}")
        finally:
            gate.leave(client.name)

    gate.hold(*(client.name for client in racers.values()))
    threads = {who: threading.Thread(target=run, args=(who, client), daemon=True) for who, client in racers.items()}
    for who, client in racers.items():
        threads[who].start()
        gate.wait_until_held(client.name)
    for who, client in racers.items():
        gate.open(client.name)
        threads[who].join()
    return _left(WRITING, observer, session, taken)


def _talk(observer: Client, session: str) -> None:
    for question, reply in _BEFORE:
        taken = observer.turn(session, question, reply)
        assert not taken.error, taken.error


def _left(schedule: str, observer: Client, session: str, taken: Mapping[str, Taken]) -> Race:
    shown = {who: each.shown for who, each in taken.items()}
    return Race(schedule, observer.history(session), shown, {who: each.error for who, each in taken.items()})
