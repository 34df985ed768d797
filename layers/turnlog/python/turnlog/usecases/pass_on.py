"""pass_on(): a request to the Messages API goes on as it is, and its answer comes back as it is, within the limits."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal

from turnlog.clock import Clock, utc_date
from turnlog.domain.limits import OwnerLimits, PossibleCall, counting_charges, passed_charges, settlement
from turnlog.domain.models import require_not_retired
from turnlog.domain.passing.answers import events_in, json_object, whole_body
from turnlog.domain.passing.bounds import has_other_price, possible_calls
from turnlog.domain.passing.fields import PassedBody
from turnlog.domain.passing.rules import models_in
from turnlog.domain.passing.usage import SaidUsage
from turnlog.domain.quotas import QuotaCharges
from turnlog.domain.received_reply import short_name
from turnlog.domain.reply_events import ReplyEvent
from turnlog.domain.turns import ModelCall, total_cost, total_tokens
from turnlog.errors import ModelProtocolError, QuotaExceeded, QuotaUnavailable, StoreUnavailable
from turnlog.ports.messages_api import MessagesApi, PassedAnswer, PassedRequest
from turnlog.ports.quota_store import QuotaStore
from turnlog.usecases.caller import Caller
from turnlog.usecases.may_be_billed import may_be_billed

_OVERLOADED = 529


@dataclass(frozen=True, slots=True)
class Passed:
    """The answer to a request that was passed on: status, headers and body as they came, the body of a stream empty.

    `model` is the one that answered, `id` the message's name; `tokens` and `cost_usd` are what the answer says was
    used, None while it has not said so or a price is not known.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    model: str = ""
    id: str = ""
    tokens: int | None = None
    cost_usd: Decimal | None = None


@dataclass
class Passing:
    """Passes on the requests of one deployment's callers. `seconds` tells how long there is for the provider."""

    api: MessagesApi
    quotas: QuotaStore
    limits: OwnerLimits
    seconds: Callable[[], float]
    clock: Clock

    def message(self, caller: Caller, request: PassedRequest, body: PassedBody) -> Passed:
        """Passes on a request for one whole answer. `body` is what the request's bytes say.

        The most that the request can use is charged before and settled after; what was refused is given back, and what
        never said what it used stays charged. Raises Unauthorized, Forbidden, ModelRetired, InvalidRequest,
        QuotaExceeded or QuotaUnavailable before anything was sent, and a ModelError when there is no whole answer.
        """
        with self._charged(caller, request, body) as use, self.api.send(request, self.seconds()) as answer:
            given = whole_body(answer.chunks())
            if answer.status != 200:
                return use.refused(answer, given)
            use.take_whole(given)
            return use.passed(answer, given)

    def stream(
        self,
        caller: Caller,
        request: PassedRequest,
        body: PassedBody,
        emit: Callable[[ReplyEvent], None],
        on_headers: Callable[[Mapping[str, str]], None],
    ) -> Passed:
        """Passes on a request for a stream, whose events are emitted as they come, to the end of it, whoever listens.

        `on_headers` is told of the answer's headers before the first event. The last event comes after the settlement,
        so that whoever goes on at once finds what is left of a budget. A refusal of the provider's is returned whole.
        Raises as `message`; after the first event, too, when the stream ends without an end.
        """
        with self._charged(caller, request, body) as use, self.api.send(request, self.seconds()) as answer:
            if answer.status != 200:
                return use.refused(answer, whole_body(answer.chunks()))
            on_headers(answer.headers)
            for event in events_in(answer.chunks()):
                if event.type in ("message_stop", "error"):
                    use.end(was_refused=event.type == "error")
                    emit(event)
                    return use.passed(answer, b"")
                use.take_event(event)
                emit(event)
            raise ModelProtocolError  # cut short, or no stream at all

    def count(self, caller: Caller, request: PassedRequest, body: PassedBody) -> Passed:
        """Passes on a request to count its tokens, which has a limit of rate and costs nothing. Raises as `message`."""
        owner, now_ms = caller.require_user(), self.clock()
        self._require_served(body, now_ms)
        if charges := counting_charges(owner, self.limits, now_ms):
            self._charge(charges, now_ms)
        with self.api.send(request, self.seconds()) as answer:
            return Passed(answer.status, answer.headers, whole_body(answer.chunks()), request.model)

    @contextmanager
    def _charged(self, caller: Caller, request: PassedRequest, body: PassedBody) -> Iterator[_Use]:
        owner, now_ms = caller.require_user(), self.clock()
        self._require_served(body, now_ms)

        def calls(unit: str) -> list[PossibleCall]:
            if unit == "usd" and has_other_price(body):  # as for a model without a price
                raise QuotaExceeded(unit)
            return possible_calls(body, len(request.body))

        charges = passed_charges(owner, calls, self.limits, now_ms)
        if charges:
            self._charge(charges, now_ms)
        use = _Use(request.model, charges, self)
        try:
            yield use
        except Exception as error:
            use.end(was_refused=not may_be_billed(error))
            raise

    def _require_served(self, body: PassedBody, now_ms: int) -> None:
        for name in models_in(body):
            require_not_retired(name, utc_date(now_ms))

    def _charge(self, charges: QuotaCharges, now_ms: int) -> None:
        try:
            self.quotas.charge(charges, now_ms)
        except StoreUnavailable as error:
            raise QuotaUnavailable from error


@dataclass
class _Use:
    """One request on its way: what was reserved for it, and what its answer says."""

    asked: str
    charges: QuotaCharges | None
    passing: Passing
    said: SaidUsage = field(default_factory=SaidUsage)
    model: str = ""
    id: str = ""
    calls: tuple[ModelCall, ...] = ()
    _is_begun: bool = False
    _is_ended: bool = False

    def take_event(self, event: ReplyEvent) -> None:
        """Takes what an event says of what is used."""
        if event.type == "message_start":
            self._is_begun = True
            self._take_message(json.loads(event.data).get("message"))
        elif event.type == "message_delta":
            told = json.loads(event.data)
            self.said.take(told.get("usage"))
            delta = told.get("delta")
            is_last = isinstance(delta, dict) and isinstance(delta.get("stop_reason"), str)
            self.said.is_whole = self.said.is_whole or is_last
        elif event.type != "ping":
            self._is_begun = True

    def take_whole(self, body: bytes) -> None:
        """Takes what a whole answer says. Raises ModelProtocolError for one that is no JSON object."""
        self._is_begun = True
        self._take_message(json_object(body))
        self.said.is_whole = True
        self.end()

    def refused(self, answer: PassedAnswer, body: bytes) -> Passed:
        """Gives back what was reserved for what the provider refused; one that failed may have been billed."""
        self.end(was_refused=answer.status < 500 or answer.status == _OVERLOADED)
        return Passed(answer.status, answer.headers, body, self.asked)

    def end(self, *, was_refused: bool = False) -> None:
        """Settles what was reserved, once. Without an account of what was used it stays charged.

        A settlement may fail: then the most that could be used stays charged, which is no reason to withhold an answer.
        """
        if self._is_ended:
            return
        self._is_ended = True
        self.calls = self.said.calls(self.model or self.asked, self.asked, utc_date(self.passing.clock()))
        if self.charges is None:
            return
        settled: QuotaCharges | None = None
        if self.calls:
            settled = QuotaCharges(self.charges.owner, settlement(self.charges.charges, self.calls))
        elif was_refused and not self._is_begun:
            settled = self.charges.refund
        if settled and settled.charges:
            with suppress(StoreUnavailable):
                self.passing.quotas.settle(settled)

    def passed(self, answer: PassedAnswer, body: bytes) -> Passed:
        """Returns the answer with what is known of its use."""
        tokens = total_tokens(self.calls) if self.calls else None
        cost = total_cost(self.calls)
        return Passed(answer.status, answer.headers, body, self.model or self.asked, self.id, tokens, cost)

    def _take_message(self, message: object) -> None:
        if not isinstance(message, dict):
            return
        self.said.take(message.get("usage"))
        self.model = short_name(message.get("model")) or self.model
        self.id = short_name(message.get("id")) or self.id
