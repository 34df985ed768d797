"""DynamoDB's calls as the protocol needs them: repeated while that is safe, each failed condition told apart."""

from __future__ import annotations

import random
import secrets
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as NotConnected

from turnlog.errors import ItemUnreadable, ModelProtocolError, StoreUnavailable

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Item = dict[str, Any]
"""An item, a key or values, as the client takes them: `{"pk": {"S": "…"}}`."""

# Conditions, each named for when it is true.
EMPTY = "attribute_not_exists(pk)"  # nothing holds the slot, or the item does not exist yet
EXISTS = "attribute_exists(pk)"
KNOWN = "attribute_not_exists(v) OR v <= :newest"  # no later version stored the item
MINE = "st = :running AND tok = :token"  # the slot still holds the lease with this token
LAPSED = "st = :running AND tok = :token AND til < :now"  # ... and it has run out
UNSTOPPED = "attribute_not_exists(stop)"  # nobody asked its turn to stop
WRITTEN_ONCE = "attribute_not_exists(seq)"  # the lease was not written again since it was taken
LAST_WRITTEN = "seq = :seq"  # its last write was that of this number
SAME_VERSION = "v = :v"  # the item exists, and no later version has replaced it
TITLED = "title = :title"  # a session's title is still the one that was read
LABELLED = "md = :md"  # ... and so is its metadata
UNLABELLED = "attribute_not_exists(md)"  # ... and it still has no metadata
DONE = "st = :done"  # the slot holds a finished turn
COPIED = "st = :done AND tok = :token"  # the slot holds the copy of this turn
ACTIVE = "st = :active"  # a key has its bytes
LEFT = "NOT (st = :erasing OR st = :erased)"  # a key may have its bytes, whatever a later version calls its state
NEVER = "attribute_exists(pk) AND n <= :room"  # of a counter, which is not negative, when there is no room
WITHIN_LIMIT = "attribute_not_exists(n) OR n <= :room"  # the counter has room for the charge

_BATCH = 25  # the most that BatchWriteItem takes
_TRIES = 4
_TRANSIENT = {
    "InternalServerError",
    "LimitExceededException",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ServiceUnavailable",
    "ThrottlingException",
    "TransactionConflictException",
    "TransactionInProgressException",
}
_TRANSIENT_REASONS = {"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"}


_DAMAGE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    ModelProtocolError,  # a turn without a stop reason
    RecursionError,  # JSON that is nested without end
    TypeError,
    ValueError,
    zlib.error,
)


def s(text: str) -> Item:
    """A string as an attribute's value."""
    return {"S": text}


def n(number: object) -> Item:
    """A number as an attribute's value, never in scientific notation."""
    return {"N": f"{number:f}" if not isinstance(number, int) else str(number)}


def key(pk: str, sk: str) -> Item:
    """The primary key of an item."""
    return {"pk": s(pk), "sk": s(sk)}


@contextmanager
def readable() -> Iterator[None]:
    """Raises ItemUnreadable when an item lacks something or has another form: damage never reads as less data."""
    try:
        yield
    except _DAMAGE as error:
        raise ItemUnreadable from error


class Table:
    """One table of a client without retries of its own.

    Every call is tried up to 4 times with jitter, after throttling, a 5xx, a lost connection or a conflict between
    transactions; every write here is safe to repeat. After that all methods raise StoreUnavailable: a write may or may
    not have happened.
    """

    def __init__(self, client: DynamoDBClient, name: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self._client = client
        self._sleep = sleep
        self.name = name

    def put(self, item: Item, condition: str | None = None, values: Item | None = None) -> Item | None:
        """Stores the item. Returns None if the condition held; else the item that failed it, `{}` if there is none."""
        return self._conditional(self._client.put_item, condition, values, Item=item)

    def delete(self, item_key: Item, condition: str | None = None, values: Item | None = None) -> Item | None:
        """Deletes the item. Returns as `put`."""
        return self._conditional(self._client.delete_item, condition, values, Key=item_key)

    def update(self, item: Item, expression: str, values: Item, condition: str) -> Item | None:
        """Changes the item with the key of `item`, under a `condition`, with the values of both. Returns as `put`."""
        arguments = {"Key": key(item["pk"]["S"], item["sk"]["S"]), "UpdateExpression": expression}
        return self._conditional(self._client.update_item, condition, values, **arguments)

    def get(self, item_key: Item, only: str | None = None) -> Item | None:
        """The item under this key, read strongly consistent, with all attributes or `only` this; None without any."""
        wanted = {"ProjectionExpression": only} if only else {}
        answer = self._call(self._client.get_item, TableName=self.name, Key=item_key, ConsistentRead=True, **wanted)
        found: Item | None = answer.get("Item")
        return found

    def query(
        self,
        pk: str,
        *,
        newest_first: bool = False,
        limit: int | None = None,
        until: Callable[[list[Item]], bool] = lambda _: False,
        between: tuple[str, str] | None = None,
        only: str | None = None,
        consistent: bool = True,
    ) -> list[Item]:
        """Items of a partition, read in pages of at most `limit` items, to the end or until `until` is true of them.

        With all attributes, or those that `only` names.
        """
        values = {":pk": s(pk)}
        arguments: Item = {"TableName": self.name, "ConsistentRead": consistent, "ScanIndexForward": not newest_first}
        arguments["KeyConditionExpression"] = "pk = :pk"
        if between:
            arguments["KeyConditionExpression"] += " AND sk BETWEEN :first AND :last"
            values |= {":first": s(between[0]), ":last": s(between[1])}
        if only:
            arguments |= {"ProjectionExpression": only, "ExpressionAttributeNames": {"#t": "ttl"}}
        if limit:
            arguments["Limit"] = limit
        items: list[Item] = []
        while True:
            page = self._call(self._client.query, ExpressionAttributeValues=values, **arguments)
            items += page["Items"]
            if "LastEvaluatedKey" not in page or until(items):
                return items
            arguments["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def newest(self, pk: str) -> Item | None:
        """The item with the last sort key of a partition: a session's header, if there is one. None if it is empty."""
        return next(iter(self.query(pk, newest_first=True, limit=1, until=bool)), None)

    def put_all(self, items: Iterable[Item]) -> None:
        """Stores the items without conditions, in batches. Only its return says that all of them are stored."""
        self._write_all([{"PutRequest": {"Item": item}} for item in items])

    def delete_all(self, keys: Iterable[Item]) -> None:
        """Deletes the items under these keys, as `put_all` stores."""
        self._write_all([{"DeleteRequest": {"Key": each}} for each in keys])

    def transact(self, actions: Sequence[Item]) -> list[Item] | None:
        """Does all actions or none. Returns None when they were done, else a reason for each action.

        A retry of this very call has no further effect for ten minutes, by its token.
        """
        token = secrets.token_urlsafe(18)
        try:
            self._call(self._client.transact_write_items, TransactItems=list(actions), ClientRequestToken=token)
        except ClientError as error:
            if error.response["Error"]["Code"] != "TransactionCanceledException":
                raise
            reasons: list[Any] = error.response["CancellationReasons"]
            return reasons
        return None

    def put_action(self, item: Item, condition: str | None = None, values: Item | None = None) -> Item:
        """A Put action for `transact`."""
        return {"Put": {"TableName": self.name, "Item": item, **_when(condition, values)}}

    def delete_action(self, item_key: Item, condition: str, values: Item) -> Item:
        """A Delete action for `transact`."""
        return {"Delete": {"TableName": self.name, "Key": item_key, **_when(condition, values)}}

    def check_action(self, item_key: Item, condition: str, values: Item | None = None) -> Item:
        """A ConditionCheck action for `transact`."""
        return {"ConditionCheck": {"TableName": self.name, "Key": item_key, **_when(condition, values)}}

    def _conditional(
        self, operation: Callable[..., Any], condition: str | None, values: Item | None, **arguments: Any
    ) -> Item | None:
        try:
            self._call(operation, TableName=self.name, **arguments, **_when(condition, values))
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            found: Item = error.response.get("Item", {})  # type: ignore[assignment] # the stubs do not know it
            return found
        return None

    def _write_all(self, requests: list[Item]) -> None:
        stalled = 0
        while requests:
            batch, rest = requests[:_BATCH], requests[_BATCH:]
            answer = self._call(self._client.batch_write_item, RequestItems={self.name: batch})
            unprocessed = answer.get("UnprocessedItems", {}).get(self.name, [])
            stalled = stalled + 1 if len(unprocessed) == len(batch) else 0
            if stalled == _TRIES:
                raise StoreUnavailable
            if stalled:
                self._sleep(_pause_s(stalled))
            requests = unprocessed + rest

    def _call(self, operation: Callable[..., Any], **arguments: Any) -> Any:
        """Returns the call's answer. Raises StoreUnavailable after the last try, ClientError if a condition failed."""
        cause: Exception | None = None
        for tried in range(_TRIES):
            if tried:
                self._sleep(_pause_s(tried))
            try:
                answer = operation(**arguments)
                if not _is_cut_off(answer):
                    return answer
            except ClientError as error:
                if _is_answer(error):
                    raise
                if not _is_transient(error):
                    raise StoreUnavailable from error
                cause = error
            except (HTTPClientError, NotConnected) as error:
                cause = error
        raise StoreUnavailable from cause


def failed(reason: Item) -> bool:
    """True if the condition of this action cancelled its transaction."""
    return bool(reason.get("Code") == "ConditionalCheckFailed")


def item_that_failed(reasons: Sequence[Item] | None) -> Item | None:
    """The item that failed the first action's condition, `{}` if there was none; None if that condition held."""
    if not reasons or not failed(reasons[0]):
        return None
    found: Item = reasons[0].get("Item", {})
    return found


def _when(condition: str | None, values: Item | None) -> Item:
    if condition is None:
        return {}
    given: Item = {"ConditionExpression": condition, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
    return given | {"ExpressionAttributeValues": values} if values else given


def _is_answer(error: ClientError) -> bool:
    """True if the error says something about what is stored, or that the call itself makes no sense."""
    code = error.response["Error"]["Code"]
    if code == "TransactionCanceledException":
        reasons = {reason.get("Code") for reason in error.response.get("CancellationReasons", [])}
        return "ConditionalCheckFailed" in reasons or not reasons & _TRANSIENT_REASONS
    return code in ("ConditionalCheckFailedException", "ValidationException", "IdempotentParameterMismatchException")


def _is_transient(error: ClientError) -> bool:
    code = error.response["Error"]["Code"]
    if code == "TransactionCanceledException":
        return True
    return code in _TRANSIENT or error.response["ResponseMetadata"].get("HTTPStatusCode", 0) >= 500


def _is_cut_off(answer: Any) -> bool:
    """True if the connection broke within the answer: botocore returns an empty one then, whose JSON has 2 bytes."""
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return len(answer) == 1 and int(headers.get("content-length", 2)) > 2


def _pause_s(tried: int) -> float:
    return random.uniform(0.5, 1.5) * 0.05 * float(2**tried)  # noqa: S311 (jitter)
