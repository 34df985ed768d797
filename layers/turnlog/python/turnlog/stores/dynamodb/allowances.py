"""What owners have used: one counter for each allowance and its window of time, in the owner's partition.

A counter is charged in a transaction, alone too, since only a transaction can be repeated after a lost answer without
counting twice. Its TTL comes an hour after its window's end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from turnlog.errors import AllowanceUsedUp, StoreUnavailable
from turnlog.sessions import GRACE, Bill, Charge
from turnlog.stores.dynamodb.items import VERSION, owner_partition
from turnlog.stores.dynamodb.table import EXISTS, NEVER, WITHIN_LIMIT, Item, Table, key, n

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


class DynamoDBAllowances:
    """AllowanceStore in the table that a DynamoDBSessionStore charges too. Needs UpdateItem; 2 write units a charge."""

    def __init__(self, client: DynamoDBClient, table: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self._usage = Table(client, table, sleep)

    def charge(self, bill: Bill, now_ms: int) -> None:
        if reasons := self._usage.transact(bill_actions(self._usage.name, bill, limited=True)):
            raise refusal(bill.charges, reasons, now_ms)

    def settle(self, bill: Bill) -> None:
        for charge in bill.charges:
            action = charge_action(self._usage.name, bill.owner, charge)
            if charge.amount < 0:  # of a counter that was erased meanwhile there is nothing to give back
                action["Update"]["ConditionExpression"] = EXISTS
            self._usage.transact([action])


def bill_actions(table: str, bill: Bill | None, *, limited: bool = False) -> list[Item]:
    """One Update for each charge, for `transact`."""
    return [charge_action(table, bill.owner, each, limited=limited) for each in bill.charges] if bill else []


def charge_action(table: str, owner: str, charge: Charge, *, limited: bool = False) -> Item:
    update: Item = {
        "TableName": table,
        "Key": key(owner_partition(owner), charge.counter),
        "UpdateExpression": "ADD n :amount SET #t = if_not_exists(#t, :ttl), v = :v",
        "ExpressionAttributeNames": {"#t": "ttl"},
        "ExpressionAttributeValues": {
            ":amount": n(charge.amount),
            ":ttl": n(-(-charge.resets_ms // 1000) + int(GRACE.total_seconds())),
            ":v": n(VERSION),
        },
    }
    if limited:
        # A charge beyond its limit does not fit even into a counter that is not there yet.
        update["ConditionExpression"] = WITHIN_LIMIT if charge.amount <= charge.limit else NEVER
        update["ExpressionAttributeValues"][":room"] = n(charge.limit - charge.amount)
    return {"Update": update}


def refusal(charges: Sequence[Charge], reasons: Sequence[Item], now_ms: int) -> AllowanceUsedUp | StoreUnavailable:
    """Why the charges were not taken, by the reasons of their actions. Raise it."""
    for charge, reason in zip(charges, reasons, strict=True):
        if reason.get("Code") == "ConditionalCheckFailed":
            return AllowanceUsedUp(charge.counter.partition("#")[0], max(1, -(-(charge.resets_ms - now_ms) // 1000)))
    return StoreUnavailable()
