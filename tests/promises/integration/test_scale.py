"""P15 and P13 at size: late turns cost what early ones do, memory stays flat, and users never mix.

Cost and memory are counted on the simulated DynamoDB, exactly and without a network; a large turn also goes over one.
"""

from __future__ import annotations

import base64
import gc
import io
import json
import math
import random
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from tests.bench.capacity import item_bytes
from tests.fakes import OWNER, HashModel, HeldClock, KeptLog, expected_text, new_session
from tests.handlers.conftest import Context, app
from tests.promises.integration.handlers import TurnTask
from tests.promises.integration.ministack import Tables, is_proving
from tests.promises.integration.model_server import require_one_order
from tests.promises.simulator.dynamodb import SimulatedDynamoDB
from turnlog import runtime
from turnlog.adapters import telemetry
from turnlog.adapters.dynamodb import DynamoDBSessionStore
from turnlog.adapters.dynamodb.items import partition
from turnlog.adapters.read_cache import CachedSessionStore
from turnlog.domain.chosen_tools import OfferedTools
from turnlog.domain.messages import ModelRequest, Reply, to_json
from turnlog.domain.packing import pack, pack_turn
from turnlog.domain.reply_events import OnEvent
from turnlog.domain.server_key import ServerKey
from turnlog.domain.sessions import Session
from turnlog.domain.turns import MAX_TURN_BYTES, Turn
from turnlog.errors import TurnTooLarge
from turnlog.ports.session_store import SessionStore
from turnlog.usecases.policy import AnonymousLimits, SessionLife
from turnlog.usecases.turn_protocol import TakenTurn, run_turn
from turnlog.usecases.turn_request import TurnPolicy

TURNS = 5_000 if is_proving() else 1_500
SESSIONS = 100_000 if is_proving() else 3_000
USERS = 64
PAGE = 100  # the most turns that one page of the listing has


class MeteredClient:
    """Counts the calls of a client, and their units by the published rules (see tests/bench/capacity.py)."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.reset()

    def reset(self) -> None:
        self.calls: list[str] = []
        self.read_units = self.write_units = 0

    def __getattr__(self, name: str) -> Callable[..., Any]:
        operation = getattr(self.client, name)

        def call(**given: Any) -> Any:
            self.calls.append(name)
            answer = operation(**given)
            if "Items" in answer:
                self.read_units += max(1, math.ceil(sum(map(item_bytes, answer["Items"])) / 4096))
            if "Item" in given:
                self.write_units += math.ceil(item_bytes(given["Item"]) / 1024)
            return answer

        return call

    @property
    def cost(self) -> tuple[tuple[str, ...], int, int]:
        return tuple(self.calls), self.read_units, self.write_units


def store_of(client: Any) -> DynamoDBSessionStore:
    return DynamoDBSessionStore(client, "sessions", "usage", sleep=lambda _: None)


def take(
    store: SessionStore,
    session: Session,
    text: str,
    model: HashModel,
    clock: HeldClock,
    policy: TurnPolicy | None = None,
) -> TakenTurn:
    return run_turn(
        TurnTask(session.owner, session.id, text).request(),
        store=store,
        model=model,
        clock=clock,
        remaining_s=lambda: 29.0,
        policy=policy or TurnPolicy(),
    )


@dataclass
class ForgetfulModel(HashModel):
    """Keeps the last request only."""

    def reply(
        self, request: ModelRequest, seconds: float, on_event: OnEvent | None = None, *, retry_s: float | None = None
    ) -> Reply:
        self.requests.clear()
        self.seconds.clear()
        return super().reply(request, seconds, on_event)


# --- one long conversation --------------------------------------------------------------------------------------------


def test_a_long_conversation_costs_the_same_at_every_turn() -> None:
    client = MeteredClient(SimulatedDynamoDB())
    store, clock, model = store_of(client), HeldClock(), ForgetfulModel()
    session = store.create(new_session(life_s=10 * 86_400), "A long one")
    costs, shown = {}, {}
    for number in range(1, TURNS + 1):
        clock.tick(seconds=60)
        client.reset()
        take(store, session, f"message {number:06d}", model, clock)
        costs[number], shown[number] = client.cost, len(model.requests[0].messages)
    assert {calls for calls, _, _ in costs.values()} == {("query", "put_item", "put_item")}
    assert max(shown.values()) <= 2 * TurnPolicy().window.turns + 1
    # From turn 30 on the read has all that it ever will but for the ring of 64 older keys, which fills its turns until
    # turn 64 + 25; the sums grow by a digit now and then.
    assert len({cost for number, cost in costs.items() if number > 64 + 25}) == 1
    reads = [read for number, (_, read, _) in costs.items() if number >= 30]
    writes = [write for number, (_, _, write) in costs.items() if number >= 30]
    assert set(writes) == {2}
    assert max(reads) - min(reads) <= 3
    assert max(reads) <= 10

    client.reset()
    turns = [turn for first in range(1, TURNS + 1, PAGE) for turn in listed(store, session, first)]
    require_one_order(turns)
    assert len(turns) == TURNS
    assert client.calls == ["query"] * (TURNS // PAGE)
    assert client.read_units <= TURNS // PAGE * math.ceil(PAGE * 1024 / 4096)

    assert store.delete(OWNER, session.id, clock())
    left = client.client.tables.partition("sessions", partition(OWNER, session.id))
    assert {item["st"]["S"] for item in left} == {"ended"}


def listed(store: DynamoDBSessionStore, session: Session, first: int) -> list[Turn]:
    """Returns a page of it, from this turn on."""
    return store.turns(session, first, first + PAGE - 1)


# --- one long life of a process ---------------------------------------------------------------------------------------


class ChangingClient:
    """A DynamoDB that is replaced by an empty one on demand: only the memory of the process can add up."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self._client = SimulatedDynamoDB()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def test_many_sessions_through_one_process_leave_its_memory_flat() -> None:
    """The store has a cache of at most 100 sessions."""
    client, clock, model = ChangingClient(), HeldClock(), ForgetfulModel()
    store = CachedSessionStore(store_of(client))
    policy = TurnPolicy(reads_cached=True)
    blocks = []
    for number in range(SESSIONS):
        if number in (SESSIONS // 5, SESSIONS - 1):  # the first is after all caches are full
            gc.collect()
            blocks.append(sys.getallocatedblocks())
        clock.tick(ms=1)
        client.forget()
        session = store.create(new_session(f"owner {number}", created_ms=clock()), "A title")
        take(store, session, "hello", model, clock, policy)
    grown = blocks[1] - blocks[0]
    assert grown < max(100, SESSIONS / 100), f"{grown} objects more after {SESSIONS} sessions"


# --- one large turn ---------------------------------------------------------------------------------------------------


def noise(packed_bytes: int) -> str:
    """Makes a text of which a message packs to nearly so many bytes, and no more."""
    letters = base64.b64encode(random.Random(1).randbytes(packed_bytes)).decode()
    share = len(pack(to_json([{"type": "text", "text": letters}]))) / len(letters)
    return letters[: int(packed_bytes * 0.9995 / share)]


@dataclass
class LongModel(HashModel):
    """Begins its reply with the proof, and goes on as long as it may."""

    length: int = 0
    more: str = field(default="", repr=False)

    def reply(
        self, request: ModelRequest, seconds: float, on_event: OnEvent | None = None, *, retry_s: float | None = None
    ) -> Reply:
        short = super().reply(request, seconds)
        text = expected_text(request.messages) + self.more[: self.length]
        return replace(short, content=to_json([{"type": "text", "text": text}]))


@pytest.fixture(params=["3.9 MB, simulated", "3.1 MB, MiniStack"])
def large(request: pytest.FixtureRequest) -> tuple[Any, DynamoDBSessionStore, str, int]:
    """Makes a client, a store on it, its table, and the size of a turn that it takes.

    DynamoDB's limit of 4 MB is for the items of a transaction; MiniStack's is for its JSON, where bytes are base64.
    """
    if "simulated" in request.param:
        client: Any = SimulatedDynamoDB()
        return client, store_of(client), "sessions", MAX_TURN_BYTES
    tables: Tables = request.getfixturevalue("tables")
    client = request.getfixturevalue("ministack")
    return client, tables.store(client), tables.sessions, 3_100_000


def test_a_turn_of_3_9_megabytes_is_taken_replayed_continued_and_deleted(
    large: tuple[Any, DynamoDBSessionStore, str, int],
) -> None:
    client, store, table, most = large
    clock = HeldClock()
    session = store.create(new_session(), "Large")
    text = noise(most - session.settings.max_tokens * 16 - 200)
    model = LongModel(length=13_000, more=noise(20_000))
    first = take(store, session, text, model, clock)
    assert most * 0.997 < len(pack_turn(first.turn)) <= most
    again = take(store, session, text, model, clock)
    assert again.replayed
    assert again.turn.message == first.turn.message
    assert again.turn.reply.text == first.turn.reply.text == expected_text((first.turn.message,)) + model.more[:13_000]
    assert len(model.requests) == 1

    model.length = 0
    second = take(store, session, "and now?", model, clock)
    shown = (first.turn.message, first.turn.reply.message, second.turn.message)
    assert second.turn.reply.text == expected_text(shown)
    with pytest.raises(TurnTooLarge):
        take(store, session, noise(MAX_TURN_BYTES * 102 // 100), model, clock)
    assert len(model.requests) == 2

    assert store.delete(OWNER, session.id, clock())
    left = client.query(
        TableName=table,
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": {"S": partition(OWNER, session.id)}},
        ConsistentRead=True,
    )
    assert [item["st"]["S"] for item in left["Items"]] == ["ended"] * 3


# --- many users in one warm process -----------------------------------------------------------------------------------


@dataclass
class EchoModel(HashModel):
    """Repeats all messages in its reply, so that a message of somebody else comes out."""

    def reply(
        self, request: ModelRequest, seconds: float, on_event: OnEvent | None = None, *, retry_s: float | None = None
    ) -> Reply:
        short = super().reply(request, seconds)
        seen = [request.settings.system, *(block["text"] for message in request.messages for block in message.blocks)]
        return replace(short, content=to_json([{"type": "text", "text": f"{short.text} {' '.join(seen)}"[-4000:]}]))


@dataclass
class User:
    """One of many, with a word that nobody else may ever see."""

    name: str
    session_id: str = ""

    @property
    def canary(self) -> str:
        return f"canary{self.name}yranac"

    def send(self, method: str, resource: str, body: object = None, *, id: str = "", key: str = "") -> tuple[int, str]:  # noqa: A002
        request = {
            "resource": resource,
            "path": resource.replace("{id}", id),
            "httpMethod": method,
            "headers": {"Content-Type": "application/json", "Idempotency-Key": key} if key else {},
            "multiValueQueryStringParameters": None,
            "pathParameters": {"id": id} if id else None,
            "requestContext": {
                "requestId": "the same",
                "authorizer": {"owner": f"https://issuer.example/|{self.name}", "expires": "4102444800"},
            },
            "body": json.dumps(body) if body is not None else None,
            "isBase64Encoded": False,
        }
        if body is not None:
            request["headers"] = {"Content-Type": "application/json", **request["headers"]}  # type: ignore[dict-item]
        answer = app("session").handler(request, Context())
        return answer["statusCode"], answer["body"] or ""


def canaries(texts: Iterable[str]) -> set[str]:
    return {found for text in texts for found in re.findall(r"canary\w+?yranac", text)}


@pytest.mark.parametrize("hybrid", [False, True], ids=["dynamodb", "hybrid"])
def test_64_users_of_one_warm_process_see_no_word_of_each_other(
    monkeypatch: pytest.MonkeyPatch, audit: KeptLog, hybrid: bool
) -> None:
    model, clock, log = EchoModel(), HeldClock(), io.StringIO()
    durable = store_of(SimulatedDynamoDB())
    store = CachedSessionStore(durable) if hybrid else durable
    key, models = ServerKey("a server key for tests"), ("claude-sonnet-5-5",)
    life, policy = SessionLife(timedelta(minutes=30), timedelta(days=1)), TurnPolicy(reads_cached=hybrid)
    for name, value in {
        "chat_model": model,
        "session_store": store,
        "server_key": key,
        "models": models,
        "session_life": life,
        "turn_policy": policy,
        "anonymous_limits": AnonymousLimits(),
        "quota_store": None,
        "tool_runner": None,
        "offered_tools": OfferedTools(),
        "cors_origin": None,
        "gateway_s": 29,
    }.items():
        monkeypatch.setattr(runtime, name, lambda value=value: value)
    monkeypatch.setattr(runtime, "now_ms", clock)
    monkeypatch.setattr(telemetry._logger().registered_handler, "stream", log)

    chance = random.Random(2026)
    users = [User(f"{number:02d}{chance.getrandbits(64):016x}") for number in range(USERS)]
    for user in users:
        status, body = user.send("POST", "/sessions", {"system": user.canary, "title": user.canary})
        assert status == 201, body
        assert canaries([body]) <= {user.canary}
        user.session_id = json.loads(body)["session_id"]
    for turn in (1, 2, 3):
        for user in chance.sample(users, USERS):
            clock.tick(ms=7)
            # The same key, and the same number of the same turn: only owner and session tell them apart.
            asked = {"message": f"I am {user.canary}, turn {turn}"}
            status, body = user.send("POST", "/sessions/{id}/turns", asked, id=user.session_id, key=f"turn-{turn}")
            assert status == 200, body
            assert canaries([body]) == {user.canary}
            shown = [message.content for message in model.requests[-1].messages] + [model.requests[-1].settings.system]
            assert canaries(shown) == {user.canary}
            assert len(shown) == 2 * turn
    unknown = users[0].send("GET", "/sessions/{id}", id="ses_" + "A" * 22)
    assert unknown[0] == 404
    for user, other in zip(users, users[1:] + users[:1], strict=True):
        status, body = user.send("GET", "/sessions/{id}/turns", id=user.session_id)
        assert (status, len(json.loads(body)["items"])) == (200, 3)
        assert canaries([body]) == {user.canary}
        for method, resource in (
            ("GET", "/sessions/{id}"),
            ("GET", "/sessions/{id}/turns"),
            ("DELETE", "/sessions/{id}"),
        ):
            assert user.send(method, resource, id=other.session_id) == unknown
        stolen = user.send("POST", "/sessions/{id}/turns", {"message": "hi"}, id=other.session_id, key="turn-1")
        assert stolen == unknown
    assert len(model.requests) == 3 * USERS
    assert len(log.getvalue().splitlines()) >= 4 * USERS
    assert canaries([log.getvalue(), str(audit.events)]) == set()
