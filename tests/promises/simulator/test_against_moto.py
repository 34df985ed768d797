"""Random operations with the expressions that Turnlog uses give the same on the simulated DynamoDB and on moto.

Single items only: moto is wrong about tokens of transactions, and its pages differ. Its answers come through the real
boto3, so every argument that the simulator takes is also one that boto3 takes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from tests.promises.simulator.attribute_values import Item
from tests.promises.simulator.dynamodb import SimulatedDynamoDB

TABLE = "table"
OPERATIONS = 1500

CONDITIONS = [
    "attribute_not_exists(pk)",
    "attribute_exists(pk)",
    "st = :running AND tok = :token",
    "st = :running AND tok = :token AND til < :now",
    "st = :running",
    "st <> :running",
    "attribute_not_exists(n) OR n < :now",
    "attribute_not_exists(n) OR n <= :now AND NOT st = :running",
    "(attribute_not_exists(n) OR n <= :now) AND NOT (st = :running)",
    "til BETWEEN :now AND :later",
    "til > :now OR til >= :later",
    "begins_with(tok, :token)",
    "#t = :now",
    "tot.tokens > :now",
    "attribute_exists(tot.#u)",
    "attribute_not_exists(tot)",
]
UPDATES = [
    "ADD n :now",
    "SET n = n + :now",
    "SET n = if_not_exists(n, :now) - :later",
    "SET st = :running, tok = :token REMOVE til",
    "REMOVE tot",
    "SET tot = :running",
    "SET #t = :later ADD n :now",
    "SET tot.tokens = :now",
    "SET n = :now, n = :later",
    "SET pk = :token",
]
NEVER_VALID = UPDATES[-2:]  # DynamoDB says so before it looks at a condition, moto after


@pytest.fixture(scope="module")
def moto() -> Iterator[Any]:
    with mock_aws():
        client = boto3.client("dynamodb", region_name="us-east-1")
        client.create_table(
            TableName=TABLE,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        )
        yield client


def outcome(client: Any, operation: str, given: dict[str, Any]) -> Any:
    """Returns the outcome in a form in which the two can be compared: texts of errors differ."""
    try:
        answer = getattr(client, operation)(**given)
    except ClientError as error:
        return error.response["Error"]["Code"], error.response.get("Item")
    return {name: answer[name] for name in ("Item", "Items", "Attributes", "UnprocessedItems") if name in answer}


class Requests:
    """Makes random requests on three keys."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)

    def any(self) -> tuple[str, dict[str, Any]]:
        kind = self._chance.choice(
            [self._put, self._put, self._update, self._delete, self._get, self._query, self._batch]
        )
        operation, given = kind()
        return operation, {"TableName": TABLE, **given} if operation != "batch_write_item" else given

    def _key(self) -> Item:
        return {"pk": {"S": "p"}, "sk": {"S": self._chance.choice("abc")}}

    def _values(self) -> Item:
        token = self._chance.choice(["x", "xy", "z"])
        now = self._chance.choice(["1", "2", "1.5", "-3"])
        later = self._chance.choice(["2", "30"])
        return {":running": {"S": "running"}, ":token": {"S": token}, ":now": {"N": now}, ":later": {"N": later}}

    def _item(self) -> Item:
        values = self._values()
        optional: Item = {
            "st": {"S": self._chance.choice(["running", "done"])},
            "tok": values[":token"],
            "til": values[":now"],
            "n": {"N": self._chance.choice(["1", "2"])},
            "ttl": values[":later"],
            "tot": {"M": {"tokens": {"N": self._chance.choice(["1", "9"])}, "usd": {"N": "0.5"}}},
            "k": {"B": b"key"},
        }
        return self._key() | {name: value for name, value in optional.items() if self._chance.random() < 0.7}

    def _named(self, *expressions: str) -> dict[str, Any]:
        """Returns the names and values that the expressions use."""
        text = " ".join(expressions)
        values = {name: value for name, value in self._values().items() if name in text}
        names = {name: meant for name, meant in {"#t": "ttl", "#u": "usd"}.items() if name in text}
        given: dict[str, Any] = {"ExpressionAttributeValues": values} if values else {}
        return given | ({"ExpressionAttributeNames": names} if names else {})

    def _conditional(self, *others: str) -> dict[str, Any]:
        if self._chance.random() < 0.2:
            return self._named(*others)
        condition = self._chance.choice(CONDITIONS)
        shown = {"ReturnValuesOnConditionCheckFailure": self._chance.choice(["ALL_OLD", "NONE"])}
        return {"ConditionExpression": condition} | shown | self._named(condition, *others)

    def _put(self) -> tuple[str, dict[str, Any]]:
        returned = self._chance.choice(["NONE", "ALL_OLD"])
        return "put_item", {"Item": self._item(), "ReturnValues": returned} | self._conditional()

    def _delete(self) -> tuple[str, dict[str, Any]]:
        return "delete_item", {"Key": self._key(), "ReturnValues": "ALL_OLD"} | self._conditional()

    def _update(self) -> tuple[str, dict[str, Any]]:
        wanted = self._chance.choice(UPDATES)
        returned = self._chance.choice(["NONE", "ALL_OLD", "ALL_NEW"])
        given = {"Key": self._key(), "UpdateExpression": wanted, "ReturnValues": returned}
        return "update_item", given | (self._named(wanted) if wanted in NEVER_VALID else self._conditional(wanted))

    def _get(self) -> tuple[str, dict[str, Any]]:
        return "get_item", {"Key": self._key(), "ConsistentRead": True}

    def _query(self) -> tuple[str, dict[str, Any]]:
        range_ = self._chance.choice(["", " AND sk BETWEEN :first AND :last", " AND begins_with(sk, :first)"])
        values = {":p": {"S": "p"}, ":first": {"S": "a"}, ":last": {"S": "b"}}
        given: dict[str, Any] = {
            "KeyConditionExpression": "pk = :p" + range_,
            "ExpressionAttributeValues": {name: value for name, value in values.items() if name in "pk = :p" + range_},
            "ScanIndexForward": self._chance.random() < 0.5,
            "ConsistentRead": True,
        }
        if self._chance.random() < 0.3:
            given |= {"ProjectionExpression": "sk, st, #t", "ExpressionAttributeNames": {"#t": "ttl"}}
        if self._chance.random() < 0.3:
            given["Limit"] = 2
        return "query", given

    def _batch(self) -> tuple[str, dict[str, Any]]:
        writes: dict[str, dict[str, Any]] = {}
        for _ in range(2):
            item = self._item()
            put = {"PutRequest": {"Item": item}}
            delete = {"DeleteRequest": {"Key": {name: item[name] for name in ("pk", "sk")}}}
            writes[item["sk"]["S"]] = self._chance.choice([put, delete])
        return "batch_write_item", {"RequestItems": {TABLE: list(writes.values())}}


def test_both_answer_the_same_and_hold_the_same(moto: Any) -> None:
    simulated, requests = SimulatedDynamoDB(), Requests(seed=9)
    codes: dict[Any, int] = {}
    for at in range(OPERATIONS):
        operation, given = requests.any()
        expected = outcome(moto, operation, given)
        assert outcome(simulated, operation, given) == expected, (at, operation, given)
        codes[expected[0] if isinstance(expected, tuple) else "answer"] = 1
    assert simulated.tables.items(TABLE) == sorted(
        moto.scan(TableName=TABLE)["Items"], key=lambda each: each["sk"]["S"]
    )
    assert set(codes) == {"answer", "ConditionalCheckFailedException", "ValidationException"}
