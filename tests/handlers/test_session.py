"""The session function: created, continued, read and ended by its owner, and by nobody else."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from local.claude_stand_in import StandIn
from tests.contract.session_store import random_text
from tests.fakes import OWNER, expected_text
from tests.handlers.conftest import REFUSED_FIELDS, Answered, Backstage, Call, Context, Event, WithUnnamed, app, event
from turnlog import runtime
from turnlog.adapters.claude import Claude
from turnlog.config import SessionLifeSettings
from turnlog.domain.answers import MAX_ANSWER_BYTES
from turnlog.domain.limits import OwnerLimits
from turnlog.domain.messages import Message, Reply, Usage, to_json
from turnlog.domain.sessions import new_session_id
from turnlog.domain.turns import MAX_TURN_BYTES, Lease
from turnlog.entrypoints.http import turns
from turnlog.entrypoints.http.api import COLD_START_S, Api
from turnlog.errors import ItemVersionUnknown, ModelTimeout, SecretUnavailable, SessionCorrupt, StoreUnavailable
from turnlog.usecases.held_lease import COMMIT_RESERVE_S
from turnlog.usecases.turn_request import TurnPolicy

EVE = "https://issuer.example/|eve"


def create(call: Call, body: dict[str, Any] | None = None, **more: Any) -> Answered:
    return call("session", "POST", "/sessions", body or {}, **more)


def take(call: Call, session_id: str, message: object, key: str | None = None, **more: Any) -> Answered:
    named = str(message).replace(" ", "-") if key is None else key
    headers = {"Idempotency-Key": named} if named else {}
    return call(
        "session",
        "POST",
        "/sessions/{id}/turns",
        {"message": message},
        parameters={"id": session_id},
        headers=headers,
        **more,
    )


def get(call: Call, session_id: str, rest: str = "", **more: Any) -> Answered:
    parameters = {"id": session_id, **more.pop("also", {})}
    return call("session", "GET", f"/sessions/{{id}}{rest}", parameters=parameters, **more)


def delete(call: Call, session_id: str, **more: Any) -> Answered:
    return call("session", "DELETE", "/sessions/{id}", parameters={"id": session_id}, **more)


@pytest.fixture
def session_id(call: Call) -> str:
    return str(create(call).body["session_id"])


def test_the_example_event_creates_a_session(backstage: Backstage) -> None:
    answer = app("session").handler(event("session"), Context())
    assert answer["statusCode"] == 201
    assert json.loads(answer["body"])["title"] == "Harbour notes"


def test_a_new_session_says_what_it_is_and_when_it_ends(call: Call) -> None:
    answer = create(call, {"system": "Be kind.", "title": "Notes", "idle_timeout_s": 600, "lifetime_s": 3600})
    session_id = answer.body.pop("session_id")
    assert answer.status == 201
    assert answer.headers["Location"] == f"/v1/sessions/{session_id}"
    assert answer.body == {
        "title": "Notes",
        "metadata": {},
        "model": "claude-sonnet-5-5",
        "system": "Be kind.",
        "max_tokens": 4096,
        "cache": "5m",
        "created_at": "2026-09-21T14:13:20.000Z",
        "active_at": "2026-09-21T14:13:20.000Z",
        "expires_at": "2026-09-21T15:13:20.000Z",
        "idle_expires_at": "2026-09-21T14:23:20.000Z",
        "turns": 0,
        "turn_in_progress": False,
        "tokens": 0,
        "cost_usd": "0",
    }


def test_a_session_may_live_a_year_where_the_deployment_says_so(
    call: Call, backstage: Backstage, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = SessionLifeSettings.read({"SESSION_IDLE_MINUTES": "525600", "SESSION_LIFETIME_HOURS": "8760"}).life
    monkeypatch.setattr(runtime, "session_life", lambda: life)
    year_s = 365 * 86_400
    for field in ("idle_timeout_s", "lifetime_s"):
        assert create(call, {field: year_s + 1}).body["errors"][0]["maximum"] == year_s
    made = create(call, {"idle_timeout_s": year_s, "lifetime_s": year_s}).body
    assert made["idle_expires_at"] == made["expires_at"] == "2027-09-21T14:13:20.000Z"
    session_id = made["session_id"]
    first = take(call, session_id, "hello")
    backstage.clock.tick(seconds=year_s - 60)
    assert take(call, session_id, "hello").raw == first.raw
    later = get(call, session_id).body
    assert (later["turns"], later["warning"]["code"]) == (1, "expires_soon")
    assert take(call, session_id, "again").body["turn"] == 2
    child = call("session", "POST", "/sessions/{id}/fork", {"turn": 2}, parameters={"id": session_id}).body
    backstage.clock.tick(seconds=60)
    assert get(call, session_id).status == 404
    assert get(call, child["session_id"]).body["expires_at"] == "2028-09-20T14:12:20.000Z"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"idle_timeout_s": 119}, 422, "idle_timeout_s_range"),
        ({"idle_timeout_s": 1801}, 422, "idle_timeout_s_range"),
        ({"lifetime_s": 86_401}, 422, "lifetime_s_range"),
        ({"title": "x" * 201}, 422, "title_range"),
        ({"title": "two\nlines"}, 400, "control_character"),
        ({"title": "\u202egnp.exe"}, 400, "control_character"),
        ({"model": "other"}, 422, "model_unknown"),
        ({"owner": "eve"}, 400, "unknown_field"),
        ({"system": 1}, 400, "wrong_type"),
        ({"model": None}, 400, "wrong_type"),
        ({"idle_timeout_s": None}, 400, "wrong_type"),
    ],
    ids=str,
)
def test_a_session_beyond_the_limits_is_refused(call: Call, body: dict[str, Any], status: int, code: str) -> None:
    answer = create(call, body)
    assert (answer.status, answer.body["code"]) == (status, code)


def test_a_turn_answers_with_its_number_and_when_the_session_ends(call: Call, session_id: str) -> None:
    answer = take(call, session_id, "hello")
    assert answer.status == 200
    assert answer.body["text"] == expected_text((Message.of_text("hello"),))
    assert {name: answer.body[name] for name in ("session_id", "turn", "expires_at", "idle_expires_at")} == {
        "session_id": session_id,
        "turn": 1,
        "expires_at": "2026-09-22T14:13:20.000Z",
        "idle_expires_at": "2026-09-21T14:43:20.000Z",
    }


def test_the_model_sees_the_system_prompt_and_all_turns_before(call: Call, backstage: Backstage) -> None:
    session_id = create(call, {"system": "Be kind."}).body["session_id"]
    first = take(call, session_id, "one").body["text"]
    take(call, session_id, "two")
    request = backstage.model.requests[-1]
    assert request.settings.system == "Be kind."
    assert [(message.role, message.blocks[0]["text"]) for message in request.messages] == [
        ("user", "one"),
        ("assistant", first),
        ("user", "two"),
    ]
    assert request.cached == "5m"


def test_the_same_key_answers_with_the_same_bytes(call: Call, backstage: Backstage, session_id: str) -> None:
    first, again = take(call, session_id, "hello", "k"), take(call, session_id, "hello", "k")
    assert again.raw == first.raw
    assert (first.headers.get("Idempotent-Replayed"), again.headers["Idempotent-Replayed"]) == (None, "true")
    assert len(backstage.model.requests) == 1


def test_a_string_and_its_one_text_block_are_the_same_body(call: Call, backstage: Backstage, session_id: str) -> None:
    take(call, session_id, "hello", "k")
    assert take(call, session_id, [{"type": "text", "text": "hello"}], "k").status == 200
    assert len(backstage.model.requests) == 1


def test_a_reused_key_is_refused(call: Call, session_id: str) -> None:
    take(call, session_id, "hello", "k")
    answer = take(call, session_id, "goodbye", "k")
    assert (answer.status, answer.body["code"]) == (422, "idempotency_key_reused")


@pytest.mark.parametrize(
    ("key", "code"),
    [
        ("", "idempotency_key_missing"),
        ("k" * 256, "idempotency_key_too_long"),
        ("two words", "idempotency_key_invalid"),
        ("tab\t", "idempotency_key_invalid"),
        ("schlüssel", "idempotency_key_invalid"),
    ],
)
def test_a_turn_needs_a_proper_key(call: Call, backstage: Backstage, session_id: str, key: str, code: str) -> None:
    answer = take(call, session_id, "hello", key)
    assert (answer.status, answer.body["code"]) == (400, code)
    assert backstage.model.requests == []


def test_a_busy_session_answers_409_with_retry_after(call: Call, backstage: Backstage, session_id: str) -> None:
    seen: list[Answered] = []

    def meanwhile() -> None:
        backstage.model.during = None
        seen.append(take(call, session_id, "me too", "another"))
        seen.append(take(call, session_id, "slow", "k"))
        seen.append(get(call, session_id))

    backstage.model.during = meanwhile
    assert take(call, session_id, "slow", "k").status == 200
    *refused, during = seen
    for answer in refused:  # also that of the very key that runs, which must stay the same
        assert (answer.status, answer.body["code"], answer.body["retry"]) == (409, "turn_in_progress", "same-key")
        assert "Repeat it with the same Idempotency-Key" in answer.body["detail"]
        assert int(answer.headers["Retry-After"]) == answer.body["retry_after"] > 0
    assert during.body["turn_in_progress"] is True
    assert len(backstage.model.requests) == 1


def test_a_failed_turn_says_that_nothing_was_stored_and_how_to_retry(
    call: Call, backstage: Backstage, session_id: str
) -> None:
    backstage.model.fail_with = [ModelTimeout()]
    answer = take(call, session_id, "hello", "k")
    assert (answer.status, answer.body["stored"], answer.body["retry"]) == (504, False, "same-key")
    assert get(call, session_id).body["turns"] == 0
    assert take(call, session_id, "hello", "k").body["turn"] == 1


def test_a_request_is_to_be_repeated_under_the_key_that_it_has(
    call: Call, backstage: Backstage, session_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise StoreUnavailable

    for method in ("read", "create"):
        monkeypatch.setattr(backstage.store, method, fail)
    named = {"Idempotency-Key": "k"}
    assert get(call, session_id).body["retry"] == "again"
    assert call("session", "POST", "/sessions", {}).body["retry"] == "again"
    assert call("session", "POST", "/sessions", {}, headers=named).body["retry"] == "same-key"
    assert take(call, session_id, "hello", "k").body["retry"] == "same-key"


def test_turns_are_listed_oldest_first_a_page_at_a_time(call: Call, session_id: str) -> None:
    replies = [take(call, session_id, f"turn {number}").body["text"] for number in range(5)]
    seen: list[dict[str, Any]] = []
    query = {"limit": ["2"]}
    for _ in range(3):
        page = get(call, session_id, "/turns", query=query).body
        seen += page["items"]
        query["cursor"] = [page["next"] or "the end"]
        assert page["next"] is None or not page["next"].isdigit()
    assert page["next"] is None
    assert [item["turn"] for item in seen] == [1, 2, 3, 4, 5]
    assert [item["text"] for item in seen] == replies
    assert seen[0]["message"] == [{"type": "text", "text": "turn 0"}]
    assert seen[0]["at"] == "2026-09-21T14:13:20.000Z"


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"limit": ["0"]}, "parameter_invalid"),
        ({"limit": ["101"]}, "parameter_invalid"),
        ({"limit": ["x"]}, "parameter_invalid"),
        ({"limit": ["1", "2"]}, "parameter_duplicate"),
        ({"cursor": ["x"]}, "cursor_invalid"),
        ({"cursor": [""]}, "cursor_invalid"),
        ({"cursor": ["7"]}, "cursor_invalid"),
        ({"cursor": ["²"]}, "cursor_invalid"),
        ({"cursor": ["9" * 5000]}, "cursor_invalid"),
        ({"page": ["1"]}, "parameter_unknown"),
    ],
    ids=str,
)
def test_bad_paging_is_refused(call: Call, session_id: str, query: dict[str, list[str]], code: str) -> None:
    for answer in (get(call, session_id, "/turns", query=query), call("session", "GET", "/sessions", query=query)):
        assert (answer.status, answer.body["code"]) == (400, code)


def test_a_list_counts_what_cannot_even_be_named_and_shows_the_others(
    call: Call, backstage: Backstage, session_id: str
) -> None:
    backstage.store = WithUnnamed(backstage.store)  # type: ignore[assignment] # a store all the same
    body = call("session", "GET", "/sessions").body
    assert ([item["session_id"] for item in body["items"]], body["damaged"], body["unnamed"]) == ([session_id], [], 1)
    assert get(call, WithUnnamed.NAME).status == delete(call, WithUnnamed.NAME).status == 404


def test_a_cursor_is_good_for_its_own_list_alone(call: Call, session_id: str) -> None:
    other = str(create(call).body["session_id"])
    for each in (session_id, other):
        for number in range(3):
            take(call, each, f"turn {number}", f"{number}")
    one = {"limit": ["1"]}
    of_turns = get(call, session_id, "/turns", query=one).body["next"]
    of_sessions = call("session", "GET", "/sessions", query=one).body["next"]
    create(call, owner=EVE)
    tampered = of_sessions[:-1] + ("A" if of_sessions[-1] != "A" else "B")
    answers = [
        get(call, other, "/turns", query={"cursor": [of_turns]}),
        get(call, session_id, "/turns", query={"cursor": [of_sessions]}),
        call("session", "GET", "/sessions", query={"cursor": [of_turns]}),
        call("session", "GET", "/sessions", query={"cursor": [tampered]}),
        call("session", "GET", "/sessions", query={"cursor": [of_sessions]}, owner=EVE),
    ]
    assert {(answer.status, answer.body["code"]) for answer in answers} == {(400, "cursor_invalid")}


@pytest.mark.asvs("7.5.2")
def test_sessions_are_listed_with_the_one_used_last_first_and_nobody_else_s(call: Call, backstage: Backstage) -> None:
    ids = []
    for number in range(3):
        ids.append(create(call, {"title": f"T{number}", "system": "s" * 1000}).body["session_id"])
        backstage.clock.tick(seconds=10)
    create(call, owner=EVE)
    delete(call, create(call).body["session_id"])
    take(call, ids[0], "hello")
    first = call("session", "GET", "/sessions", query={"limit": ["2"]}).body
    rest = call("session", "GET", "/sessions", query={"limit": ["2"], "cursor": [first["next"]]}).body
    assert [item["session_id"] for item in first["items"] + rest["items"]] == [ids[0], ids[2], ids[1]]
    assert rest["next"] is None
    assert first["items"][0] == {
        "session_id": ids[0],
        "title": "T0",
        "metadata": {},
        "model": "claude-sonnet-5-5",
        "created_at": "2026-09-21T14:13:20.000Z",
        "active_at": "2026-09-21T14:13:50.000Z",
        "expires_at": "2026-09-22T14:13:20.000Z",
        "idle_expires_at": "2026-09-21T14:43:50.000Z",
        "turns": 1,
        "turn_in_progress": False,
        "tokens": 15,
        "cost_usd": "0.00007",
    }


def test_one_turn_can_be_read_by_its_number(call: Call, session_id: str) -> None:
    text = take(call, session_id, "hello").body["text"]
    assert get(call, session_id, "/turns/{n}", also={"n": "1"}).body["text"] == text
    for number in ("0", "2", "x", "-1", "1.0", "²", "9" * 50):
        answer = get(call, session_id, "/turns/{n}", also={"n": number})
        assert (answer.status, answer.body["code"]) == (404, "turn_not_found")


@pytest.mark.asvs("7.5.2")
def test_a_deleted_session_is_gone(call: Call, session_id: str) -> None:
    take(call, session_id, "hello")
    gone = delete(call, session_id)
    assert (gone.status, gone.raw) == (204, "")
    for answer in (get(call, session_id), take(call, session_id, "more"), delete(call, session_id)):
        assert (answer.status, answer.body["code"]) == (404, "session_not_found")


STRANGE_IDS = ["", "x", "ses_", "ses_" + "../" * 7, "ses_" + "a" * 23, "SES_" + "a" * 22, "ses_\x00", "S#x", "#"]
STRANGE_IDS.append("ses_" + "\u0430" * 22)  # a letter that only looks like an a


def test_gone_foreign_and_never_was_are_the_same_bytes(call: Call, backstage: Backstage, session_id: str) -> None:
    deleted = create(call).body["session_id"]
    delete(call, deleted)
    expired = create(call, {"idle_timeout_s": 120}).body["session_id"]
    backstage.clock.tick(seconds=120)
    cases = [(session_id, EVE), (deleted, OWNER), (expired, OWNER), (new_session_id(), OWNER)]
    cases += [(strange, OWNER) for strange in STRANGE_IDS]
    answers = []
    for asked, owner in cases:
        answers.append(get(call, asked, owner=owner))
        answers.append(take(call, asked, "hello", owner=owner))
        answers.append(get(call, asked, "/turns", owner=owner))
        answers.append(get(call, asked, "/turns/{n}", also={"n": "1"}, owner=owner))
        answers.append(delete(call, asked, owner=owner))
    assert {(answer.status, answer.raw) for answer in answers} == {(404, answers[0].raw)}
    assert "POST /v1/sessions" in answers[0].body["detail"]
    assert backstage.model.requests == []
    assert get(call, session_id).status == 200


@pytest.mark.parametrize("owner", [None])
def test_every_route_needs_a_caller(call: Call, session_id: str, owner: str | None) -> None:
    answers = [
        create(call, owner=owner),
        call("session", "GET", "/sessions", owner=owner),
        get(call, session_id, owner=owner),
        take(call, session_id, "hello", owner=owner),
        get(call, session_id, "/turns", owner=owner),
        get(call, session_id, "/turns/{n}", also={"n": "1"}, owner=owner),
        delete(call, session_id, owner=owner),
    ]
    assert {answer.status for answer in answers} == {401}


@pytest.mark.asvs("16.5.2")
@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (StoreUnavailable(), 503, "dependency_unavailable"),
        (SecretUnavailable(), 503, "dependency_unavailable"),
        (SessionCorrupt(), 500, "session_corrupt"),
        (ItemVersionUnknown(), 503, "version_unknown"),
    ],
    ids=str,
)
def test_a_failing_dependency_is_a_clear_answer_and_nothing_is_paid(
    call: Call,
    backstage: Backstage,
    session_id: str,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    status: int,
    code: str,
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(backstage.store, "read", failing)
    answer = take(call, session_id, "hello")
    assert (answer.status, answer.body["code"]) == (status, code)
    assert set(answer.body) - {"retry", "retry_after", "stored"} == REFUSED_FIELDS
    assert ("Retry-After" in answer.headers) == (status == 503)
    assert backstage.model.requests == []


def test_the_log_line_of_a_turn_names_the_session_only_by_a_hash(
    call: Call, session_id: str, logged: io.StringIO
) -> None:
    take(call, session_id, "hello", "my-private-key")
    text = logged.getvalue()
    line = json.loads(text.splitlines()[-1])
    assert (line["turn"], line["tokens"], line["replayed"]) == (1, 15, False)
    assert len(line["session"]) == 10
    assert session_id not in text
    assert "my-private-key" not in text
    assert "hello" not in text


def test_a_key_and_a_body_are_stored_as_keyed_hashes(call: Call, backstage: Backstage) -> None:
    session_id = str(create(call).body["session_id"])
    take(call, session_id, "hello", "k")
    (turn,) = backstage.store.read(OWNER, session_id, backstage.clock(), newest=1).turns
    hashed = runtime.server_key().keyed_hash
    assert turn.key == hashed("idempotency-key", b"k")
    assert turn.fingerprint == hashed("fingerprint", to_json([{"type": "text", "text": "hello"}]).encode())
    assert len(turn.key) == len(turn.fingerprint) == 16


def test_a_creation_under_a_key_can_be_repeated_and_another_body_under_it_is_refused(call: Call) -> None:
    named = {"Idempotency-Key": "my-session"}
    first = call("session", "POST", "/sessions", {"title": "T"}, headers=named)
    take(call, str(first.body["session_id"]), "hello", "k")
    again = call("session", "POST", "/sessions", {"title": "T"}, headers=named)
    assert (first.status, again.status) == (201, 201)
    assert again.body["session_id"] == first.body["session_id"]
    assert again.body["turns"] == 1
    other = call("session", "POST", "/sessions", {"title": "Another"}, headers=named)
    assert (other.status, other.body["code"]) == (422, "idempotency_key_reused")
    foreign = call("session", "POST", "/sessions", {"title": "T"}, headers=named, owner="https://issuer.example/|eve")
    assert foreign.body["session_id"] != first.body["session_id"]


def test_a_key_whose_session_has_ended_makes_no_other_and_is_told_to_be_used_up(call: Call) -> None:
    named = {"Idempotency-Key": "my-session"}
    delete(call, str(call("session", "POST", "/sessions", {}, headers=named).body["session_id"]))
    answer = call("session", "POST", "/sessions", {}, headers=named)
    assert (answer.status, answer.body["code"], "start_over" in answer.body) == (404, "session_not_found", False)
    assert answer.body["detail"].endswith("no other is made under it: take another.")


def test_a_turn_that_expects_another_number_is_refused_and_nothing_is_paid(call: Call, backstage: Backstage) -> None:
    session_id = str(create(call).body["session_id"])
    take(call, session_id, "hello", "k")
    where = {"parameters": {"id": session_id}, "headers": {"Idempotency-Key": "another"}}
    for number in (1, 3):
        answer = call("session", "POST", "/sessions/{id}/turns", {"message": "hi", "turn": number}, **where)
        assert (answer.status, answer.body["code"], answer.body["stored"]) == (409, "turn_number_taken", False)
        assert answer.body["next_turn"] == get(call, session_id).body["turns"] + 1
    assert len(backstage.model.requests) == 1
    assert call("session", "POST", "/sessions/{id}/turns", {"message": "hi", "turn": 2}, **where).body["turn"] == 2


def test_the_number_that_a_turn_expects_is_a_part_of_its_body(call: Call, session_id: str) -> None:
    where = {"parameters": {"id": session_id}, "headers": {"Idempotency-Key": "k"}}
    bodies = [{"message": "hi", "turn": 1}, {"message": "hi", "turn": 1}, {"message": "hi"}]
    answers = [call("session", "POST", "/sessions/{id}/turns", body, **where) for body in bodies]
    assert [answer.status for answer in answers] == [200, 200, 422]


def test_two_keys_on_one_turn_are_refused(call: Call, backstage: Backstage) -> None:
    session_id = str(create(call).body["session_id"])
    request = event("session") | {
        "pathParameters": {"id": session_id},
        "multiValueHeaders": {"Idempotency-Key": ["a", "b"], "Content-Type": ["application/json"]},
    }
    answer = app("session").handler(request, Context(60))
    assert (answer["statusCode"], json.loads(answer["body"])["code"]) == (400, "header_duplicate")
    assert backstage.model.requests == []


def test_a_page_of_turns_ends_where_an_answer_would_grow_too_large(call: Call, backstage: Backstage) -> None:
    session_id = str(create(call).body["session_id"])
    for number in range(25):
        take(call, session_id, "x" * 250_000, f"k{number}")
    pages, cursor = [], ""
    while cursor is not None:
        query = {"limit": ["25"]} | ({"cursor": [cursor]} if cursor else {})
        answer = call("session", "GET", "/sessions/{id}/turns", parameters={"id": session_id}, query=query)
        assert len(answer.raw.encode()) < MAX_ANSWER_BYTES
        pages.append([item["turn"] for item in answer.body["items"]])
        cursor = answer.body["next"]
    assert pages == [list(range(1, 23)), [23, 24, 25]]


def test_a_turn_that_could_not_reach_its_secret_leaves_the_session_free(call: Call, backstage: Backstage) -> None:
    def no_key() -> None:
        backstage.model.during = None
        raise SecretUnavailable

    session_id = str(create(call).body["session_id"])
    backstage.model.during = no_key
    assert take(call, session_id, "hello", "k").body["code"] == "dependency_unavailable"
    assert take(call, session_id, "hello", "k").status == 200


def test_a_key_that_was_paid_for_three_times_without_a_reply_is_given_up(
    call: Call, backstage: Backstage, session_id: str
) -> None:
    backstage.model.fail_with = [ModelTimeout() for _ in range(3)]
    answers = [take(call, session_id, "hello", "k") for _ in range(4)]
    assert [answer.status for answer in answers] == [504, 504, 504, 502]
    assert (answers[3].body["code"], answers[3].body["stored"]) == ("attempts_exhausted", False)
    assert take(call, session_id, "hello", "another").body["turn"] == 1


def test_a_turn_that_outlived_its_lease_and_was_overtaken_is_told_so(
    call: Call, backstage: Backstage, session_id: str
) -> None:
    def overtaken() -> None:
        backstage.model.during = None
        backstage.clock.tick(seconds=60)
        assert take(call, session_id, "fast").status == 200

    backstage.model.during = overtaken
    answer = take(call, session_id, "slow")
    assert (answer.status, answer.body["code"], answer.body["retry"]) == (409, "claim_lost", "same-key")
    assert get(call, session_id).body["turns"] == 1


def test_a_reply_that_is_too_large_to_be_kept_is_a_failure_of_the_model(
    call: Call, backstage: Backstage, session_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = to_json([{"type": "text", "text": random_text(MAX_TURN_BYTES)}])
    large = Reply("claude-sonnet-5-5", content, "end_turn", Usage('{"input_tokens": 1, "output_tokens": 1}'))
    with monkeypatch.context() as patched:
        patched.setattr(backstage.model, "reply", lambda *_, **__: large)
        answer = take(call, session_id, "hello", "k")
    assert (answer.status, answer.body["code"], answer.body["stored"]) == (502, "model_protocol_error", False)
    assert get(call, session_id).body["turns"] == 0


def busy_for(backstage: Backstage, session_id: str, sleeps: int) -> None:
    """Another handler's turn runs in the session until somebody has slept that often."""
    view = backstage.store.read(OWNER, session_id, backstage.clock(), newest=1)
    lease = Lease(view.count + 1, "another", backstage.clock() + 60_000, b"o" * 16, b"f" * 16, backstage.clock())
    backstage.store.acquire(view.session, lease, over=None)

    def release() -> None:
        if len(backstage.slept) == sleeps:
            backstage.store.release(view.session, lease, billed=False, now_ms=backstage.clock())

    backstage.after_sleep = release


def test_a_turn_that_prefers_to_wait_is_taken_when_the_session_is_free(
    call: Call, backstage: Backstage, session_id: str
) -> None:
    busy_for(backstage, session_id, 3)
    answer = call(
        "session",
        "POST",
        "/sessions/{id}/turns",
        {"message": "hello"},
        parameters={"id": session_id},
        headers={"Idempotency-Key": "k", "Prefer": "respond-async, wait=10"},
    )
    assert (answer.status, answer.body["turn"], answer.headers["Preference-Applied"]) == (200, 1, "wait=10")
    assert backstage.slept == [0.5] * 3


@pytest.mark.parametrize(
    ("prefer", "waited_s"),
    [
        ("wait=3", 3.0),
        ("WAIT = 1", 1.0),
        ('wait="2"; note', 2.0),
        ("wait=2, wait=1", 2.0),
        ("wait=0", 0.0),
        ("wait=25", 20.0),
        ("wait=021", 20.0),
        ("wait=0000000000002", 2.0),
        ("wait=9999999999", 20.0),
        (f"wait={'9' * 5000}", 20.0),
        ("wait=-1", 0.0),
        ("wait=1.5", 0.0),
        ("wait=x", 0.0),
        ("wait", 0.0),
        ("wait=\u0663", 0.0),
        ("handling=strict", 0.0),
        ("", 0.0),
    ],
)
def test_a_wait_ends_when_it_is_over_or_no_time_is_left_for_the_turn(
    call: Call, backstage: Backstage, session_id: str, prefer: str, waited_s: float
) -> None:
    busy_for(backstage, session_id, 10_000)
    answer = call(
        "session",
        "POST",
        "/sessions/{id}/turns",
        {"message": "hello"},
        parameters={"id": session_id},
        headers={"Idempotency-Key": "k", "Prefer": prefer},
    )
    assert (answer.status, answer.body["code"]) == (409, "turn_in_progress")
    assert sum(backstage.slept) == waited_s
    assert backstage.model.requests == []


def turn_event(session_id: str) -> Event:
    """The function's example event, for this session."""
    return event("session") | {
        "resource": "/sessions/{id}/turns",
        "httpMethod": "POST",
        "pathParameters": {"id": session_id},
        "multiValueHeaders": {"Idempotency-Key": ["k"], "Content-Type": ["application/json"], "Prefer": ["wait=20"]},
        "body": json.dumps({"message": "hello"}),
        "isBase64Encoded": False,
    }


def test_a_turn_after_a_cold_start_has_all_the_time_of_its_function(backstage: Backstage, session_id: str) -> None:
    """Its caller may be gone by then, but not the turn."""
    answer = Api({("POST", "/sessions/{id}/turns"): turns.take})(turn_event(session_id), Context(60))
    assert answer["statusCode"] == 200
    assert backstage.model.seconds == [60 - COMMIT_RESERVE_S]


def test_a_wait_after_a_cold_start_ends_earlier(backstage: Backstage, session_id: str) -> None:
    busy_for(backstage, session_id, 10_000)
    handler = Api({("POST", "/sessions/{id}/turns"): turns.take})
    for waited_s in (20 - COLD_START_S, 20):
        backstage.slept.clear()
        answer = handler(turn_event(session_id), Context(60, backstage.clock))
        assert answer["statusCode"] == 409
        assert sum(backstage.slept) == waited_s


@pytest.mark.parametrize("is_warm", [True, False], ids=["warm", "cold"])
def test_a_provider_that_always_refuses_gets_an_answer_in_time_and_a_free_slot(
    backstage: Backstage, session_id: str, monkeypatch: pytest.MonkeyPatch, is_warm: bool
) -> None:
    clock, began_ms = backstage.clock, backstage.clock()
    policy = TurnPolicy(owner=OwnerLimits(turns_a_minute=1))  # so the second turn shows that the first was not charged
    monkeypatch.setattr(runtime, "turn_policy", lambda: policy)
    handler = Api({("POST", "/sessions/{id}/turns"): turns.take})
    handler.is_warm = is_warm
    with StandIn(port=0) as provider:
        claude = Claude(
            provider.url,
            lambda *, renewed=False: "a key",
            allows_stand_in=True,
            clock=lambda: clock() / 1000,
            sleep=backstage.sleep,
        )
        monkeypatch.setattr(runtime, "chat_model", lambda: claude)
        provider.fail("overloaded", times=100)
        refused = handler(turn_event(session_id), Context(60, clock))
        body = json.loads(refused["body"])
        assert (refused["statusCode"], body["code"], body["stored"]) == (503, "model_unavailable", False)
        assert refused["headers"]["Retry-After"] == "5"
        assert (clock() - began_ms) / 1000 + (0 if is_warm else COLD_START_S) < 29 - 1
        assert backstage.store.read(OWNER, session_id, clock(), newest=1).running is None
        provider.clear_faults()
        clock.now_ms = began_ms
        taken = handler(turn_event(session_id), Context(60, clock))
        assert (taken["statusCode"], json.loads(taken["body"])["turn"]) == (200, 1)


@pytest.mark.parametrize(
    ("left_s", "code"), [(300.0, None), (299.999, "idle_expires_soon"), (1.0, "idle_expires_soon")]
)
def test_a_session_that_ends_soon_says_so(
    call: Call, backstage: Backstage, session_id: str, left_s: float, code: str | None
) -> None:
    backstage.clock.tick(seconds=1800 - left_s)
    body = get(call, session_id).body
    assert body.get("warning", {}).get("code") == code
    if code:
        assert body["warning"]["at"] == body["idle_expires_at"]


def test_the_end_that_no_turn_can_put_off_is_warned_of_first(call: Call, backstage: Backstage) -> None:
    session_id = str(create(call, {"lifetime_s": 400, "idle_timeout_s": 200}).body["session_id"])
    assert take(call, session_id, "one").body["warning"]["code"] == "idle_expires_soon"
    backstage.clock.tick(seconds=150)
    body = take(call, session_id, "two").body
    assert (body["warning"]["code"], body["warning"]["at"]) == ("expires_soon", body["expires_at"])


def test_a_replay_warns_as_the_turn_did(call: Call, backstage: Backstage) -> None:
    session_id = str(create(call, {"idle_timeout_s": 400}).body["session_id"])
    first = take(call, session_id, "hello", "k")
    backstage.clock.tick(seconds=200)
    assert take(call, session_id, "hello", "k").raw == first.raw
    assert "warning" in get(call, session_id).body


def test_where_a_session_is_gone_a_new_one_is_offered(call: Call) -> None:
    gone = get(call, new_session_id()).body
    assert gone["start_over"] == {"method": "POST", "href": "/v1/sessions"}
    assert gone["detail"].endswith("Start a new one with POST /v1/sessions.")


def change(call: Call, session_id: str, body: object, **more: Any) -> Answered:
    return call("session", "PATCH", "/sessions/{id}", body, parameters={"id": session_id}, **more)


def test_a_session_gets_another_title_and_keeps_the_rest(call: Call) -> None:
    before = create(call, {"title": "T", "system": "Be kind."}).body
    changed = change(call, before["session_id"], {"title": "New"})
    assert changed.status == 200
    assert changed.body == get(call, before["session_id"]).body == before | {"title": "New"}
    assert change(call, before["session_id"], {"title": ""}).body["title"] == ""


PAIRS = {"case": "17", "empty": "", "x.Y_z-1": 'snow ☃ "\\ 👩‍🚀'}


def test_metadata_is_replaced_as_a_whole_and_all_else_is_kept(call: Call) -> None:
    before = create(call, {"title": "T", "metadata": PAIRS}).body
    session_id = before["session_id"]
    assert before["metadata"] == PAIRS
    for metadata in ({"case": "18"}, {}, PAIRS):
        for _ in range(2):  # a repeat changes nothing more
            changed = change(call, session_id, {"metadata": metadata})
            assert changed.body == get(call, session_id).body == before | {"metadata": metadata}
    both = change(call, session_id, {"title": "New", "metadata": {"a": "b"}})
    assert both.body == before | {"title": "New", "metadata": {"a": "b"}}
    assert change(call, session_id, {"title": "Newer"}).body["metadata"] == {"a": "b"}


def test_the_most_metadata_is_kept(call: Call) -> None:
    most = {f"{number:064d}": "\U0001f426" * 512 for number in range(16)}
    session_id = create(call, {"metadata": most}).body["session_id"]
    assert get(call, session_id).body["metadata"] == most


def test_metadata_is_in_lists_and_exports(call: Call) -> None:
    session_id = create(call, {"metadata": PAIRS}).body["session_id"]
    listed = call("session", "GET", "/sessions").body["items"]
    assert [each["metadata"] for each in listed] == [PAIRS]
    assert export(call, session_id).body["session"]["metadata"] == PAIRS
    assert call("account", "GET", "/me/export").body["sessions"][0]["session"]["metadata"] == PAIRS


def test_a_fork_has_the_metadata_of_its_parent(call: Call) -> None:
    session_id = create(call, {"metadata": PAIRS}).body["session_id"]
    take(call, session_id, "hello")
    child = call("session", "POST", "/sessions/{id}/fork", {"turn": 1}, parameters={"id": session_id}).body
    assert child["metadata"] == PAIRS
    change(call, session_id, {"metadata": {}})
    assert get(call, child["session_id"]).body["metadata"] == PAIRS


def test_metadata_is_part_of_what_a_key_stands_for(call: Call) -> None:
    def ask(key: str, body: dict[str, Any]) -> Answered:
        return call("session", "POST", "/sessions", body, headers={"Idempotency-Key": key})

    made = ask("k", {"metadata": {"a": "1", "b": "2"}})
    assert ask("k", {"metadata": {"b": "2", "a": "1"}}).raw == made.raw
    others: list[dict[str, Any]] = [{}, *({"metadata": each} for each in ({}, {"a": "1"}, {"a": "1", "b": "3"}))]
    for other in others:
        assert ask("k", other).body["code"] == "idempotency_key_reused"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "field_missing"),
        ({"metadata": None}, 400, "wrong_type"),
        ({"metadata": {"gone": None}}, 400, "wrong_type"),
        ({"title": "T", "metadata": {"a": "two\nlines"}}, 400, "control_character"),
        ({"title": None}, 400, "wrong_type"),
        ({"title": "T", "system": "x"}, 400, "unknown_field"),
        ({"title": "x" * 201}, 422, "title_range"),
        ({"title": "\u202egnp.exe"}, 400, "control_character"),
    ],
    ids=str,
)
def test_nothing_but_a_proper_title_or_metadata_changes(
    call: Call, session_id: str, body: dict[str, Any], status: int, code: str
) -> None:
    before = get(call, session_id).body
    answer = change(call, session_id, body)
    assert (answer.status, answer.body["code"]) == (status, code)
    assert get(call, session_id).body == before


@pytest.mark.parametrize("title", ["\U0001f469\u200d\U0001f680", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"])
def test_a_title_may_hold_what_joins_emoji_and_spells_words(call: Call, title: str) -> None:
    assert create(call, {"title": title}).body["title"] == title


@pytest.mark.parametrize("title", ["a tab\t", "two\nlines", "\u202egnp.exe"])
def test_who_is_refused_a_title_is_told_what_holds_for_one_line(call: Call, session_id: str, title: str) -> None:
    assert "one line, such as a title, may hold none" in change(call, session_id, {"title": title}).body["detail"]


def test_nobody_else_changes_a_session(call: Call, session_id: str) -> None:
    foreign, never = change(call, session_id, {"title": "E"}, owner=EVE), change(call, new_session_id(), {"title": "E"})
    assert (foreign.status, foreign.raw) == (404, never.raw)
    assert get(call, session_id).body["title"] == ""


def export(call: Call, session_id: str, cursor: str | None = None, **more: Any) -> Answered:
    return get(call, session_id, "/export", query={"cursor": [cursor]} if cursor else None, **more)


def test_an_export_has_all_that_is_kept_of_the_session(call: Call) -> None:
    session_id = str(create(call, {"title": "T", "system": "Be kind."}).body["session_id"])
    for number in range(70):  # more than are read at once
        take(call, session_id, f"turn {number}")
    body = export(call, session_id).body
    assert body == {
        "format": "turnlog-session-1",
        "exported_at": "2026-09-21T14:13:20.000Z",
        "session": get(call, session_id).body,
        "turns": get(call, session_id, "/turns", query={"limit": ["100"]}).body["items"],
        "next": None,
    }
    assert [turn["turn"] for turn in body["turns"]] == list(range(1, 71))


def test_a_large_export_comes_in_parts(call: Call) -> None:
    session_id = str(create(call).body["session_id"])
    for number in range(25):
        take(call, session_id, "x" * 250_000, f"k{number}")
    seen: list[int] = []
    cursor = None
    for _ in range(2):
        part = export(call, session_id, cursor)
        assert len(part.raw.encode()) < MAX_ANSWER_BYTES
        assert part.body["session"]["turns"] == 25
        seen += [turn["turn"] for turn in part.body["turns"]]
        cursor = part.body["next"]
    assert (seen, cursor) == (list(range(1, 26)), None)


def test_an_empty_session_can_be_exported_and_another_s_cannot(call: Call, session_id: str) -> None:
    assert export(call, session_id).body["turns"] == []
    foreign, never = export(call, session_id, owner=EVE), export(call, new_session_id())
    assert (foreign.status, foreign.raw) == (404, never.raw)
    assert get(call, session_id, "/export", query={"limit": ["1"]}).body["code"] == "parameter_unknown"


def test_a_page_of_the_origin_that_is_named_may_see_the_answers_and_no_other(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not [name for name in call("session", "POST", "/sessions", {}).headers if name.startswith("Access-Control")]
    monkeypatch.setattr(runtime, "cors_origin", lambda: "https://app.example")
    answer = app("session").handler(event("session"), Context())
    assert answer["headers"]["Access-Control-Allow-Origin"] == "https://app.example"
    exposed = answer["headers"]["Access-Control-Expose-Headers"].split(", ")
    assert {"Retry-After", "Request-Id", "Turnlog-Session", "Turnlog-Turn", "X-Should-Retry"} <= set(exposed)
