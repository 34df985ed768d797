"""DynamoDB in this process, at the level of boto3's client: deterministic, and as strict as the real one.

Every operation takes exactly the arguments of boto3 that are simulated (any other is an error), and returns or raises
the same as boto3. Each happens at one instant. The network decides which goes first, what is lost and what fails. The
keys of all tables are the texts `pk` and `sk`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from botocore.exceptions import ClientError

from tests.promises.simulator import write_actions as actions
from tests.promises.simulator.attribute_values import Item, copied
from tests.promises.simulator.expressions import Names, Path, condition, key_condition, projection
from tests.promises.simulator.tables import Tables
from tests.promises.simulator.write_actions import (
    Action,
    Arguments,
    invalid,
    key_of,
    names_of,
    parsed,
    refused,
    require_arguments,
)

MAX_TRANSACTION_BYTES = 4 * 1024 * 1024
MAX_TRANSACTION_ACTIONS = 100
MAX_BATCH_BYTES = 16 * 1024 * 1024
MAX_BATCH_WRITES = 25
TOKEN_VALID_MS = 10 * 60 * 1000

Response = dict[str, Any]

_KEY_PATHS = ([("pk",)], [("pk",), ("sk",)])
_FAILED = "The conditional request failed"


def _standing_still() -> int:
    return 0


class SimulatedDynamoDB:
    """The client. `tables` holds the items; `now_ms` tells the time, for tokens and for stale reads; a page of a Query
    ends after `page_bytes`.
    """

    page_bytes = 1024 * 1024

    def __init__(self, now_ms: Callable[[], int] = _standing_still, chance: random.Random | None = None) -> None:
        self.tables = Tables(now_ms, chance or random.Random(0))
        self._tokens: dict[str, tuple[int, list[Response]]] = {}

    # --- reads --------------------------------------------------------------------------------------------------------

    def get_item(self, **given: Any) -> Response:
        optional = ("ConsistentRead", "ProjectionExpression", "ExpressionAttributeNames")
        require_arguments(given, ("TableName", "Key"), optional)
        wanted, used = parsed(projection, given.get("ProjectionExpression"))
        names = names_of(given, used)
        attributes = _attributes(wanted, names)
        key = key_of(given["Key"])
        found = self.tables.read(given["TableName"], key, consistent=given.get("ConsistentRead", False))
        return _answer() if found is None else _answer(Item=_projected(found, attributes))

    def query(self, **given: Any) -> Response:
        required = ("TableName", "KeyConditionExpression", "ExpressionAttributeValues")
        optional = ("ExpressionAttributeNames", "FilterExpression", "ProjectionExpression")
        paging = ("ConsistentRead", "ScanIndexForward", "Limit", "ExclusiveStartKey")
        require_arguments(given, required, optional + paging)
        keys, used_by_keys = parsed(key_condition, given["KeyConditionExpression"])
        chosen, used_by_filter = parsed(condition, given.get("FilterExpression"))
        wanted, used = parsed(projection, given.get("ProjectionExpression"))
        names = names_of(given, used | used_by_keys | used_by_filter)
        attributes = _attributes(wanted, names)
        if keys is None or [path.resolved(names) for path in keys.paths] not in _KEY_PATHS:
            raise invalid("Query condition missed key schema element")
        table, limit, pk = given["TableName"], given.get("Limit"), names.text(keys.partition)
        if limit is not None and limit < 1:
            raise invalid("Limit must be greater than or equal to 1")
        after = key_of(given["ExclusiveStartKey"]) if "ExclusiveStartKey" in given else (pk, None)
        if after[0] != pk:
            raise invalid("The provided starting key is outside query boundaries based on provided conditions")
        page: list[Item] = []
        scanned = page_bytes = 0
        more: Response = {}
        for sk in self.tables.sort_keys(table, pk, after=after[1], forward=given.get("ScanIndexForward", True)):
            if keys.holds and not keys.holds({"sk": {"S": sk}}, names):
                continue
            found = self.tables.read(table, (pk, sk), consistent=given.get("ConsistentRead", False))
            if found is None:
                continue
            scanned += 1
            page_bytes += found.bytes
            if chosen is None or chosen(found, names):
                page.append(_projected(found, attributes))
            if scanned == limit or page_bytes >= self.page_bytes:
                more = {"LastEvaluatedKey": {"pk": {"S": pk}, "sk": {"S": sk}}}
                break
        return _answer(Items=page, Count=len(page), ScannedCount=scanned, **more)

    # --- writes -------------------------------------------------------------------------------------------------------

    def put_item(self, **given: Any) -> Response:
        return self._single(actions.put, given, ("NONE", "ALL_OLD"))

    def delete_item(self, **given: Any) -> Response:
        return self._single(actions.delete, given, ("NONE", "ALL_OLD"))

    def update_item(self, **given: Any) -> Response:
        """Makes the item when there is none."""
        return self._single(actions.change, given, ("NONE", "ALL_OLD", "ALL_NEW"))

    def _single(self, action_of: Callable[[Arguments], Action], given: Arguments, known: tuple[str, ...]) -> Response:
        returned = given.pop("ReturnValues", "NONE")
        if returned not in known:
            raise invalid(f"ReturnValues {returned} is not one of {known}")
        action = action_of(given)
        old = self.tables.now(action.table, action.key)
        if not action.holds(old):
            shown: Response = {"Item": copied(old)} if old is not None and action.shows_item_on_failure else {}
            raise refused("ConditionalCheckFailedException", _FAILED, **shown)
        new = action.leaves(old)
        self.tables.write(action.table, action.key, new)
        item = {"ALL_OLD": old, "ALL_NEW": new}.get(returned)
        return _answer() if item is None else _answer(Attributes=copied(item))

    def batch_write_item(self, **given: Any) -> Response:
        """Writes each by itself, and all of them: to leave some over, ask for fewer."""
        require_arguments(given, ("RequestItems",), ())
        wanted = [_batched(table, request) for table, writes in given["RequestItems"].items() for request in writes]
        if not 0 < len(wanted) <= MAX_BATCH_WRITES:
            raise invalid(f"A batch has 1 to {MAX_BATCH_WRITES} writes")
        _require_distinct(wanted, "Provided list of item keys contains duplicates")
        if sum(action.bytes for action in wanted) > MAX_BATCH_BYTES:
            raise invalid("The batch is larger than 16 MB")
        for action in wanted:
            self.tables.write(action.table, action.key, action.leaves(None))
        return _answer(UnprocessedItems={})

    def transact_write_items(self, **given: Any) -> Response:
        """Writes all or nothing, and once for each token within ten minutes."""
        require_arguments(given, ("TransactItems",), ("ClientRequestToken",))
        wanted = [_transacted(each) for each in given["TransactItems"]]
        if not 0 < len(wanted) <= MAX_TRANSACTION_ACTIONS:
            raise invalid(f"A transaction has 1 to {MAX_TRANSACTION_ACTIONS} actions")
        _require_distinct(wanted, "Transaction request cannot include multiple operations on one item")
        if sum(action.bytes for action in wanted) > MAX_TRANSACTION_BYTES:
            raise invalid("Member must have total item size less than or equal to 4 MB")
        token = given.get("ClientRequestToken")
        if token is not None and self._happened(token, given["TransactItems"]):
            return _answer()
        outcomes = [_outcome(action, self.tables.now(action.table, action.key)) for action in wanted]
        reasons = [reason for reason, _ in outcomes]
        if any(reason["Code"] != "None" for reason in reasons):
            raise cancelled(reasons)
        for action, (_, item) in zip(wanted, outcomes, strict=True):
            self.tables.write(action.table, action.key, item)
        if token is not None:
            self._tokens[token] = (self.tables.now_ms() + TOKEN_VALID_MS, list(given["TransactItems"]))
        return _answer()

    def _happened(self, token: str, wanted: Sequence[Response]) -> bool:
        if not 1 <= len(token) <= 36:
            raise invalid("ClientRequestToken has 1 to 36 characters")
        lease_expires_ms, items = self._tokens.get(token, (0, []))
        if lease_expires_ms <= self.tables.now_ms():
            return False
        if items != list(wanted):
            raise refused("IdempotentParameterMismatchException", "The request token was used with other parameters")
        return True


def cancelled(reasons: list[Response]) -> ClientError:
    """Makes the error of boto3 for a transaction that did not happen: a reason for each action, `None` for those
    without.
    """
    codes = ", ".join(reason["Code"] for reason in reasons)
    message = f"Transaction cancelled, please refer cancellation reasons for specific reasons [{codes}]"
    return refused("TransactionCanceledException", message, CancellationReasons=reasons)


def _outcome(action: Action, old: Item | None) -> tuple[Response, Item | None]:
    """Returns the reason why an action cannot happen (code `None` when it can), and what it would leave."""
    if not action.holds(old):
        shown: Response = {"Item": copied(old)} if old is not None and action.shows_item_on_failure else {}
        return {"Code": "ConditionalCheckFailed", "Message": _FAILED, **shown}, None
    try:
        return {"Code": "None"}, action.leaves(old)
    except ClientError as error:
        return {"Code": "ValidationError", "Message": error.response["Error"]["Message"]}, None


_TRANSACTED = {"Put": actions.put, "Delete": actions.delete, "Update": actions.change, "ConditionCheck": actions.check}
_BATCHED = {"PutRequest": actions.put, "DeleteRequest": actions.delete}


def _transacted(given: Response) -> Action:
    if len(given) != 1:
        raise invalid("TransactItems can only contain one of Check, Put, Update or Delete")
    ((kind, arguments),) = given.items()
    return _TRANSACTED[kind](arguments)


def _batched(table: str, given: Response) -> Action:
    if len(given) != 1:
        raise invalid("Supplied WriteRequest must contain exactly one of PutRequest and DeleteRequest")
    ((kind, arguments),) = given.items()
    if len(arguments) != 1:
        raise invalid("A write of a batch has an item or a key, and no condition")
    return _BATCHED[kind]({"TableName": table, **arguments})


def _require_distinct(wanted: Sequence[Action], message: str) -> None:
    if len({(action.table, action.key) for action in wanted}) < len(wanted):
        raise invalid(message)


def _answer(**given: Any) -> Response:
    return {**given, "ResponseMetadata": {"HTTPStatusCode": 200, "RetryAttempts": 0}}


def _attributes(paths: tuple[Path, ...] | None, names: Names) -> list[str] | None:
    """Returns the names of the attributes that a read asks for; None when it asks for all."""
    if paths is None:
        return None
    wanted = [path.resolved(names) for path in paths]
    if any(len(path) != 1 for path in wanted):
        raise NotImplementedError("projections of parts of an attribute")
    return [str(path[0]) for path in wanted]


def _projected(item: Item, attributes: list[str] | None) -> Item:
    if attributes is None:
        return copied(item)
    return copied({name: item[name] for name in attributes if name in item})
