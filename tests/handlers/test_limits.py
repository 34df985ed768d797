"""An owner's quota is one for questions and turns, exact, and never charged for a refusal."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest

from tests.handlers.conftest import Answered, Backstage, Call
from tests.handlers.test_anonymous import begin, limited_strangers, new_secret
from tests.handlers.test_session import EVE, busy_for, create, get, take
from tests.handlers.test_single_turn import STATELESS
from tests.handlers.test_transfers import claim, rotate
from turnlog import runtime
from turnlog.domain.limits import OwnerLimits, SessionLimits
from turnlog.errors import ModelTimeout, ModelUnavailable, StoreUnavailable
from turnlog.usecases.turn_request import TurnPolicy

SMALL = {"message": "hi", "max_tokens": 100}


def limited(monkeypatch: pytest.MonkeyPatch, **limits: Any) -> None:
    policy = TurnPolicy(owner=OwnerLimits(**limits))
    monkeypatch.setattr(runtime, "turn_policy", lambda: policy)


def query(call: Call, body: dict[str, Any] | None = None, **more: Any) -> Answered:
    return call("query", "POST", "/query", SMALL if body is None else body, **more)


class TestASession:
    """The limits of one session; the answer says how to go on."""

    def test_one_that_is_used_up_is_forked_or_begun_anew(self, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(runtime, "turn_policy", lambda: TurnPolicy(session=SessionLimits(turns=2)))
        session_id, secret = str(create(call).body["session_id"]), new_secret()
        anonymous = str(begin(call, secret).body["session_id"])
        for who, its_id, href in (
            ({}, session_id, "/v1/sessions"),
            ({"secret": secret}, anonymous, "/v1/anonymous/sessions"),
        ):
            for key in ("1", "2"):
                assert take(call, its_id, "hello", key, **who).status == 200
            full = take(call, its_id, "hello", "3", **who)
            assert (full.status, full.body["code"], full.body["limit"]) == (429, "session_limit", "session_turns")
            assert "/v1/sessions/{id}/fork" in full.body["detail"]
            assert full.body["start_over"] == {"method": "POST", "href": href}
            assert "Retry-After" not in full.headers
        fork = call("session", "POST", "/sessions/{id}/fork", {"turn": 1}, parameters={"id": session_id})
        assert take(call, str(fork.body["session_id"]), "hello").body["turn"] == 2

    def test_one_that_was_used_too_fast_is_waited_for(self, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(runtime, "turn_policy", lambda: TurnPolicy(session=SessionLimits(turns_a_minute=1)))
        session_id = str(create(call).body["session_id"])
        take(call, session_id, "hello", "1")
        refused = take(call, session_id, "hello", "2")
        assert (refused.status, refused.body["limit"]) == (429, "session_turns_a_minute")
        assert "Retry-After" in refused.headers
        assert "Retry-After" in refused.body["detail"]
        assert "start_over" not in refused.body


class TestQuestions:
    def test_questions_and_turns_share_the_turns_of_a_minute(
        self, call: Call, backstage: Backstage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        limited(monkeypatch, turns_a_minute=3)
        session_id = str(create(call).body["session_id"])
        assert query(call).status == 200
        assert take(call, session_id, "one").status == 200
        assert call("summarize", "POST", "/summarize", SMALL).status == 200
        others = [call(name, "POST", path, SMALL) for name, path in STATELESS]
        for refused in (take(call, session_id, "two"), *others):
            assert (refused.status, refused.body["code"]) == (429, "allowance_used_up")
            assert (refused.body["limit"], refused.headers["Retry-After"]) == ("turns", "40")
        assert len(backstage.model.requests) == 3
        assert query(call, owner=EVE).status == 200
        backstage.clock.tick(seconds=40)
        assert query(call).status == 200

    @pytest.mark.asvs("2.4.1")
    def test_a_budget_is_reserved_at_its_most_and_settled_with_what_was_used(
        self, call: Call, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        limited(monkeypatch, budget_a_day=Decimal(300))
        for _ in range(7):  # each may use 193 tokens and uses 15
            assert query(call).status == 200
        refused = query(call, SMALL | {"max_tokens": 103})
        assert (refused.status, refused.body["limit"]) == (429, "tokens")
        assert query(call).status == 200

    @pytest.mark.parametrize(
        ("unit", "budget", "most", "needed"),
        [("tokens", "192", "192", "193"), ("usd", "0.00137", "0.00137", "0.001372")],
    )
    def test_what_can_never_fit_into_a_budget_is_not_told_to_wait(
        self,
        call: Call,
        backstage: Backstage,
        monkeypatch: pytest.MonkeyPatch,
        unit: str,
        budget: str,
        most: str,
        needed: str,
    ) -> None:
        session_id = str(create(call, {"max_tokens": 1000}).body["session_id"])
        limited(monkeypatch, budget_a_day=Decimal(budget), budget_unit=unit)
        refused = query(call)
        assert [refused.body[name] for name in ("limit", "most", "needed")] == [unit, most, needed]
        others = [call(name, "POST", path, SMALL | {"max_tokens": 1000}) for name, path in STATELESS]
        for each in (refused, take(call, session_id, "hi"), *others):
            assert (each.status, each.body["code"]) == (422, "quota_too_small")
            assert "Retry-After" not in each.headers
        assert backstage.model.requests == []

    def test_a_budget_of_dollars_counts_the_price(self, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
        limited(monkeypatch, budget_a_day=Decimal("0.00138"), budget_unit="usd")
        assert query(call).status == 200
        assert query(call).body["limit"] == "usd"

    @pytest.mark.parametrize(("error", "left"), [(ModelUnavailable(7), True), (ModelTimeout(), False)], ids=str)
    def test_a_call_that_cannot_have_cost_anything_is_given_back(
        self,
        call: Call,
        backstage: Backstage,
        monkeypatch: pytest.MonkeyPatch,
        error: ModelUnavailable | ModelTimeout,
        left: bool,
    ) -> None:
        limited(monkeypatch, turns_a_minute=1, budget_a_day=Decimal(200))
        backstage.model.fail_with = [error]
        assert query(call).status in (503, 504)
        assert (query(call).status == 200) == left

    @pytest.mark.parametrize("body", [{}, {"message": ""}, SMALL | {"model": "other"}, SMALL | {"x": 1}], ids=str)
    def test_a_refused_request_is_not_charged(
        self, call: Call, monkeypatch: pytest.MonkeyPatch, body: dict[str, Any]
    ) -> None:
        limited(monkeypatch, turns_a_minute=1)
        assert query(call, body).status in (400, 422)
        assert query(call).status == 200

    @pytest.mark.asvs("16.5.3")
    @pytest.mark.parametrize(("function", "path"), STATELESS)
    def test_what_cannot_be_charged_is_not_asked(
        self, call: Call, backstage: Backstage, monkeypatch: pytest.MonkeyPatch, function: str, path: str
    ) -> None:
        limited(monkeypatch, turns_a_minute=1)
        monkeypatch.setattr(backstage.store, "charge", failing)
        answer = call(function, "POST", path, SMALL)
        assert (answer.status, answer.body["code"], answer.body["stored"]) == (503, "dependency_unavailable", False)
        assert answer.headers["Retry-After"] == "2"
        assert backstage.model.requests == []

    def test_a_reply_is_not_withheld_because_it_cannot_be_settled(
        self, call: Call, backstage: Backstage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        limited(monkeypatch, budget_a_day=Decimal(200))
        monkeypatch.setattr(backstage.store, "settle", failing)
        assert query(call).status == 200
        assert query(call).status == 429

    @pytest.mark.asvs("2.3.2")
    def test_300_at_once_get_no_more_than_there_is(
        self, call: Call, backstage: Backstage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        limited(monkeypatch, turns_a_minute=20, budget_a_day=Decimal(10_000))
        with ThreadPoolExecutor(32) as pool:
            statuses = list(pool.map(lambda _: query(call).status, range(300)))
        assert sorted(set(statuses)) == [200, 429]
        assert statuses.count(200) == len(backstage.model.requests) == 20


class TestSessions:
    @pytest.mark.asvs("7.1.2")
    def test_an_owner_makes_no_more_sessions_a_day_than_the_limit(
        self, call: Call, backstage: Backstage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        limited(monkeypatch, sessions_a_day=2)
        named = {"Idempotency-Key": "mine"}
        first = [call("session", "POST", "/sessions", {}, headers=named).body["session_id"] for _ in range(3)]
        assert len(set(first)) == 1
        assert create(call).status == 201
        refused = create(call)
        assert (refused.status, refused.body["limit"]) == (429, "sessions")
        assert refused.headers["Retry-After"] == str(24 * 3600 - (14 * 3600 + 13 * 60 + 20))
        assert create(call, owner=EVE).status == 201
        backstage.clock.tick(seconds=24 * 3600)
        assert create(call).status == 201

    def test_a_fork_counts_as_one(self, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
        limited(monkeypatch, sessions_a_day=2)
        session_id = str(create(call).body["session_id"])
        take(call, session_id, "hello")
        path = {"id": session_id}
        forks = [call("session", "POST", "/sessions/{id}/fork", {"turn": 1}, parameters=path) for _ in range(2)]
        assert [answer.status for answer in forks] == [201, 429]

    def test_a_claimed_session_counts_as_one_that_is_made(self, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
        limited(monkeypatch, sessions_a_day=1)
        secrets = [new_secret(), new_secret()]
        ids = [str(begin(call, secret).body["session_id"]) for secret in secrets]
        assert [claim(call, ids[0], secrets[0]).status for _ in range(2)] == [200, 200]
        refused = claim(call, ids[1], secrets[1])
        assert (refused.status, refused.body["limit"]) == (429, "sessions")
        assert get(call, ids[1], secret=secrets[1]).status == 200
        assert claim(call, ids[1], secrets[1], owner=EVE).status == 200

    def test_a_rotated_session_counts_as_one_that_is_begun_at_its_address(
        self, call: Call, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        limited_strangers(monkeypatch, creations_an_hour=2)
        first, second, third = new_secret(), new_secret(), new_secret()
        session_id = str(begin(call, first).body["session_id"])
        moved = [rotate(call, session_id, first, second) for _ in range(2)]
        assert [answer.status for answer in moved] == [200, 200]
        new_id = str(moved[0].body["session_id"])
        refused = rotate(call, new_id, second, third)
        assert (refused.status, refused.body["limit"]) == (429, "anonymous_creations")
        assert get(call, new_id, secret=second).status == 200
        assert rotate(call, new_id, second, third, source="203.0.113.8").status == 200

    def test_a_refused_creation_is_not_charged(self, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
        limited(monkeypatch, sessions_a_day=1)
        assert create(call, {"title": 5}).status == 400
        assert create(call, {"lifetime_s": 10**9}).status == 422
        assert create(call).status == 201


class TestWaits:
    @staticmethod
    def take(call: Call, session_id: str, prefer: str) -> Answered:
        headers = {"Idempotency-Key": "k", "Prefer": prefer}
        path = {"id": session_id}
        return call("session", "POST", "/sessions/{id}/turns", {"message": "hi"}, parameters=path, headers=headers)

    def test_nobody_waits_more_often_than_they_may_take_turns(
        self, call: Call, backstage: Backstage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        limited(monkeypatch, turns_a_minute=2)
        session_id = str(create(call).body["session_id"])
        busy_for(backstage, session_id, 10_000)
        answers = [self.take(call, session_id, "wait=1") for _ in range(3)]
        assert [answer.status for answer in answers] == [409, 409, 429]
        assert (answers[2].body["limit"], answers[2].headers["Retry-After"]) == ("waits", "38")
        assert backstage.slept == [0.5] * 4

    def test_who_would_not_wait_or_need_not_is_not_charged_for_it(
        self, call: Call, backstage: Backstage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        limited(monkeypatch, turns_a_minute=1)
        free, busy = (str(create(call).body["session_id"]) for _ in range(2))
        assert self.take(call, free, "wait=1").status == 200
        busy_for(backstage, busy, 10_000)
        answers = [self.take(call, busy, prefer) for prefer in ("wait=0", "wait=0", "wait=1", "wait=1")]
        assert [answer.status for answer in answers] == [409, 409, 409, 429]

    def test_a_wait_that_cannot_be_charged_is_refused_and_nothing_is_stored(
        self, call: Call, backstage: Backstage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        limited(monkeypatch, turns_a_minute=5)
        session_id = str(create(call).body["session_id"])
        busy_for(backstage, session_id, 10_000)
        monkeypatch.setattr(backstage.store, "charge", failing)
        answer = self.take(call, session_id, "wait=1")
        assert (answer.status, answer.body["code"], answer.body["stored"]) == (503, "dependency_unavailable", False)
        assert answer.headers["Retry-After"] == "2"
        assert (backstage.slept, backstage.model.requests) == ([], [])


def failing(*_: object, **__: object) -> None:
    raise StoreUnavailable
