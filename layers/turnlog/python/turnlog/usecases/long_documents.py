"""answer_document(): a task done with a document of any length, in parts if it is longer than the model's context."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Protocol

from turnlog.clock import Clock, utc_date
from turnlog.domain.answers import MOST_TURN_BYTES, bytes_in_answer
from turnlog.domain.document_parts import BYTES_PER_TOKEN, Part, parts_of
from turnlog.domain.limits import OwnerLimits, questions_charges, settlement
from turnlog.domain.messages import Message, ModelRequest, ModelSettings, Reply, to_json, total_usage
from turnlog.domain.model_limits import require_possible
from turnlog.domain.models import require_not_retired
from turnlog.domain.output.replies import output_in, require_uncited
from turnlog.domain.quotas import QuotaCharges, together
from turnlog.domain.turn_stream import TurnStream
from turnlog.domain.turns import ModelCall, total_cost
from turnlog.errors import ContextTooLong, ModelProtocolError, OutputInvalid, QuotaUnavailable, StoreUnavailable
from turnlog.ports.chat_model import ChatModel
from turnlog.ports.quota_store import QuotaStore
from turnlog.usecases.ask import ask_model
from turnlog.usecases.caller import Caller
from turnlog.usecases.document_tasks import DocumentTask, merged_findings, of_part, parts_as_message, text_of
from turnlog.usecases.may_be_billed import may_be_billed

AT_ONCE = 4
"""Parts that are asked at the same time: two rounds for the most parts, within a provider's usual rate limits."""

_MERGE_SHARE = 1 / 3
"""The share of the time that is kept back for the call which merges the parts."""


@dataclass(frozen=True, slots=True)
class DocumentAnswer:
    """The object that the model answered, and the same as text for people.

    `reply` is the last one, with the usage of all calls; of several parts that no call has merged it has all blocks.
    """

    output: dict[str, Any]
    text: str
    reply: Reply
    cost_usd: Decimal | None


@dataclass(slots=True)
class _Asked:
    """The fate of one question: never asked, answered, failed, or answered by what is no answer."""

    reply: Reply | None = None
    cost_usd: Decimal | None = None
    output: dict[str, Any] = field(default_factory=dict)
    error: Exception | None = None

    @property
    def call(self) -> ModelCall | None:
        reply = self.reply
        return ModelCall(reply.model, reply.usage, self.cost_usd, reply.id, reply.request_id) if reply else None

    @property
    def may_be_billed(self) -> bool:
        return self.reply is not None or (self.error is not None and may_be_billed(self.error))


class Purse(Protocol):
    """Pays for questions that are asked together."""

    def reserve(self, questions: Sequence[ModelRequest]) -> None:
        """Charges the most that all of them can cost, or raises, and then none may be asked."""

    def settle(self, asked: Sequence[_Asked]) -> None:
        """Corrects the charge to what was used; `asked` has one entry for each question, in order."""


class NoPurse:
    """Pays for what nobody is charged for."""

    def reserve(self, questions: Sequence[ModelRequest]) -> None:
        """Charges nothing."""

    def settle(self, asked: Sequence[_Asked]) -> None:
        """Has nothing to correct."""


@dataclass
class QuotaPurse:
    """Pays from the quotas of an owner. A settlement that fails leaves the most that could be used charged."""

    owner: str
    quotas: QuotaStore
    limits: OwnerLimits
    clock: Clock
    _taken: list[QuotaCharges] = field(default_factory=list)

    def reserve(self, questions: Sequence[ModelRequest]) -> None:
        """Charges all questions at once, and counts them as one. Raises QuotaExceeded or QuotaUnavailable."""
        self._taken = questions_charges(self.owner, questions, self.limits, self.clock())
        try:
            self._do(self.quotas.charge, [charge for each in self._taken for charge in each.charges])
        except StoreUnavailable as error:
            raise QuotaUnavailable from error

    def settle(self, asked: Sequence[_Asked]) -> None:
        """Keeps what was used and what may have been; a request that cannot have cost anything is not counted."""
        if not any(each.may_be_billed for each in asked):
            back = [charge for each in self._taken for charge in each.refund.charges]
        else:
            pairs = zip(self._taken, asked, strict=True)
            back = [
                charge
                for taken, each in pairs
                if each.call or not each.may_be_billed
                for charge in settlement(taken.charges, (each.call,) if each.call else ())
            ]
        with suppress(StoreUnavailable):
            self._do(lambda charges, _: self.quotas.settle(charges), back)

    def _do(self, change: Callable[[QuotaCharges, int], None], charges: Sequence[Any]) -> None:
        if charges:
            change(QuotaCharges(self.owner, together(charges)), self.clock())


def ask_about_document(
    caller: Caller,
    task: DocumentTask,
    message: Message,
    settings: ModelSettings,
    *,
    model: ChatModel,
    quotas: QuotaStore,
    limits: OwnerLimits,
    seconds: Callable[[], float],
    clock: Clock,
    stream: TurnStream | None = None,
) -> DocumentAnswer:
    """Does the task for a signed-in caller, charged to the counters that turns are charged to.

    Raises Unauthorized, Forbidden, ValueRefused, ModelRetired, QuotaExceeded or QuotaUnavailable, and then nothing was
    asked; or as `answer_document`.
    """
    owner = caller.require_user()
    require_uncited(message)
    require_not_retired(settings.model, utc_date(clock()))
    require_possible(settings)
    purse = QuotaPurse(owner, quotas, limits, clock)
    answer = answer_document(
        task, message, settings, model=model, purse=purse, seconds=seconds, clock=clock, stream=stream
    )
    # The answer has it as blocks, as an object and as text; a stream shows it once.
    if stream is None and 3 * bytes_in_answer(answer.reply.content) > MOST_TURN_BYTES:
        raise ModelProtocolError
    return answer


def answer_document(
    task: DocumentTask,
    message: Message,
    settings: ModelSettings,
    *,
    model: ChatModel,
    purse: Purse,
    seconds: Callable[[], float],
    clock: Clock,
    stream: TurnStream | None = None,
) -> DocumentAnswer:
    """Does the task with the document in the message; `seconds` tells how long there is for all of it.

    One that does not fit into the model's context is cut into at most MOST_PARTS, AT_ONCE of which are asked at the
    same time. All of them, and the call that merges them, are charged before the first is asked. If one fails, no other
    is begun, and the whole fails with its error. A document that is denser than it was taken for is cut anew, once.

    A `stream` is opened once all of them are charged. It shows the answer as it comes, if one call gives it: the only
    one, or that which merges the parts. `turnlog.part` tells which parts are done.

    Raises ContextTooLong if it would need more parts, OutputInvalid, or another ModelError.
    """
    work = _Work(task, replace(settings, output_schema=task.schema), model, purse, seconds, clock, stream)
    likely, least = BYTES_PER_TOKEN
    parts = parts_of(message, work.of_part(9, 9), likely)
    try:
        answer = work.do(parts)
    except ContextTooLong:
        smaller = parts_of(message, work.of_part(9, 9), least)
        if len(smaller) <= len(parts):
            raise
        answer = work.do(smaller)
    if stream:
        stream.finish([answer.reply], answer.reply.stop_reason, answer.reply.usage)
    return answer


@dataclass
class _Work:
    """One document on its way through the model."""

    task: DocumentTask
    settings: ModelSettings
    model: ChatModel
    purse: Purse
    seconds: Callable[[], float]
    clock: Clock
    stream: TurnStream | None = None

    def of_part(self, number: int, count: int) -> ModelSettings:
        return replace(self.settings, system=of_part(self.task, number, count))

    def do(self, parts: Sequence[Part]) -> DocumentAnswer:
        count = len(parts)
        questions = [
            ModelRequest(self.of_part(number, count), (part.message,)) for number, part in enumerate(parts, start=1)
        ]
        merges = count > 1 and bool(self.task.merge_system)
        # What the parts are answered with has no more tokens than they may write.
        merge = [self._merge("x" * (count * self.settings.max_tokens))] if merges else []
        self.purse.reserve([*questions, *merge])
        asked = [_Asked() for _ in (*questions, *merge)]
        if self.stream:
            self.stream.open(model=self.settings.model)
        try:
            self._ask_all(questions, asked, self.seconds() * _MERGE_SHARE if merges else 0)
            outputs = [each.output for each in asked[:count]]
            if merges:
                self._ask(self._merge(parts_as_message(outputs)), asked[-1], self.seconds(), is_shown=True)
                _require_answered(asked[-1:])
        finally:
            self.purse.settle(asked)
        output = asked[-1].output if merges else self._joined(parts, outputs)
        return self._answer(output, asked, merges=merges)

    def _ask_all(self, questions: Sequence[ModelRequest], asked: Sequence[_Asked], kept_s: float) -> None:
        def ask(question: ModelRequest, each: _Asked, number: int) -> None:
            if not any(other.error for other in asked):
                self._ask(question, each, self.seconds() - kept_s, is_shown=len(questions) == 1)
                if self.stream and len(questions) > 1 and each.reply:
                    self.stream.part_ends(number, len(questions))

        if len(questions) == 1:
            ask(questions[0], asked[0], 1)
        else:
            with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="part") as pool:
                list(pool.map(ask, questions, asked, range(1, len(questions) + 1)))
        _require_answered(asked[: len(questions)])

    def _ask(self, question: ModelRequest, each: _Asked, seconds: float, *, is_shown: bool) -> None:
        on_event = self.stream.listener() if self.stream and is_shown else None
        try:
            each.reply, each.cost_usd = ask_model(
                question, model=self.model, seconds=seconds, clock=self.clock, on_event=on_event
            )
            output = output_in(each.reply, self.settings.output_schema)
            if output is None:  # it calls tools, and was given none
                raise OutputInvalid(each.reply.stop_reason)
            each.output = output
        except Exception as error:  # noqa: BLE001 (raised again once all that were begun are done)
            each.error = error

    def _merge(self, text: str) -> ModelRequest:
        return ModelRequest(replace(self.settings, system=self.task.merge_system), (Message.of_text(text),))

    def _joined(self, parts: Sequence[Part], outputs: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return dict(merged_findings(parts, outputs)) if self.task.answers == "findings" else outputs[0]

    def _answer(self, output: dict[str, Any], asked: Sequence[_Asked], *, merges: bool) -> DocumentAnswer:
        replies = [each.reply for each in asked if each.reply]
        said = replies[-1:] if merges else replies
        blocks = [block for reply in said for block in reply.message.blocks]
        usage = total_usage([reply.usage for reply in replies])
        cost = total_cost([each.call for each in asked if each.call])
        reply = replace(replies[-1], content=to_json(blocks) if len(said) > 1 else said[0].content, usage=usage)
        return DocumentAnswer(output, text_of(self.task, output), reply, cost)


def _require_answered(asked: Sequence[_Asked]) -> None:
    for each in asked:
        if each.error:
            raise each.error
