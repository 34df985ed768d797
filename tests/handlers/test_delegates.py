"""A back end acts for its own people: what each of them has is theirs alone, and no other back end can name them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import pytest

from tests.fakes import OWNER, SERVER_KEY, NoDocuments
from tests.handlers import test_admin
from tests.handlers.conftest import Answered, Backstage, Call
from tests.handlers.test_account import exported
from tests.handlers.test_anonymous import begin, limited_strangers, new_secret
from tests.handlers.test_continuations import ask, go_on
from tests.handlers.test_cursors import LISTS
from tests.handlers.test_limits import limited, query
from tests.handlers.test_session import create, delete, get, take
from tests.handlers.test_transfers import claim, fork
from turnlog import runtime
from turnlog.domain.documents import Document
from turnlog.domain.owners import anonymous_owner_of, delegated_owner, owner_hash
from turnlog.entrypoints.http.openapi.operations import OPERATIONS
from turnlog.usecases.audit import session_hash

BACK_END, ANOTHER = "https://issuer.example/|back-end", "https://issuer.example/|another-back-end"
ADA, EVE = delegated_owner(BACK_END, "ada"), delegated_owner(BACK_END, "eve")
ANOTHERS_ADA = delegated_owner(ANOTHER, "ada")

Who = Mapping[str, Any]
AS_ADA: Who = {"owner": BACK_END, "user": "ada"}
AS_EVE: Who = {"owner": BACK_END, "user": "eve"}
AS_ITSELF: Who = {"owner": BACK_END, "roles": "delegate"}
OTHERS: dict[str, Who] = {
    "another of its people": AS_EVE,
    "the back end itself": AS_ITSELF,
    "a user of the issuer of that name": {"owner": OWNER},
    "the person of that name of another back end": {"owner": ANOTHER, "user": "ada"},
    "a person of almost that name": {"owner": BACK_END, "user": "Ada"},
    "a user whose subject is the name of the owner": {"owner": f"https://issuer.example/|{ADA}"},
}
FOR_EACH_OTHER = pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)


@pytest.fixture
def session_id(call: Call) -> str:
    made = str(create(call, {"title": "T"}, **AS_ADA).body["session_id"])
    assert take(call, made, "hello", **AS_ADA).status == 200
    return made


class TestHistories:
    def test_a_session_goes_on_for_its_person(self, call: Call, backstage: Backstage, session_id: str) -> None:
        assert take(call, session_id, "and then?", **AS_ADA).body["turn"] == 2
        assert get(call, session_id, "/turns", **AS_ADA).body["items"][0]["turn"] == 1
        assert backstage.store.session_ids(ADA) == [session_id]

    @pytest.mark.asvs("8.2.2")
    @pytest.mark.asvs("8.4.1")
    @FOR_EACH_OTHER
    def test_nobody_else_finds_it(self, call: Call, backstage: Backstage, session_id: str, other: Who) -> None:
        never = get(call, "ses_" + "a" * 22, **other)
        tried = [
            get(call, session_id, **other),
            get(call, session_id, "/turns", **other),
            get(call, session_id, "/turns/{n}", also={"n": "1"}, **other),
            get(call, session_id, "/export", **other),
            take(call, session_id, "more", **other),
            fork(call, session_id, **other),
            delete(call, session_id, **other),
        ]
        assert {(answer.status, answer.raw) for answer in tried} == {(404, never.raw)}
        assert len(backstage.model.requests) == 1
        assert get(call, session_id, **AS_ADA).body["turns"] == 1

    @FOR_EACH_OTHER
    def test_lists_and_exports_show_it_to_nobody_else(self, call: Call, session_id: str, other: Who) -> None:
        assert call("session", "GET", "/sessions", **other).body["items"] == []
        assert exported(call, **other).body["sessions"] == []
        (mine,) = call("session", "GET", "/sessions", **AS_ADA).body["items"]
        (all_mine,) = exported(call, **AS_ADA).body["sessions"]
        assert mine["session_id"] == all_mine["session"]["session_id"] == session_id

    @FOR_EACH_OTHER
    def test_an_erasure_takes_what_is_of_that_person_alone(
        self, call: Call, backstage: Backstage, session_id: str, other: Who
    ) -> None:
        theirs = str(create(call, **other).body["session_id"])
        assert call("account", "DELETE", "/me", **other).body["sessions"] == 1
        assert get(call, theirs, **other).status == 404
        assert get(call, session_id, **AS_ADA).status == 200
        assert call("account", "DELETE", "/me", **AS_ADA).body["sessions"] == 1
        assert backstage.store.session_ids(ADA) == []

    def test_an_idempotency_key_is_a_person_s_own(self, call: Call) -> None:
        key = {"headers": {"Idempotency-Key": "k"}}
        made = [create(call, **who, **key).body["session_id"] for who in (AS_ADA, *OTHERS.values(), AS_ADA)]
        assert made[0] == made[-1]
        assert len(set(made)) == len(OTHERS) + 1

    def test_a_token_without_the_header_has_the_owner_that_it_always_had(
        self, call: Call, backstage: Backstage
    ) -> None:
        made = create(call, **AS_ITSELF).body["session_id"]
        assert backstage.store.session_ids(BACK_END) == [made]

    def test_an_anonymous_session_can_be_claimed_for_a_person(self, call: Call, backstage: Backstage) -> None:
        secret = new_secret()
        anonymous = str(begin(call, secret).body["session_id"])
        claimed = claim(call, anonymous, secret, **AS_ADA)
        assert claimed.status == 200
        assert backstage.store.session_ids(ADA) == [claimed.body["session_id"]]
        assert claim(call, anonymous, secret, **AS_ADA).body["session_id"] == claimed.body["session_id"]
        for other in OTHERS.values():
            assert claim(call, anonymous, secret, **other).status == 404


class KeptDocuments(NoDocuments):
    """A bucket that notes whose documents it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def list_documents(self, owner: str) -> list[Document]:
        self.asked.append(owner)
        return []

    def erase(self, owner: str) -> int:
        self.asked.append(owner)
        return 0


def test_documents_lie_under_the_hash_of_the_person(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = KeptDocuments()
    monkeypatch.setattr(runtime, "document_store", lambda: documents)
    exported(call, **AS_ITSELF)
    exported(call, **AS_ADA)
    call("account", "DELETE", "/me", **AS_EVE)
    assert documents.asked == [owner_hash(BACK_END), owner_hash(ADA), owner_hash(EVE)]


class TestTokensThatTheServiceGives:
    @FOR_EACH_OTHER
    def test_a_continuation_is_good_for_that_person_alone(self, call: Call, other: Who) -> None:
        continuation = str(ask(call, **AS_ADA).body["continuation"])
        refused = go_on(call, continuation, **other)
        assert (refused.status, refused.body["code"]) == (422, "continuation_invalid")
        assert go_on(call, continuation, **AS_ADA).status == 201

    @pytest.mark.parametrize("route", [route for route in LISTS if OPERATIONS[route].takes_user], ids=" ".join)
    def test_a_cursor_is_good_for_that_person_alone(
        self, call: Call, session_id: str, monkeypatch: pytest.MonkeyPatch, route: tuple[str, str]
    ) -> None:
        monkeypatch.setattr("turnlog.usecases.turn_pages.MOST_BYTES", 1)
        take(call, session_id, "again", **AS_ADA)
        create(call, **AS_ADA)
        function = "account" if route[1].startswith("/me") else "session"

        def page(query: dict[str, list[str]] | None, who: Who) -> Answered:
            return call(function, *route, parameters={"id": session_id}, query=query, **who)

        cursor = page({"limit": ["1"]} if "limit" in OPERATIONS[route].asks else None, AS_ADA).body["next"]
        assert page({"cursor": [cursor]}, AS_ADA).status == 200
        for other in OTHERS.values():
            answer = page({"cursor": [cursor]}, other)
            assert (answer.status, answer.body["code"]) == (400, "cursor_invalid")


class TestLimits:
    @pytest.mark.asvs("2.3.2")
    def test_a_person_s_quota_is_neither_another_s_nor_the_back_end_s(
        self, call: Call, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        limited(monkeypatch, turns_a_minute=1)
        for who in (AS_ADA, *OTHERS.values()):
            assert [query(call, **who).status, query(call, **who).status] == [200, 429]

    def test_sessions_of_a_day_are_counted_for_each_person(self, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
        limited(monkeypatch, sessions_a_day=1)
        for who in (AS_ADA, *OTHERS.values()):
            assert [create(call, **who).status, create(call, **who).status] == [201, 429]

    def test_a_person_is_no_anonymous_caller(self, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
        limited_strangers(monkeypatch, turns_a_minute=1, turns=1, creations_an_hour=1)
        made = [str(create(call, **AS_ADA).body["session_id"]) for _ in range(2)]
        assert [take(call, made[0], str(number), **AS_ADA).status for number in range(3)] == [200] * 3


class TestTheAuditTrail:
    @pytest.mark.asvs("16.3.2")
    def test_an_act_is_the_person_s_and_shows_who_acted_for_them(self, call: Call, backstage: Backstage) -> None:
        made = str(create(call, **AS_ADA).body["session_id"])
        (event,) = backstage.audit.events
        assert (event["owner"], event["delegate"]) == (owner_hash(ADA), owner_hash(BACK_END))
        assert event["session"] == session_hash(SERVER_KEY, made)

    def test_a_caller_that_acts_for_itself_has_no_delegate(self, call: Call, backstage: Backstage) -> None:
        create(call, **AS_ITSELF)
        (event,) = backstage.audit.events
        assert event["owner"] == owner_hash(BACK_END)
        assert "delegate" not in event

    def test_a_refusal_of_a_person_s_session_shows_both(
        self, call: Call, backstage: Backstage, session_id: str
    ) -> None:
        get(call, session_id, **AS_EVE)
        event = backstage.audit.events[-1]
        assert (event["action"], event["reason"]) == ("denied", "session_not_found")
        assert (event["owner"], event["delegate"]) == (owner_hash(EVE), owner_hash(BACK_END))

    @pytest.mark.parametrize(
        ("who", "owner"),
        [({"roles": "user"}, OWNER), ({"secret": "s" * 43}, anonymous_owner_of("s" * 43))],
        ids=["no role", "a secret"],
    )
    def test_whoever_may_name_nobody_is_noted_and_not_who_is_named(
        self, call: Call, backstage: Backstage, who: Who, owner: str
    ) -> None:
        answer = get(call, "ses_" + "a" * 22, user="ada", **who)
        (event,) = backstage.audit.events
        assert (answer.status, event["action"], event["reason"]) == (403, "denied", "forbidden")
        assert event["owner"] == owner_hash(owner)
        assert "delegate" not in event


class TestAdministrators:
    def test_a_person_s_sessions_are_listed_and_ended_by_the_name_of_the_owner(
        self, call: Call, backstage: Backstage, session_id: str
    ) -> None:
        listed = test_admin.ask(call, test_admin.LIST, test_admin.named(ADA))
        assert len(listed.body["items"]) == 1
        for owner in (OWNER, BACK_END, EVE, ANOTHERS_ADA):
            assert test_admin.refs(call, owner) == []
        assert test_admin.ask(call, test_admin.TERMINATE_ALL, test_admin.named(ADA)).body == {"ended": 1, "left": 0}
        assert get(call, session_id, **AS_ADA).status == 404
        noted = [event for event in backstage.audit.events if event["action"] == "admin terminate all"]
        assert [event["subject"] for event in noted] == [owner_hash(ADA)]

    @pytest.mark.asvs("8.2.1")
    @pytest.mark.parametrize("route", test_admin.ACTIONS, ids=" ".join)
    @pytest.mark.parametrize("user", ["ada", "", "two words", "a" * 129])
    def test_a_person_has_no_role_whatever_roles_the_back_end_has(
        self, call: Call, backstage: Backstage, session_id: str, route: tuple[str, str], user: str
    ) -> None:
        (ref,) = test_admin.refs(call, ADA)
        name = test_admin.named(ADA) if "{owner}" in route[1] else ref
        roles = "admin admin:content delegate"
        answer = test_admin.ask(call, route, name, roles=roles, user=user)
        assert (answer.status, answer.body["code"]) == (403, "forbidden")
        assert backstage.audit.actions[-1] == "denied"
        assert get(call, session_id, **AS_ADA).status == 200
        assert test_admin.ask(call, route, name, roles=roles).status < 300


def test_a_stranger_who_names_a_user_begins_no_session(call: Call, backstage: Backstage) -> None:
    for user in ("ada", "", "two words"):
        answer = begin(call, new_secret(), user=user)
        assert (answer.status, answer.body["code"]) == (403, "forbidden")
    assert backstage.audit.actions == ["denied"] * 3


@pytest.mark.parametrize("user", ["!", "~", "a" * 128, "ada@example.com", "|", "a|b", "user:ada", "%20", "#", '"ada"'])
def test_each_visible_character_may_stand_in_a_name(call: Call, backstage: Backstage, user: str) -> None:
    made = create(call, user=user).body["session_id"]
    assert backstage.store.session_ids(delegated_owner(OWNER, user)) == [made]


def test_who_is_named_is_in_no_log(call: Call, logged: io.StringIO) -> None:
    create(call, user="canary-ada")
    create(call, user="canary ada")
    assert "canary" not in logged.getvalue()
