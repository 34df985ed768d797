"""The whole service over HTTP: the handlers, tables and routes that `make run` starts."""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any

import httpx2
import jwt
import pytest

from tests.e2e.stack import PAGE, Stack
from tests.media import image, png, text_block
from turnlog.domain.owners import owner_hash

PATIENCE_S = 60  # for what happens by itself; a cold start on a busy machine takes many seconds


@pytest.fixture(scope="module")
def ada(stack: Stack) -> Iterator[httpx2.Client]:
    with caller(stack, stack.token) as client:
        yield client


@pytest.fixture(scope="module")
def eve(stack: Stack) -> Iterator[httpx2.Client]:
    with caller(stack, stack.token_of("eve")) as client:
        yield client


def caller(stack: Stack, token: str | None) -> httpx2.Client:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx2.Client(base_url=stack.api_url, headers=headers, timeout=PATIENCE_S)


def new_session(client: httpx2.Client, **settings: Any) -> str:
    created = client.post("/sessions", json=settings)
    assert created.status_code == 201, created.text
    return str(created.json()["session_id"])


def take(client: httpx2.Client, session_id: str, message: Any, key: str | None = None) -> httpx2.Response:
    headers = {"Idempotency-Key": key or secrets.token_hex(8)}
    return client.post(f"/sessions/{session_id}/turns", json={"message": message}, headers=headers)


def require_problem(response: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["content-type"] == "application/problem+json; charset=utf-8"
    assert response.headers["cache-control"] == "no-store"
    problem: dict[str, Any] = response.json()
    assert problem["instance"].startswith("urn:req:")
    return problem


@pytest.mark.parametrize("path", ["/query", "/summarize", "/analyze"])
def test_a_single_turn_is_answered_by_the_stand_in_which_says_so(ada: httpx2.Client, path: str) -> None:
    answer = ada.post(path, json={"message": "def area(r):\n    return 3.14 * r * r\n"})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert "stand-in" in body["text"]
    assert body["usage"]["input_tokens"] > 0
    assert float(body["cost_usd"]) > 0


def test_a_name_told_in_the_first_turn_is_known_in_the_third(ada: httpx2.Client) -> None:
    session_id = new_session(ada, title="Names")
    answers = [take(ada, session_id, message) for message in ("My name is Ada.", "Nice weather.", "What is my name?")]
    assert [answer.json()["turn"] for answer in answers] == [1, 2, 3]
    assert "Ada" in answers[2].json()["text"]
    listed = ada.get(f"/sessions/{session_id}/turns").json()
    assert [item["text"] for item in listed["items"]] == [answer.json()["text"] for answer in answers]
    assert ada.get(f"/sessions/{session_id}/turns/3").json()["text"] == answers[2].json()["text"]
    assert ada.get(f"/sessions/{session_id}").json()["turns"] == 3


def test_the_same_key_gives_the_same_bytes_and_is_paid_for_once(ada: httpx2.Client, stack: Stack) -> None:
    session_id = new_session(ada)
    before = stack.model_calls()
    first, again = (take(ada, session_id, "hello", "one-key") for _ in range(2))
    assert again.content == first.content
    assert stack.model_calls() == before + 1
    require_problem(take(ada, session_id, "another", "one-key"), 422, "idempotency_key_reused")


def test_the_largest_picture_that_a_request_can_bring_is_kept(ada: httpx2.Client) -> None:
    session_id = new_session(ada)
    picture = image(png(9, 9) + secrets.token_bytes(3_370_000))
    for key in ("1", "2"):
        taken = take(ada, session_id, [picture, text_block("What is this?")], key)
        assert taken.status_code == 200, taken.text
    assert ada.get(f"/sessions/{session_id}/turns/2").json()["message"][0] == picture


def test_of_two_turns_at_once_one_is_refused_unpaid(ada: httpx2.Client, stack: Stack) -> None:
    session_id = new_session(ada)
    stack.fail("slow", seconds=3, match="heron")
    before = stack.model_calls()
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda text: take(ada, session_id, text), ["a heron", "a heron too"]))
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [200, 409]
    (refused,) = [answer for answer in answers if answer.status_code == 409]
    assert int(refused.headers["retry-after"]) >= 1
    assert stack.model_calls() == before + 1
    assert ada.get(f"/sessions/{session_id}").json()["turns"] == 1


def test_eight_at_once_leave_one_order_and_no_turn_lost(ada: httpx2.Client, stack: Stack) -> None:
    session_id = new_session(ada)
    before = stack.model_calls()

    def insist(number: int) -> dict[str, Any]:
        for _ in range(200):
            answer = take(ada, session_id, f"message {number}", f"key-{number}")
            if answer.status_code == 200:
                taken: dict[str, Any] = answer.json()
                return taken
            require_problem(answer, 409, "turn_in_progress")
        raise AssertionError(f"turn {number} was never taken")

    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(insist, range(8)))
    assert sorted(turn["turn"] for turn in taken) == list(range(1, 9))
    assert stack.model_calls() == before + 8
    listed = ada.get(f"/sessions/{session_id}/turns").json()["items"]
    assert {item["turn"]: item["text"] for item in listed} == {turn["turn"]: turn["text"] for turn in taken}


def test_a_session_can_be_listed_renamed_and_forked(ada: httpx2.Client, eve: httpx2.Client) -> None:
    session_id = new_session(ada, title="Old")
    for message in ("My name is Ada.", "It is raining."):
        assert take(ada, session_id, message).status_code == 200
    assert ada.patch(f"/sessions/{session_id}", json={"title": "New"}).json()["title"] == "New"
    newest = ada.get("/sessions", params={"limit": 1}).json()
    assert [(item["session_id"], item["title"]) for item in newest["items"]] == [(session_id, "New")]
    require_problem(eve.get("/sessions", params={"cursor": newest["next"]}), 400, "cursor_invalid")
    forked = ada.post(f"/sessions/{session_id}/fork", json={"turn": 1})
    assert (forked.status_code, forked.json()["turns"]) == (201, 1)
    assert "Ada" in take(ada, forked.json()["session_id"], "What is my name?").json()["text"]
    assert ada.get(f"/sessions/{session_id}").json()["turns"] == 2


def test_a_turn_waits_for_a_busy_session_when_it_is_asked_to(ada: httpx2.Client, stack: Stack) -> None:
    session_id = new_session(ada)
    stack.fail("slow", seconds=2, match="a stork")
    wait = {"Prefer": "wait=15", "Idempotency-Key": "second"}

    def second() -> httpx2.Response:
        time.sleep(0.7)
        return ada.post(f"/sessions/{session_id}/turns", json={"message": "and then"}, headers=wait)

    with ThreadPoolExecutor(2) as pool:
        first, after = pool.submit(take, ada, session_id, "a stork"), pool.submit(second)
    assert first.result().status_code == 200
    assert (after.result().status_code, after.result().headers["preference-applied"]) == (200, "wait=15")
    assert sorted(each.result().json()["turn"] for each in (first, after)) == [1, 2]


def test_an_anonymous_session_is_used_rotated_and_claimed(stack: Stack, ada: httpx2.Client) -> None:
    old, new = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    with caller(stack, None) as nobody:
        begun = nobody.post("/anonymous/sessions", json={"secret_sha256": sha256(old.encode()).hexdigest()})
        assert begun.status_code == 201, begun.text
        session_id = begun.json()["session_id"]
        nobody.headers["Authorization"] = f"Session {old}"
        assert take(nobody, session_id, "My name is Ida.").status_code == 200
        for path in ("/sessions", "/query", "/admin/users/eA/terminate"):
            require_problem(nobody.post(path, json={"message": "hi"}), 403, "forbidden")
        body, key = {"secret_sha256": sha256(new.encode()).hexdigest()}, {"Idempotency-Key": "r"}
        rotated = [nobody.post(f"/sessions/{session_id}/rotate", json=body, headers=key) for _ in range(2)]
        assert [answer.status_code for answer in rotated] == [200, 200]
        rotated_id = rotated[0].json()["session_id"]
        for gone in (session_id, rotated_id):
            problem = require_problem(nobody.get(f"/sessions/{gone}"), 404, "session_not_found")
            assert problem["start_over"]["href"] == "/v1/anonymous/sessions"
        nobody.headers["Authorization"] = f"Session {new}"
        assert "Ida" in take(nobody, rotated_id, "What is my name?").json()["text"]
        claimed = ada.post(f"/sessions/{rotated_id}/claim", json={"secret": new}, headers={"Idempotency-Key": "c"})
        assert (claimed.status_code, claimed.json()["turns"]) == (200, 2)
        require_problem(nobody.get(f"/sessions/{rotated_id}"), 404, "session_not_found")
    assert "Ida" in take(ada, claimed.json()["session_id"], "What is my name?").json()["text"]


def test_a_question_goes_on_as_a_session_which_can_be_exported(
    ada: httpx2.Client, eve: httpx2.Client, stack: Stack
) -> None:
    asked = ada.post("/query", json={"message": "My name is Ada.", "continuable": True}).json()
    before = stack.model_calls()
    require_problem(eve.post("/sessions", json={"continuation": asked["continuation"]}), 422, "continuation_invalid")
    begun = ada.post("/sessions", json={"continuation": asked["continuation"], "title": "Goes on"})
    assert (begun.status_code, begun.json()["turns"], stack.model_calls()) == (201, 1, before)
    session_id = begun.json()["session_id"]
    assert "Ada" in take(ada, session_id, "What is my name?").json()["text"]
    exported = ada.get(f"/sessions/{session_id}/export").json()
    assert (exported["session"]["title"], exported["next"]) == ("Goes on", None)
    assert [turn["turn"] for turn in exported["turns"]] == [1, 2]
    assert exported["turns"][0]["text"] == asked["text"]


def test_an_administrator_reads_and_deletes_sessions_and_all_is_audited(stack: Stack) -> None:
    user = f"ida-{secrets.token_hex(4)}"
    owner = f"{stack.run['issuer']}|{user}"
    whom = base64.urlsafe_b64encode(owner.encode()).rstrip(b"=").decode()
    why = {"reason": "Ticket 4711: asked to look."}
    with caller(stack, stack.token_of(user)) as ida, caller(stack, stack.token_of("root", "admin")) as admin:
        first, second = new_session(ida, title="First"), new_session(ida)
        assert take(ida, second, "My name is Ida.").status_code == 200
        for _ in range(2):
            require_problem(ida.get(f"/admin/users/{whom}/sessions"), 403, "forbidden")
        listed = admin.get(f"/admin/users/{whom}/sessions")
        assert listed.status_code == 200, listed.text
        assert [item["turns"] for item in listed.json()["items"]] == [1, 0]
        assert not [each for each in (first, second, "First", user) if each in listed.text]
        ref = listed.json()["items"][0]["ref"]
        require_problem(admin.post(f"/admin/sessions/{ref}/content", json=why), 403, "forbidden")
        with caller(stack, stack.token_of("root", "admin admin:content")) as reader:
            shown = reader.post(f"/admin/sessions/{ref}/content", json=why)
            assert shown.json()["items"] == ida.get(f"/sessions/{second}/turns").json()["items"]
        assert admin.post(f"/admin/sessions/{ref}/terminate").status_code == 204
        assert admin.post(f"/admin/users/{whom}/terminate").json() == {"ended": 1, "left": 0}
        for gone in (first, second):
            require_problem(ida.get(f"/sessions/{gone}"), 404, "session_not_found")
    trail = stack.audited()
    by_her = [event["action"] for event in trail if event.get("owner") == owner_hash(owner)]
    assert sorted(by_her) == ["create", "create", *["denied"] * 4]
    to_her = [event["action"] for event in trail if event.get("subject") == owner_hash(owner)]
    assert sorted(to_her) == ["admin content", "admin list", "admin terminate", "admin terminate all"]


def test_no_header_chooses_the_address_that_a_stranger_comes_from(stack: Stack) -> None:
    before = len(of_strangers(stack))
    chosen: list[dict[str, str]] = [{}, {"X-Forwarded-For": "198.51.100.1"}, {"x-forwarded-for": "198.51.100.2, ::1"}]
    with caller(stack, None) as stranger:
        for headers in chosen:
            body = {"secret_sha256": secrets.token_hex(32)}
            assert stranger.post("/anonymous/sessions", json=body, headers=headers).status_code == 201
    trail = of_strangers(stack)
    assert len(trail) == before + len(chosen)
    assert len({event["source"] for event in trail}) == 1


def of_strangers(stack: Stack) -> list[dict[str, Any]]:
    return [event for event in stack.audited() if event["action"] == "create" and "source" in event]


def test_the_gateway_lets_in_pages_of_the_origin_that_is_named_and_no_others(stack: Stack) -> None:
    with caller(stack, None) as stranger:
        for refused in (stranger.get("/no-such-route"), stranger.get("/sessions")):
            assert refused.status_code in (401, 404)
            assert refused.headers["access-control-allow-origin"] == PAGE


def test_foreign_deleted_and_unknown_sessions_answer_the_same_bytes(ada: httpx2.Client, eve: httpx2.Client) -> None:
    kept, deleted = new_session(ada), new_session(ada)
    take(ada, deleted, "forget this")
    assert ada.delete(f"/sessions/{deleted}").status_code == 204
    unknown = "ses_" + "A" * 22
    answers = [eve.get(f"/sessions/{kept}"), ada.get(f"/sessions/{deleted}"), ada.get(f"/sessions/{unknown}")]
    answers += [take(eve, kept, "hello"), take(ada, deleted, "hello"), ada.get("/sessions/S%23x")]
    answers += [eve.delete(f"/sessions/{kept}"), eve.get(f"/sessions/{kept}/turns")]
    bodies = [require_problem(answer, 404, "session_not_found") for answer in answers]
    assert len({json.dumps(body | {"instance": ""}) for body in bodies}) == 1
    assert ada.get(f"/sessions/{kept}").status_code == 200


def test_what_is_stored_expires_and_a_deleted_session_leaves_no_content(ada: httpx2.Client, stack: Stack) -> None:
    session_id = new_session(ada)
    take(ada, session_id, "a canary called pelargonium")
    stored = stack.items()
    assert all("ttl" in item for item in stored if item["sk"]["S"] != "swept")  # the sweeper's mark stays
    assert stack.ttl_status() == {"TimeToLiveStatus": "ENABLED", "AttributeName": "ttl"}
    ada.delete(f"/sessions/{session_id}")
    left = [item for item in stack.items() if item not in stored]
    assert {frozenset(item) for item in left} == {frozenset({"pk", "sk", "v", "st", "ttl"})}


def test_a_stored_conversation_is_encrypted(ada: httpx2.Client, stack: Stack) -> None:
    before = stack.items()
    session_id = new_session(ada, title="A title for nobody else", system="Be brief for nobody else.")
    take(ada, session_id, "A message for nobody else")
    held = [item for item in stack.items() if item not in before and {"body", "cfg", "title", "sid"} & set(item)]
    assert len(held) == 4
    assert {item["v"]["N"] for item in held} == {"2"}
    assert all(item["kid"]["S"] for item in held)
    stored = str(held)
    assert not [text for text in ("nobody else", session_id, "claude-") if text in stored]


def test_a_back_end_s_people_have_sessions_of_their_own(stack: Stack) -> None:
    with caller(stack, stack.token_of("back-end", "delegate")) as back_end:
        ada, eve = {"Turnlog-User": "ada"}, {"Turnlog-User": "eve"}
        made = back_end.post("/sessions", json={}, headers=ada)
        assert made.status_code == 201, made.text
        path = f"/sessions/{made.json()['session_id']}"
        assert back_end.get(path, headers=ada).status_code == 200
        for other in (eve, {}):
            require_problem(back_end.get(path, headers=other), 404, "session_not_found")
            assert back_end.get("/sessions", headers=other).json()["items"] == []
        # A gateway may join the two by a comma and a space, which no name has.
        assert back_end.get(path, headers=[*ada.items(), *eve.items()]).status_code == 400
    with caller(stack, stack.token) as nobody_s:
        require_problem(nobody_s.get(path, headers=ada), 403, "forbidden")


def test_without_a_valid_token_no_route_answers(stack: Stack) -> None:
    foreign = stack.token[:-8] + "AAAAAAAA"
    for token in (None, "nonsense", foreign):
        with caller(stack, token) as nobody:
            for answer in (nobody.post("/query", json={"message": "hi"}), nobody.get("/sessions/x")):
                problem = require_problem(answer, 401, "unauthorized")
                assert problem["title"] == "Unauthorized"
                assert answer.headers["www-authenticate"] == "Bearer, Session"


def test_routes_and_methods_that_do_not_exist_are_404(ada: httpx2.Client) -> None:
    for answer in (ada.get("/nowhere"), ada.delete("/query"), ada.put("/sessions")):
        require_problem(answer, 404, "route_not_found")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "json_invalid"),
        (b'{"message":"\xff"}', 400, "encoding_invalid"),
        (b'{"message":"a","message":"b"}', 400, "json_duplicate_key"),
        (b'{"message":5}', 400, "wrong_type"),
        (b'{"message":"a","role":"admin"}', 400, "unknown_field"),
        (b'{"message":""}', 422, "message_empty"),
        (b'{"message":"' + b"x" * 300_000 + b'"}', 413, "text_too_large"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_bad_body_is_refused_over_the_wire_and_nothing_is_paid(
    ada: httpx2.Client, stack: Stack, body: bytes, status: int, code: str
) -> None:
    before = stack.model_calls()
    answer = ada.post("/query", content=body, headers={"Content-Type": "application/json"})
    require_problem(answer, status, code)
    assert stack.model_calls() == before


def test_a_turn_without_a_key_is_refused(ada: httpx2.Client) -> None:
    answer = ada.post(f"/sessions/{new_session(ada)}/turns", json={"message": "hi"})
    require_problem(answer, 400, "idempotency_key_missing")


@pytest.mark.parametrize(
    ("fault", "more", "status", "code"),
    [
        ("server_error", {}, 502, "model_failed"),
        ("cut", {}, 502, "model_failed"),
        ("garbage", {}, 502, "model_protocol_error"),
        ("early_end", {}, 502, "model_protocol_error"),
        ("rate_limit", {"retry_after_s": 120}, 503, "model_unavailable"),
    ],
)
def test_a_failing_model_stores_nothing_and_a_retry_with_the_key_goes_well(
    ada: httpx2.Client, stack: Stack, fault: str, more: dict[str, Any], status: int, code: str
) -> None:
    session_id = new_session(ada)
    stack.fail(fault, match="fragile", **more)
    problem = require_problem(take(ada, session_id, "fragile", "k"), status, code)
    assert (problem["stored"], problem["retry"]) == (False, "same-key")
    assert ada.get(f"/sessions/{session_id}").json()["turns"] == 0
    assert take(ada, session_id, "fragile", "k").json()["turn"] == 1


DOCUMENT = " ".join(
    f"Chapter {number}. Herons nest in colonies near water. The river rose {number} centimetres. It was quiet."
    for number in range(60)
)


def test_a_document_in_the_inbox_becomes_a_summary_in_the_outbox(stack: Stack) -> None:
    name = f"notes {secrets.token_hex(4)}.txt"
    stack.s3.put_object(Bucket=stack.bucket, Key=f"inbox/{stack.owner}/{name}", Body=DOCUMENT.encode())
    summary = wait_for_object(stack, f"outbox/{stack.owner}/{name}.summary.json")
    assert summary["status"] == "done"
    assert "Herons" in summary["text"]
    assert len(summary["text"]) < len(DOCUMENT) / 4


@pytest.mark.asvs("2.3.2")
def test_a_crowd_of_requests_gets_as_many_sessions_as_the_limit(stack: Stack) -> None:
    token = stack.token_of(f"crowd-{secrets.token_hex(4)}")
    with stack.with_settings("SessionFunction", OWNER_SESSIONS_A_DAY="40"), caller(stack, token) as crowd:
        crowd.timeout = httpx2.Timeout(4 * PATIENCE_S)  # each of those at once begins with a cold start
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: crowd.post("/sessions", json={}), range(120)))
        by_status = Counter(answer.status_code for answer in answers)
        made = len(crowd.get("/sessions", params={"limit": 100}).json()["items"])
    assert set(by_status) <= {201, 429, 503}
    assert by_status[201] <= made == 40
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert require_problem(refused, 429, "allowance_used_up")["limit"] == "sessions"
    assert int(refused.headers["retry-after"]) > 0


def test_erasing_a_user_leaves_no_content_of_theirs_in_any_table_or_bucket(stack: Stack) -> None:
    token = stack.token_of(f"leaver-{secrets.token_hex(4)}")
    claims = jwt.decode(token, options={"verify_signature": False})
    owner = owner_hash(f"{claims['iss']}|{claims['sub']}")
    with caller(stack, token) as leaver:
        before = {table: stack.items(table) for table in stack.run["tables"]}
        for title in ("first", "second"):
            take(leaver, new_session(leaver, title=title), "Something to forget")
        leaver.post("/query", json={"message": "Something else to forget"}).raise_for_status()
        stack.s3.put_object(Bucket=stack.bucket, Key=f"inbox/{owner}/notes.txt", Body=DOCUMENT.encode())
        wait_for_object(stack, f"outbox/{owner}/notes.txt.summary.json")
        held = leaver.get("/me/export").json()
        assert [len(each["turns"]) for each in held["sessions"]] == [1, 1]
        assert len(held["documents"]) == 2
        receipt = leaver.request("DELETE", "/me").json()
        assert (receipt["sessions"], receipt["documents"]) == (2, 2)
        assert leaver.get("/sessions").json()["items"] == []
        assert leaver.get("/me/export").json()["sessions"] == []
    left = {table: [item for item in stack.items(table) if item not in before[table]] for table in before}
    for item in left["SessionsTable"]:
        assert item.get("st", {}).get("S") == "ended" or item["pk"]["S"].startswith("D#")
        assert not {"body", "part", "cfg", "title", "sid"} & set(item)
    assert [item["st"]["S"] for item in left["KeysTable"]] == ["erased"]
    assert not any("key" in item for item in left["KeysTable"])
    assert [item for item in left["UsageTable"] if owner in item["pk"]["S"]] == []
    for prefix in ("inbox", "outbox"):
        versions = stack.s3.list_object_versions(Bucket=stack.bucket, Prefix=f"{prefix}/{owner}/")
        assert not versions.get("Versions") and not versions.get("DeleteMarkers")


def wait_for_object(stack: Stack, key: str) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if stack.s3.list_objects_v2(Bucket=stack.bucket, Prefix=key).get("Contents"):
            body: dict[str, Any] = json.loads(stack.s3.get_object(Bucket=stack.bucket, Key=key)["Body"].read())
            if body["status"] != "running":
                return body
        time.sleep(0.2)
    raise AssertionError(f"{key} never came")


def test_no_conversation_text_and_no_session_id_is_printed_or_logged(ada: httpx2.Client, stack: Stack) -> None:
    session_id = new_session(ada, system="canary-system-marmalade", title="canary-title-marmalade")
    take(ada, session_id, "canary-message-marmalade", "canary-key-marmalade")
    ada.post("/query", json={"message": "canary-query-marmalade"})
    written = stack.everything_written()
    assert "POST /v1/sessions/{id}/turns" in written
    assert "marmalade" not in written
    assert session_id not in written
