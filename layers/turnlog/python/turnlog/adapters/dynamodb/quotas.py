"""Counters of what owners have used: one for each quota and its period, in the owner's partition.

A counter is charged in a transaction, alone too, since only a transaction can be repeated after a lost answer without
counting twice. Its TTL comes an hour after its period's end. In every version a counter is its number `n`, so one that
a later version began is counted on, and goes on to say so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

from turnlog.adapters.dynamodb.items import VERSION, owner_partition
from turnlog.adapters.dynamodb.table import EXISTS, NEVER, WITHIN_LIMIT, Item, Table, failed, key, n
from turnlog.domain.margins import GRACE
from turnlog.domain.quotas import QuotaCharge, QuotaCharges, exceeded
from turnlog.errors import QuotaExceeded, StoreUnavailable

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_GRACE_S = int(GRACE.total_seconds())


class DynamoDBQuotaStore:
    """QuotaStore in the table that a DynamoDBSessionStore charges too. Needs UpdateItem. A charge costs 2 WCU."""

    def __init__(self, client: DynamoDBClient, table: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self._usage = Table(client, table, sleep)

    def charge(self, quota: QuotaCharges, now_ms: int) -> None:
        transact_charged(self._usage, [], self._usage.name, quota, now_ms)

    def settle(self, quota: QuotaCharges) -> None:
        for charge in quota.charges:
            action = charge_action(self._usage.name, charge.owner or quota.owner, charge)
            if charge.amount < 0:  # a refund must not create a counter that was erased meanwhile
                action["Update"]["ConditionExpression"] = EXISTS
            self._usage.transact([action])


def erase_quotas(usage: Table, owner: str, now_ms: int) -> None:
    """Removes the owner's counters, except those whose period is not over."""
    counters = usage.query(owner_partition(owner))
    over = [item for item in counters if (int(item["ttl"]["N"]) - _GRACE_S) * 1000 <= now_ms]
    usage.delete_all(key(item["pk"]["S"], item["sk"]["S"]) for item in over)


def transact_charged(
    table: Table,
    actions: Sequence[Item],
    usage: str,
    quota: QuotaCharges | None,
    now_ms: int,
    *,
    check_only: bool = False,
    settlement: Sequence[QuotaCharge] = (),
) -> list[Item] | None:
    """Does the actions and takes the quota's charges in the table `usage`: all of it or nothing.

    The settlement is added to its counters with them, whatever their limits. Returns as `Table.transact`, with the
    reasons of the actions alone. With `check_only` there must be room for the charges, but they are not taken. Raises
    QuotaExceeded when the actions could be done and a charge does not fit.
    """
    settled: list[Item] = []
    if quota and settlement:
        taken, rest = _merged(quota.owner, quota.charges, settlement)
        charges = charge_actions(usage, QuotaCharges(quota.owner, tuple(taken)), limited=True)
        settled = charge_actions(usage, QuotaCharges(quota.owner, tuple(rest)))
    else:
        charges = charge_actions(usage, quota, limited=True)
    reasons = table.transact([*actions, *(map(_room_check, charges) if check_only else charges), *settled])
    if not reasons:
        return None
    if any(map(failed, reasons[: len(actions)])):
        return reasons[: len(actions)]
    raise refusal(quota, reasons[len(actions) : len(actions) + len(charges)], now_ms)


def charge_actions(table: str, quota: QuotaCharges | None, *, limited: bool = False) -> list[Item]:
    """One Update action a charge, for `transact`."""
    return (
        [charge_action(table, each.owner or quota.owner, each, limited=limited) for each in quota.charges]
        if quota
        else []
    )


def _merged(owner: str, charges: Sequence[QuotaCharge], settlement: Sequence[QuotaCharge]) -> list[list[QuotaCharge]]:
    """The charges and then the settlements of other counters, since a transaction changes each counter once.

    A charge whose counter also settles something is as large as both, and must fit as a whole.
    """

    def counter(charge: QuotaCharge) -> tuple[str, str]:
        return charge.owner or owner, charge.counter

    charged = {counter(each) for each in charges}
    rest = [each for each in settlement if counter(each) not in charged]
    settled = [sum((each.amount for each in settlement if counter(each) == counter(to)), Decimal(0)) for to in charges]
    return [[replace(to, amount=to.amount + more) for to, more in zip(charges, settled, strict=True)], rest]


def _room_check(action: Item) -> Item:
    """A ConditionCheck action that fails when the charge of this Update does not fit."""
    charge = action["Update"]
    check = {name: charge[name] for name in ("TableName", "Key", "ConditionExpression")}
    room = {":room": charge["ExpressionAttributeValues"][":room"]}
    return {"ConditionCheck": check | {"ExpressionAttributeValues": room}}


def charge_action(table: str, owner: str, charge: QuotaCharge, *, limited: bool = False) -> Item:
    """The Update action that adds the charge to its counter; with `limited` it fails above the charge's limit."""
    update: Item = {
        "TableName": table,
        "Key": key(owner_partition(owner), charge.counter),
        "UpdateExpression": "ADD n :amount SET #t = if_not_exists(#t, :ttl), v = if_not_exists(v, :v)",
        "ExpressionAttributeNames": {"#t": "ttl"},
        "ExpressionAttributeValues": {
            ":amount": n(charge.amount),
            ":ttl": n(-(-charge.resets_ms // 1000) + _GRACE_S),
            ":v": n(VERSION),
        },
    }
    if limited:
        # A charge beyond its limit does not fit even into a counter that is not there yet.
        update["ConditionExpression"] = WITHIN_LIMIT if charge.amount <= charge.limit else NEVER
        update["ExpressionAttributeValues"][":room"] = n(charge.limit - charge.amount)
    return {"Update": update}


def refusal(quota: QuotaCharges | None, reasons: Sequence[Item], now_ms: int) -> QuotaExceeded | StoreUnavailable:
    """The error to raise for charges that were not taken, by the reasons of their actions."""
    for charge, reason in zip(quota.charges if quota else (), reasons, strict=True):
        if failed(reason):
            return exceeded(charge, now_ms)
    return StoreUnavailable()
