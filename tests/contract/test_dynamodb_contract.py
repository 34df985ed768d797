"""DynamoDBSessionStore: the contract. What lies in its tables, and what it does when they fail, is in test_dynamodb."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.conftest import KEYS_TABLE, TABLE, USAGE_TABLE
from tests.contract.session_store import SessionStoreContract
from tests.fakes import HeldClock
from tests.wrapping import LocalWrapper
from turnlog.adapters.dynamodb import DynamoDBSessionStore, OwnerKeys
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


class TestDynamoDB(SessionStoreContract):
    @pytest.fixture
    def store(self, dynamodb: DynamoDBClient) -> SessionStore:
        client: Any = OneAtATime(dynamodb)
        return DynamoDBSessionStore(client, TABLE, USAGE_TABLE, sleep=lambda _: None)


class TestEncryptedDynamoDB(SessionStoreContract):
    """The same facts hold when all content is encrypted."""

    @pytest.fixture
    def store(self, dynamodb: DynamoDBClient) -> SessionStore:
        client: Any = OneAtATime(dynamodb)
        keys = OwnerKeys(client, KEYS_TABLE, LocalWrapper(), HeldClock())
        return DynamoDBSessionStore(client, TABLE, USAGE_TABLE, keys=keys, sleep=lambda _: None)
