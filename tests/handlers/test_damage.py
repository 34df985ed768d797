"""P10: a session that is damaged in DynamoDB says so on every route, hides no other one, and can be deleted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.contract.session_store import take_all
from tests.fakes import OWNER, START_MS, new_session
from tests.handlers.conftest import Answered, Backstage, Call
from tests.handlers.test_authorisation import named, ref
from tests.promises.simulator.dynamodb import SimulatedDynamoDB
from turnlog import runtime
from turnlog.adapters.dynamodb import DynamoDBSessionStore
from turnlog.adapters.dynamodb.items import owner_partition, partition
from turnlog.domain.messages import to_json
from turnlog.domain.owners import anonymous_owner_of
from turnlog.domain.packing import pack
from turnlog.domain.sessions import Session

Item = dict[str, Any]
Edit = Callable[[Item], Item | None]

TABLE, USAGE = "sessions", "usage"
TURNS, LEASE = 6, "000000007"
SECRET = "a" * 43
ABSURD = {"N": "9" * 30}
LATER_THAN_DATES = {"N": str(10**15)}
NEWEST, FIRST, MIDDLE = "000000006", "000000001", "000000002"


@dataclass(frozen=True)
class Damage:
    """An item of a session, and what becomes of it; None removes it."""

    sk: str
    edit: Edit

    @property
    def is_seen_in_newest(self) -> bool:
        """True if it shows to whoever reads the session with its last turn alone."""
        return self.sk not in (FIRST, MIDDLE)


def without(name: str) -> Edit:
    return lambda item: {key: value for key, value in item.items() if key != name}


def with_(name: str, value: object) -> Edit:
    return lambda item: item | {name: value}


def with_body(**changed: object) -> Edit:
    body = {
        "message": [{"type": "text", "text": "q"}],
        "reply": [{"type": "text", "text": "a"}],
        "usage": {"input_tokens": 1},
        "model": "claude-sonnet-5-5",
    }
    return with_("body", {"B": pack(to_json(body | changed))})


def with_settings(**changed: object) -> Edit:
    settings = {"model": "claude-sonnet-5-5", "max_tokens": 1000, "system": ""}
    return with_("cfg", {"B": pack(to_json(settings | changed))})


def gone(_: Item) -> None:
    return None


def _named(sk: str, edits: dict[str, Edit]) -> dict[str, Damage]:
    where = {"session": "header", NEWEST: "turn", LEASE: "lease"}.get(sk, sk)
    return {f"{where} {name}": Damage(sk, edit) for name, edit in edits.items()}


DAMAGES = {
    "first slot gone": Damage(FIRST, gone),
    "middle slot gone": Damage(MIDDLE, gone),
    "newest slot gone under a lease": Damage(NEWEST, gone),
    "middle turn unreadable": Damage(MIDDLE, with_("body", {"B": b"?"})),
    "middle turn a tombstone": Damage(MIDDLE, with_("st", {"S": "ended"})),
    "middle turn a lease": Damage(MIDDLE, with_("st", {"S": "running"})),
    **_named("meta", {"gone": gone, "without title": without("title"), "of bytes": with_("title", {"B": b"t"})}),
    **_named(
        "session",
        {
            **{f"without {name}": without(name) for name in ("v", "cfg", "created", "dies", "idle")},
            **{f"with absurd {name}": with_(name, ABSURD) for name in ("created", "dies")},
            "ends after all dates": with_("dies", LATER_THAN_DATES),
            "begins before all dates": with_("created", {"N": "-1"}),
            "never idle": with_("idle", {"N": "-5"}),
            "of fractions": with_("created", {"N": "1.5"}),
            "of no version": with_("v", {"N": "0"}),
            "undecodable": with_("cfg", {"B": b"zz"}),
            "without a model": with_settings(model=None),
            "of wrong types": with_settings(max_tokens="x", system=["s"]),
        },
    ),
    **_named(
        NEWEST,
        {
            **{
                f"without {name}": without(name)
                for name in ("v", "st", "tok", "k", "fp", "fin", "ts", "from", "rk", "tot", "body")
            },
            "with a window past it": with_("from", {"N": "7"}),
            "with a window of no turn": with_("from", {"N": "0"}),
            "at an absurd time": with_("ts", ABSURD),
            "after all dates": with_("ts", LATER_THAN_DATES),
            "after its session": with_("ts", {"N": str(START_MS + 400 * 86_400_000)}),
            "before all dates": with_("ts", {"N": "-1"}),
            "of an unknown state": with_("st", {"S": "paid"}),
            "without a stop reason": with_("fin", {"S": ""}),
            "of parts that are missing": lambda item: without("body")(item | {"parts": {"N": "2"}}),
            "with half a count": with_("oth", {"B": b"123"}),
            "with sums below zero": with_(
                "tot", {"M": {"tokens": {"N": "-1"}, "usd": {"N": "0"}, "bytes": {"N": "0"}}}
            ),
            "without a reply": with_body(reply=None),
            "of no blocks": with_body(reply=[5]),
            "of a text that is none": with_body(message=[{"type": "text"}]),
            "of a wrong model": with_body(model=5),
            "with no usage": with_body(usage=[]),
            "with a usage of words": with_body(usage={"output_tokens": "many"}),
        },
    ),
    **_named(
        LEASE,
        {
            **{f"without {name}": without(name) for name in ("st", "tok", "til", "k", "fp", "ts", "att")},
            "that never ends": with_("til", ABSURD),
            "of a year": with_("til", {"N": str(START_MS + 365 * 86_400_000)}),
            "with too many attempts": with_("att", {"N": "300"}),
            "with half a count": with_("oth", {"B": b"123"}),
        },
    ),
}
TTL_LOST = {f"no ttl on {sk}": Damage(sk, without("ttl")) for sk in ("session", "meta", FIRST, NEWEST, LEASE)}
CASES = list((DAMAGES).items())


class Scene:
    """Two sessions of a user in DynamoDB, the second one damaged, and an anonymous one with the same damage."""

    def __init__(self, damage: Damage) -> None:
        client: Any = SimulatedDynamoDB()
        self._client = client
        self.store = DynamoDBSessionStore(client, TABLE, USAGE, sleep=lambda _: None)
        self.whole = self._made(OWNER)
        self.damaged, self.anonymous = self._made(OWNER), self._made(anonymous_owner_of(SECRET))
        for session in (self.damaged, self.anonymous):
            if damage.sk == LEASE or damage is DAMAGES["newest slot gone under a lease"]:
                self._lease(session)
            self._harm(session, damage)

    def items(self, session: Session) -> list[Item]:
        pk = partition(session.owner, session.id)
        return [dict(item) for item in self._client.tables.items(TABLE) if item["pk"]["S"] == pk]

    def stored(self) -> list[Item]:
        return [dict(item) for item in self._client.tables.items(TABLE)]

    def _made(self, owner: str) -> Session:
        session = self.store.create(new_session(owner), "A title")
        take_all(self.store, session, TURNS)
        return session

    def _lease(self, session: Session) -> None:
        turn = next(item for item in self.items(session) if item["sk"]["S"] == NEWEST)
        lease = {name: turn[name] for name in ("pk", "v", "ttl", "tok", "k", "fp", "ts")}
        lease |= {"sk": {"S": LEASE}, "st": {"S": "running"}, "att": {"N": "1"}, "til": turn["ts"]}
        self._client.put_item(TableName=TABLE, Item=lease)

    def put(self, item: Item) -> None:
        self._client.put_item(TableName=TABLE, Item=item)

    def _harm(self, session: Session, damage: Damage) -> None:
        item = next(item for item in self.items(session) if item["sk"]["S"] == damage.sk)
        harmed = damage.edit(item)
        if harmed is None:
            self._client.delete_item(TableName=TABLE, Key={"pk": item["pk"], "sk": item["sk"]})
        else:
            self._client.put_item(TableName=TABLE, Item=harmed)

    def left(self, session: Session) -> list[str]:
        """The sort keys of all in the session's partition but tombstones."""
        return [item["sk"]["S"] for item in self.items(session) if item.get("st") != {"S": "ended"}]


@pytest.fixture
def scene(request: pytest.FixtureRequest, backstage: Backstage, monkeypatch: pytest.MonkeyPatch) -> Scene:
    made = Scene(request.param)
    monkeypatch.setattr(runtime, "session_store", lambda: made.store)
    return made


every_damage = pytest.mark.parametrize(
    "scene", [pytest.param(damage, id=name) for name, damage in CASES], indirect=True
)
READS_ALL = ("turns", "export", "fork", "fork under a key", "take", "rotate", "claim", "content")
READS_NEWEST = ("get", "rename", "one turn")


def requests(call: Call, scene: Scene) -> dict[str, Callable[[], Answered]]:
    """Every request that reads the damaged session for somebody, by its name."""
    own = {"parameters": {"id": scene.damaged.id, "n": str(TURNS)}}
    stranger = {"parameters": {"id": scene.anonymous.id}}
    key = {"headers": {"Idempotency-Key": "k"}}
    admin = {"parameters": {"ref": ref(OWNER, scene.damaged.id)}, "roles": "admin admin:content"}
    path, asked = "/sessions/{id}", {"message": "next"}
    return {
        "get": lambda: call("session", "GET", path, **own),
        "rename": lambda: call("session", "PATCH", path, {"title": "New"}, **own),
        "one turn": lambda: call("session", "GET", f"{path}/turns/{{n}}", **own),
        "turns": lambda: call("session", "GET", f"{path}/turns", **own),
        "export": lambda: call("session", "GET", f"{path}/export", **own),
        "take": lambda: call("session", "POST", f"{path}/turns", asked, **own, **key),
        "fork": lambda: call("session", "POST", f"{path}/fork", {"turn": TURNS}, **own),
        "fork under a key": lambda: call("session", "POST", f"{path}/fork", {"turn": TURNS}, **own, **key),
        "claim": lambda: call("session", "POST", f"{path}/claim", {"secret": SECRET}, **stranger, **key),
        "rotate": lambda: call(
            "session", "POST", f"{path}/rotate", {"secret_sha256": "0" * 64}, **stranger, **key, secret=SECRET
        ),
        "content": lambda: call(
            "admin", "POST", "/admin/sessions/{ref}/content", {"reason": "a test of damage"}, **admin
        ),
    }


@every_damage
def test_each_route_that_reads_the_damage_says_session_corrupt_and_writes_nothing(
    scene: Scene, call: Call, backstage: Backstage, request: pytest.FixtureRequest
) -> None:
    damage = request.node.callspec.params["scene"]
    before = scene.stored()
    asked = requests(call, scene)
    names = READS_ALL + (READS_NEWEST if damage.is_seen_in_newest else ())
    answers = {name: asked[name]() for name in names}
    found = {name: (each.status, each.body.get("code")) for name, each in answers.items()}
    assert found == dict.fromkeys(names, (500, "session_corrupt"))
    assert (scene.stored(), backstage.model.requests) == (before, [])


@every_damage
def test_a_damaged_session_hides_no_other_one(scene: Scene, call: Call, request: pytest.FixtureRequest) -> None:
    damage, ids = request.node.callspec.params["scene"], [scene.whole.id, scene.damaged.id]
    listed, exported = call("session", "GET", "/sessions").body, call("account", "GET", "/me/export").body
    admins = call(
        "admin", "GET", "/admin/users/{owner}/sessions", parameters={"owner": named(OWNER.encode())}, roles="admin"
    ).body
    shown = [each["session_id"] for each in listed["items"]]
    hidden = ids[1:] if damage.is_seen_in_newest else []
    assert (sorted(shown), listed["damaged"]) == (sorted(set(ids) - set(hidden)), hidden)
    assert [each["session"]["session_id"] for each in exported["sessions"]] == [scene.whole.id]
    assert exported["damaged"] == [scene.damaged.id]
    assert (len(admins["items"]), len(admins["damaged"])) == (2 - len(hidden), len(hidden))


@pytest.mark.parametrize("by", ["owner", "admin", "erasure", "sweep"])
@pytest.mark.parametrize(
    "scene", [pytest.param(damage, id=name) for name, damage in [*CASES, *TTL_LOST.items()]], indirect=True
)
def test_every_damage_can_be_removed(scene: Scene, call: Call, backstage: Backstage, by: str) -> None:
    damaged = scene.damaged
    if by == "owner":
        assert call("session", "DELETE", "/sessions/{id}", parameters={"id": damaged.id}).status == 204
    elif by == "admin":
        named_by_ref = {"parameters": {"ref": ref(OWNER, damaged.id)}, "roles": "admin"}
        assert call("admin", "POST", "/admin/sessions/{ref}/terminate", **named_by_ref).status == 204
    elif by == "erasure":
        assert call("account", "DELETE", "/me").status == 200
        assert scene.left(scene.whole) == []
    else:
        backstage.clock.now_ms = damaged.expires_ms
        scene.store.sweep(damaged.expires_ms + 2 * 3_600_000)
        scene.store.sweep(damaged.expires_ms + 2 * 3_600_000)
        assert scene.left(scene.whole) == []
    assert scene.left(damaged) == []
    assert owner_partition(OWNER) not in {
        item["pk"]["S"] for item in scene.stored() if item["sk"]["S"] == partition(OWNER, damaged.id)
    }


def test_a_session_from_the_future_hides_no_other_one_and_can_be_deleted(
    call: Call, backstage: Backstage, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(Damage(NEWEST, with_("ts", {"N": str(START_MS + 3_600_000)})))
    monkeypatch.setattr(runtime, "session_store", lambda: scene.store)
    own = {"parameters": {"id": scene.damaged.id}}
    listed, exported = call("session", "GET", "/sessions").body, call("account", "GET", "/me/export").body
    assert [each["session_id"] for each in listed["items"]] == [scene.whole.id]
    assert listed["unavailable"] == exported["unavailable"] == [scene.damaged.id]
    assert call("session", "GET", "/sessions/{id}", **own).status == 503
    assert call("session", "DELETE", "/sessions/{id}", **own).status == 204


@pytest.mark.parametrize("lost", ["own", "ttl"])
def test_a_damaged_entry_of_the_sweeper_holds_up_no_other_one(lost: str) -> None:
    scene = Scene(Damage("meta", lambda item: item))
    for entry in scene.stored():
        if entry["sk"]["S"] == partition(OWNER, scene.damaged.id) and "own" in entry:
            scene.put({name: value for name, value in entry.items() if name != lost})
    assert scene.store.sweep(scene.whole.expires_ms + 3_600_000) == 2
    assert (scene.left(scene.whole), scene.left(scene.anonymous)) == ([], [])


def test_an_entry_that_names_another_session_is_counted_and_not_believed(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(Damage("meta", lambda item: item))
    monkeypatch.setattr(runtime, "session_store", lambda: scene.store)
    index = {"pk": {"S": owner_partition(OWNER)}, "sk": {"S": partition(OWNER, scene.damaged.id)}}
    scene.put(index | {"v": {"N": "1"}, "ttl": {"N": "1"}, "sid": {"S": scene.whole.id}})
    listed = call("session", "GET", "/sessions").body
    assert ([each["session_id"] for each in listed["items"]], listed["unnamed"]) == ([scene.whole.id], 1)
    assert call("account", "DELETE", "/me").body["sessions"] == 2
    assert scene.left(scene.damaged) == []
