"""A conversation through the session function's own handler: what each turn costs DynamoDB, and Claude's calls."""

from __future__ import annotations

import itertools
import json
import os
import random
import time
from dataclasses import asdict, dataclass
from typing import Any

import boto3
from moto import mock_aws

from tests import deployed
from tests.bench.capacity import Meter
from tests.fakes import MODEL, HashModel, HeldClock, KeptLog
from tests.handlers.conftest import Context, app, event
from tests.wrapping import LocalWrapper
from turnlog import runtime
from turnlog.adapters import telemetry
from turnlog.adapters.cloudwatch_audit import CloudWatchAuditTrail
from turnlog.adapters.dynamodb import DynamoDBSessionStore, OwnerKeys
from turnlog.adapters.read_cache import CachedSessionStore
from turnlog.config import AnonymousLimitSettings, SessionLifeSettings
from turnlog.domain.chosen_tools import OfferedTools
from turnlog.domain.messages import ModelRequest, Reply, to_json
from turnlog.domain.reply_events import OnEvent
from turnlog.domain.server_key import ServerKey
from turnlog.ports.session_store import SessionStore
from turnlog.usecases.turn_request import TurnPolicy

TABLE, KEYS = "sessions", "keys"
_LETTERS = random.Random(0)
WORDS = ["".join(_LETTERS.choices("etaoinshrdlucmfw", k=_LETTERS.randint(2, 9))) for _ in range(20_000)]


@dataclass(frozen=True)
class TurnCost:
    """One turn: calls are sequential round trips; units as in capacity.py; CPU of all but the calls to DynamoDB."""

    turn: int
    calls: int
    round_trips: int
    read_units: int
    write_units: int
    model_calls: int
    item_bytes: int
    cpu_ms: float


class TalkativeModel(HashModel):
    """Answers with about as much prose as it was asked."""

    def reply(
        self, request: ModelRequest, seconds: float, on_event: OnEvent | None = None, *, retry_s: float | None = None
    ) -> Reply:
        short = super().reply(request, seconds)
        text = prose(f"answer {len(self.requests)}", 1000)
        return Reply(MODEL, to_json([{"type": "text", "text": text}]), short.stop_reason, short.usage)


def prose(seed: str, characters: int) -> str:
    """Invented words drawn by a seed; a turn of 2,000 characters of them packs to about 1 KB, as prose does."""
    source = random.Random(seed)
    words: list[str] = []
    while sum(len(word) + 1 for word in words) < characters:
        words.append(source.choice(WORDS))
    return " ".join(words)


def measure(turns: int = 50, *, caches: int = 0) -> list[TurnCost]:
    """The costs of a conversation of `turns` turns of 2,000 characters each, window 25, encrypted, without limits.

    With `caches`, so many environments with a hybrid store each take the turns one after the other.
    """
    os.environ |= {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench"}
    os.environ.pop("AWS_ENDPOINT_URL", None)
    telemetry.note = lambda *_, **__: None
    with mock_aws():
        client = boto3.client("dynamodb", region_name="us-east-1")
        for table in (TABLE, KEYS):
            client.create_table(
                TableName=table,
                BillingMode="PAY_PER_REQUEST",
                AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
                KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
            )
        meter, model = Meter(), TalkativeModel()

        def environment(*, eventual: bool) -> DynamoDBSessionStore:
            keys = OwnerKeys(client, KEYS, LocalWrapper(), runtime.now_ms)
            return DynamoDBSessionStore(client, TABLE, keys=keys, eventual=eventual)

        stores: list[SessionStore] = [environment(eventual=False)]
        if caches:
            stores = [CachedSessionStore(environment(eventual=True)) for _ in range(caches)]
        environments = itertools.cycle(stores)
        policy = TurnPolicy(reads_cached=bool(caches))
        runtime.turn_policy = lambda: policy  # type: ignore[assignment]
        _wire(next(environments), model)
        session_id = _send("POST", "/sessions", {})["session_id"]
        meter.watch(client)
        costs = []
        for number in range(1, turns + 1):
            _wire(next(environments), model)
            costs.append(_one_turn(number, session_id, meter, model))
        return costs


def _wire(store: SessionStore, model: HashModel) -> None:
    users, key = deployed.environment("SessionFunction"), ServerKey("bench")
    life, anonymous = SessionLifeSettings.read(users).life, AnonymousLimitSettings.read(users).limits
    trail = CloudWatchAuditTrail(KeptLog(), "audit", HeldClock())  # type: ignore[arg-type] # as much of a client as it uses
    runtime.audit_trail = lambda: trail  # type: ignore[assignment]
    runtime.chat_model = lambda: model  # type: ignore[assignment]
    runtime.tool_runner = lambda: None  # type: ignore[assignment] # no turn calls a tool
    runtime.offered_tools = OfferedTools  # type: ignore[assignment]
    runtime.session_store = lambda: store  # type: ignore[assignment]
    runtime.models = lambda: (MODEL,)  # type: ignore[assignment]
    runtime.cors_origin = lambda: None  # type: ignore[assignment]
    runtime.gateway_s = lambda: 29  # type: ignore[assignment]
    runtime.anonymous_limits = lambda: anonymous  # type: ignore[assignment]
    runtime.quota_store = lambda: None  # type: ignore[assignment] # nothing is charged to it
    runtime.session_life = lambda: life  # type: ignore[assignment]
    runtime.server_key = lambda: key  # type: ignore[assignment]


def _one_turn(number: int, session_id: str, meter: Meter, model: HashModel) -> TurnCost:
    asked_before = len(model.requests)
    began = time.process_time()
    question = prose(f"question {number}", 1000)
    _send("POST", "/sessions/{id}/turns", {"message": question}, session_id, f"turn-{number}")
    cpu_s = time.process_time() - began
    cost = meter.take()
    return TurnCost(
        turn=number,
        calls=len(cost.calls),
        round_trips=len(cost.calls),
        read_units=cost.read_units,
        write_units=cost.write_units,
        model_calls=len(model.requests) - asked_before,
        item_bytes=cost.last_put_bytes,
        cpu_ms=round((cpu_s - cost.cpu_s) * 1000, 1),
    )


def _send(method: str, resource: str, body: dict[str, Any], session_id: str = "", key: str = "") -> dict[str, Any]:
    request = event("session") | {"httpMethod": method, "resource": resource, "body": json.dumps(body)}
    request |= {"pathParameters": {"id": session_id}, "isBase64Encoded": False}
    request["headers"] = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
    answer = app("session").handler(request, Context(60))
    if answer["statusCode"] not in (200, 201):
        raise RuntimeError(answer["body"])
    answered: dict[str, Any] = json.loads(answer["body"])
    return answered


def as_json(costs: list[TurnCost]) -> list[dict[str, Any]]:
    return [asdict(cost) for cost in costs]
