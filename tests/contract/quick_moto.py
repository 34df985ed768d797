"""moto's DynamoDB with the same answers in less time.

Most of the time of a call goes into bytes that are made and parsed again: a request, its URL, headers and JSON, on
both sides. And moto copies a table for each write of a transaction, in case that must be undone, and sorts all items of
a table for each query. Here a call goes to moto's DynamoDB directly, the copy of a table shares its items, and a query
looks at the items of its partition alone.
"""

from __future__ import annotations

import base64
import copy
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from botocore.validate import ParamValidator
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models.dynamo_type import DynamoType
from moto.dynamodb.models.table import Table
from moto.dynamodb.responses import DynamoHandler

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

DIRECT = ("get_item", "put_item", "update_item", "delete_item", "query", "batch_write_item", "transact_write_items")

_query = Table.query
_update_item = DynamoDBBackend.update_item


class QuickClient:
    """A client of moto whose calls for items are no requests.

    One that moto refuses, which changes nothing, is made once more as a request, so that its error is the real one.
    """

    def __init__(self, client: DynamoDBClient) -> None:
        self._client = client
        self._validator = ParamValidator()
        self._operations = {name: _operation(client, name) for name in DIRECT}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return partial(self._call, name) if name in DIRECT else getattr(self._client, name)

    def _call(self, name: str, **arguments: Any) -> Any:
        request, operation = getattr(self._client, name), self._operations[name]
        if self._validator.validate(arguments, operation.input_shape).has_errors():
            return request(**arguments)
        handler = DynamoHandler()
        handler.current_account, handler.region = DEFAULT_ACCOUNT_ID, self._client.meta.region_name
        handler.body = _as_received(arguments)
        try:
            found: Any = getattr(handler, name)().result
        except Exception:  # noqa: BLE001 (whatever it is, the client says it in its own way)
            return request(**arguments)
        answer = {member: found[member] for member in operation.output_shape.members if found.get(member) is not None}
        return answer | {"ResponseMetadata": {"HTTPStatusCode": 200, "HTTPHeaders": {}, "RetryAttempts": 0}}


def _operation(client: DynamoDBClient, name: str) -> Any:
    return client.meta.service_model.operation_model(client.meta.method_to_api_mapping[name])


def _as_received(value: Any) -> Any:
    """The value as moto finds it in a request."""
    if isinstance(value, dict):
        return {name: _as_received(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_as_received(each) for each in value]
    return base64.b64encode(value).decode() if isinstance(value, bytes | bytearray) else value


def make_quick(patch: pytest.MonkeyPatch) -> None:
    """Lets moto's tables copy and sort less."""
    patch.setattr(Table, "__deepcopy__", _copy_of_table, raising=False)
    patch.setattr(Table, "query", _query_of_a_partition)
    patch.setattr(DynamoDBBackend, "update_item", _update_of_a_copy)


def _copy_of_table(table: Table, _: Any) -> Table:
    """A table with the items of now. They are shared: a put replaces an item, and so does an update, see below."""
    copied = copy.copy(table)
    copied.items = table.items.copy()
    for key, partition in table.items.items():
        copied.items[key] = partition.copy()
    return copied


def _update_of_a_copy(backend: DynamoDBBackend, table_name: str, key: dict[str, Any], *more: Any, **named: Any) -> Any:
    """An update that leaves the item alone of which a copy of the table knows: it changes another in its place."""
    table = backend.get_table(table_name)
    hash_key, range_key = backend.get_keys_value(table, key)
    if table.get_item(hash_key, range_key):
        table.items[hash_key][range_key] = copy.deepcopy(table.items[hash_key][range_key])
    return _update_item(backend, table_name, key, *more, **named)


def _query_of_a_partition(table: Table, hash_key: DynamoType | None, *more: Any, **named: Any) -> Any:
    partition = copy.copy(table)
    partition.items = defaultdict(dict, {hash_key: table.items.get(hash_key, {})})
    return _query(partition, hash_key, *more, **named)
