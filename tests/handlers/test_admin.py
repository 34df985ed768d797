"""Administrators see that sessions are there and end them; what was said takes a role and a reason more."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.fakes import OWNER, SERVER_KEY
from tests.handlers.conftest import Answered, Backstage, Call, Context, WithUnnamed, app, event
from tests.handlers.test_anonymous import begin, hash_of, new_secret
from tests.handlers.test_session import EVE, create, delete, get, take
from turnlog import runtime
from turnlog.domain.owners import anonymous_owner, owner_hash
from turnlog.domain.server_key import ServerKey
from turnlog.errors import ItemVersionUnknown, StoreUnavailable, TurnlogError, TurnsMissing
from turnlog.usecases.audit import session_hash

ROOT = "https://issuer.example/|root"
LIST = ("GET", "/admin/users/{owner}/sessions")
TERMINATE_ALL = ("POST", "/admin/users/{owner}/terminate")
TERMINATE = ("POST", "/admin/sessions/{ref}/terminate")
CONTENT = ("POST", "/admin/sessions/{ref}/content")
ACTIONS = {
    LIST: "admin list",
    TERMINATE_ALL: "admin terminate all",
    TERMINATE: "admin terminate",
    CONTENT: "admin content",
}
EMPTY = {"items": [], "damaged": [], "unavailable": [], "unnamed": 0, "next": None}
REASON = {"reason": "Ticket 4711: the user asks for help."}


def named(owner: str) -> str:
    return base64.urlsafe_b64encode(owner.encode()).rstrip(b"=").decode()


def ask(call: Call, route: tuple[str, str], name: str, **more: Any) -> Answered:
    """Calls the route as an administrator who may see content, unless `more` says otherwise."""
    parameters = {"owner" if "{owner}" in route[1] else "ref": name}
    more = {"owner": ROOT, "roles": "admin admin:content", "parameters": parameters} | more
    return call("admin", *route, more.pop("body", REASON if route == CONTENT else None), **more)


def refs(call: Call, owner: str = OWNER) -> list[str]:
    return [item["ref"] for item in ask(call, LIST, named(owner)).body["items"]]


@pytest.fixture
def session_id(call: Call) -> str:
    made = create(
        call, {"title": "canary-title", "system": "canary-system", "metadata": {"canary-name": "canary-value"}}
    ).body["session_id"]
    take(call, made, "canary-message")
    return str(made)


@pytest.fixture
def name(call: Call, session_id: str) -> Callable[[tuple[str, str]], str]:
    """Returns the text by which a route names the session or its owner."""
    return lambda route: named(OWNER) if "{owner}" in route[1] else refs(call)[0]


def test_the_example_event_lists_nobody_s_sessions(backstage: Backstage) -> None:
    answer = app("admin").handler(event("admin"), Context())
    assert (answer["statusCode"], json.loads(answer["body"])) == (200, EMPTY)


class TestWhoMay:
    @pytest.mark.asvs("8.2.1")
    @pytest.mark.asvs("8.3.1")
    @pytest.mark.parametrize("route", ACTIONS, ids=" ".join)
    @pytest.mark.parametrize(
        ("who", "status"),
        [
            ({"owner": OWNER, "roles": ""}, 403),
            ({"owner": EVE, "roles": "user"}, 403),
            ({"roles": "admin:content"}, 403),
            ({"roles": "Admin administrator"}, 403),
            ({"secret": "s" * 43}, 403),
            ({"owner": None}, 401),
            ({"expires": "1"}, 401),
        ],
        ids=str,
    )
    def test_nobody_but_an_administrator_whatever_is_named(
        self, call: Call, backstage: Backstage, name: Any, route: tuple[str, str], who: dict[str, Any], status: int
    ) -> None:
        right, seen = name(route), []
        for asked in (right, "nonsense", named(EVE)):
            backstage.audit.events.clear()
            answer = ask(call, route, asked, **who)
            assert answer.status == status
            seen.append(answer.raw)
            assert backstage.audit.actions == ["denied"]
        assert len(set(seen)) == 1
        assert len(refs(call)) == 1

    @pytest.mark.asvs("8.2.3")
    def test_an_administrator_without_the_role_for_it_sees_no_content(
        self, call: Call, backstage: Backstage, name: Any
    ) -> None:
        ref = name(CONTENT)
        backstage.audit.events.clear()
        answer = ask(call, CONTENT, ref, roles="admin")
        assert (answer.status, answer.body["code"]) == (403, "forbidden")
        assert "canary" not in answer.raw
        assert backstage.audit.actions == ["denied"]

    def test_an_administrator_has_no_more_right_on_the_routes_of_users(self, call: Call, session_id: str) -> None:
        assert get(call, session_id, owner=ROOT, roles="admin admin:content").status == 404


@pytest.mark.asvs("16.3.3")
@pytest.mark.parametrize("route", ACTIONS, ids=" ".join)
class TestAudit:
    def test_each_act_is_noted_before_the_store_is_touched_with_who_does_it_to_whom(
        self, call: Call, backstage: Backstage, name: Any, session_id: str, route: tuple[str, str]
    ) -> None:
        asked, store = name(route), backstage.store
        backstage.audit.events.clear()
        touched: list[list[str]] = []

        class Watched:
            def __getattr__(self, method: str) -> Any:
                touched.append(list(backstage.audit.actions))
                return getattr(store, method)

        backstage.store = Watched()  # type: ignore[assignment] # a store all the same
        assert ask(call, route, asked).status in (200, 204)
        assert touched
        assert all(actions == [ACTIONS[route]] for actions in touched)
        (noted,) = backstage.audit.events
        assert noted == {
            "action": ACTIONS[route],
            "request_id": "req-1",
            "route": " ".join(route),
            "owner": owner_hash(ROOT),
            "subject": owner_hash(OWNER),
            **({"session": session_hash(SERVER_KEY, session_id)} if "{ref}" in route[1] else {}),
            **(REASON if route == CONTENT else {}),
        }

    @pytest.mark.asvs("16.5.3")
    def test_what_cannot_be_noted_is_not_done(
        self, call: Call, backstage: Backstage, name: Any, route: tuple[str, str]
    ) -> None:
        asked = name(route)
        backstage.audit.refusing = True
        answer = ask(call, route, asked)
        assert (answer.status, answer.body["code"]) == (503, "dependency_unavailable")
        assert "canary" not in answer.raw
        backstage.audit.refusing = False
        assert len(refs(call)) == 1

    def test_what_is_refused_by_its_form_costs_no_call(
        self, call: Call, backstage: Backstage, name: Any, route: tuple[str, str]
    ) -> None:
        asked, store = name(route), backstage.store
        backstage.audit.events.clear()
        backstage.store = None  # type: ignore[assignment] # any look at it fails
        assert ask(call, route, asked, query={"x": ["1"]}).status == 400
        for nonsense in ("x", "!", "", "A" * 200, "\u0661" * 8, named(OWNER) + "=="):
            if "{owner}" in route[1] and nonsense == "A" * 200:
                continue  # NULs, which are a name that nobody has
            answer = ask(call, route, nonsense)
            assert (answer.status, answer.body["code"]) in ((400, "owner_invalid"), (404, "session_not_found"))
        # What an administrator takes for a ref is noted whatever it looks like: there are few of them, and they know.
        assert backstage.audit.actions == (["denied"] * 6 if "{ref}" in route[1] else [])
        backstage.store = store


class TestListing:
    def test_says_of_each_session_that_it_is_there_and_nothing_that_was_said_or_named(
        self, call: Call, session_id: str
    ) -> None:
        answer = ask(call, LIST, named(OWNER))
        (item,) = answer.body["items"]
        assert set(item) == {
            *("ref", "model", "created_at", "active_at", "expires_at", "idle_expires_at"),
            *("turns", "turn_in_progress", "tokens", "cost_usd"),
        }
        assert (item["turns"], item["tokens"]) == (1, 15)
        assert not [each for each in ("canary", session_id, "ada") if each in answer.raw]

    @pytest.mark.asvs("8.4.1")
    def test_names_sessions_of_that_user_alone_and_none_that_has_ended(self, call: Call, session_id: str) -> None:
        create(call, owner=EVE)
        gone = create(call).body["session_id"]
        delete(call, gone)
        assert len(refs(call)) == len(refs(call, EVE)) == 1
        assert refs(call, "https://issuer.example/|nobody") == []

    @pytest.mark.parametrize(("error", "where"), [(TurnsMissing, "damaged"), (ItemVersionUnknown, "unavailable")])
    def test_names_an_unreadable_session_so_that_it_can_be_ended(
        self,
        call: Call,
        backstage: Backstage,
        session_id: str,
        monkeypatch: pytest.MonkeyPatch,
        error: type[TurnlogError],
        where: str,
    ) -> None:
        def fails(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(backstage.store, "read", fails)
        answer = ask(call, LIST, named(OWNER))
        ((ref,),) = [answer.body[where]]
        assert answer.body == EMPTY | {where: [ref]}
        assert session_id not in answer.raw
        assert ask(call, TERMINATE, ref).status == 204

    def test_counts_a_session_whose_very_id_cannot_be_read_and_it_ends_with_all_others(
        self, call: Call, backstage: Backstage, session_id: str
    ) -> None:
        backstage.store = WithUnnamed(backstage.store)  # type: ignore[assignment] # a store all the same
        body = ask(call, LIST, named(OWNER)).body
        assert (len(body["items"]), body["damaged"], body["unnamed"]) == (1, [], 1)
        assert ask(call, TERMINATE_ALL, named(OWNER)).body == {"ended": 2, "left": 0}
        assert ask(call, LIST, named(OWNER)).body == EMPTY

    def test_knows_an_anonymous_owner_too(self, call: Call) -> None:
        secret = new_secret()
        begin(call, secret)
        assert len(refs(call, anonymous_owner(hash_of(secret)))) == 1

    def test_its_cursor_says_nothing_and_is_good_for_one_list_and_administrator(
        self, call: Call, backstage: Backstage
    ) -> None:
        ids = []
        for _ in range(5):
            ids.append(create(call).body["session_id"])
            backstage.clock.tick(seconds=1)
        create(call, owner=EVE)
        query, seen, cursors = {"limit": ["2"]}, list[str](), []
        for _ in range(3):
            page = ask(call, LIST, named(OWNER), query=query).body
            seen += [item["created_at"] for item in page["items"]]
            cursors.append(page["next"])
            query["cursor"] = [page["next"]]
        assert (len(seen), seen) == (5, sorted(seen, reverse=True))
        assert cursors[2] is None
        raw = base64.urlsafe_b64decode(cursors[0] + "===")
        assert not [each for each in ids if each.encode() in raw or each in cursors[0]]
        used = {"cursor": [cursors[0]]}
        for answer in (
            ask(call, LIST, named(EVE), query=used),
            ask(call, LIST, named(OWNER), query=used, owner=EVE),
            ask(call, LIST, named(OWNER), query={"cursor": ["forged"]}),
            ask(call, LIST, named(OWNER), query={"cursor": [refs(call)[0]]}),
            call("session", "GET", "/sessions", query=used),
        ):
            assert (answer.status, answer.body["code"]) == (400, "cursor_invalid")


class TestRefs:
    def test_say_nothing_and_are_another_each_time(self, call: Call, session_id: str) -> None:
        first, second = refs(call)[0], refs(call)[0]
        assert first != second
        raw = base64.urlsafe_b64decode(first + "===")
        assert not [each for each in (session_id.encode(), b"ada", b"issuer") if each in raw]

    @pytest.mark.asvs("8.2.2")
    def test_that_are_changed_or_made_for_something_else_name_no_session(
        self, call: Call, backstage: Backstage, session_id: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ref = refs(call)[0]
        other = runtime.server_key().encrypt("continuation", (session_id + OWNER).encode())
        bad = [ref[:-2] + ("A" if ref[-2] != "A" else "B") + ref[-1], ref[:-4], session_id]
        bad.append(base64.urlsafe_b64encode(other).rstrip(b"=").decode())
        bad.append(base64.urlsafe_b64encode((session_id + OWNER).encode()).rstrip(b"=").decode())
        for each in bad:
            backstage.audit.events.clear()
            assert ask(call, TERMINATE, each).body["code"] == "session_not_found"
            assert backstage.audit.events == [
                {
                    "action": "denied",
                    "request_id": "req-1",
                    "route": " ".join(TERMINATE),
                    "owner": owner_hash(ROOT),
                    "reason": "session_not_found",
                }
            ]
        monkeypatch.setattr(runtime, "server_key", lambda: ServerKey("another server key"))
        assert ask(call, TERMINATE, ref).status == 404
        monkeypatch.undo()

    def test_outlive_a_session_without_telling_more_of_it(
        self, call: Call, backstage: Backstage, session_id: str
    ) -> None:
        ref = refs(call)[0]
        delete(call, session_id)
        never = ask(call, TERMINATE, "never")
        assert "start_over" not in never.body
        assert never.body["detail"] == "There is no such session, or it is gone."
        for route in (TERMINATE, CONTENT):
            backstage.audit.events.clear()
            answer = ask(call, route, ref)
            assert (answer.status, answer.raw) == (404, never.raw)
            assert backstage.audit.actions == [ACTIONS[route], "denied"]


class TestTerminating:
    @pytest.mark.asvs("7.4.5")
    def test_ends_the_session_for_its_owner_too_and_says_so_when_its_content_is_gone(
        self, call: Call, session_id: str
    ) -> None:
        other = create(call).body["session_id"]
        (ref,) = (item["ref"] for item in ask(call, LIST, named(OWNER)).body["items"] if item["turns"] == 1)
        answer = ask(call, TERMINATE, ref, roles="admin")
        assert (answer.status, answer.body) == (204, None)
        assert get(call, session_id).status == 404
        assert take(call, session_id, "again").status == 404
        assert get(call, other).status == 200
        assert ask(call, TERMINATE, ref).status == 404

    @pytest.mark.asvs("7.4.2")
    @pytest.mark.asvs("7.4.5")
    def test_of_a_user_ends_all_sessions_at_once_and_nobody_elses(self, call: Call, session_id: str) -> None:
        mine = [session_id, *(str(create(call).body["session_id"]) for _ in range(20))]
        theirs = create(call, owner=EVE).body["session_id"]
        delete(call, mine.pop())
        answer = ask(call, TERMINATE_ALL, named(OWNER), roles="admin")
        assert (answer.status, answer.body) == (200, {"ended": 20, "left": 0})
        assert {get(call, each).status for each in mine} == {404}
        assert get(call, theirs, owner=EVE).status == 200
        assert ask(call, TERMINATE_ALL, named(OWNER)).body == {"ended": 0, "left": 0}

    def test_stops_in_time_says_how_many_are_left_and_goes_on(
        self, call: Call, backstage: Backstage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for _ in range(30):
            create(call)
        end = backstage.store.delete

        def slow(owner: str, session_id: str, now_ms: int) -> bool:
            backstage.clock.tick(seconds=1)
            return end(owner, session_id, now_ms)

        monkeypatch.setattr(backstage.store, "delete", slow)
        answered = [ask(call, TERMINATE_ALL, named(OWNER)).body for _ in range(2)]
        assert 19 <= answered[0]["ended"] < 30  # of the 29 s, 10 are left for what has been begun
        assert answered[0]["ended"] + answered[0]["left"] == 30
        assert answered[1] == {"ended": answered[0]["left"], "left": 0}

    def test_goes_on_after_a_failure_of_the_store(
        self, call: Call, backstage: Backstage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for _ in range(10):
            create(call)
        end, tries = backstage.store.delete, list[str]()

        def failing(owner: str, session_id: str, now_ms: int) -> bool:
            tries.append(session_id)
            if len(tries) == 5:
                raise StoreUnavailable
            return end(owner, session_id, now_ms)

        monkeypatch.setattr(backstage.store, "delete", failing)
        assert ask(call, TERMINATE_ALL, named(OWNER)).status == 503
        assert ask(call, TERMINATE_ALL, named(OWNER)).status == 200
        assert refs(call) == []


class TestContent:
    def test_is_a_page_of_turns_as_their_owner_sees_it(self, call: Call, session_id: str, name: Any) -> None:
        for number in range(4):
            take(call, session_id, f"turn {number}")
        ref, seen, query = name(CONTENT), [], {"limit": ["2"]}
        for _ in range(3):
            page = ask(call, CONTENT, ref, query=query).body
            seen += page["items"]
            query["cursor"] = [page["next"]]
        assert seen == get(call, session_id, "/turns").body["items"]
        assert page["next"] is None

    @pytest.mark.parametrize(
        ("body", "status", "code"),
        [
            (None, 400, "body_missing"),
            ({}, 400, "field_missing"),
            ({"reason": "too short"}, 422, "reason_range"),
            ({"reason": "  short     "}, 422, "reason_range"),
            ({"reason": " " * 20}, 422, "reason_range"),
            ({"reason": "x" * 501}, 422, "reason_range"),
            ({"reason": 12345678901}, 400, "wrong_type"),
            ({"reason": None}, 400, "wrong_type"),
            ({"reason": "two lines\nof reasons"}, 400, "control_character"),
            ({"reason": "a good reason", "ref": "x"}, 400, "unknown_field"),
        ],
        ids=str,
    )
    def test_is_not_shown_without_a_reason(
        self, call: Call, backstage: Backstage, name: Any, body: object, status: int, code: str
    ) -> None:
        ref = name(CONTENT)
        backstage.audit.events.clear()
        answer = ask(call, CONTENT, ref, body=body)
        assert (answer.status, answer.body["code"]) == (status, code)
        assert backstage.audit.events == []

    def test_is_not_logged_nor_is_the_reason(self, call: Call, name: Any, logged: io.StringIO) -> None:
        ask(call, CONTENT, name(CONTENT))
        assert "POST /admin/sessions/{ref}/content" in logged.getvalue()
        assert not [each for each in ("canary", "Ticket", OWNER, ROOT) if each in logged.getvalue()]
