"""ask(): one question, one reply; nothing is stored."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal

from turnlog.clock import Clock, utc_date
from turnlog.domain.answers import require_reply_answerable
from turnlog.domain.limits import OwnerLimits, question_charges, settlement
from turnlog.domain.messages import ModelRequest, Reply
from turnlog.domain.model_limits import require_possible
from turnlog.domain.models import require_not_retired
from turnlog.domain.prices import cost_usd
from turnlog.domain.quotas import QuotaCharges
from turnlog.domain.server_key import ServerKey
from turnlog.domain.turns import ModelCall
from turnlog.errors import ModelProtocolError, QuotaUnavailable, StoreUnavailable, TurnTooLarge
from turnlog.ports.chat_model import ChatModel
from turnlog.ports.quota_store import QuotaStore
from turnlog.usecases.caller import Caller
from turnlog.usecases.continuations import make_continuation
from turnlog.usecases.running_turn import may_be_billed


@dataclass(frozen=True, slots=True)
class QueryResult:
    """A reply and its price in dollars, None without a known one; and a continuation, if one was asked for.

    The continuation is None, too, when it would be longer than a request can bring back.
    """

    reply: Reply
    cost_usd: Decimal | None
    continuation: str | None = None


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
) -> QueryResult:
    """Asks one question for a signed-in caller. With `continuable_with` the answer has a continuation.

    The question is charged before and settled after, to the counters that turns are charged to. The refund of a call
    that cannot have cost anything, and the settlement, may fail: then the most that could be used stays charged, which
    is no reason to withhold a reply. `seconds` tells how long the model may take, once the charge is done.

    Raises Unauthorized, Forbidden, ModelRetired, ValueRefused, QuotaExceeded or QuotaUnavailable, and then nothing was
    asked; or another ModelError.
    """
    owner = caller.require_user()
    require_not_retired(question.settings.model, utc_date(clock()))
    require_possible(question.settings)
    charges = question_charges(owner, question, limits, clock())
    if charges is None:
        reply, cost = ask_model(question, model=model, seconds=seconds(), clock=clock)
    else:
        reply, cost = _ask_charged(question, charges, quotas=quotas, model=model, seconds=seconds, clock=clock)
    try:
        require_reply_answerable(question.messages[-1], reply)
    except TurnTooLarge as error:
        raise ModelProtocolError from error
    if continuable_with is None:
        return QueryResult(reply, cost)
    return QueryResult(reply, cost, make_continuation(continuable_with, owner, question, reply, cost, clock()))


def ask_model(
    question: ModelRequest, *, model: ChatModel, seconds: float, clock: Clock
) -> tuple[Reply, Decimal | None]:
    """Returns the reply and its price, charged to nobody. Raises ModelError."""
    reply = model.reply(question, seconds)
    return reply, cost_usd(reply.model, reply.usage, utc_date(clock()))


def _ask_charged(
    question: ModelRequest,
    charges: QuotaCharges,
    *,
    quotas: QuotaStore,
    model: ChatModel,
    seconds: Callable[[], float],
    clock: Clock,
) -> tuple[Reply, Decimal | None]:
    try:
        quotas.charge(charges, clock())
    except StoreUnavailable as error:
        raise QuotaUnavailable from error
    try:
        reply, cost = ask_model(question, model=model, seconds=seconds(), clock=clock)
    except Exception as error:
        if not may_be_billed(error):
            _settle(quotas, charges.refund)
        raise
    _settle(
        quotas, QuotaCharges(charges.owner, settlement(charges.charges, (ModelCall(reply.model, reply.usage, cost),)))
    )
    return reply, cost


def _settle(quotas: QuotaStore, charges: QuotaCharges) -> None:
    if charges.charges:
        with suppress(StoreUnavailable):
            quotas.settle(charges)
