"""The audit trail holds every act before it takes effect, every refusal before it is answered, no content."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from samcli.yamlhelper import yaml_parse

from local.checks import routes_of
from tests.added_function import single_turn_paths
from tests.fakes import OWNER, SERVER_KEY
from tests.handlers import test_admin
from tests.handlers.conftest import Answered, Backstage, Call, Context, app, event
from tests.handlers.test_anonymous import begin, hash_of, limited_strangers, new_secret
from tests.handlers.test_limits import limited
from tests.handlers.test_session import EVE, create, delete, get, take
from turnlog.domain.owners import anonymous_owner, owner_hash
from turnlog.errors import ErasureInProgress, LeaseLost, StoreUnavailable, TurnInProgress, TurnsMissing
from turnlog.usecases.audit import session_hash

Act = Callable[[Call, str, str], Answered]
NEVER = "ses_" + "a" * 22
ALLOWED = {"action", "request_id", "route", "owner", "delegate", "subject", "session", "to", "source", "reason"}


def at(method: str, path: str, body: object = None, **more: Any) -> Act:
    def act(call: Call, session_id: str, _secret: str) -> Answered:
        key = {"Idempotency-Key": "k"}
        parameters = {"id": session_id} | ({"n": "1"} if "{n}" in path else {})
        return call("session", method, path, body, parameters=parameters, headers=key, **more)

    return act


def with_secret(name: str, body: Callable[[str], object]) -> Act:
    def act(call: Call, session_id: str, secret: str) -> Answered:
        who: dict[str, Any] = {"secret": secret} if name == "rotate" else {}
        return at("POST", f"/sessions/{{id}}/{name}", body(secret), **who)(call, session_id, secret)

    return act


def begun(call: Call, _session_id: str, _secret: str) -> Answered:
    return begin(call, new_secret())


_NOTED = {"canary-name": "canary-value"}
SESSION_ACTS: dict[tuple[str, str], Act] = {
    ("POST", "/sessions"): lambda call, *_: create(call, {"title": "canary-title", "metadata": _NOTED}),
    ("POST", "/anonymous/sessions"): begun,
    ("GET", "/sessions"): lambda call, *_: call("session", "GET", "/sessions"),
    ("GET", "/me/export"): lambda call, *_: call("account", "GET", "/me/export"),
    ("DELETE", "/me"): lambda call, *_: call("account", "DELETE", "/me"),
    ("PATCH", "/sessions/{id}"): at("PATCH", "/sessions/{id}", {"title": "canary-title", "metadata": _NOTED}),
    ("DELETE", "/sessions/{id}"): at("DELETE", "/sessions/{id}"),
    ("GET", "/sessions/{id}/export"): at("GET", "/sessions/{id}/export"),
    ("POST", "/sessions/{id}/fork"): at("POST", "/sessions/{id}/fork", {"turn": 1}),
    ("POST", "/sessions/{id}/rotate"): with_secret("rotate", lambda _: {"secret_sha256": hash_of(new_secret())}),
    ("POST", "/sessions/{id}/claim"): with_secret("claim", lambda secret: {"secret": secret}),
}
ACTIONS = {
    ("POST", "/sessions"): "create",
    ("POST", "/anonymous/sessions"): "create",
    ("GET", "/sessions"): "list",
    ("GET", "/me/export"): "export all",
    ("DELETE", "/me"): "erase",
    ("PATCH", "/sessions/{id}"): "change",
    ("DELETE", "/sessions/{id}"): "delete",
    ("GET", "/sessions/{id}/export"): "export",
    ("POST", "/sessions/{id}/fork"): "fork",
    ("POST", "/sessions/{id}/rotate"): "rotate",
    ("POST", "/sessions/{id}/claim"): "claim",
}
LOGGED_ALONE = {
    ("POST", "/messages"),
    ("POST", "/messages/count_tokens"),
    *(("POST", path) for path in single_turn_paths().values()),
    ("GET", "/sessions/{id}"),
    *(("POST", f"{path}/stream") for path in ("/query", "/analyze", "/summarize", "/sessions/{id}/turns")),
    ("POST", "/sessions/{id}/turns"),
    ("GET", "/sessions/{id}/turns"),
    ("GET", "/sessions/{id}/turns/{n}"),
    ("GET", "/models"),
    ("GET", "/models/{model_id}"),
    ("POST", "/sessions/{id}/turns/{n}/cancel"),
    ("GET", "/health"),
    ("GET", "/openapi.json"),
}


def test_every_route_is_an_act_that_is_audited_or_one_that_is_only_logged() -> None:
    routes = {
        (route.method, route.path.removeprefix("/v1"))
        for route in routes_of(yaml_parse(Path("template.yaml").read_text()))
    }
    assert routes == set(ACTIONS) | set(test_admin.ACTIONS) | LOGGED_ALONE
    assert set(SESSION_ACTS) == set(ACTIONS)


@pytest.fixture
def secret() -> str:
    return new_secret()


@pytest.fixture
def prepared(call: Call, backstage: Backstage, secret: str) -> Callable[[tuple[str, str]], str]:
    """A session with a turn, anonymous where the route is for such ones; nothing stands in the trail afterwards."""

    def prepare(route: tuple[str, str]) -> str:
        is_anonymous = route[1].endswith(("/rotate", "/claim"))
        made = begin(call, secret) if is_anonymous else create(call)
        who: dict[str, Any] = {"secret": secret} if is_anonymous else {}
        take(call, made.body["session_id"], "canary-message", **who)
        backstage.audit.events.clear()
        return str(made.body["session_id"])

    return prepare


@pytest.mark.asvs("16.3.3")
@pytest.mark.parametrize("route", ACTIONS, ids=" ".join)
class TestActs:
    def test_it_is_noted_once_with_who_and_what(
        self, call: Call, backstage: Backstage, secret: str, prepared: Any, route: tuple[str, str]
    ) -> None:
        session_id = prepared(route)
        answer = SESSION_ACTS[route](call, session_id, secret)
        assert answer.status < 300, answer.body
        (event,) = backstage.audit.events
        assert (event["action"], event["route"], event["request_id"]) == (ACTIONS[route], " ".join(route), "req-1")
        stranger = owner_hash(anonymous_owner(hash_of(secret)))
        is_by_secret = route[1].endswith("/rotate")
        if route == ("POST", "/anonymous/sessions"):
            assert "owner" not in event
            assert len(event["source"]) == 32
        else:
            assert event["owner"] == (stranger if is_by_secret else owner_hash(OWNER))
        if "{id}" in route[1]:
            assert event["session"] == session_hash(SERVER_KEY, session_id)
        if ACTIONS[route] in ("fork", "rotate", "claim"):
            assert event["to"] == session_hash(SERVER_KEY, answer.body["session_id"])
        if ACTIONS[route] in ("rotate", "claim"):
            assert event["subject"] == stranger
        if ACTIONS[route] == "create":
            assert event["session"] == session_hash(SERVER_KEY, answer.body["session_id"])

    def test_it_is_noted_before_the_store_is_touched(
        self, call: Call, backstage: Backstage, secret: str, prepared: Any, route: tuple[str, str]
    ) -> None:
        session_id = prepared(route)
        touched: list[list[str]] = []
        watched = Watched(backstage.store, lambda name: touched.append([name, *backstage.audit.actions]))
        backstage.store = watched  # type: ignore[assignment] # a store all the same
        assert SESSION_ACTS[route](call, session_id, secret).status < 300
        assert touched
        assert all(seen[1:] == [ACTIONS[route]] for seen in touched), touched

    @pytest.mark.asvs("16.5.3")
    def test_what_cannot_be_noted_is_not_done(
        self, call: Call, backstage: Backstage, secret: str, prepared: Any, route: tuple[str, str]
    ) -> None:
        session_id = prepared(route)
        touched: list[str] = []
        kept = backstage.store
        backstage.store = Watched(kept, touched.append)  # type: ignore[assignment]
        backstage.audit.refusing = True
        answer = SESSION_ACTS[route](call, session_id, secret)
        assert (answer.status, answer.body["code"], answer.body["stored"]) == (503, "dependency_unavailable", False)
        assert answer.headers["Retry-After"] == "2"
        assert touched == []
        assert backstage.audit.events == []

    def test_nothing_that_was_said_and_no_name_of_anybody_gets_in(
        self, call: Call, backstage: Backstage, secret: str, prepared: Any, route: tuple[str, str]
    ) -> None:
        session_id = prepared(route)
        SESSION_ACTS[route](call, session_id, secret)
        written = json.dumps(backstage.audit.events)
        assert not [each for each in ("canary", session_id, OWNER, secret, "203.0.113.7") if each in written]
        assert {name for each in backstage.audit.events for name in each} <= ALLOWED


class Watched:
    """A store that tells before each call what is called."""

    def __init__(self, store: object, tell: Callable[[str], None]) -> None:
        self._store = store
        self._tell = tell

    def __getattr__(self, name: str) -> Any:
        self._tell(name)
        return getattr(self._store, name)


def test_reads_and_turns_of_one_s_own_are_not_in_the_trail(call: Call, backstage: Backstage) -> None:
    session_id = str(create(call).body["session_id"])
    backstage.audit.events.clear()
    take(call, session_id, "hello")
    for rest in ("", "/turns", "/turns/{n}"):
        assert get(call, session_id, rest, also={"n": "1"}).status == 200
    assert call("query", "POST", "/query", {"message": "hi"}).status == 200
    assert backstage.audit.events == []


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/sessions", {"title": 5}),
        ("POST", "/sessions", {"lifetime_s": 10**9}),
        ("POST", "/sessions", {"continuation": "forged"}),
        ("PATCH", "/sessions/{id}", {}),
        ("POST", "/sessions/{id}/fork", {"turn": 0}),
        ("POST", "/sessions/{id}/rotate", {"secret_sha256": "x"}),
        ("POST", "/sessions/{id}/claim", {"secret": "x"}),
    ],
)
def test_what_is_refused_by_its_form_costs_no_call(
    call: Call, backstage: Backstage, method: str, path: str, body: object
) -> None:
    assert at(method, path, body)(call, NEVER, "").status in (400, 422)
    assert at(method, path, body, query={"x": ["1"]})(call, NEVER, "").status == 400
    assert backstage.audit.events == []


class TestRefusals:
    @pytest.mark.asvs("16.3.2")
    @pytest.mark.parametrize(
        "route",
        [
            ("GET", "/sessions/{id}"),
            ("PATCH", "/sessions/{id}"),
            ("DELETE", "/sessions/{id}"),
            ("GET", "/sessions/{id}/export"),
            ("POST", "/sessions/{id}/fork"),
            ("POST", "/sessions/{id}/turns"),
            ("GET", "/sessions/{id}/turns"),
        ],
        ids=" ".join,
    )
    def test_foreign_deleted_and_unknown_sessions_are_the_same_bytes_and_events(
        self, call: Call, backstage: Backstage, route: tuple[str, str]
    ) -> None:
        foreign, deleted, expired = (str(create(call, owner=who).body["session_id"]) for who in (EVE, OWNER, OWNER))
        delete(call, deleted)
        backstage.clock.tick(seconds=1801)
        body = {"title": "x"} if route[0] == "PATCH" else {"turn": 1} if route[1].endswith("fork") else {"message": "x"}
        seen = []
        for session_id in (foreign, deleted, expired, NEVER):
            backstage.audit.events.clear()
            answer = at(*route, body if route[0] in ("PATCH", "POST") else None)(call, session_id, "")
            assert (answer.status, answer.body["code"]) == (404, "session_not_found")
            assert backstage.audit.events[-1] == {
                "action": "denied",
                "request_id": "req-1",
                "route": " ".join(route),
                "owner": owner_hash(OWNER),
                "session": session_hash(SERVER_KEY, session_id),
                "reason": "session_not_found",
            }
            seen.append((answer.raw, backstage.audit.actions))
        assert seen == [seen[0]] * 4

    def test_what_has_not_the_form_of_an_id_is_no_denial(self, call: Call, backstage: Backstage) -> None:
        assert get(call, "ses_x").status == 404
        assert backstage.audit.events == []

    def test_a_wrong_secret_is_one(self, call: Call, backstage: Backstage, secret: str) -> None:
        session_id = str(begin(call, secret).body["session_id"])
        assert at("POST", "/sessions/{id}/claim", {"secret": new_secret()})(call, session_id, "").status == 404
        assert backstage.audit.actions == ["create", "claim", "denied"]

    def test_whoever_may_not_use_a_route_and_whose_token_has_expired_meanwhile_are_named(
        self, call: Call, backstage: Backstage, secret: str
    ) -> None:
        assert call("session", "GET", "/sessions", secret=secret).status == 403
        assert call("query", "POST", "/query", {"message": "x"}, expires="1").status == 401
        assert [(each["owner"], each["reason"]) for each in backstage.audit.events] == [
            (owner_hash(anonymous_owner(hash_of(secret))), "forbidden"),
            (owner_hash(OWNER), "unauthorized"),
        ]

    @pytest.mark.asvs("16.3.3")
    def test_a_limit_that_is_hit_is_named(
        self, call: Call, backstage: Backstage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        limited(monkeypatch, turns_a_minute=1, sessions_a_day=1)
        session_id = str(create(call).body["session_id"])
        assert call("query", "POST", "/query", {"message": "x"}).status == 200
        backstage.audit.events.clear()
        assert call("query", "POST", "/query", {"message": "x"}).status == 429
        assert take(call, session_id, "x").status == 429
        assert create(call).status == 429
        of_session = {"session": session_hash(SERVER_KEY, session_id)}
        assert [each for each in backstage.audit.events if each["action"] == "limit"] == [
            {"action": "limit", "request_id": "req-1", "owner": owner_hash(OWNER)} | more
            for more in (
                {"route": "POST /query", "reason": "turns"},
                {"route": "POST /sessions/{id}/turns", "reason": "turns"} | of_session,
                {"route": "POST /sessions", "reason": "sessions"},
            )
        ]

    def test_a_stranger_at_a_limit_is_known_by_the_address_alone(
        self, call: Call, backstage: Backstage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        limited_strangers(monkeypatch, creations_an_hour=1)
        assert [begin(call, new_secret()).status for _ in range(2)] == [201, 429]
        first, _, refused = backstage.audit.events
        assert (refused["action"], refused["reason"]) == ("limit", "anonymous_creations")
        assert refused["source"] == first["source"]
        assert "owner" not in refused

    @pytest.mark.asvs("16.5.3")
    def test_no_refusal_is_told_that_is_not_noted(self, call: Call, backstage: Backstage) -> None:
        backstage.audit.refusing = True
        assert get(call, NEVER).status == 503


class Failing:
    """A store of which one method raises an error."""

    def __init__(self, store: object, method: str, error: Exception) -> None:
        self._store = store
        self._method = method
        self._error = error

    def __getattr__(self, name: str) -> Any:
        return self._fail if name == self._method else getattr(self._store, name)

    def _fail(self, *_: Any, **__: Any) -> None:
        raise self._error


def reused(path: str, first: object, second: object) -> Act:
    """The second request under one key, with another body than the first."""

    def act(call: Call, session_id: str, secret: str) -> Answered:
        assert at("POST", path, first)(call, session_id, secret).status == 201
        return at("POST", path, second)(call, session_id, secret)

    return act


def gone(call: Call, session_id: str, secret: str) -> Answered:
    """A creation under the key of a session that has ended."""
    made = at("POST", "/sessions", {})(call, session_id, secret)
    delete(call, made.body["session_id"])
    return at("POST", "/sessions", {})(call, session_id, secret)


class TestActsThatAreRefusedAfterAll:
    """One event for the act, which might have taken effect, and one that says that it did not."""

    @pytest.mark.asvs("16.3.3")
    @pytest.mark.parametrize(
        ("act", "actions", "reason"),
        [
            (at("POST", "/sessions/{id}/fork", {"turn": 2}), ["fork", "refused"], "turn_not_found"),
            (
                reused("/sessions/{id}/fork", {"turn": 1}, {"turn": 2}),
                ["fork", "fork", "refused"],
                "idempotency_key_reused",
            ),
            (
                reused("/sessions", {"title": "a"}, {"title": "b"}),
                ["create", "create", "refused"],
                "idempotency_key_reused",
            ),
            (gone, ["create", "delete", "create", "denied"], "session_not_found"),
            (with_secret("claim", lambda secret: {"secret": secret}), ["claim", "refused"], "already_owned"),
        ],
        ids=["no such turn", "a fork's key", "a creation's key", "a key of what has ended", "one's own"],
    )
    def test_has_a_second_event_with_the_reason(
        self, call: Call, backstage: Backstage, secret: str, prepared: Any, act: Act, actions: list[str], reason: str
    ) -> None:
        answer = act(call, prepared(("PATCH", "/sessions/{id}")), secret)
        assert (answer.status < 500, answer.body["code"]) == (True, reason)
        assert backstage.audit.actions == actions
        assert backstage.audit.events[-1]["reason"] == reason
        assert {each["owner"] for each in backstage.audit.events} == {owner_hash(OWNER)}
        assert {name for each in backstage.audit.events for name in each} <= ALLOWED

    @pytest.mark.parametrize(
        ("route", "method", "error", "reason"),
        [
            (("POST", "/sessions"), "create", ErasureInProgress(), "erasure_in_progress"),
            (("POST", "/sessions/{id}/fork"), "fork", ErasureInProgress(), "erasure_in_progress"),
            (("POST", "/sessions/{id}/claim"), "move", ErasureInProgress(), "erasure_in_progress"),
            (("POST", "/sessions/{id}/claim"), "move", TurnInProgress(2), "turn_in_progress"),
            (("POST", "/sessions/{id}/claim"), "move", LeaseLost(), "move_lost"),
            (("POST", "/sessions/{id}/rotate"), "move", LeaseLost(), "move_lost"),
        ],
        ids=str,
    )
    def test_also_when_the_store_refuses(
        self,
        call: Call,
        backstage: Backstage,
        secret: str,
        prepared: Any,
        route: tuple[str, str],
        method: str,
        error: Exception,
        reason: str,
    ) -> None:
        session_id = prepared(route)
        backstage.store = Failing(backstage.store, method, error)  # type: ignore[assignment]
        assert SESSION_ACTS[route](call, session_id, secret).body["code"] == reason
        noted, refused = backstage.audit.events
        assert (noted["action"], refused["action"], refused["reason"]) == (ACTIONS[route], "refused", reason)
        assert refused.get("session") == (session_hash(SERVER_KEY, session_id) if "{id}" in route[1] else None)

    @pytest.mark.parametrize("error", [StoreUnavailable(), TurnsMissing(), RuntimeError()], ids=repr)
    def test_one_that_failed_has_no_second_event(
        self, call: Call, backstage: Backstage, prepared: Any, error: Exception
    ) -> None:
        session_id = prepared(("DELETE", "/sessions/{id}"))
        backstage.store = Failing(backstage.store, "delete", error)  # type: ignore[assignment]
        assert delete(call, session_id).status >= 500
        assert backstage.audit.actions == ["delete"]

    @pytest.mark.asvs("16.5.3")
    def test_it_is_not_told_when_the_second_event_cannot_be_kept(
        self, call: Call, backstage: Backstage, prepared: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        session_id = prepared(("PATCH", "/sessions/{id}"))
        read = backstage.store.read

        def reading(*given: Any, **named: Any) -> Any:
            backstage.audit.refusing = True
            return read(*given, **named)

        monkeypatch.setattr(backstage.store, "read", reading)
        assert at("POST", "/sessions/{id}/fork", {"turn": 2})(call, session_id, "").status == 503
        assert backstage.audit.actions == ["fork"]

    def test_a_turn_that_is_refused_is_in_the_log_of_requests_alone(self, call: Call, backstage: Backstage) -> None:
        session_id = str(create(call).body["session_id"])
        backstage.audit.events.clear()
        assert take(call, session_id, "hello", "k").status == 200
        assert take(call, session_id, "another", "k").status == 422
        assert backstage.audit.events == []


class TestTheAuthorizer:
    def test_notes_whom_it_does_not_believe(self, backstage: Backstage) -> None:
        asked = event("authorizer") | {"authorizationToken": "Session short"}
        with pytest.raises(Exception, match=r"^Unauthorized$"):
            app("authorizer").handler(asked, Context())
        denied = {"action": "denied", "request_id": Context.aws_request_id, "reason": "unauthorized"}
        assert backstage.audit.events == [denied]

    def test_lets_nobody_in_who_cannot_be_noted_and_says_nothing_of_the_token(self, backstage: Backstage) -> None:
        """An exception of another text than Unauthorized is the gateway's 503."""
        backstage.audit.refusing = True
        with pytest.raises(Exception, match=r"^$"):
            app("authorizer").handler(event("authorizer") | {"authorizationToken": "Session short"}, Context())
