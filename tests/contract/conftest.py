"""An in-process DynamoDB for the tests of the store on it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from moto import mock_aws

from tests.contract.quick_moto import QuickClient, make_quick

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

pytest.register_assert_rewrite("tests.contract.session_store", "tests.contract.steps")

TABLE = "sessions"
USAGE_TABLE = "usage"
KEYS_TABLE = "keys"


@pytest.fixture(scope="module")
def moto() -> Iterator[DynamoDBClient]:
    """A client of it, without tables; making one takes longer than most tests.

    Neither a signature nor botocore's long user agent, which are a quarter of each call, say anything to moto.
    """
    config = Config(signature_version=UNSIGNED, user_agent="test")
    with pytest.MonkeyPatch.context() as environment:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            environment.setenv(name, "test")
        environment.delenv("AWS_ENDPOINT_URL", raising=False)
        with mock_aws():
            yield boto3.client("dynamodb", region_name="us-east-1", config=config)


@pytest.fixture(scope="module")
def quick_moto(moto: DynamoDBClient) -> Iterator[DynamoDBClient]:
    """The same in less time, for a module whose tests make many calls, one after the other."""
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        yield QuickClient(moto)  # type: ignore[misc] # it stands for one


@pytest.fixture
def dynamodb(moto: DynamoDBClient) -> Iterator[DynamoDBClient]:
    """With empty tables for sessions, usage and keys, as the template describes them."""
    for table in (TABLE, USAGE_TABLE, KEYS_TABLE):
        moto.create_table(
            TableName=table,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        )
    yield moto
    for table in (TABLE, USAGE_TABLE, KEYS_TABLE):
        moto.delete_table(TableName=table)
