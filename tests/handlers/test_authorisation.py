"""P4, ASVS 8.2.1 to 8.3.1: who gets in where. Every route x every kind of caller x every session there may be.

The rows are held against the functions' own routes, so that a new route without a row fails. Each request goes through
the authorizer, then past the gateway as its policy says, then to the function.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.added_function import single_turn_paths
from tests.contract.session_store import turn_of
from tests.fakes import MODEL, SERVER_KEY, new_session
from tests.handlers.conftest import Answered, Backstage, Context, app
from tests.unit.test_jwt_tokens import ISSUER, OTHER_KEY, IssuersServer, token, unsigned
from tests.web_adapter import read_body
from turnlog import runtime
from turnlog.adapters.jwt_tokens import JwtVerifier
from turnlog.adapters.local.memory import MemorySessionStore
from turnlog.domain.owners import anonymous_owner_of, delegated_owner
from turnlog.domain.sessions import Session, new_session_id
from turnlog.domain.turns import Lease

Route = tuple[str, ...]
"""Method and path, and maybe how else it is asked."""

IN_SESSION = ("POST", "/messages", "in a session")  # which a header names

ADA, EVE = f"{ISSUER}|ada", f"{ISSUER}|eve"
SECRET, WRONG_SECRET = "s" * 43, "w" * 43
STAGE = "arn:aws:execute-api:us-east-1:123456789012:a1b2c3d4e5/v1"

ROLES = {
    "admin": "admin",
    "reader": "admin admin:content",
    "half a reader": "admin:content",
    "back end": "delegate",
    "another back end": "admin admin:content delegate",
}
SIGNED_IN = {"ada": ADA, "eve": EVE, **{name: f"{ISSUER}|{name}" for name in ROLES}}
# Those who name a user, by who they are and who is named; people of back ends, and whoever may name nobody.
NAMING = {
    "a person": ("back end", "ada"),
    "another person": ("back end", "eve"),
    "a person elsewhere": ("another back end", "ada"),
}
IN_VAIN = {
    "a user who names one": ("ada", "eve"),
    "an admin who does": ("reader", "ada"),
    "a holder": ("holder", "ada"),
}
PEOPLE = {caller: delegated_owner(SIGNED_IN[who], user) for caller, (who, user) in NAMING.items()}
ANONYMOUS = {"holder": anonymous_owner_of(SECRET), "wrong secret": anonymous_owner_of(WRONG_SECRET)}
NOBODY = {
    "no header": None,
    "expired token": lambda: f"Bearer {token(exp=int(time.time()) - 60)}",
    "forged token": lambda: f"Bearer {token(OTHER_KEY)}",
    "alg none": lambda: f"Bearer {unsigned({'alg': 'none', 'typ': 'JWT', 'kid': 'k1'})}",
    "wrong audience": lambda: f"Bearer {token(aud='another')}",
    "malformed secret": lambda: "Session short",
    "another scheme": lambda: "Basic YWRhOmFkYQ==",
}
OWNERS = {**SIGNED_IN, **ANONYMOUS, **PEOPLE}
CALLERS = [*OWNERS, *IN_VAIN, *NOBODY]
TARGETS = ["own", "another's", "deleted", "expired", "never was"]


@dataclass(frozen=True)
class Row:
    """The statuses of a route that lets a caller in: `user` to one who is signed in, `anonymous` to one who is not.

    `needs_session` when that holds for the caller's own session alone, and any other is not found. `with_role` is what
    it answers to those with roles, for anybody's session.
    """

    user: int
    anonymous: int = 403
    body: Callable[[], object] = lambda: None
    needs_session: bool = False
    public: bool = False
    key: bool = False
    with_role: Mapping[str, int] = field(default_factory=dict)


SAID = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}
ASKED = SAID | {"max_tokens": 100}
SINGLE_STREAMS = ("query", "analyze", "summarize")
READERS = ("reader", "another back end")
ADMINS = ("admin", *READERS)


def _new_secret() -> object:
    return {"secret_sha256": hashlib.sha256(b"another secret").hexdigest()}


ROWS: dict[Route, Row] = {
    **{("POST", path): Row(200, body=lambda: {"message": "Hello"}) for path in single_turn_paths().values()},
    ("POST", "/sessions"): Row(201, body=dict),
    ("GET", "/sessions"): Row(200),
    ("POST", "/anonymous/sessions"): Row(201, 201, body=_new_secret, public=True),
    ("GET", "/me/export"): Row(200),
    ("DELETE", "/me"): Row(200),
    ("GET", "/sessions/{id}"): Row(200, 200, needs_session=True),
    ("PATCH", "/sessions/{id}"): Row(200, 200, body=lambda: {"title": "Another"}, needs_session=True),
    ("DELETE", "/sessions/{id}"): Row(204, 204, needs_session=True),
    ("GET", "/sessions/{id}/export"): Row(200, 200, needs_session=True),
    ("POST", "/sessions/{id}/fork"): Row(201, 201, body=lambda: {"turn": 1}, needs_session=True),
    ("POST", "/sessions/{id}/rotate"): Row(403, 200, body=_new_secret, needs_session=True, key=True),
    # Whose session it is the secret says, not the caller: it is one that the wrong secret has, or nobody.
    ("POST", "/sessions/{id}/claim"): Row(409, 403, lambda: {"secret": WRONG_SECRET}, needs_session=True, key=True),
    ("POST", "/sessions/{id}/turns"): Row(200, 200, lambda: {"message": "Hello"}, needs_session=True, key=True),
    ("POST", "/sessions/{id}/turns/stream"): Row(200, 200, lambda: {"message": "Hello"}, needs_session=True, key=True),
    **{("POST", path): Row(200, body=lambda: ASKED) for path in ("/messages", "/messages/count_tokens")},
    IN_SESSION: Row(200, body=lambda: SAID, needs_session=True, key=True),
    **{("POST", f"/{name}/stream"): Row(200, body=lambda: {"message": "Hello"}) for name in SINGLE_STREAMS},
    ("GET", "/sessions/{id}/turns"): Row(200, 200, needs_session=True),
    ("GET", "/sessions/{id}/turns/{n}"): Row(200, 200, needs_session=True),
    ("POST", "/sessions/{id}/turns/{n}/cancel"): Row(409, 409, needs_session=True),  # none of them runs
    ("GET", "/admin/users/{owner}/sessions"): Row(403, with_role=dict.fromkeys(ADMINS, 200)),
    ("POST", "/admin/users/{owner}/terminate"): Row(403, with_role=dict.fromkeys(ADMINS, 200)),
    ("POST", "/admin/sessions/{ref}/terminate"): Row(403, with_role=dict.fromkeys(ADMINS, 204), needs_session=True),
    ("POST", "/admin/sessions/{ref}/content"): Row(
        403, with_role=dict.fromkeys(READERS, 200), body=lambda: {"reason": "Ticket 4711"}, needs_session=True
    ),
    ("GET", "/models"): Row(200, 200),
    ("GET", "/models/{model_id}"): Row(200, 200),
    ("GET", "/health"): Row(200, 200, public=True),
    ("GET", "/openapi.json"): Row(200, 200, public=True),
}


class WatchedStore:
    """A store that notes which of its methods are called."""

    def __init__(self, store: MemorySessionStore) -> None:
        self._store = store
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        self.calls.append(name)
        return getattr(self._store, name)


@dataclass
class Scene:
    """One stage with everything on it. `send` makes a request as the caller, of whatever kind."""

    backstage: Backstage
    store: WatchedStore
    _numbers: Iterator[int] = field(default_factory=count)
    _owners: dict[str, str] = field(default_factory=dict)

    def send(self, route: Route, caller: str, session_id: str) -> Answered:
        row, (method, path) = ROWS[route], route[:2]
        verified = None
        caller, user = {**NAMING, **IN_VAIN}.get(caller, (caller, None))
        owner = self._owners.get(session_id, ADA)
        parameters = {"id": session_id, "n": "1", "owner": named(owner.encode()), "ref": ref(owner, session_id)}
        parameters["model_id"] = MODEL
        if not row.public:
            resource = f"{STAGE}/{method}{path.format(**parameters)}"
            policy = _authorized(caller, resource)
            if policy is None:
                return Answered(401, {}, None, "")
            if not _lets_in(policy["policyDocument"], resource):
                return Answered(403, {}, None, "")
            verified = policy["context"]
        content = row.body()
        headers = {"Content-Type": "application/json"}
        if user:
            headers["Turnlog-User"] = user
        if route == IN_SESSION:
            headers["Turnlog-Session"] = session_id
        if row.key:
            headers["Idempotency-Key"] = f"key-{next(self._numbers)}"
        request = {
            "resource": path,
            "path": path,
            "httpMethod": method,
            "headers": headers,
            "multiValueQueryStringParameters": None,
            "pathParameters": parameters,
            "requestContext": {
                "requestId": f"request-{next(self._numbers)}",
                "authorizer": verified,
                "identity": {"sourceIp": "203.0.113.7"},
            },
            "body": None if content is None else base64.b64encode(json.dumps(content).encode()).decode(),
            "isBase64Encoded": True,
        }
        answer = app(FUNCTION_OF[method, path]).handler(request, Context(clock=self.backstage.clock))
        text = answer["body"]
        return Answered(answer["statusCode"], answer["headers"], read_body(answer["headers"], text), text)

    def session(self, target: str, owner: str, others_owner: str) -> str:
        """The id of such a session with one turn, as seen by that owner."""
        if target == "never was":
            return new_session_id()
        now = self.backstage.clock()
        session = new_session(others_owner if target == "another's" else owner, created_ms=now)
        self._owners[session.id] = session.owner
        if target == "expired":
            session = replace(session, created_ms=now - session.idle_ms, expires_ms=now)
        self._made(session)
        if target == "deleted":
            assert self.backstage.store.delete(owner, session.id, now)
        return session.id

    def _made(self, session: Session) -> None:
        store = self.backstage.store
        store.create(session, "A title")
        lease = Lease(1, "token", session.created_ms + 65_000, b"k" * 16, b"f" * 16, session.created_ms)
        store.acquire(session, lease, over=None)
        store.commit(session, turn_of(lease))


def named(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def ref(owner: str, session_id: str) -> str:
    """The ref by which administrators know the session."""
    return named(SERVER_KEY.encrypt("admin-ref", (session_id + owner).encode()))


def _lets_in(policy: Mapping[str, Any], resource: str) -> bool:
    """Decides as the gateway does."""
    said = [
        each["Effect"]
        for each in policy["Statement"]
        if any(fnmatchcase(resource, pattern) for pattern in each["Resource"])
    ]
    return said == ["Allow"]


def _authorized(caller: str, resource: str) -> Any:
    """The authorizer's answer to the caller's header; None for 401, which the gateway itself gives without one."""
    headers: dict[str, Any] = {
        **{name: lambda name=name: f"Bearer {token(sub=name, roles=ROLES.get(name, ''))}" for name in SIGNED_IN},
        "holder": lambda: f"Session {SECRET}",
        "wrong secret": lambda: f"Session {WRONG_SECRET}",
        **NOBODY,
    }
    if headers[caller] is None:
        return None
    asked = {"type": "TOKEN", "authorizationToken": headers[caller](), "methodArn": resource}
    try:
        return app("authorizer").handler(asked, Context())
    except Exception as refused:  # noqa: BLE001 (the authorizer's own way to say 401)
        assert str(refused) == "Unauthorized"
        return None


def _functions() -> dict[Route, str]:
    """The function of each route, by the functions themselves; preflights aside, which tell everybody the same."""
    found: dict[Route, str] = {}
    for folder in sorted(Path("functions").iterdir()):
        if (folder / "app.py").exists():
            routes = getattr(app(folder.name).handler, "routes", ())
            found |= {route: folder.name for route in routes if route[0] != "OPTIONS"}
    return found


FUNCTION_OF = _functions()


@pytest.fixture(scope="module")
def issuer() -> Iterator[IssuersServer]:
    issuers = IssuersServer()
    with issuers.server:
        yield issuers


@pytest.fixture
def scene(backstage: Backstage, issuer: IssuersServer, monkeypatch: pytest.MonkeyPatch) -> Scene:
    verifier = JwtVerifier(ISSUER, ("turnlog",), f"{issuer.server.url}/jwks.json")
    monkeypatch.setattr(runtime, "token_verifier", lambda: verifier)
    store = WatchedStore(backstage.store)
    monkeypatch.setattr(runtime, "session_store", lambda: store)
    return Scene(backstage, store)


def test_every_route_has_a_row_and_every_row_a_route() -> None:
    assert {route[:2] for route in ROWS} == FUNCTION_OF.keys()


@pytest.mark.asvs("7.1.3")
@pytest.mark.asvs("7.4.1")
@pytest.mark.asvs("7.6.1")
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("route", ROWS, ids=" ".join)
def test_a_caller_gets_in_where_it_belongs_and_nowhere_else(
    scene: Scene, route: Route, caller: str, target: str
) -> None:
    row = ROWS[route]
    owner, names = OWNERS.get(caller, ADA), caller in (*NAMING, *IN_VAIN)
    session_id = scene.session(target, owner, EVE if owner == ADA else ADA)
    before = scene.backstage.store.read(owner, session_id, scene.backstage.clock(), 9) if target == "own" else None
    answered = scene.send(route, caller, session_id)
    if row.public:
        assert answered.status == (403 if names and route[0] == "POST" else row.user)
    elif caller in IN_VAIN:
        assert answered.status == 403
        assert scene.store.calls == []
    elif caller in NOBODY:
        assert answered.status == 401
        assert scene.store.calls == []
    else:
        lets_in = row.with_role.get(caller, row.anonymous if caller in ANONYMOUS else row.user)
        anybody_s = target == "another's" and caller in row.with_role
        is_found = target == "own" or anybody_s or not row.needs_session or lets_in == 403
        assert answered.status == (lets_in if is_found else 404)
    if before and answered.status in (401, 403):
        assert scene.backstage.store.read(owner, session_id, scene.backstage.clock(), 9) == before
    if answered.status in (401, 403, 404) and caller != "no header" and not row.with_role.get(caller):
        assert scene.backstage.audit.actions[-1] == "denied"


@pytest.mark.asvs("7.6.2")
@pytest.mark.parametrize("route", [route for route, row in ROWS.items() if row.needs_session], ids=" ".join)
def test_no_route_makes_a_session_by_naming_one(scene: Scene, route: Route) -> None:
    session_id = new_session_id()
    scene.send(route, "ada", session_id)
    assert scene.backstage.store.session_ids(ADA) == []


@pytest.mark.parametrize("caller", ["ada", "holder", "a person"])
@pytest.mark.parametrize("route", [route for route, row in ROWS.items() if row.needs_session], ids=" ".join)
def test_what_is_not_found_looks_the_same_and_is_looked_for_in_the_same_way(
    scene: Scene, route: Route, caller: str
) -> None:
    owner = OWNERS[caller]
    seen = []
    for target in ("another's", "deleted", "expired", "never was"):
        session_id = scene.session(target, owner, EVE)
        scene.store.calls.clear()
        answered = scene.send(route, caller, session_id)
        text = answered.raw.replace(_request_id(answered.body), "…") if answered.body else ""
        headers = {name: value for name, value in answered.headers.items() if name.lower() != "request-id"}
        seen.append((answered.status, headers, text, list(scene.store.calls)))
    assert seen[0][0] in (403, 404)
    assert all(each == seen[0] for each in seen)


def _request_id(body: Mapping[str, Any]) -> str:
    return str(body["instance"] if "instance" in body else body["request_id"])


@pytest.mark.asvs("7.2.1")
def test_one_cached_answer_of_the_authorizer_mixes_no_two_people(scene: Scene) -> None:
    """The gateway keeps it for the token, whoever is named beside: so nobody who is named may be in it."""
    resource = f"{STAGE}/GET/sessions"
    asked = {"type": "TOKEN", "authorizationToken": f"Bearer {token(sub='back end', roles='delegate')}"}
    named = {"headers": {"Turnlog-User": "ada"}, "multiValueHeaders": {"Turnlog-User": ["ada"]}}
    answers = [app("authorizer").handler({**asked, **more, "methodArn": resource}, Context()) for more in ({}, named)]
    assert answers[0] == answers[1]
    assert answers[0]["context"]["owner"] == SIGNED_IN["back end"]


@pytest.mark.parametrize("other", [other for other in OWNERS if other != "a person"])
def test_a_person_s_session_is_found_by_no_other_caller(scene: Scene, other: str) -> None:
    session_id = scene.session("own", PEOPLE["a person"], ADA)
    read = ("GET", "/sessions/{id}")
    assert scene.send(read, other, session_id).status == 404
    assert scene.send(read, "a person", session_id).status == 200
