"""The cost of lists, exports and erasures by the number of a user's sessions.

The handlers run in this process over boto3's own client, whose requests are answered by the simulated DynamoDB. The CPU
is theirs and the client's, without the network and without the simulation.
"""

from __future__ import annotations

import base64
import json
import math
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import boto3
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError
from moto.core.botocore_stubber import MockRawResponse

from tests import deployed
from tests.bench.conversation import prose
from tests.bench.deployment import ADMIN, event
from tests.contract.session_store import lease_of, turn_of
from tests.fakes import START_MS, HeldClock, KeptLog, NoDocuments, new_session
from tests.handlers.conftest import Context, app
from tests.promises.simulator.attribute_values import size
from tests.promises.simulator.dynamodb import SimulatedDynamoDB
from tests.wrapping import LocalWrapper
from turnlog import runtime
from turnlog.adapters import telemetry
from turnlog.adapters.cloudwatch_audit import CloudWatchAuditTrail
from turnlog.adapters.dynamodb import DynamoDBSessionStore, OwnerKeys
from turnlog.domain import base64url
from turnlog.domain.server_key import ServerKey

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

SIZES = (10, 100, 400, 1_000, 10_000)
MOST_REMOVED = 1_000
"""Sessions that are removed, for each of which the cost is the same; more would take minutes."""
ADA, BOB = "https://issuer.example/|ada", "https://issuer.example/|bob"
MB_OF_A_VCPU = 1_769  # Lambda gives CPU by memory: so much of it buys one (AWS documentation)


@dataclass(frozen=True, slots=True)
class RequestCost:
    """One request of a user who has so many sessions, each of one turn of 2,000 characters, encrypted."""

    request: str
    sessions: int
    calls: int
    read_units: int
    write_units: int
    cpu_s: float

    @property
    def seconds(self) -> float:
        """The time that the CPU takes at the memory in the template."""
        return self.cpu_s * MB_OF_A_VCPU / deployed.memory_mb("AccountFunction")


@dataclass
class _Simulated:
    """Answers a client's requests, and counts them and what they cost."""

    service: SimulatedDynamoDB
    calls: int = 0
    read_units: int = 0
    write_units: int = 0
    cpu_s: float = 0
    _one_at_a_time: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.service.tables.watches.append(self._written)

    def client(self) -> DynamoDBClient:
        client = boto3.client(
            "dynamodb", region_name="us-east-1", aws_access_key_id="bench", aws_secret_access_key="bench"
        )
        client.meta.events.register("before-send.dynamodb.*", self._answer)  # type: ignore[arg-type] # the stubs know no answer
        return client

    def _answer(self, request: Any, **_: Any) -> AWSResponse:
        with self._one_at_a_time:
            began = time.thread_time()
            name = request.headers["X-Amz-Target"].decode().rpartition(".")[2]
            operation = getattr(self.service, re.sub("(?<!^)([A-Z])", r"_\1", name).lower())
            asked = _from_json(json.loads(request.body))
            try:
                status, found = 200, operation(**asked)
            except ClientError as error:
                found = dict(error.response)
                status, found["__type"] = 400, found.pop("Error")["Code"]
            self.calls += 1
            if "Items" in found:
                read = (self.service.tables.now(asked["TableName"], _key(item)) for item in found["Items"])
                self.read_units += max(1, math.ceil(sum(item.bytes for item in read if item) / 4096))
            elif name == "GetItem":
                self.read_units += 1
            raw = MockRawResponse(json.dumps(_to_json(found)))
            self.cpu_s += time.thread_time() - began
        return AWSResponse(request.url, status, {}, raw)  # type: ignore[arg-type] # as much of a response as it reads

    def _written(self, _: str, __: object, old: Any, new: Any) -> None:
        stored = [item for item in (old, new) if item is not None]
        self.write_units += max(math.ceil(size(item) / 1024) for item in stored)


def measure(sizes: Sequence[int] = SIZES) -> list[RequestCost]:
    """The costs of each request at each size."""
    return [cost for sessions in sizes for cost in _costs(sessions)]


def table(costs: Sequence[RequestCost]) -> list[str]:
    """Returns the table of docs/benchmarks.md."""
    order = list(dict.fromkeys(cost.request for cost in costs))
    lines = ["| request | sessions | calls | read units | write units | CPU s | s at 512 MB |", "|---" * 7 + "|"]
    lines += [
        f"| {each.request} | {each.sessions:,} | {each.calls:,} | {each.read_units:,} | {each.write_units:,} "
        f"| {each.cpu_s:.2f} | {each.seconds:.1f} |"
        for each in sorted(costs, key=lambda each: (order.index(each.request), each.sessions))
    ]
    return lines


def _costs(sessions: int) -> Iterator[RequestCost]:
    simulated = _Simulated(SimulatedDynamoDB())
    _wire(simulated.client())
    is_removed = sessions <= MOST_REMOVED
    for owner in (ADA, BOB) if is_removed else (ADA,):
        _fill(simulated.service, owner, sessions)
    ask = partial(_ask, simulated, sessions)
    _send("session", event("GET", "/sessions"))  # makes what an environment makes once
    cost, listed = ask("a page of 100 sessions", "session", event("GET", "/sessions", query={"limit": ["100"]}))
    yield cost
    if listed["next"]:
        later = event("GET", "/sessions", query={"limit": ["100"], "cursor": [listed["next"]]})
        yield ask("the page after it", "session", later)[0]
    cost, exported = ask("a part of an export", "account", event("GET", "/me/export"))
    yield cost
    if exported["next"]:
        later = event("GET", "/me/export", query={"cursor": [exported["next"]]})
        yield ask("the part after it", "account", later)[0]
    shown = event("GET", "/admin/users/{owner}/sessions", None, _whom(ADA), roles=ADMIN, query={"limit": ["100"]})
    yield ask("an administrator's page of 100", "admin", shown)[0]
    if is_removed:
        yield ask("the erasure of all", "account", event("DELETE", "/me"))[0]
        end = event("POST", "/admin/users/{owner}/terminate", None, _whom(BOB), roles=ADMIN)
        yield ask("an administrator's end of all", "admin", end)[0]


def _whom(owner: str) -> dict[str, str]:
    return {"owner": base64url.encode(owner.encode())}


def _ask(
    simulated: _Simulated, sessions: int, request: str, function: str, asked: dict[str, Any]
) -> tuple[RequestCost, dict[str, Any]]:
    calls, read_units, write_units = simulated.calls, simulated.read_units, simulated.write_units
    began, simulation_began = time.process_time(), simulated.cpu_s
    answer = _send(function, asked)
    cpu_s = time.process_time() - began - (simulated.cpu_s - simulation_began)
    cost = RequestCost(
        request,
        sessions,
        simulated.calls - calls,
        simulated.read_units - read_units,
        simulated.write_units - write_units,
        round(cpu_s, 3),
    )
    return cost, answer


def _send(function: str, asked: dict[str, Any]) -> dict[str, Any]:
    answer = app(function).handler(asked, Context(60))
    if answer["statusCode"] != 200:
        raise RuntimeError(answer["body"])
    answered: dict[str, Any] = json.loads(answer["body"])
    return answered


def _fill(service: SimulatedDynamoDB, owner: str, sessions: int) -> None:
    store = _store(service)  # type: ignore[arg-type] # as much of a client as a store uses
    text = prose("a turn", 2000)
    for number in range(sessions):
        session = store.create(new_session(owner, created_ms=START_MS + number), "A title")
        lease = lease_of(1, at_ms=START_MS + number)
        store.acquire(session, lease, over=None)
        store.commit(session, turn_of(lease, text))


def _store(client: DynamoDBClient) -> DynamoDBSessionStore:
    return DynamoDBSessionStore(client, "sessions", "usage", keys=OwnerKeys(client, "keys", LocalWrapper(), _clock))


_clock = HeldClock(START_MS + 20_000)
"""Stands still, so that no request runs out of time, and the whole of its work is counted."""


def _wire(client: DynamoDBClient) -> None:
    os.environ.pop("AWS_ENDPOINT_URL", None)
    telemetry.note = lambda *_, **__: None
    trail, key, store = CloudWatchAuditTrail(KeptLog(), "audit", _clock), ServerKey("bench"), _store(client)  # type: ignore[arg-type]
    given: dict[str, Callable[[], Any]] = {
        "now_ms": _clock,
        "audit_trail": lambda: trail,
        "session_store": lambda: store,
        "document_store": NoDocuments,
        "server_key": lambda: key,
        "cors_origin": lambda: None,
        "gateway_s": lambda: 29,
    }
    for name, made in given.items():
        setattr(runtime, name, made)


def _key(item: dict[str, Any]) -> tuple[str, str]:
    return item["pk"]["S"], item["sk"]["S"]


def _from_json(value: Any) -> Any:
    """Binary attributes are base64 on the wire, and bytes for the simulation."""
    if isinstance(value, dict):
        return {
            name: base64.b64decode(each) if name == "B" and isinstance(each, str) else _from_json(each)
            for name, each in value.items()
        }
    return [_from_json(each) for each in value] if isinstance(value, list) else value


def _to_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {name: _to_json(each) for name, each in value.items()}
    return [_to_json(each) for each in value] if isinstance(value, list) else value
