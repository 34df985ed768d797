"""ask(): one question and its reply, with all calls of tools in between; nothing is stored."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field, replace
from decimal import Decimal
from typing import Any

from turnlog.clock import Clock, utc_date
from turnlog.domain.answers import bytes_in_answer, require_reply_answerable
from turnlog.domain.limits import OwnerLimits, question_charges, settlement, step_charges
from turnlog.domain.messages import Message, ModelRequest, Reply, Usage, total_usage
from turnlog.domain.model_limits import require_possible
from turnlog.domain.models import require_not_retired
from turnlog.domain.output.replies import output_in
from turnlog.domain.prices import cost_usd
from turnlog.domain.quotas import QuotaCharges
from turnlog.domain.reply_events import OnEvent
from turnlog.domain.server_key import ServerKey
from turnlog.domain.tools import calls_in, message_of_results
from turnlog.domain.turn_stream import MOST_RETRY_S, TurnStream
from turnlog.domain.turns import PAUSED, ModelCall, Step, total_cost
from turnlog.errors import ContextTooLong, ModelProtocolError, QuotaUnavailable, StoreUnavailable, TurnTooLarge
from turnlog.ports.chat_model import ChatModel
from turnlog.ports.quota_store import QuotaStore
from turnlog.ports.tool_runner import ToolRunner
from turnlog.usecases.caller import Caller
from turnlog.usecases.continuations import make_continuation
from turnlog.usecases.may_be_billed import may_be_billed

MOST_CALLS = 10
"""The most calls of the model for one question. A session is the place for more: there each finished one is kept."""

MOST_BYTES = 3_000_000
"""The most bytes, as an answer has them, of all that was said before another call."""

_CALL_S = 5.0
"""Seconds without which no further call is begun, and which tools leave for it."""


@dataclass(frozen=True, slots=True)
class QueryResult:
    """The last reply, and the price of all calls in dollars, None without a known one.

    `steps` are the calls before the last one. There is a continuation if one was asked for; it is None, too, when it
    would be longer than a request can bring back. `output` is the object that the reply is, if it has a schema.
    """

    reply: Reply
    cost_usd: Decimal | None
    continuation: str | None = None
    steps: tuple[Step, ...] = ()
    output: dict[str, Any] | None = None

    @property
    def usage(self) -> Usage:
        """The usage of all calls as one."""
        return total_usage([*(step.call.usage for step in self.steps), self.reply.usage])

    @property
    def replies(self) -> tuple[Reply, ...]:
        """All replies of the model, in order."""
        return (*(step.as_reply for step in self.steps), self.reply)


def ask(
    caller: Caller,
    question: ModelRequest,
    *,
    model: ChatModel,
    quotas: QuotaStore,
    limits: OwnerLimits,
    seconds: Callable[[], float],
    clock: Clock,
    continuable_with: ServerKey | None = None,
    tools: ToolRunner | None = None,
    stream: TurnStream | None = None,
) -> QueryResult:
    """Asks one question for a signed-in caller. With `continuable_with` the answer has a continuation.

    While the model wants nothing but the service's own tools, they are run by `tools`, and it is asked again; so it is
    after a reply that pauses. The last reply ends for the caller, or with PAUSED when there were MOST_CALLS of them, or
    no time or room for another.

    Each call is charged before and settled after, to the counters that turns are charged to. The refund of a call that
    cannot have cost anything, and the settlement, may fail: then the most that could be used stays charged, which is no
    reason to withhold a reply. `seconds` tells how long there is for the model and for tools. A `stream` is opened once
    the first call is charged, and shows all calls as they come; when this raises, it has no end.

    Raises Unauthorized, Forbidden, ModelRetired, ValueRefused, QuotaExceeded or QuotaUnavailable, or another
    ModelError. After the first four nothing was asked; after the others what was asked before, if it was, stays
    charged.
    """
    owner = caller.require_user()
    require_not_retired(question.settings.model, utc_date(clock()))
    require_possible(question.settings)
    asking = _Asking(
        owner,
        question,
        model=model,
        quotas=quotas,
        limits=limits,
        seconds=seconds,
        clock=clock,
        tools=tools,
        stream=stream,
    )
    reply, cost = asking.finish()
    schema = question.settings.output_schema
    output = output_in(reply, schema) if schema else None
    steps = tuple(asking.steps)
    total = total_cost([*(step.call for step in steps), ModelCall(reply.model, reply.usage, cost)])
    if stream:
        given = QueryResult(reply, total, steps=steps)
        stream.finish(given.replies, reply.stop_reason, given.usage, asking.own_tools)
    if continuable_with is None:
        return QueryResult(reply, total, steps=steps, output=output)
    continuation = make_continuation(continuable_with, owner, question, reply, cost, clock(), steps)
    return QueryResult(reply, total, continuation, steps, output)


def ask_model(
    question: ModelRequest, *, model: ChatModel, seconds: float, clock: Clock, on_event: OnEvent | None = None
) -> tuple[Reply, Decimal | None]:
    """Returns the reply and its price, charged to nobody. Raises ModelError."""
    retry_s = min(seconds, MOST_RETRY_S) if on_event else None
    reply = model.reply(question, seconds, on_event, retry_s=retry_s)
    return reply, cost_usd(reply.model, reply.usage, utc_date(clock()), question.settings.model)


@dataclass
class _Asking:
    """One question on its way to the last reply; `steps` are the calls after which it went on."""

    owner: str
    question: ModelRequest
    _: KW_ONLY
    model: ChatModel
    quotas: QuotaStore
    limits: OwnerLimits
    seconds: Callable[[], float]
    clock: Clock
    tools: ToolRunner | None
    stream: TurnStream | None
    steps: list[Step] = field(default_factory=list)

    def finish(self) -> tuple[Reply, Decimal | None]:
        """Returns the last reply and its own price. Raises as `ask`."""
        before: tuple[Reply, Decimal | None] | None = None
        while True:
            try:
                reply, cost = self._ask()
            except ContextTooLong:
                if before is None:
                    raise
                self.steps.pop()  # it was paid, so its reply is the last one
                return before
            self._require_answerable(reply)
            if not self._goes_on(reply):
                return reply, cost
            paused = replace(reply, stop_reason=PAUSED), cost
            if len(self.steps) + 1 >= MOST_CALLS or self.seconds() < _CALL_S:
                return paused
            call = ModelCall(reply.model, reply.usage, cost, reply.id, reply.request_id)
            step = Step(len(self.steps) + 1, reply.message, call, self._results(reply.message))
            said = [message for each in (*self.steps, step) for message in each.messages]
            if sum(bytes_in_answer(message.content) for message in said) > MOST_BYTES or self.seconds() < _CALL_S:
                return paused
            self.steps.append(step)
            before = replace(reply, stop_reason="model_context_window_exceeded"), cost

    def _require_answerable(self, reply: Reply) -> None:
        if self.stream:  # which has shown it, however long it is
            return
        try:
            require_reply_answerable(self.question.messages[-1], reply)
        except TurnTooLarge as error:
            raise ModelProtocolError from error

    def _goes_on(self, reply: Reply) -> bool:
        """True if the model can go on without the caller. One call of the caller's tools is enough to end here."""
        if reply.stop_reason == "pause_turn":
            return bool(reply.message.blocks)
        calls = calls_in(reply.message)
        return reply.stop_reason == "tool_use" and bool(calls) and all(call.name in self.own_tools for call in calls)

    def _results(self, reply: Message) -> Message | None:
        calls = calls_in(reply)
        if self.tools is None or not calls:
            return None
        if self.stream:
            self.stream.tools_begin(calls)
        results = self.tools.run(calls, self.owner, max(0.0, self.seconds() - _CALL_S))
        if self.stream:
            self.stream.tools_end(calls, results)
        return message_of_results(results)

    def _ask(self) -> tuple[Reply, Decimal | None]:
        """Asks the next call, charged if there are limits."""
        said = (message for step in self.steps for message in step.messages)
        asked = replace(self.question, messages=(*self.question.messages, *said))
        charges = self._charges()
        if charges is None:
            return self._ask_model(asked)
        return self._ask_charged(asked, charges)

    def _ask_model(self, asked: ModelRequest) -> tuple[Reply, Decimal | None]:
        on_event = None
        if self.stream:
            self.stream.open(model=asked.settings.model)
            on_event = self.stream.listener(self.own_tools)
        return ask_model(asked, model=self.model, seconds=self.seconds(), clock=self.clock, on_event=on_event)

    @property
    def own_tools(self) -> tuple[str, ...]:
        """The names of the tools that are run here."""
        return self.question.settings.own_tools if self.tools else ()

    def _charges(self) -> QuotaCharges | None:
        if not self.steps:
            return question_charges(self.owner, self.question, self.limits, self.clock())
        last = self.steps[-1]
        taken = step_charges(self.question.settings, last.call, last.results, self.limits, self.clock())
        return QuotaCharges(self.owner, taken) if taken else None

    def _ask_charged(self, asked: ModelRequest, charges: QuotaCharges) -> tuple[Reply, Decimal | None]:
        try:
            self.quotas.charge(charges, self.clock())
        except StoreUnavailable as error:
            raise QuotaUnavailable from error
        try:
            reply, cost = self._ask_model(asked)
        except Exception as error:
            if not may_be_billed(error):
                self._settle(charges.refund)
            raise
        settled = settlement(charges.charges, (ModelCall(reply.model, reply.usage, cost),))
        self._settle(QuotaCharges(charges.owner, settled))
        return reply, cost

    def _settle(self, charges: QuotaCharges) -> None:
        if charges.charges:
            with suppress(StoreUnavailable):
                self.quotas.settle(charges)
