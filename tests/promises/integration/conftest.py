"""One MiniStack for all tests of this folder in a process, and empty tables for each test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.promises.integration.ministack import Contents, Tables, client_of, new_tables, running_ministack

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


@pytest.fixture(scope="session")
def ministack() -> Iterator[DynamoDBClient]:
    with running_ministack() as endpoint:
        client = client_of(endpoint)
        yield client
        client.close()


@pytest.fixture
def tables(ministack: DynamoDBClient) -> Tables:
    return new_tables(ministack)


@pytest.fixture
def contents(tables: Tables, ministack: DynamoDBClient) -> Contents:
    return Contents(tables, ministack)
