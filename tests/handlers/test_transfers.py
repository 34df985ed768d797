"""Sessions that go on elsewhere: forked, and never anybody else's than the rules say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.fakes import OWNER, SERVER_KEY
from tests.handlers.conftest import Answered, Backstage, Call
from tests.handlers.test_anonymous import begin, hash_of, new_secret
from tests.handlers.test_session import EVE, create, delete, get, take
from turnlog.domain.sessions import named_session_id


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

    def test_a_key_of_a_fork_belongs_to_its_parent(self, call: Call, session_id: str) -> None:
        second = str(create(call).body["session_id"])
        take(call, second, "hello")
        children = [fork(call, parent, 1, "k") for parent in (session_id, second, session_id, second)]
        assert {child.status for child in children} == {201}
        ids = [child.body["session_id"] for child in children]
        assert (ids[:2], len(set(ids))) == (ids[2:], 2)
        assert texts(call, ids[1]) == texts(call, second)[:1]

    def test_a_fork_that_the_version_before_named_is_found_by_its_own_repeat_alone(
        self, call: Call, backstage: Backstage, session_id: str
    ) -> None:
        named = named_session_id(SERVER_KEY.keyed_hash("fork", OWNER.encode(), b"k"))
        parent = backstage.store.read(OWNER, session_id, backstage.clock.now_ms, newest=1).session
        fingerprint = SERVER_KEY.keyed_hash("fingerprint", session_id.encode(), b"2")
        backstage.store.fork(parent, 2, replace(parent, id=named, fingerprint=fingerprint), "")
        assert fork(call, session_id, 2, "k").body["session_id"] == named
        second = str(create(call).body["session_id"])
        take(call, second, "hello")
        assert fork(call, second, 1, "k").body["session_id"] != named

    def test_a_fork_that_has_ended_is_not_made_again(self, call: Call, session_id: str) -> None:
        delete(call, str(fork(call, session_id, 1, "k").body["session_id"]))
        answer = fork(call, session_id, 1, "k")
        assert (answer.status, answer.body["code"], "start_over" in answer.body) == (404, "session_not_found", False)
        assert answer.body["detail"].endswith("no other is made under it: take another.")

    def test_a_fork_whose_parent_ends_meanwhile_does_not_blame_its_key(
        self, call: Call, backstage: Backstage, monkeypatch: pytest.MonkeyPatch, session_id: str
    ) -> None:
        forks = backstage.store.fork

        def late(*given: Any, **named: Any) -> None:
            delete(call, session_id)
            forks(*given, **named)

        monkeypatch.setattr(backstage.store, "fork", late)
        assert fork(call, session_id, 1, "k").raw == get(call, session_id).raw

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


def rotate(call: Call, session_id: str, old: str, new: str, key: str = "r", **more: Any) -> Answered:
    body, path = {"secret_sha256": hash_of(new)}, {"id": session_id}
    named = {"Idempotency-Key": key} if key else {}
    return call("session", "POST", "/sessions/{id}/rotate", body, parameters=path, headers=named, secret=old, **more)


def claim(call: Call, session_id: str, secret: str, key: str = "c", **more: Any) -> Answered:
    body, path = {"secret": secret}, {"id": session_id}
    named = {"Idempotency-Key": key} if key else {}
    return call("session", "POST", "/sessions/{id}/claim", body, parameters=path, headers=named, **more)


@pytest.fixture
def secret() -> str:
    return new_secret()


@pytest.fixture
def anonymous_id(call: Call, secret: str) -> str:
    session_id = str(begin(call, secret, {"title": "T", "metadata": {"visit": "7"}}).body["session_id"])
    take(call, session_id, "hello", "k", secret=secret)
    return session_id


class TestRotating:
    @pytest.mark.asvs("7.2.4")
    def test_the_new_secret_opens_it_under_a_new_id_and_the_old_ones_open_nothing(
        self, call: Call, secret: str, anonymous_id: str
    ) -> None:
        new = new_secret()
        moved = rotate(call, anonymous_id, secret, new)
        new_id = str(moved.body["session_id"])
        assert (moved.status, moved.body["title"], moved.body["turns"]) == (200, "T", 1)
        assert moved.body["metadata"] == {"visit": "7"}
        assert moved.headers["Location"] == f"/v1/sessions/{new_id}"
        assert new_id != anonymous_id
        assert get(call, new_id, secret=new).status == 200
        dead = [get(call, anonymous_id, secret=secret), get(call, anonymous_id, secret=new)]
        dead += [get(call, new_id, secret=secret), take(call, anonymous_id, "more", secret=secret)]
        assert {answer.status for answer in dead} == {404}
        assert take(call, new_id, "hello", "k", secret=new).headers["Idempotent-Replayed"] == "true"

    def test_no_answer_has_a_secret(self, call: Call, secret: str, anonymous_id: str) -> None:
        new = new_secret()
        answer = rotate(call, anonymous_id, secret, new)
        assert not [each for each in (secret, new, hash_of(secret), hash_of(new)) if each in answer.raw]

    def test_a_repeat_gets_the_new_id_again(self, call: Call, secret: str, anonymous_id: str) -> None:
        new = new_secret()
        first = rotate(call, anonymous_id, secret, new)
        take(call, str(first.body["session_id"]), "on", secret=new)
        again = rotate(call, anonymous_id, secret, new)
        assert (again.status, again.body["session_id"]) == (200, first.body["session_id"])

    def test_a_repeat_with_another_key_or_for_another_secret_finds_nothing(
        self, call: Call, secret: str, anonymous_id: str
    ) -> None:
        new = new_secret()
        rotate(call, anonymous_id, secret, new)
        never = get(call, "ses_" + "a" * 22, secret=secret)
        for answer in (
            rotate(call, anonymous_id, secret, new, "another"),
            rotate(call, anonymous_id, secret, new_secret()),
            rotate(call, anonymous_id, new_secret(), new),
        ):
            assert (answer.status, answer.raw) == (404, never.raw)

    def test_the_new_secret_must_be_new(self, call: Call, secret: str, anonymous_id: str) -> None:
        answer = rotate(call, anonymous_id, secret, secret)
        assert (answer.status, answer.body["code"]) == (422, "secret_not_new")

    def test_a_user_s_session_has_no_secret(self, call: Call, session_id: str) -> None:
        path: Any = {"parameters": {"id": session_id}, "headers": {"Idempotency-Key": "r"}}
        answer = call("session", "POST", "/sessions/{id}/rotate", {"secret_sha256": "a" * 64}, **path)
        assert (answer.status, answer.body["code"]) == (403, "forbidden")
        assert get(call, session_id).status == 200

    def test_a_key_is_needed(self, call: Call, secret: str, anonymous_id: str) -> None:
        assert rotate(call, anonymous_id, secret, new_secret(), "").body["code"] == "idempotency_key_missing"

    def test_a_session_does_not_move_while_its_turn_runs(
        self, call: Call, backstage: Backstage, secret: str, anonymous_id: str
    ) -> None:
        seen: list[Answered] = []

        def meanwhile() -> None:
            backstage.model.during = None
            seen.append(rotate(call, anonymous_id, secret, new_secret()))

        backstage.model.during = meanwhile
        assert take(call, anonymous_id, "slow", secret=secret).status == 200
        assert (seen[0].status, seen[0].body["code"]) == (409, "turn_in_progress")


class TestClaiming:
    @pytest.mark.asvs("7.2.4")
    def test_it_is_the_caller_s_and_nobody_else_s_from_then_on(
        self, call: Call, secret: str, anonymous_id: str
    ) -> None:
        claimed = claim(call, anonymous_id, secret)
        new_id = str(claimed.body["session_id"])
        assert (claimed.status, claimed.body["title"], claimed.body["turns"]) == (200, "T", 1)
        assert claimed.body["metadata"] == {"visit": "7"}
        assert secret not in claimed.raw
        assert take(call, new_id, "more").body["turn"] == 2
        items = call("session", "GET", "/sessions").body["items"]
        assert [item["session_id"] for item in items] == [new_id]
        dead = [get(call, anonymous_id, secret=secret), get(call, new_id, secret=secret), get(call, anonymous_id)]
        dead.append(get(call, new_id, owner=EVE))
        assert {answer.status for answer in dead} == {404}

    def test_a_repeat_is_answered_to_its_claimer_alone(self, call: Call, secret: str, anonymous_id: str) -> None:
        first = claim(call, anonymous_id, secret)
        assert claim(call, anonymous_id, secret).body["session_id"] == first.body["session_id"]
        never = get(call, "ses_" + "a" * 22)
        foreign = claim(call, anonymous_id, secret, owner=EVE)
        assert (foreign.status, foreign.raw) == (404, never.raw)
        assert claim(call, anonymous_id, secret, "another-key").raw == never.raw

    def test_a_wrong_secret_claims_nothing(self, call: Call, secret: str, anonymous_id: str) -> None:
        wrong, never = claim(call, anonymous_id, new_secret()), claim(call, "ses_" + "a" * 22, new_secret())
        assert (wrong.status, wrong.raw) == (404, never.raw)
        assert get(call, anonymous_id, secret=secret).status == 200

    def test_nobody_claims_another_user_s_session(self, call: Call, secret: str, session_id: str) -> None:
        assert claim(call, session_id, secret, owner=EVE).status == 404
        assert get(call, session_id).status == 200

    def test_one_s_own_session_need_not_be_claimed(self, call: Call, secret: str, session_id: str) -> None:
        answer = claim(call, session_id, secret)
        assert (answer.status, answer.body["code"]) == (409, "already_owned")

    def test_an_anonymous_caller_claims_nothing(self, call: Call, secret: str, anonymous_id: str) -> None:
        path: Any = {"parameters": {"id": anonymous_id}, "headers": {"Idempotency-Key": "c"}}
        answer = call("session", "POST", "/sessions/{id}/claim", {"secret": secret}, secret=secret, **path)
        assert (answer.status, answer.body["code"]) == (403, "forbidden")

    @pytest.mark.parametrize("text", ["", "a" * 42, "a" * 44, "a" * 43 + "\n", "a" * 42 + "="])
    def test_what_is_no_secret_is_refused_without_an_echo(self, call: Call, anonymous_id: str, text: str) -> None:
        answer = claim(call, anonymous_id, text)
        assert (answer.status, answer.body["code"]) == (422, "secret_range")
        assert answer.body["detail"] == "The secret is 43 characters: A to Z, a to z, 0 to 9, - and _."
        assert "a" * 42 not in answer.raw
