"""ask(): one question, one reply, nothing stored."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal

from turnlog.clock import Clock
from turnlog.domain.limits import settlement
from turnlog.domain.messages import ModelRequest, Reply
from turnlog.domain.prices import cost_usd
from turnlog.domain.quotas import QuotaCharges
from turnlog.errors import QuotaUnavailable, StoreUnavailable
from turnlog.ports.chat_model import ChatModel
from turnlog.ports.quota_store import QuotaStore
from turnlog.usecases.take_turn import _day, _may_be_billed


def ask(request: ModelRequest, *, model: ChatModel, seconds: float, clock: Clock) -> tuple[Reply, Decimal | None]:
    """One question, one reply and its price; nothing is stored. Raises ModelError."""
    reply = model.reply(request, seconds)
    return reply, cost_usd(reply.model, reply.usage, _day(clock()))


def ask_within(
    request: ModelRequest,
    quota: QuotaCharges,
    *,
    quotas: QuotaStore,
    model: ChatModel,
    seconds: float,
    clock: Clock,
) -> tuple[Reply, Decimal | None]:
    """As `ask`, charged before and settled after. Raises AllowanceUsedUp and LimitUnknown too; then nothing was asked.

    What a call that failed cannot have cost is given back. A settlement that fails leaves the most charged that could
    be used, which is no reason to withhold a reply.
    """
    try:
        quotas.charge(quota, clock())
    except StoreUnavailable as error:
        raise QuotaUnavailable from error
    try:
        reply, cost = ask(request, model=model, seconds=seconds, clock=clock)
    except Exception as error:
        if not _may_be_billed(error):
            _settle(quotas, quota.refund)
        raise
    _settle(quotas, QuotaCharges(quota.owner, settlement(quota.charges, reply, cost)))
    return reply, cost


def _settle(quotas: QuotaStore, quota: QuotaCharges) -> None:
    if quota.charges:
        with suppress(StoreUnavailable):
            quotas.settle(quota)
