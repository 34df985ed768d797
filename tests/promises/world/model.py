"""The model and the tools as a process sees them: slow, failing as planned, and answering with hashes.

A reply has a hash of all messages that were sent, and the turn's wish decides how many steps come before the last one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from tests.fakes import HashModel, count_of_pieces, tell
from tests.promises.simulator.faults import MODEL, TOOLS, Fault
from tests.promises.simulator.network import Process
from tests.promises.world.history import ModelCall, Taking, ToolRun
from turnlog.domain.messages import Message, ModelRequest, Reply, to_json
from turnlog.domain.reply_events import OnEvent, ReplyEvent
from turnlog.domain.tools import ToolCall, ToolResult
from turnlog.errors import ModelFailed, ModelTimeout, ModelUnavailable
from turnlog.usecases.renewal import RENEW_EVERY_S

OWN_TOOL = "look_up"
_AFTER_THE_LEASE_MS = (100, 30_000)
_EVERY_MS = round(RENEW_EVERY_S * 1000)


@dataclass
class Renewals:
    """Stands in for the thread that renews a lease, in simulated time: renewals are calls like all others."""

    process: Process
    renew: Callable[[], bool] | None = None
    next_ms: int = 0

    @contextmanager
    def __call__(self, renew: Callable[[], bool]) -> Iterator[None]:
        self.renew, self.next_ms = renew, self.process.network.schedule.now_ms + _EVERY_MS
        try:
            yield
        finally:
            self.renew = None

    def wait(self, ms: int) -> None:
        """Waits for a model or a tool that needs so long; on return no renewal is under way."""
        schedule = self.process.network.schedule
        done_ms = schedule.now_ms + ms
        while (left_ms := done_ms - schedule.now_ms) > 0:
            until_next_ms = max(1, self.next_ms - schedule.now_ms) if self.renew else left_ms
            self.process.pause(min(left_ms, until_next_ms))
            if self.renew and self.next_ms <= schedule.now_ms < done_ms:
                self.next_ms = schedule.now_ms + _EVERY_MS
                if not self.renew():
                    self.renew = None


def _passes(taking: Taking, renewals: Renewals, fault: Fault | None, ms: int, most_ms: int) -> bool:
    """Lets the time of a call pass, in which the process may die or be frozen. False when it took more than it may."""
    process = taking.process
    if fault is Fault.SLOW:
        process.frozen = True
        lease = taking.lease_at(process.network.schedule.now_ms)
        ms = lease.lease_expires_ms - process.clock() + process.network.chance.randint(*_AFTER_THE_LEASE_MS)
        process.pause(max(0, ms))
        return True
    renewals.wait(ms if process.frozen else min(ms, max(0, most_ms)))
    if fault is Fault.CRASH_AFTER:
        process.die()
    return process.frozen or ms <= most_ms


@dataclass(frozen=True)
class SimulatedModel:
    """A ChatModel for one handler; it notes its calls in the handler's record.

    A call takes `thinks_ms`. A turn has up to `steps` steps before its last reply. `new_id` names a call of a tool.
    """

    taking: Taking
    renewals: Renewals
    thinks_ms: Callable[[], int]
    steps: int
    new_id: Callable[[], str]

    def reply(
        self, request: ModelRequest, seconds: float, on_event: OnEvent | None = None, *, retry_s: float | None = None
    ) -> Reply:
        taking, process = self.taking, self.taking.process
        schedule = process.network.schedule
        if seconds <= 0:
            raise ModelUnavailable(1)  # as the one that is shipped: it asks nothing when there is no time
        step = 1 + _replies_after(request.messages, taking.want.message)
        text = f"{taking.want.text}, call {step}"
        called, fault = process.network.begin(process, MODEL, {"text": text, "seconds": seconds})
        if fault is Fault.CRASH_BEFORE:
            process.die()
        call = ModelCall(taking, taking.lease_at(schedule.now_ms).number, step, schedule.now_ms)
        taking.calls.append(call)
        most_ms = round(seconds * 1000)
        try:
            if on_event and fault is not Fault.REFUSED:
                reply = self._reply(HashModel().reply(request, seconds), step)
                if process.stands_still_in_step == step:
                    fault = Fault.SLOW
                reply = Telling(taking, self.renewals, fault, self.thinks_ms(), most_ms).tell(reply, on_event, call)
                called.outcome = "replied, event by event"
                return reply
            is_in_time = _passes(taking, self.renewals, fault, self.thinks_ms(), most_ms)
        finally:
            call.ended_ms = schedule.now_ms
        if fault is Fault.REFUSED:
            call.billed = False
            raise ModelUnavailable(1)
        fails_late = fault is Fault.SLOW and process.network.chance.random() < 0.3
        if fails_late or fault is Fault.FAILED or not is_in_time:
            call.lost = True
            raise ModelFailed if fault else ModelTimeout
        called.outcome = "replied"
        return self._reply(HashModel().reply(request, seconds), step)

    def _reply(self, last: Reply, step: int) -> Reply:
        """The last reply of the turn, or one that goes on: to call one tool or two, or to pause."""
        wish = hashlib.sha256(self.taking.want.text.encode()).digest()
        if step > wish[0] % (self.steps + 1):
            return last
        calls = wish[step % 32] % 3
        blocks: list[dict[str, Any]] = last.message.blocks
        for number in range(calls):
            given = {"word": f"{self.taking.want.text} {number}"}
            blocks.append({"type": "tool_use", "id": self.new_id(), "name": OWN_TOOL, "input": given})
        return replace(last, content=to_json(blocks), stop_reason="tool_use" if calls else "pause_turn")


@dataclass
class Telling:
    """A reply that comes event by event, over the `ms` that it takes; a fault befalls it between two of them."""

    taking: Taking
    renewals: Renewals
    fault: Fault | None
    ms: int
    most_ms: int
    _heard: int = 0

    def tell(self, reply: Reply, on_event: OnEvent, call: ModelCall) -> Reply:
        """Tells the listener the reply. Notes in the call if its reply is lost on the way."""
        schedule, chance = self.taking.process.network.schedule, self.taking.process.network.chance
        count = count_of_pieces(reply)
        began_ms, faulty = schedule.now_ms, chance.randrange(count)
        is_frozen = self.fault is Fault.SLOW or self.taking.process.frozen

        def before_each(event: ReplyEvent) -> None:
            self._let_time_pass(self.ms // count, is_faulty=self._heard == faulty)
            self._heard += 1
            if schedule.now_ms - began_ms > self.most_ms and not is_frozen:
                call.lost = True
                raise ModelTimeout
            if self.fault is Fault.FAILED and self._heard > faulty:
                call.lost = True
                raise ModelFailed

        return tell(reply, on_event, before_each)

    def _let_time_pass(self, ms: int, *, is_faulty: bool) -> None:
        process = self.taking.process
        if is_faulty and self.fault is Fault.SLOW:
            lease = self.taking.lease_at(process.network.schedule.now_ms)
            process.frozen = True
            late_ms = process.network.chance.randint(*_AFTER_THE_LEASE_MS)
            process.pause(max(0, lease.lease_expires_ms - process.clock() + late_ms))
            return
        self.renewals.wait(ms)
        if is_faulty and self.fault is Fault.CRASH_AFTER:
            process.die()


@dataclass(frozen=True)
class SimulatedTools:
    """A ToolRunner for one handler; it notes each run in the handler's record. A result is a hash of its call."""

    taking: Taking
    renewals: Renewals
    takes_ms: Callable[[], int]

    def run(self, calls: Sequence[ToolCall], owner: str, seconds: float) -> list[ToolResult]:
        taking, process = self.taking, self.taking.process
        schedule = process.network.schedule
        ids = " ".join(call.id for call in calls)
        called, fault = process.network.begin(process, TOOLS, {"text": ids, "seconds": seconds})
        if fault is Fault.CRASH_BEFORE or process.dies_with_tools:
            process.die()
        lease = taking.lease_at(schedule.now_ms)
        taking.runs += [ToolRun(taking, lease.number, lease.steps, call.id, schedule.now_ms) for call in calls]
        is_in_time = _passes(taking, self.renewals, fault, self.takes_ms(), round(seconds * 1000))
        called.outcome = "done"
        return [_result(call, owner, is_error=not is_in_time) for call in calls]


def _result(call: ToolCall, owner: str, *, is_error: bool) -> ToolResult:
    digest = hashlib.sha256(to_json([call.id, call.name, call.input, owner]).encode()).hexdigest()
    return ToolResult(call.id, to_json(f"text {digest}"), is_error=is_error)


def _replies_after(messages: Sequence[Message], wanted: Message) -> int:
    """The number of replies after the wanted message, which is that of the turn."""
    begun = max(at for at, message in enumerate(messages) if message == wanted)
    return sum(message.role == "assistant" for message in messages[begun:])
