"""The network between a process and DynamoDB: calls take time, get lost or come late, and processes die."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from botocore.exceptions import ConnectionClosedError, ConnectTimeoutError, ReadTimeoutError

from tests.promises.simulator.dynamodb import SimulatedDynamoDB, cancelled
from tests.promises.simulator.faults import READS, WRITES, Fault, Plan
from tests.promises.simulator.schedule import Crash, Schedule
from tests.promises.simulator.write_actions import refused

_ENDPOINT = "https://dynamodb.simulated"
_STALL_MS = (5_000, 70_000)
_LATE_MS = ((5, 200), (200, 5_000), (5_000, 90_000))
_HELD = {Fault.HELD_BRIEFLY: (1, 3), Fault.HELD: (4, 10), Fault.HELD_LONG: (11, 30)}
_NEVER_APPLIED = (Fault.LOST_BEFORE, Fault.OUT_BEFORE)
_APPLIED_LATE = (Fault.LATE, Fault.OUT_LATE, Fault.CRASH_LATE)
_LASTING = (Fault.OUT_BEFORE, Fault.OUT_AFTER, Fault.OUT_LATE)


@dataclass(slots=True)
class Step:
    """One call, as the trace shows it."""

    index: int
    at_ms: int
    process: str
    operation: str
    arguments: dict[str, Any]
    fault: str = ""
    outcome: str = "no answer"


@dataclass
class Network:
    """Carries all calls of a run. Those of its actors are `counted`, and only they can fail.

    With `torn` a read sees each item as it was at some moment between request and answer.
    """

    schedule: Schedule
    service: SimulatedDynamoDB
    plan: Plan
    chance: random.Random
    latency_ms: Callable[[], int]
    torn: bool = False
    steps: list[Step] = field(default_factory=list)
    counted: int = 0
    on_their_way: list[tuple[Step, dict[str, Any]]] = field(default_factory=list)

    def begin(self, process: Process, operation: str, arguments: dict[str, Any]) -> tuple[Step, Fault | None]:
        """Notes the call and returns its fault."""
        process.require_alive()
        index, fault = -1, None
        if self.schedule.running:
            index, self.counted = self.counted, self.counted + 1
            fault = self.plan.fault(index, operation)
        if process.cut_off_from == (operation, arguments):
            fault = Fault.OUT_BEFORE
        step = Step(index, self.schedule.now_ms, process.name, operation, arguments, fault or "")
        self.steps.append(step)
        return step, fault

    def call(self, process: Process, operation: str, **arguments: Any) -> Any:
        """Answers like boto3's client."""
        step, fault = self.begin(process, operation, arguments)
        process.come_to(arguments)
        if fault is Fault.CRASH_BEFORE:
            process.die()
        process.cut_off_from = (operation, arguments) if fault in _LASTING else None
        if fault is Fault.STALL:
            process.pause(self.chance.randint(*_STALL_MS))
        elif fault in _HELD:
            self.schedule.hold(self.chance.randint(*_HELD[fault]))
        sent_at = self.service.tables.instant
        process.pause(self.latency_ms())
        if fault in (Fault.THROTTLED, Fault.CONFLICT):
            step.outcome = "refused"
            raise self._refusal(fault, operation, arguments)
        if fault in _APPLIED_LATE:
            due_ms = step.at_ms + self.chance.randint(*self.chance.choice(_LATE_MS))
            in_ms = max(0, due_ms - self.schedule.now_ms)
            self.on_their_way.append((step, arguments))
            self.schedule.spawn(f"{process.name}'s late call", partial(self._late, step), in_ms=in_ms)
        elif fault not in _NEVER_APPLIED:
            self.service.tables.view_from = sent_at if self.torn and operation in READS else None
            answer = self._applied(step, fault, arguments)
        if fault in (Fault.CRASH_AFTER, Fault.CRASH_LATE):
            process.die()
        if fault in _APPLIED_LATE or fault in _NEVER_APPLIED or fault in (Fault.LOST_AFTER, Fault.OUT_AFTER):
            raise self._lost()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _applied(self, step: Step, fault: Fault | None, arguments: dict[str, Any]) -> Any:
        """Returns the answer, or the error that is the answer."""
        left_over: dict[str, Any] = {}
        if step.operation == "batch_write_item" and fault and (fault is Fault.PARTIAL or self.chance.random() < 0.5):
            arguments, left_over = self._divided(arguments)
        try:
            answer = getattr(self.service, step.operation)(**arguments)
        except Exception as error:  # noqa: BLE001 (whatever DynamoDB raises is its answer)
            step.outcome = _shown_error(error)
            return error
        step.outcome = _shown_answer(answer)
        if left_over:
            answer["UnprocessedItems"] = left_over
        return answer

    def _divided(self, arguments: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Divides a batch in two: the writes that are done, at least one, and those that are left over."""
        writes = [(table, write) for table, some in arguments["RequestItems"].items() for write in some]
        self.chance.shuffle(writes)
        done = self.chance.randint(1, len(writes))
        return {"RequestItems": _by_table(writes[:done])}, _by_table(writes[done:])

    def land_all(self) -> None:
        """Applies all writes that are still on their way, since no write is for hours."""
        for step, _ in [*self.on_their_way]:
            self._late(step)

    def _late(self, step: Step) -> None:
        for each in [each for each in self.on_their_way if each[0] is step]:
            self.on_their_way.remove(each)
            self._applied(step, None, each[1])
            step.outcome += f", applied {self.schedule.now_ms - step.at_ms} ms after it was sent"

    def _refusal(self, fault: Fault, operation: str, arguments: dict[str, Any]) -> Exception:
        transaction = operation == "transact_write_items"
        code, reason = ("ThrottlingException", "ThrottlingError")
        if fault is Fault.CONFLICT:
            code, reason = ("TransactionConflictException", "TransactionConflict")
        if transaction and (fault is Fault.CONFLICT or self.chance.random() < 0.5):
            reasons = [{"Code": "None"} for _ in arguments["TransactItems"]]
            self.chance.choice(reasons)["Code"] = reason
            return cancelled(reasons)
        return refused(code, "simulated")

    def _lost(self) -> Exception:
        cut = ConnectionClosedError(endpoint_url=_ENDPOINT)
        timeouts = [ReadTimeoutError(endpoint_url=_ENDPOINT), ConnectTimeoutError(endpoint_url=_ENDPOINT)]
        failure = refused("InternalServerError", "simulated", status=500)
        return self.chance.choice([cut, *timeouts, failure])


def _by_table(writes: list[tuple[str, Any]]) -> dict[str, Any]:
    return {table: [write for at, write in writes if at == table] for table in dict.fromkeys(at for at, _ in writes)}


def _shown_error(error: Exception) -> str:
    response = getattr(error, "response", {})
    reasons = [reason["Code"] for reason in response.get("CancellationReasons", [])]
    return " ".join([response.get("Error", {}).get("Code", repr(error)), *reasons])


def _shown_answer(answer: dict[str, Any]) -> str:
    return f"{len(answer['Items'])} items" if "Items" in answer else "done"


@dataclass
class Process:
    """A Lambda environment at work: its clock, its remaining time, and a note that it has died.

    Its clock is `skew_ms` ahead. After `deadline_ms` of true time it is killed, unless it is `frozen` then and goes on
    later. The call `cut_off_from` fails for as long as it is repeated. When all that a move takes along is copied, the
    process dies, or stands still for so many ms, before it makes the copies a session. It may die when tools begin, or
    stand still in the middle of the reply of a step, longer than its lease.
    """

    network: Network
    name: str
    skew_ms: int = 0
    deadline_ms: int | None = None
    frozen: bool = False
    dead: bool = False
    cut_off_from: tuple[str, dict[str, Any]] | None = None
    dies_when_copied: bool = False
    dies_with_tools: bool = False
    stands_still_in_step: int = 0
    stands_still_when_copied_ms: int = 0

    def clock(self) -> int:
        return self.network.schedule.now_ms + self.skew_ms

    def remaining_s(self) -> float:
        """Returns the seconds until it is killed."""
        deadline_ms = self.network.schedule.now_ms if self.deadline_ms is None else self.deadline_ms
        return max(0, deadline_ms - self.network.schedule.now_ms) / 1000

    def sleep(self, seconds: float) -> None:
        self.pause(round(seconds * 1000))

    def pause(self, ms: int) -> None:
        self.require_alive()
        self.network.schedule.pause(ms)
        if self.deadline_ms is not None and self.network.schedule.now_ms > self.deadline_ms and not self.frozen:
            self.die()

    def come_to(self, arguments: dict[str, Any]) -> None:
        """Returns the fault of such a call."""
        puts = [action.get("Put", {}).get("Item", {}) for action in arguments.get("TransactItems", [])]
        if not any("mk" in item for item in puts):
            return
        if self.dies_when_copied:
            self.die()
        if self.stands_still_when_copied_ms:
            self.pause(self.stands_still_when_copied_ms)

    def require_alive(self) -> None:
        """Raises Crash in a dead process, so that nothing happens that it would do on its way out."""
        if self.dead:
            raise Crash

    def die(self) -> None:
        self.dead = True
        raise Crash


class Client:
    """The client of boto3 as a process holds it."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def hand_over(self, process: Process) -> None:
        """Gives the client to the next process of the same environment."""
        self._process = process

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        if operation not in READS + WRITES:
            raise AttributeError(operation)
        return partial(self._process.network.call, self._process, operation)
