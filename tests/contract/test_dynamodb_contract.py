"""DynamoDBSessionStore: the contract. What lies in its tables, and what it does when they fail, is in test_dynamodb."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.conftest import KEYS_TABLE, TABLE, USAGE_TABLE
from tests.contract.later_versions import LaterVersionContract, StoreLater
from tests.contract.session_store import SessionStoreContract
from tests.contract.steps import Store, TurnStoreContract
from tests.fakes import HeldClock
from tests.wrapping import LocalWrapper
from turnlog.adapters.dynamodb import DynamoDBSessionStore, OwnerKeys
from turnlog.adapters.dynamodb.items import partition
from turnlog.adapters.read_cache import CachedSessionStore
from turnlog.domain.sessions import Session
from turnlog.ports.session_store import SessionStore

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


class OneAtATime:
    """A client whose calls happen one after the other, as DynamoDB's do for an item; moto's overlap."""

    def __init__(self, client: DynamoDBClient) -> None:
        self._client = client
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        operation = getattr(self._client, name)

        def call(**arguments: Any) -> Any:
            with self._lock:
                return operation(**arguments)

        return call


class DynamoDBLaterVersions(LaterVersionContract):
    """A session of a later version is one with such items; the rest of the table is of this one."""

    @pytest.fixture
    def store_later(self, dynamodb: DynamoDBClient) -> StoreLater:
        def make_later(session: Session) -> Callable[[], object]:
            pk = {":pk": {"S": partition(session.owner, session.id)}}
            query: Any = {"TableName": TABLE, "KeyConditionExpression": "pk = :pk", "ExpressionAttributeValues": pk}
            items = dynamodb.query(**query)["Items"]

            def put(version: Mapping[str, Any]) -> None:
                for item in items:
                    dynamodb.put_item(TableName=TABLE, Item={**item, **version})

            put({"v": {"N": "4"}})
            return lambda: put({})

        return make_later


class TestDynamoDB(SessionStoreContract, TurnStoreContract, DynamoDBLaterVersions):
    @pytest.fixture
    def store(self, dynamodb: DynamoDBClient) -> Store:
        client: Any = OneAtATime(dynamodb)
        return DynamoDBSessionStore(client, TABLE, USAGE_TABLE, sleep=lambda _: None)


class TestEncryptedDynamoDB(SessionStoreContract, TurnStoreContract, DynamoDBLaterVersions):
    """The same facts hold when all content is encrypted."""

    @pytest.fixture
    def store(self, dynamodb: DynamoDBClient) -> Store:
        client: Any = OneAtATime(dynamodb)
        keys = OwnerKeys(client, KEYS_TABLE, LocalWrapper(), HeldClock())
        return DynamoDBSessionStore(client, TABLE, USAGE_TABLE, keys=keys, sleep=lambda _: None)


class TestReadCacheOverDynamoDB(DynamoDBLaterVersions):
    """A cache over a store that holds what a later version stored."""

    @pytest.fixture
    def store(self, dynamodb: DynamoDBClient) -> SessionStore:
        return CachedSessionStore(DynamoDBSessionStore(dynamodb, TABLE, USAGE_TABLE, sleep=lambda _: None))
