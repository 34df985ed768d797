"""RunningTurn: a turn from its lease to its commit, through as many calls of the model and of tools as it takes.

After each call that wants tools the lease is written together with a step: once with the model's reply, before any tool
runs, and once with the results. Whoever goes on after a crash goes on after the last of these writes, so no step that
was acknowledged is paid or run again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, replace

from turnlog.clock import Clock, utc_date
from turnlog.domain.answers import MOST_TURN_BYTES, bytes_in_answer, require_answerable
from turnlog.domain.limits import REPLY_BYTES_PER_TOKEN, settlement, step_charges
from turnlog.domain.messages import Message, Reply, to_json
from turnlog.domain.output.replies import output_in
from turnlog.domain.prices import cost_usd
from turnlog.domain.quotas import QuotaCharge
from turnlog.domain.sessions import SessionView
from turnlog.domain.tools import ToolCall, ToolResult, calls_in, message_of_results, open_calls, results_of
from turnlog.domain.turn_stream import MOST_RETRY_S, TurnStream
from turnlog.domain.turns import (
    INTERRUPTED,
    MAX_STEPS,
    PAUSED,
    STOPPED,
    ModelCall,
    Step,
    Tombstone,
    Totals,
    Turn,
)
from turnlog.errors import (
    ContextTooLong,
    KeyReused,
    LeaseLost,
    ModelProtocolError,
    QuotaExceeded,
    SessionNotFound,
    StoreUnavailable,
    StreamOvertaken,
    TurnStopped,
    TurnTooLarge,
    TurnUnfinished,
)
from turnlog.ports.chat_model import ChatModel
from turnlog.ports.session_store import TurnStore
from turnlog.ports.tool_runner import ToolRunner
from turnlog.usecases.finished_turn import turn_of
from turnlog.usecases.held_lease import COMMIT_RESERVE_S, FinishedByAnother, HeldLease, StopAsked
from turnlog.usecases.may_be_billed import may_be_billed
from turnlog.usecases.next_call import NextCall
from turnlog.usecases.renewal import Renewing
from turnlog.usecases.turn_request import TurnPolicy, TurnRequest

STEP_S = 3.0
"""Seconds without which no further call is begun: the turn goes on with the next request."""

MOST_RESULT_BYTES = 1_000_000
"""The most bytes of all results of a step; one that would exceed it is left out, and the model is told so."""

_FRAMES = 120_000  # of the bytes of a turn: for what stands around its blocks, and for each call's own fields

_LEFT_OUT = "The result was left out: together with the others it is too large."


@dataclass
class RunningTurn:
    """A turn whose lease this handler holds. `steps` are those that earlier handlers under the same key finished.

    `answer_s` returns the seconds until nobody waits for the answer. `renewing` writes the lease again while the model
    or a tool runs. A `stream` is shown the turn as it comes; once the owner has asked the turn to stop, or it cannot be
    stored any more, the model is stopped in the middle of its reply, if it can be.
    """

    request: TurnRequest
    view: SessionView
    held: HeldLease
    steps: tuple[Step, ...] = ()
    _: KW_ONLY
    store: TurnStore
    model: ChatModel
    tools: ToolRunner | None
    clock: Clock
    answer_s: Callable[[], float]
    renewing: Renewing
    policy: TurnPolicy
    stream: TurnStream | None = None

    def __post_init__(self) -> None:
        """Begins with all of the window."""
        self._next = NextCall(self.view, self.request.messages, self.policy.web_tools)

    def finish(self) -> Turn:
        """Returns the stored turn: this handler's, or that of another one under the same key.

        Raises SessionNotFound, LeaseLost, QuotaExceeded, TurnUnfinished, StoreUnavailable, SecretUnavailable,
        ItemVersionUnknown, KeyReused or a ModelError. After each of them but StoreUnavailable the slot is free again,
        with the steps that were finished. Raises StreamOvertaken when the stored turn is another handler's, and
        something else was shown already.
        """
        if self.stream:
            self.stream.is_stopped = lambda: self.held.is_unwanted
            self._show_steps(self.stream)
        try:
            return self._run()
        except StoreUnavailable:
            raise  # a write may have been applied, or may still be
        except FinishedByAnother as found:
            return self._own(found.turn)
        except Exception as error:
            # Whatever it is, the slot must not stay taken until its lease is over.
            self._release(may_be_billed(error))
            if isinstance(error, TurnTooLarge):  # by a reply, since the message was looked at before
                raise ModelProtocolError from error
            raise

    def _show_steps(self, stream: TurnStream) -> None:
        """Shows the steps that an earlier handler finished, with their tools as done."""
        for step in self.steps:
            stream.show(step.as_reply, self._own_tools)
            if step.results:
                stream.tools_end(self._own_calls(step.reply), results_of(step.results))

    # --- the calls

    def _run(self) -> Turn:
        while True:
            try:
                self._run_tools()
                if self.steps and open_calls(self._messages):
                    return self._commit("tool_use")  # the caller has tools of its own to run
                if not self._has_room():
                    return self._commit(PAUSED)
                reply = self._ask()
            except ContextTooLong:
                if self.steps:
                    return self._commit("model_context_window_exceeded")
                if not self._next.shorten(self.steps):
                    raise
            except StopAsked:
                return self._commit(STOPPED)
            else:
                if (turn := self._take_up(reply)) is not None:
                    return turn

    def _take_up(self, reply: Reply) -> Turn | None:
        """Stores the reply: as a step, which is None, or as the end of the turn, which is returned."""
        if reply.stop_reason == STOPPED:
            return self._commit_stopped(reply)
        call = self._call_of(reply)
        if not self._goes_on(reply):
            if schema := self.view.session.settings.output_schema:
                output_in(reply, schema)  # or it is not stored
            return self._commit(reply.stop_reason, (reply.message, call))
        try:
            self._keep_reply(Step(len(self.steps) + 1, reply.message, call))
        except StopAsked:
            return self._commit(STOPPED, (reply.message, call))
        return None

    def _commit_stopped(self, reply: Reply) -> Turn:
        """Stores the turn with what there is of its last reply.

        The provider has told how long the prompt was, and not how much it wrote: so the call has no known cost, its
        usage is the least that it can be, and what was reserved for it stays charged. Of a reply that had not begun
        there is nothing, not even that.
        """
        if not self.held.lease.stop_asked:  # it cannot be stored, and the next write says why
            self.held.write(self.store.renew)
            raise LeaseLost
        if not reply.usage.fields:
            if not self.steps:
                raise TurnStopped(billed=True)
            return self._commit(STOPPED, settles=False)
        call = replace(self._call_of(reply), cost_usd=None)
        return self._commit(STOPPED, (reply.message, call), settles=False)

    def _ask(self) -> Reply:
        self.held.renew_if_short()
        if self.steps and self._is_late():
            raise TurnUnfinished
        seconds, retry_s = self.held.seconds, self.answer_s() - COMMIT_RESERVE_S
        if self.stream:
            retry_s = min(retry_s, MOST_RETRY_S)
        request = self._next.request(self.steps)
        on_event = self.stream.listener(self._own_tools) if self.stream else None
        with self.renewing(self.held.renew):
            return self.model.reply(request, seconds, on_event, retry_s=retry_s)

    def _goes_on(self, reply: Reply) -> bool:
        """True if the service has to do something before the caller can: to run a tool, or to let the model go on."""
        if reply.stop_reason == "pause_turn":
            return reply.content != "[]"
        return reply.stop_reason == "tool_use" and bool(self._own_calls(reply.message))

    @property
    def _own_tools(self) -> tuple[str, ...]:
        return self.view.session.settings.own_tools if self.tools else ()

    def _own_calls(self, reply: Message) -> tuple[ToolCall, ...]:
        return tuple(call for call in calls_in(reply) if call.name in self._own_tools)

    def _run_tools(self) -> None:
        """Runs the tools that the last step wants, if they have not been run."""
        last = self.steps[-1] if self.steps else None
        calls = self._own_calls(last.reply) if last and last.results is None else ()
        if last is None or self.tools is None or not calls:
            return
        self.held.renew_if_short()
        if self._is_late():
            raise TurnUnfinished
        if self.stream:
            self.stream.tools_begin(calls)
        with self.renewing(self.held.renew):
            results = self.tools.run(calls, self.request.owner, self.held.seconds)
        bounded = tuple(_bounded(results, min(MOST_RESULT_BYTES, self._bytes_left())))
        if self.stream:
            self.stream.tools_end(calls, bounded)
        self._keep_results(replace(last, results=message_of_results(bounded)))

    def _has_room(self) -> bool:
        """True if the turn may have another step, and its session another reply."""
        if not self.steps:
            return True
        if len(self.steps) >= MAX_STEPS:
            return False
        if 2 * self.view.session.settings.max_tokens * REPLY_BYTES_PER_TOKEN + MOST_RESULT_BYTES > self._bytes_left():
            return False
        limits, totals = self.policy.session, self._totals(self._messages, self._calls)
        return not any(
            limit is not None and used >= limit
            for used, limit in ((totals.tokens, limits.tokens), (totals.content_bytes, limits.content_bytes))
        )

    def _bytes_left(self) -> int:
        """The bytes that the turn may still get, so that one answer can return it: its last reply is in that twice."""
        held = sum(bytes_in_answer(message.content) for message in self._messages)
        return MOST_TURN_BYTES - held - bytes_in_answer(self.steps[-1].reply.content) - _FRAMES

    # --- what there is of the turn

    @property
    def _messages(self) -> tuple[Message, ...]:
        return (*self.request.messages, *(message for step in self.steps for message in step.messages))

    @property
    def _calls(self) -> tuple[ModelCall, ...]:
        return tuple(step.call for step in self.steps)

    def _call_of(self, reply: Reply) -> ModelCall:
        asked = self.view.session.settings.model
        cost = cost_usd(reply.model, reply.usage, utc_date(self.clock()), asked)
        ids = reply.id, reply.request_id, reply.stop_sequence, reply.stop_details
        return ModelCall(reply.model, reply.usage, cost, *ids)

    def _totals(self, said: Sequence[Message], calls: Sequence[ModelCall]) -> Totals:
        return self.view.totals.plus(said, calls)

    def _own(self, turn: Turn) -> Turn:
        if turn.fingerprint != self.request.fingerprint:
            raise KeyReused
        is_mine = turn.token == self.held.lease.token and turn.stop_reason != INTERRUPTED
        if self.stream and self.stream.is_begun and not is_mine:
            raise StreamOvertaken
        return turn

    # --- the slot

    def _keep_reply(self, step: Step) -> None:
        """Stores the step before its tools run, and settles its call. Without tools it reserves the next call."""
        settled = settlement(self.held.lease.charges, [step.call])

        def put(charges: tuple[QuotaCharge, ...]) -> None:
            self.held.write(
                lambda session, lease, seen: self.store.checkpoint(
                    session,
                    lease,
                    seen,
                    step,
                    message=self.request.messages if step.number == 1 else (),
                    settlement=settled,
                    charges=charges,
                ),
                steps=step.number,
                attempt=1,
                charges=charges,
            )

        self._keep((*self.steps, step), put, reserves=not self._own_calls(step.reply))

    def _keep_results(self, step: Step) -> None:
        """Stores the results of the step, and reserves the next call, if there is to be one."""

        def put(charges: tuple[QuotaCharge, ...]) -> None:
            self.held.write(
                lambda session, lease, seen: self.store.checkpoint(session, lease, seen, step, charges=charges),
                charges=charges,
            )

        self._keep((*self.steps[:-1], step), put)

    def _keep(
        self, steps: tuple[Step, ...], put: Callable[[tuple[QuotaCharge, ...]], None], *, reserves: bool = True
    ) -> None:
        """Stores by `put` what the last of these steps has got, with the charges of the next call, if it `reserves`.

        A budget that has no room for them raises QuotaExceeded, when the step is stored.
        """
        before, self.steps = self.steps, steps
        charges, refusal = self._next_charges() if reserves else ((), None)
        try:
            if self.held.lease.stop_asked:
                raise StopAsked
            try:
                put(charges)
            except QuotaExceeded as error:
                put(())
                refusal = error
        except StopAsked:
            self.steps = before  # it was not stored, and nobody will ask for it
            raise
        if refusal:
            raise refusal

    def _next_charges(self) -> tuple[tuple[QuotaCharge, ...], QuotaExceeded | None]:
        if open_calls(self._messages) or not self._has_room() or self._is_late():
            return (), None
        last = self.steps[-1]
        settings = self.view.session.settings
        try:
            return step_charges(settings, last.call, last.results, self.policy.owner, self.clock()), None
        except QuotaExceeded as error:
            return (), error

    def _is_late(self) -> bool:
        return self.held.seconds < STEP_S

    def _commit(self, stop_reason: str, last: tuple[Message, ModelCall] | None = None, *, settles: bool = True) -> Turn:
        """Stores the turn, whose last message and call are these if they are no step.

        Without `settles` all that was reserved for the last call stays charged.
        """
        if last is None and not self.steps:
            raise TurnStopped
        said = (*self._messages, *([last[0]] if last else []))
        calls = (*self._calls, *([last[1]] if last else []))
        window = self.policy.window
        turn = turn_of(self.view, self.held.lease, said, calls, stop_reason, self.clock(), window, self._next.sent_from)
        require_answerable(turn)
        settled = settlement(self.held.lease.charges, calls[len(self.steps) :]) if settles else ()
        found = self.store.commit(self.view.session, turn, settled)
        if isinstance(found, Turn) and found.key == self.request.key:
            return self._own(found)  # mine, or that of a handler which overtook this one with the same request
        if isinstance(found, Tombstone):
            raise SessionNotFound
        raise LeaseLost

    def _release(self, billed: bool) -> None:
        self.store.release(self.view.session, self.held.lease, billed, self.clock())


def _bounded(results: Sequence[ToolResult], most: int) -> Iterator[ToolResult]:
    """The results, in order, without the content of those with which they would exceed `most` bytes in an answer."""
    held = 0
    for result in results:
        size = bytes_in_answer(result.content)
        if held + size > most:
            yield ToolResult(result.id, to_json(_LEFT_OUT), is_error=True)
        else:
            held += size
            yield result
