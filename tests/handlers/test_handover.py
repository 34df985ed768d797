"""Sessions that go on elsewhere: forked, and never anybody else's than the rules say."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes import OWNER
from tests.handlers.conftest import Answered, Backstage, Call
from tests.handlers.test_session import EVE, create, delete, get, take


def fork(call: Call, session_id: str, turn: object = 1, key: str = "", **more: Any) -> Answered:
    named = {"Idempotency-Key": key} if key else {}
    path = {"id": session_id}
    return call("session", "POST", "/sessions/{id}/fork", {"turn": turn}, parameters=path, headers=named, **more)


@pytest.fixture
def session_id(call: Call) -> str:
    session_id = str(create(call, {"title": "T", "idle_timeout_s": 600, "lifetime_s": 1000}).body["session_id"])
    for number in range(3):
        take(call, session_id, f"turn {number}")
    return session_id


def texts(call: Call, session_id: str) -> list[str]:
    return [item["text"] for item in get(call, session_id, "/turns").body["items"]]


class TestForking:
    def test_a_fork_shares_the_turns_and_goes_on_apart(self, call: Call, session_id: str) -> None:
        made = fork(call, session_id, 2)
        forked = str(made.body["session_id"])
        assert (made.status, made.headers["Location"]) == (201, f"/v1/sessions/{forked}")
        assert (made.body["title"], made.body["turns"]) == ("T", 2)
        assert texts(call, forked) == texts(call, session_id)[:2]
        assert take(call, forked, "another way").body["turn"] == 3
        assert get(call, session_id).body["turns"] == 3

    def test_a_fork_lives_as_long_as_its_parent_was_to(self, call: Call, backstage: Backstage, session_id: str) -> None:
        backstage.clock.tick(seconds=500)
        body = fork(call, session_id).body
        assert body["expires_at"] == "2026-09-21T14:38:20.000Z"
        assert body["idle_expires_at"] == "2026-09-21T14:31:40.000Z"

    def test_a_fork_under_a_key_is_made_once_and_another_body_under_it_is_refused(
        self, call: Call, session_id: str
    ) -> None:
        first = fork(call, session_id, 2, "k")
        take(call, str(first.body["session_id"]), "on")
        again = fork(call, session_id, 2, "k")
        assert (again.status, again.body["session_id"], again.body["turns"]) == (201, first.body["session_id"], 3)
        other = fork(call, session_id, 1, "k")
        assert (other.status, other.body["code"]) == (422, "idempotency_key_reused")

    def test_a_fork_that_has_ended_is_not_made_again(self, call: Call, session_id: str) -> None:
        delete(call, str(fork(call, session_id, 1, "k").body["session_id"]))
        assert fork(call, session_id, 1, "k").body["code"] == "session_not_found"

    def test_a_repeat_finds_the_fork_though_the_parent_has_ended(self, call: Call, session_id: str) -> None:
        first = fork(call, session_id, 1, "k")
        delete(call, session_id)
        assert fork(call, session_id, 1, "k").body["session_id"] == first.body["session_id"]

    def test_a_turn_that_is_not_there_cannot_be_forked_at(
        self, call: Call, backstage: Backstage, session_id: str
    ) -> None:
        answer = fork(call, session_id, 4)
        assert (answer.status, answer.body["code"]) == (404, "turn_not_found")
        assert backstage.store.session_ids(OWNER) == [session_id]

    @pytest.mark.parametrize(
        ("turn", "status"), [(0, 422), (-1, 422), ("1", 400), (None, 400), (1.0, 400), (True, 400)]
    )
    def test_a_bad_turn_is_refused(self, call: Call, session_id: str, turn: object, status: int) -> None:
        assert fork(call, session_id, turn).status == status

    def test_nobody_else_can_fork_a_session(self, call: Call, backstage: Backstage, session_id: str) -> None:
        foreign, never = fork(call, session_id, owner=EVE), fork(call, "ses_" + "a" * 22, owner=EVE)
        assert (foreign.status, foreign.raw) == (404, never.raw)
        assert backstage.store.session_ids(EVE) == []
