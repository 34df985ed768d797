"""The model as a process sees it: slow, failing as planned, and answering with a hash of all messages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.fakes import HashModel
from tests.promises.simulator.faults import MODEL, Fault
from tests.promises.world.history import ModelCall, Taking
from turnlog.domain.messages import ModelRequest, Reply
from turnlog.domain.reply_events import OnEvent
from turnlog.errors import ModelFailed, ModelTimeout, ModelUnavailable

_AFTER_THE_LEASE_MS = (100, 30_000)


@dataclass(frozen=True)
class SimulatedModel:
    """A ChatModel for one handler; it notes its calls in the handler's record. A call takes `thinks_ms`."""

    taking: Taking
    thinks_ms: Callable[[], int]

    def reply(
        self, request: ModelRequest, seconds: float, on_event: OnEvent | None = None, *, retry_s: float | None = None
    ) -> Reply:
        taking, process = self.taking, self.taking.process
        schedule, lease = process.network.schedule, taking.leases[-1]
        if seconds <= 0:
            raise ModelUnavailable(1)  # as the one that is shipped: it asks nothing when there is no time
        step, fault = process.network.begin(process, MODEL, {"text": taking.want.text, "seconds": seconds})
        if fault is Fault.CRASH_BEFORE:
            process.die()
        call = ModelCall(taking.want, taking.address, process, lease, schedule.now_ms)
        taking.calls.append(call)
        thinks_ms = self.thinks_ms()
        if fault is Fault.SLOW:
            process.frozen = True
            thinks_ms = lease.lease_expires_ms - process.clock() + process.network.chance.randint(*_AFTER_THE_LEASE_MS)
        try:
            process.pause(thinks_ms if process.frozen else min(thinks_ms, max(0, round(seconds * 1000))))
        finally:
            call.ended_ms = schedule.now_ms
        if fault is Fault.CRASH_AFTER:
            process.die()
        if fault is Fault.REFUSED:
            call.billed = False
            raise ModelUnavailable(1)
        fails_late = fault is Fault.SLOW and process.network.chance.random() < 0.3
        if fails_late or fault is Fault.FAILED or (thinks_ms > seconds * 1000 and not process.frozen):
            call.lost = True
            raise ModelFailed if fault else ModelTimeout
        step.outcome = "replied"
        return HashModel().reply(request, seconds, on_event)
