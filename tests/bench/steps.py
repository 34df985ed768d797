"""A turn of several steps on DynamoDB: the cost of its lease, of a renewal, of each checkpoint and of its commit.

The turn calls a tool so often, whose results are 8,000 characters of prose each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal

from moto import mock_aws

from tests.bench.capacity import Meter
from tests.bench.conversation import prose
from tests.bench.moto_tables import KEYS, SESSIONS, USAGE, client_of_tables
from tests.fakes import HeldClock, ScriptedModel, called, new_session
from tests.wrapping import LocalWrapper
from turnlog.adapters.dynamodb import DynamoDBSessionStore, OwnerKeys
from turnlog.domain.limits import OwnerLimits
from turnlog.domain.messages import Message, to_json
from turnlog.domain.quotas import QuotaCharge
from turnlog.domain.sessions import Session, SessionSettings
from turnlog.domain.tools import ToolCall, ToolResult
from turnlog.domain.turns import Lease, Slot, Step, Turn
from turnlog.usecases.renewal import RENEW_EVERY_S, Renewing
from turnlog.usecases.turn_protocol import run_turn
from turnlog.usecases.turn_request import TurnPolicy, TurnRequest

LOOK_UP = "look_up"
RESULT_CHARACTERS = 8_000
MINUTES = 15


@dataclass(frozen=True, slots=True)
class WriteCost:
    """One write of the turn: its calls, its write units, and those units when its owner has a budget."""

    written: str
    calls: int
    write_units: int
    with_budget: int


class _MeteredStore(DynamoDBSessionStore):
    """Notes what each write of a turn takes."""

    def watch(self, meter: Meter) -> None:
        self._meter = meter
        self.costs: list[tuple[str, int, int]] = []

    def _note(self, written: str) -> None:
        taken = self._meter.take()
        self.costs.append((written, len(taken.calls), taken.write_units))

    def acquire(self, session: Session, lease: Lease, over: Lease | None) -> Slot | None:
        self._meter.take()
        found = super().acquire(session, lease, over)
        self._note("the lease")
        return found

    def renew(self, session: Session, lease: Lease, seen: int) -> Slot | None:
        found = super().renew(session, lease, seen)
        self._note("a renewal")
        return found

    def checkpoint(
        self,
        session: Session,
        lease: Lease,
        seen: int,
        step: Step,
        *,
        message: Sequence[Message] = (),
        settlement: tuple[QuotaCharge, ...] = (),
        charges: tuple[QuotaCharge, ...] = (),
    ) -> Slot | None:
        found = super().checkpoint(session, lease, seen, step, message=message, settlement=settlement, charges=charges)
        written = "the results of its tool" if step.results else "a step's reply"
        self._note("the message and the first step's reply" if message else written)
        return found

    def commit(self, session: Session, turn: Turn, settlement: tuple[QuotaCharge, ...] = ()) -> Slot | None:
        found = super().commit(session, turn, settlement)
        self._note("the commit")
        return found


class _Tools:
    """Answers each call with new prose."""

    def run(self, calls: Sequence[ToolCall], owner: str, seconds: float) -> list[ToolResult]:
        return [ToolResult(call.id, to_json(prose(call.id, RESULT_CHARACTERS))) for call in calls]


@contextmanager
def _renewed_once(renew: Callable[[], bool]) -> Iterator[None]:
    renew()
    yield


@contextmanager
def _never_renewed(renew: Callable[[], bool]) -> Iterator[None]:
    yield


def measure(steps: int = 10) -> list[WriteCost]:
    """The writes of a turn of so many steps, in order."""
    plain, charged = _costs(steps, _never_renewed, TurnPolicy()), _costs(steps, _never_renewed, _with_budget())
    found = [WriteCost(*each, with_budget=units) for each, (*_, units) in zip(plain, charged, strict=True)]
    renewal = next(each for each in _costs(1, _renewed_once, TurnPolicy()) if each[0] == "a renewal")
    return [*found, WriteCost(*renewal, with_budget=renewal[2])]


def _with_budget() -> TurnPolicy:
    return TurnPolicy(owner=OwnerLimits(budget_a_day=Decimal(10**9)))


def _costs(steps: int, renewing: Renewing, policy: TurnPolicy) -> list[tuple[str, int, int]]:
    """The name of each write of a turn, its calls and its write units."""
    with mock_aws():
        client = client_of_tables()
        clock, meter, begun = HeldClock(), Meter(), new_session()
        keys = OwnerKeys(client, KEYS, LocalWrapper(), clock)
        store = _MeteredStore(client, SESSIONS, USAGE, keys=keys)
        settings = SessionSettings(begun.settings.model, 1000, tools="[]", own_tools=(LOOK_UP,))
        session = store.create(replace(begun, settings=settings), "")
        meter.watch(client)
        store.watch(meter)
        script = [(called((LOOK_UP, {}), first=number), "tool_use") for number in range(1, steps + 1)]
        run_turn(
            TurnRequest(session.owner, session.id, b"key".ljust(16), b"body".ljust(16), Message.of_text("Look it up.")),
            store=store,
            model=ScriptedModel(script=[*script, ([{"type": "text", "text": prose("the end", 1000)}], "end_turn")]),
            tools=_Tools(),
            clock=clock,
            remaining_s=lambda: 60.0 * MINUTES,
            renewing=renewing,
            policy=policy,
        )
        return store.costs


def table(costs: Sequence[WriteCost]) -> list[str]:
    """Returns the table of docs/benchmarks.md: each kind of write once, and the sums of two turns."""
    lines = ["| write | calls | write units | with a budget |", "|---|---|---|---|"]
    kinds = {each.written: each for each in costs}
    lines += [f"| {each.written} | {each.calls} | {each.write_units} | {each.with_budget} |" for each in kinds.values()]
    *turn, renewal = costs
    steps = sum(each.written == "the results of its tool" for each in turn)
    sums = [sum(getattr(each, name) for each in turn) for name in ("calls", "write_units", "with_budget")]
    lines.append(f"| **a turn of {steps} steps** |" + "".join(f" **{each}** |" for each in sums))
    for minutes in (1, 5, MINUTES):
        times = round(60 * minutes / RENEW_EVERY_S)
        units = f"{times * renewal.write_units} | {times * renewal.with_budget}"
        lines.append(f"| {minutes} minute{'s' if minutes > 1 else ''} of renewals | {times} | {units} |")
    return lines
