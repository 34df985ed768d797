"""A bare MiniStack for promises that need real processes and a real wire. It has tables, and no stack.

Promises about transactions, tokens and races are tested on it and not on moto, which applies the same token twice.
"""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from local.guard import HOST
from local.ministack import MiniStack, is_installed
from local.processes import Interruption, Processes, commands_of
from local.state import StateFolder
from tests.wrapping import LocalWrapper
from turnlog.adapters.dynamodb import DynamoDBSessionStore, OwnerKeys
from turnlog.clock import system_clock

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Item = dict[str, Any]

_names = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Tables:
    """A sessions table and a usage table of their own, empty at first; it can be sent to another process.

    With a table of `keys` all content is encrypted.
    """

    endpoint: str
    sessions: str
    usage: str
    keys: str = ""

    def store(self, client: DynamoDBClient | None = None) -> DynamoDBSessionStore:
        """Makes a store with a client of its own, unless it is given one, that does not pause between its tries."""
        client = client or client_of(self.endpoint)
        keys = OwnerKeys(client, self.keys, LocalWrapper(), system_clock) if self.keys else None
        return DynamoDBSessionStore(client, self.sessions, self.usage, keys=keys, sleep=lambda _: None)


class Contents:
    """The items in the tables, read beside the store."""

    def __init__(self, tables: Tables, client: DynamoDBClient) -> None:
        self.tables = tables
        self.client = client

    def everything(self) -> dict[tuple[str, str, str], Item]:
        """Returns the items of both tables, each under its table, partition and sort key."""
        found: dict[tuple[str, str, str], Item] = {}
        for table in (self.tables.sessions, self.tables.usage):
            for page in self.client.get_paginator("scan").paginate(TableName=table):
                found |= {(table, item["pk"]["S"], item["sk"]["S"]): dict(item) for item in page["Items"]}
        return found

    def partition(self, pk: str) -> list[Item]:
        """Returns the items of a session by sort key."""
        return [item for (table, found, _), item in sorted(self.everything().items()) if found == pk]

    def counters(self) -> dict[str, str]:
        """Returns the quota counters by name, such as `turns#2026-11-25T14:05`."""
        return {sk: item["n"]["N"] for (table, _, sk), item in self.everything().items() if table == self.tables.usage}

    def put(self, item: Item) -> None:
        self.client.put_item(TableName=self.tables.sessions, Item=item)

    def remove(self, item: Item) -> None:
        """Removes the item, like TTL."""
        self.client.delete_item(TableName=self.tables.sessions, Key={"pk": item["pk"], "sk": item["sk"]})


def client_of(endpoint: str, read_timeout_s: float = 60) -> DynamoDBClient:
    """Makes a client like the runtime, without retries of its own, but patient: a busy machine is no fault."""
    config = Config(connect_timeout=10, read_timeout=read_timeout_s, retries={"total_max_attempts": 1})
    return boto3.client(
        "dynamodb",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=config,
    )


def new_tables(client: DynamoDBClient, *, encrypted: bool = False) -> Tables:
    """Creates tables like those of the template, but without TTL: the tests remove items themselves."""
    number = next(_names)
    keys = f"keys-{number}" if encrypted else ""
    tables = Tables(client.meta.endpoint_url, f"sessions-{number}", f"usage-{number}", keys)
    for name in filter(None, (tables.sessions, tables.usage, tables.keys)):
        client.create_table(
            TableName=name,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in ("pk", "sk")],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        )
    return tables


class _Processes(Processes):
    """Closes its pipes too: pytest reports those that the garbage collector finds open."""

    def end(self, started: subprocess.Popen[str], within_s: float) -> None:
        super().end(started, within_s)
        for pipe in (started.stdin, started.stdout):
            if pipe:
                pipe.close()


@contextmanager
def running_ministack() -> Iterator[str]:
    """Yields the endpoint, on a free port and with a folder of its own; leaves no process and no file."""
    assert is_installed(), "MiniStack is not installed: `make test` does it"
    interruption = Interruption()
    with tempfile.TemporaryDirectory(prefix="turnlog-promises-") as folder:
        state = StateFolder(Path(folder) / "state")
        with state.hold():
            state.empty_tmp()
            processes = _Processes(state, interruption)
            server = MiniStack(state, _free_port(), processes, interruption, lambda _: None)
            server.start()
            try:
                server.wait_until_ready()
                yield server.endpoint
            finally:
                server.stop()
        assert commands_of(state.path) == []
    assert not Path(folder).exists()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def is_proving() -> bool:
    """True under `make prove`, which takes its time."""
    return os.environ.get("TURNLOG_PROVE", "") == "1"
