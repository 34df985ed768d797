"""Sessions of whoever holds a secret: shorter, fewer, and reached by nothing else."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import secrets
from dataclasses import replace
from typing import Any

import pytest

from tests.fakes import OWNER
from tests.handlers.conftest import Answered, Backstage, Call, Context, app, event
from tests.handlers.test_session import create, delete, get, take
from turnlog import runtime
from turnlog.domain.limits import SessionLimits
from turnlog.domain.owners import anonymous_owner, owner_hash
from turnlog.usecases.turn_request import TurnPolicy


def new_secret() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()


def hash_of(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def begin(call: Call, secret: str, body: dict[str, Any] | None = None, **more: Any) -> Answered:
    whole = {"secret_sha256": hash_of(secret)} | (body or {})
    return call("anonymous", "POST", "/anonymous/sessions", whole, owner=None, **more)


@pytest.fixture
def secret() -> str:
    return new_secret()


@pytest.fixture
def session_id(call: Call, secret: str) -> str:
    return str(begin(call, secret).body["session_id"])


def limited_strangers(monkeypatch: pytest.MonkeyPatch, **limits: Any) -> None:
    made = replace(runtime.anonymous_limits(), **limits)
    monkeypatch.setattr(runtime, "anonymous_limits", lambda: made)


class TestCreating:
    def test_the_example_event_creates_a_session(self, backstage: Backstage) -> None:
        answer = app("anonymous").handler(event("anonymous"), Context())
        assert (answer["statusCode"], json.loads(answer["body"])["title"]) == (201, "A visitor")

    def test_it_lives_shorter_than_a_user_s(self, call: Call, secret: str) -> None:
        answer = begin(call, secret, {"system": "Be kind.", "title": "T"})
        assert answer.status == 201
        assert answer.headers["Location"] == f"/v1/sessions/{answer.body['session_id']}"
        assert answer.body["expires_at"] == "2026-09-21T15:13:20.000Z"
        assert answer.body["idle_expires_at"] == "2026-09-21T14:23:20.000Z"

    @pytest.mark.parametrize("field", ["idle_timeout_s", "lifetime_s"])
    def test_nobody_can_ask_for_a_longer_life(self, call: Call, secret: str, field: str) -> None:
        answer = begin(call, secret, {field: 3601})
        assert (answer.status, answer.body["code"]) == (422, f"{field}_range")

    def test_the_same_request_finds_the_same_session(self, call: Call, secret: str, session_id: str) -> None:
        take(call, session_id, "hello", secret=secret)
        again = begin(call, secret)
        # Whoever has only the hash learns nothing of what became of it.
        assert (again.status, again.body["session_id"], again.body["turns"]) == (201, session_id, 0)
        other = begin(call, secret, {"title": "Another"})
        assert (other.status, other.body["code"]) == (422, "idempotency_key_reused")

    def test_a_secret_whose_session_has_ended_makes_no_other(self, call: Call, secret: str, session_id: str) -> None:
        delete(call, session_id, secret=secret)
        answer = begin(call, secret)
        assert (answer.status, answer.body["code"], "start_over" in answer.body) == (404, "session_not_found", False)
        assert answer.body["detail"].endswith("no other is made under it: take another.")

    @pytest.mark.parametrize(
        ("value", "status", "code"),
        [
            ("A" * 64, 422, "secret_sha256_range"),
            ("a" * 63, 422, "secret_sha256_range"),
            ("a" * 64 + "\n", 422, "secret_sha256_range"),
            ("\u0661" * 64, 422, "secret_sha256_range"),
            (5, 400, "wrong_type"),
            (None, 400, "wrong_type"),
        ],
    )
    def test_what_is_no_hash_is_refused(self, call: Call, secret: str, value: object, status: int, code: str) -> None:
        answer = begin(call, secret, {"secret_sha256": value})
        assert (answer.status, answer.body["code"]) == (status, code)

    def test_the_hash_is_needed(self, call: Call) -> None:
        answer = call("anonymous", "POST", "/anonymous/sessions", {}, owner=None)
        assert (answer.status, answer.body["code"]) == (400, "field_missing")


class TestAllTogether:
    @pytest.mark.asvs("2.4.1")
    def test_all_of_them_share_a_rate_and_signed_in_people_do_not(
        self, call: Call, backstage: Backstage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        limited_strangers(monkeypatch, turns_a_minute=2)
        secrets = [new_secret() for _ in range(3)]
        ids = [str(begin(call, secret).body["session_id"]) for secret in secrets]
        answers = [take(call, each, "hello", secret=secret) for each, secret in zip(ids, secrets, strict=True)]
        assert [answer.status for answer in answers] == [200, 200, 429]
        assert (answers[2].body["limit"], answers[2].headers["Retry-After"]) == ("anonymous_turns", "40")
        assert take(call, ids[0], "hello", secret=secrets[0]).headers["Idempotent-Replayed"] == "true"
        own = str(call("session", "POST", "/sessions", {}).body["session_id"])
        assert take(call, own, "hello").status == 200
        backstage.clock.tick(seconds=40)
        assert take(call, ids[2], "hello", secret=secrets[2]).status == 200

    def test_they_wait_for_busy_sessions_no_more_often_than_that(
        self, call: Call, backstage: Backstage, monkeypatch: pytest.MonkeyPatch, secret: str, session_id: str
    ) -> None:
        limited_strangers(monkeypatch, turns_a_minute=2)
        path: Any = {"parameters": {"id": session_id}, "secret": secret}
        headers = {"Idempotency-Key": "k", "Prefer": "wait=1"}
        seen: list[Answered] = []

        def meanwhile() -> None:
            backstage.model.during = None
            body = {"message": "hi"}
            seen.extend(
                call("session", "POST", "/sessions/{id}/turns", body, headers=headers, **path) for _ in range(3)
            )

        backstage.model.during = meanwhile
        assert take(call, session_id, "slow", secret=secret).status == 200
        assert [answer.status for answer in seen] == [409, 409, 429]
        assert seen[2].body["limit"] == "anonymous_waits"
        assert backstage.slept == [0.5] * 4

    def test_none_is_begun_where_they_are_switched_off(
        self, call: Call, backstage: Backstage, monkeypatch: pytest.MonkeyPatch, secret: str, session_id: str
    ) -> None:
        limited_strangers(monkeypatch, may_begin=False)
        refused = begin(call, new_secret())
        assert (refused.status, refused.body["code"]) == (403, "forbidden")
        assert take(call, session_id, "hello", secret=secret).status == 200
        path: Any = {"parameters": {"id": session_id}, "secret": secret}
        assert call("session", "POST", "/sessions/{id}/fork", {"turn": 1}, **path).status == 403


class TestCreationsFromOneAddress:
    def test_no_more_than_the_limit_are_made_in_an_hour_and_a_repeat_is_free(
        self, call: Call, backstage: Backstage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        limited_strangers(monkeypatch, creations_an_hour=2)
        first = new_secret()
        assert [begin(call, secret).status for secret in (first, first, first, new_secret())] == [201] * 4
        refused = begin(call, new_secret())
        assert (refused.status, refused.body["code"]) == (429, "allowance_used_up")
        assert refused.body["limit"] == "anonymous_creations"
        assert refused.headers["Retry-After"] == str(refused.body["retry_after"]) == "2800"
        assert begin(call, first).status == 201
        assert begin(call, new_secret(), source="203.0.113.8").status == 201
        backstage.clock.tick(seconds=2800)
        assert begin(call, new_secret()).status == 201

    def test_a_network_of_ipv6_counts_as_one_address(self, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
        limited_strangers(monkeypatch, creations_an_hour=1)
        sources = ["2001:db8::1", "2001:db8::ffff:2", "2001:db8:0:1::1", "::ffff:203.0.113.9", "203.0.113.9", "?", "x"]
        statuses = [begin(call, new_secret(), source=source).status for source in sources]
        assert statuses == [201, 429, 201, 201, 429, 201, 429]

    def test_a_fork_counts_as_a_creation(self, call: Call, monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
        limited_strangers(monkeypatch, creations_an_hour=2)
        session_id = str(begin(call, secret).body["session_id"])
        take(call, session_id, "hello", secret=secret)
        path: Any = {"parameters": {"id": session_id}, "secret": secret}
        answers = [call("session", "POST", "/sessions/{id}/fork", {"turn": 1}, **path) for _ in range(2)]
        assert [answer.status for answer in answers] == [201, 429]

    @pytest.mark.asvs("14.2.1")
    def test_a_secret_has_no_place_in_a_url(self, call: Call, secret: str) -> None:
        assert begin(call, secret, query={"secret": [secret]}).body["code"] == "parameter_unknown"

    def test_no_address_is_logged(self, call: Call, secret: str, logged: io.StringIO) -> None:
        begin(call, secret, source="198.51.100.77")
        assert "198.51.100.77" not in logged.getvalue()
        assert hash_of(secret) not in logged.getvalue()


class TestUsing:
    def test_the_secret_opens_every_route_of_the_session(self, call: Call, secret: str, session_id: str) -> None:
        assert take(call, session_id, "hello", secret=secret).body["turn"] == 1
        assert get(call, session_id, secret=secret).body["turns"] == 1
        assert len(get(call, session_id, "/turns", secret=secret).body["items"]) == 1
        assert get(call, session_id, "/turns/{n}", also={"n": "1"}, secret=secret).status == 200
        assert delete(call, session_id, secret=secret).status == 204

    @pytest.mark.asvs("7.2.2")
    def test_another_secret_and_a_user_find_what_never_was(self, call: Call, secret: str, session_id: str) -> None:
        never = "ses_" + "a" * 22
        for caller in ({"secret": new_secret()}, {"owner": OWNER}, {"owner": f"anonymous:{hash_of(new_secret())}"}):
            asked: Any = caller
            for answer in (
                get(call, session_id, **asked),
                take(call, session_id, "hello", **asked),
                delete(call, session_id, **asked),
            ):
                assert (answer.status, answer.raw) == (404, get(call, never, **asked).raw)
        assert get(call, session_id, owner=None).status == 401

    def test_where_it_is_gone_a_new_one_is_offered_that_its_holder_may_begin(
        self, call: Call, secret: str, session_id: str
    ) -> None:
        delete(call, session_id, secret=secret)
        answer = get(call, session_id, secret=secret)
        assert (answer.status, answer.body["code"]) == (404, "session_not_found")
        assert answer.body["start_over"] == {"method": "POST", "href": "/v1/anonymous/sessions"}
        assert "POST /v1/anonymous/sessions" in answer.body["detail"]
        claimed = call(
            *("session", "POST", "/sessions/{id}/claim", {"secret": secret}),
            parameters={"id": session_id},
            headers={"Idempotency-Key": "k"},
        )
        assert claimed.body["start_over"]["href"] == "/v1/sessions"

    def test_only_the_routes_of_its_session_are_for_an_anonymous_caller(self, call: Call, secret: str) -> None:
        answers = [
            create(call, secret=secret),
            call("session", "GET", "/sessions", secret=secret),
            call("query", "POST", "/query", {"message": "hello"}, secret=secret),
            call("summarize", "POST", "/summarize", {"message": "hello"}, secret=secret),
        ]
        assert {(answer.status, answer.body["code"]) for answer in answers} == {(403, "forbidden")}

    @pytest.mark.parametrize("of_all", [None, 1, 3])
    def test_it_takes_fewer_turns(
        self,
        call: Call,
        secret: str,
        session_id: str,
        monkeypatch: pytest.MonkeyPatch,
        of_all: int | None,
    ) -> None:
        limited_strangers(monkeypatch, turns=2)
        policy = TurnPolicy(session=SessionLimits(turns=of_all))
        monkeypatch.setattr(runtime, "turn_policy", lambda: policy)
        most = min(2, of_all or 2)
        answers = [take(call, session_id, f"turn {number}", secret=secret) for number in range(3)]
        assert [answer.status for answer in answers] == [200] * most + [429] * (3 - most)
        assert answers[-1].body["limit"] == "session_turns"


class TestAuthorizing:
    def test_a_secret_is_its_hash_and_may_use_the_routes_of_sessions_and_models(
        self, backstage: Backstage, secret: str
    ) -> None:
        arn = "arn:aws:execute-api:us-east-1:123456789012:a1b2c3d4e5/v1"
        asked = event("authorizer") | {"authorizationToken": f"Session {secret}", "methodArn": f"{arn}/GET/sessions/x"}
        answer = app("authorizer").handler(asked, Context())
        assert answer["context"]["owner"] == f"anonymous:{hash_of(secret)}"
        assert answer["context"]["kind"] == "anonymous"
        (statement,) = answer["policyDocument"]["Statement"]
        methods = ("GET", "POST", "PATCH", "DELETE")
        of_sessions = [f"{arn}/{method}/sessions/*" for method in methods]
        assert statement["Resource"] == [*of_sessions, f"{arn}/GET/models", f"{arn}/GET/models/*"]
        assert secret not in json.dumps(answer)

    @pytest.mark.asvs("16.3.2")
    @pytest.mark.parametrize("route", ["GET /admin/users/x/sessions", "POST /admin/sessions/x/content", "POST /query"])
    def test_a_secret_on_a_route_that_is_not_for_it_is_a_denial_that_is_noted(
        self, backstage: Backstage, secret: str, route: str
    ) -> None:
        method, path = route.split(" ")
        arn = f"arn:aws:execute-api:us-east-1:123456789012:a1b2c3d4e5/v1/{method}{path}"
        asked = event("authorizer") | {"authorizationToken": f"Session {secret}", "methodArn": arn}
        assert app("authorizer").handler(asked, Context())["context"]["kind"] == "anonymous"
        (denied,) = backstage.audit.events
        assert denied == {
            "action": "denied",
            "request_id": Context.aws_request_id,
            "route": f"{method} /{path.split('/')[1]}",
            "owner": owner_hash(anonymous_owner(hash_of(secret))),
            "reason": "forbidden",
        }

    @pytest.mark.parametrize("secret", ["", "a" * 42, "a" * 44, "a" * 42 + "=", "a" * 42 + "\u0661", "a" * 43 + "\n x"])
    def test_what_is_no_secret_is_nobody(self, backstage: Backstage, secret: str) -> None:
        with pytest.raises(Exception, match=r"^Unauthorized$"):
            app("authorizer").handler(event("authorizer") | {"authorizationToken": f"Session {secret}"}, Context())
