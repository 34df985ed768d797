"""The costs of each call to DynamoDB, by the published rules, from the bytes on the wire.

The same arithmetic for everybody (AWS documentation, "Read and write capacity units", 2026-11): a read unit is 4 KB of
what a call read, half of one when the read is eventually consistent, and at least that; a write unit is 1 KB of the
larger of the item before and after; a transaction doubles both; a condition that fails is charged like the write, and
any other refused call not at all. What is read counts before a filter or a projection takes from it. Entries of
secondary indexes are left out: the one peer that has an index, Chainlit, writes none in a turn.

DynamoDB Local's own figures are not used, because those of its transactions are wrong.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.bench.peers.item_size import item_bytes

READ_DOLLARS, WRITE_DOLLARS = 0.125, 0.625
"""A million on-demand units, us-east-1 (AWS price list, 2026-11)."""

WRITES = {"PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "TransactWriteItems"}

QUIET_S = 0.5
"""How long a client that calls nothing more is believed to have done; a call takes a hundredth of that."""

Json = Mapping[str, Any]
Ask = Callable[[str, Json], Json]
"""Asks DynamoDB itself, beside the record: an operation and its request, for its answer."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call. Bytes are those of items; `refused` is the kind of the error, empty when there was none."""

    client: str
    operation: str
    refused: str
    read_bytes: int = 0
    written_bytes: int = 0
    read_units: float = 0
    write_units: int = 0


class Ledger:
    """Every call in order, priced. Knows the size of every item, since no write goes around it."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._calls: list[Call] = []
        self._keys: dict[str, list[str]] = {}
        self._sizes: dict[tuple[str, str], int] = {}
        self._last_s: dict[str, float] = {}

    def take(self, client: str) -> list[Call]:
        """The client's calls since the last call of this method."""
        with self._lock:
            taken = [call for call in self._calls if call.client == client]
            self._calls = [call for call in self._calls if call.client != client]
        return taken

    def settle(self, client: str) -> None:
        """Returns when the client has called nothing for a while: what it does in the background is done."""
        while (quiet_s := time.monotonic() - self._last_s.get(client, 0)) < QUIET_S:
            time.sleep(QUIET_S - quiet_s)

    def record(self, client: str, operation: str, request: Json, answer: Json, refused: str) -> None:
        """To be told before the client sees the answer."""
        with self._lock:
            self._last_s[client] = time.monotonic()
            self._calls.append(self._priced(client, operation, request, answer, refused))

    def _priced(self, client: str, operation: str, request: Json, answer: Json, refused: str) -> Call:
        if operation == "CreateTable" and not refused:
            self._keys[request["TableName"]] = [each["AttributeName"] for each in request["KeySchema"]]
        if operation in WRITES:
            return self._write(client, operation, request, refused)
        if refused:
            return Call(client, operation, refused)
        sizes = self._read_sizes(operation, request, answer)
        if sizes is None:
            return Call(client, operation, refused)
        units = sum(max(1, math.ceil(size / 4096)) for size in sizes)
        factor = 2 if operation == "TransactGetItems" else 1 if _is_consistent(request) else 0.5
        return Call(client, operation, refused, read_bytes=sum(sizes), read_units=units * factor)

    def _read_sizes(self, operation: str, request: Json, answer: Json) -> list[int] | None:
        """The bytes that are rounded up to units, each by itself; None for a call that reads no item."""
        match operation:
            case "GetItem":
                return [self._sizes.get(self._table_and_key(request["TableName"], request["Key"]), 0)]
            case "BatchGetItem":
                wanted = [(table, key) for table, asked in request["RequestItems"].items() for key in asked["Keys"]]
                return [self._sizes.get(self._table_and_key(table, key), 0) for table, key in wanted]
            case "TransactGetItems":
                gets = [each["Get"] for each in request["TransactItems"]]
                return [self._sizes.get(self._table_and_key(get["TableName"], get["Key"]), 0) for get in gets]
            case "Query" | "Scan":
                if {"FilterExpression", "ProjectionExpression", "Select"} & request.keys():
                    answer = self._ask(operation, _whole(request))
                return [sum(map(item_bytes, answer["Items"]))]
        return None

    def _write(self, client: str, operation: str, request: Json, refused: str) -> Call:
        charged = not refused or refused in ("ConditionalCheckFailedException", "TransactionCanceledException")
        units = written = 0
        for table, kind, write in _writes(operation, request):
            item_key = self._table_and_key(table, write["Item"] if kind == "Put" else write["Key"])
            before = after = self._sizes.get(item_key, 0)
            if not refused:
                after = self._after(kind, table, write, before)
                self._sizes[item_key] = after
                written += after if kind in ("Put", "Update") else 0
            units += max(1, math.ceil(max(before, after) / 1024)) if charged else 0
        factor = 2 if operation == "TransactWriteItems" else 1
        return Call(client, operation, refused, written_bytes=written, write_units=units * factor)

    def _after(self, kind: str, table: str, write: Json, before: int) -> int:
        match kind:
            case "Put":
                return item_bytes(write["Item"])
            case "Update":
                found = self._ask("GetItem", {"TableName": table, "Key": write["Key"], "ConsistentRead": True})
                return item_bytes(found["Item"])
            case "Delete":
                return 0
        return before  # a condition that was checked

    def _table_and_key(self, table: str, item: Json) -> tuple[str, str]:
        return table, json.dumps([item[name] for name in self._keys[table]])


def _writes(operation: str, request: Json) -> list[tuple[str, str, Json]]:
    """Table, kind and content of every single write in a call."""
    match operation:
        case "BatchWriteItem":
            named = [(table, each) for table, batch in request["RequestItems"].items() for each in batch]
            return [
                (table, kind.removesuffix("Request"), write) for table, each in named for kind, write in each.items()
            ]
        case "TransactWriteItems":
            actions = [action for each in request["TransactItems"] for action in each.items()]
            return [(write["TableName"], kind, write) for kind, write in actions]
    return [(request["TableName"], operation.removesuffix("Item"), request)]


def _is_consistent(request: Json) -> bool:
    by_table = request.get("RequestItems", {}).values()
    return bool(request.get("ConsistentRead")) or any(each.get("ConsistentRead") for each in by_table)


def _whole(request: Json) -> dict[str, Any]:
    """The same search without what keeps items or attributes back, and without the names that only those used."""
    dropped = ("FilterExpression", "ProjectionExpression", "Select")
    kept = {name: value for name, value in request.items() if name not in dropped}
    condition = kept.get("KeyConditionExpression", "").replace(",", " ").replace("(", " ").replace(")", " ").split()
    for aliases in ("ExpressionAttributeNames", "ExpressionAttributeValues"):
        used = {name: value for name, value in kept.pop(aliases, {}).items() if name in condition}
        if used:
            kept[aliases] = used
    return kept
