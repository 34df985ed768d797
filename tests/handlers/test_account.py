"""A user takes everything along, or has everything erased."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from moto import mock_aws

from tests.contract.session_store import turn_of
from tests.fakes import OWNER, START_MS, new_session
from tests.handlers.conftest import Answered, Backstage, Call, Context, WithUnnamed, app
from turnlog import runtime
from turnlog.adapters.s3_documents import S3DocumentStore
from turnlog.domain.answers import bytes_in_answer, turn_bytes
from turnlog.domain.limits import OwnerLimits
from turnlog.domain.messages import to_json
from turnlog.domain.owners import owner_hash
from turnlog.domain.sessions import Session, SessionView
from turnlog.domain.turns import Lease
from turnlog.errors import ItemVersionUnknown, StoreUnavailable, TurnsMissing
from turnlog.usecases import account, turn_pages
from turnlog.usecases.turn_request import TurnPolicy

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "turnlog-documents-123456789012-us-east-1"
EVE = "https://issuer.example/|eve"
ADAS, EVES = owner_hash(OWNER), owner_hash(EVE)


@pytest.fixture
def bucket(backstage: Backstage, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Client]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket=BUCKET)
        client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        monkeypatch.setattr(runtime, "document_store", lambda: S3DocumentStore(client, BUCKET))
        yield client


def drop(bucket: S3Client, *keys: str) -> None:
    for key in keys:
        bucket.put_object(Bucket=BUCKET, Key=key, Body=b"a document")


def left(bucket: S3Client) -> set[str]:
    """Keys of which any version or mark of deletion is there."""
    found = bucket.list_object_versions(Bucket=BUCKET)
    return {each["Key"] for each in [*found.get("Versions", []), *found.get("DeleteMarkers", [])]}


def begun(backstage: Backstage, turns: int, owner: str = OWNER) -> Session:
    session = backstage.store.create(new_session(owner), f"{turns} turns")
    for number in range(1, turns + 1):
        lease = Lease(number, f"t{number}", START_MS + 65_000, b"%d" % number, b"f", START_MS)
        backstage.store.acquire(session, lease, over=None)
        backstage.store.commit(session, turn_of(lease))
    return session


def exported(call: Call, **more: Any) -> Answered:
    return call("account", "GET", "/me/export", **more)


def whole_export(call: Call) -> list[Any]:
    parts, cursor = [], None
    while True:
        answer = exported(call, query={"cursor": [cursor]} if cursor else None)
        assert answer.status == 200
        parts.append(answer.body)
        cursor = answer.body["next"]
        if cursor is None:
            return parts


def shorten(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Lets a part hold so many bytes, where a session takes those of its prompt alone."""
    monkeypatch.setattr(turn_pages, "MOST_BYTES", most)
    monkeypatch.setattr(account, "_SESSION_BYTES", 0)


class TestExport:
    def test_it_has_every_session_with_its_turns_and_names_the_documents(
        self, call: Call, backstage: Backstage, bucket: S3Client
    ) -> None:
        sessions = [begun(backstage, turns) for turns in (0, 2, 3)]
        begun(backstage, 1, EVE)
        drop(bucket, f"inbox/{ADAS}/a.txt", f"outbox/{ADAS}/a.txt.summary.json", f"inbox/{EVES}/b.txt")
        (part,) = whole_export(call)
        assert part["format"] == "turnlog-user-1"
        assert {each["session"]["session_id"]: len(each["turns"]) for each in part["sessions"]} == {
            session.id: turns for session, turns in zip(sessions, (0, 2, 3), strict=True)
        }
        shown = next(each for each in part["sessions"] if len(each["turns"]) == 3)
        assert [turn["turn"] for turn in shown["turns"]] == [1, 2, 3]
        assert shown["turns"][0]["message"] and shown["turns"][0]["text"]
        assert [each["key"] for each in part["documents"]] == [
            f"inbox/{ADAS}/a.txt",
            f"outbox/{ADAS}/a.txt.summary.json",
        ]
        assert part["documents"][0]["bytes"] == len(b"a document")

    @pytest.mark.parametrize("turns_a_part", [1, 2, 3, 5, 100])
    def test_a_large_one_comes_in_parts_that_hold_each_turn_once(
        self, call: Call, backstage: Backstage, bucket: S3Client, monkeypatch: pytest.MonkeyPatch, turns_a_part: int
    ) -> None:
        sessions = {begun(backstage, turns).id: turns for turns in (3, 0, 4, 1)}
        size = turn_bytes(backstage.store.turns(begun(backstage, 1, EVE), 1, 1)[0])
        shorten(monkeypatch, turns_a_part * size)
        parts = whole_export(call)
        held = [sum(len(each["turns"]) for each in part["sessions"]) for part in parts]
        assert all(1 <= turns <= turns_a_part for turns in held[:-1])
        assert sum(held) == 8
        assert len(parts) >= 8 / turns_a_part
        numbers: dict[str, list[int]] = {session_id: [] for session_id in sessions}
        for part in parts:
            for each in part["sessions"]:
                numbers[each["session"]["session_id"]] += [turn["turn"] for turn in each["turns"]]
        assert numbers == {session_id: list(range(1, turns + 1)) for session_id, turns in sessions.items()}

    def test_many_long_system_prompts_come_in_parts_too(
        self, call: Call, backstage: Backstage, bucket: S3Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sessions = [begun(backstage, turns) for turns in (0, 0, 0, 0, 1)]
        shorten(monkeypatch, 2 * bytes_in_answer(to_json(sessions[0].settings.system)))
        held = [[each["session"]["session_id"] for each in part["sessions"]] for part in whole_export(call)]
        assert max(map(len, held)) == 2
        assert sorted(each for part in held for each in part) == sorted(session.id for session in sessions)

    def test_an_unreadable_session_is_named_and_hides_no_other(
        self, call: Call, backstage: Backstage, bucket: S3Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole, damaged, later = (begun(backstage, 1) for _ in range(3))
        read = backstage.store.read

        def reading(owner: str, session_id: str, now_ms: int, newest: int, **how: bool) -> SessionView:
            if session_id in (damaged.id, later.id):
                raise TurnsMissing if session_id == damaged.id else ItemVersionUnknown
            return read(owner, session_id, now_ms, newest, **how)

        monkeypatch.setattr(backstage.store, "read", reading)
        (part,) = whole_export(call)
        assert [each["session"]["session_id"] for each in part["sessions"]] == [whole.id]
        assert (part["damaged"], part["unavailable"]) == ([damaged.id], [later.id])

    @pytest.mark.parametrize("turns_a_part", [1, 100])
    def test_one_that_cannot_even_be_named_is_counted_once_and_hides_no_other(
        self, call: Call, backstage: Backstage, bucket: S3Client, monkeypatch: pytest.MonkeyPatch, turns_a_part: int
    ) -> None:
        whole = {begun(backstage, turns).id for turns in (1, 2, 0)}
        size = turn_bytes(backstage.store.turns(begun(backstage, 1, EVE), 1, 1)[0])
        shorten(monkeypatch, turns_a_part * size)
        backstage.store = WithUnnamed(backstage.store)  # type: ignore[assignment] # a store all the same
        parts = whole_export(call)
        assert {each["session"]["session_id"] for part in parts for each in part["sessions"]} == whole
        assert [part["unnamed"] for part in parts] == [1] + [0] * (len(parts) - 1)
        assert {name for part in parts for name in part["damaged"]} == set()

    def test_a_cursor_is_good_for_its_user_alone(
        self, call: Call, backstage: Backstage, bucket: S3Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        begun(backstage, 3)
        shorten(monkeypatch, 1)
        cursor = exported(call).body["next"]
        assert exported(call, query={"cursor": [cursor]}, owner=EVE).body["code"] == "cursor_invalid"

    def test_it_is_for_people_who_are_signed_in(self, call: Call, bucket: S3Client) -> None:
        assert exported(call, secret="s" * 43).status == 403
        assert exported(call, owner=None).status == 401


class TestErasure:
    @pytest.mark.asvs("7.4.2")
    @pytest.mark.asvs("14.2.7")
    def test_nothing_of_the_user_is_left_and_all_of_others(
        self, call: Call, backstage: Backstage, bucket: S3Client
    ) -> None:
        sessions = [begun(backstage, turns) for turns in (0, 3)]
        others = begun(backstage, 2, EVE)
        drop(bucket, f"inbox/{ADAS}/a.txt", f"inbox/{ADAS}/a.txt", f"outbox/{ADAS}/a.txt.summary.json")
        drop(bucket, f"inbox/{EVES}/b.txt")
        bucket.delete_object(Bucket=BUCKET, Key=f"inbox/{ADAS}/a.txt")
        answer = call("account", "DELETE", "/me")
        assert answer.status == 200
        assert answer.body == {"erased_at": "2026-09-21T14:13:20.000Z", "sessions": 2, "documents": 2, "left": 0}
        assert backstage.store.session_ids(OWNER) == []
        assert left(bucket) == {f"inbox/{EVES}/b.txt"}
        for session in sessions:
            assert call("session", "GET", "/sessions/{id}", parameters={"id": session.id}).status == 404
        assert backstage.store.read(EVE, others.id, START_MS, newest=9).count == 2

    def test_it_can_be_repeated_and_the_user_may_begin_anew(
        self, call: Call, backstage: Backstage, bucket: S3Client
    ) -> None:
        begun(backstage, 1)
        assert call("account", "DELETE", "/me").body["sessions"] == 1
        assert call("account", "DELETE", "/me").body["sessions"] == 0
        assert call("session", "POST", "/sessions", {}).status == 201

    @pytest.mark.asvs("2.3.2")
    def test_whoever_begins_anew_has_no_more_of_the_day_s_limits_than_before(
        self, call: Call, bucket: S3Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        policy = TurnPolicy(owner=OwnerLimits(sessions_a_day=1))
        monkeypatch.setattr(runtime, "turn_policy", lambda: policy)
        assert call("session", "POST", "/sessions", {}).status == 201
        assert call("account", "DELETE", "/me").status == 200
        assert call("session", "POST", "/sessions", {}).body["limit"] == "sessions"

    def test_one_that_was_cut_off_is_finished_by_the_next(
        self, call: Call, backstage: Backstage, bucket: S3Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        begun(backstage, 1)
        drop(bucket, f"inbox/{ADAS}/a.txt")

        def fails(owner: str, now_ms: int, **_: Any) -> int:
            raise StoreUnavailable

        with monkeypatch.context() as broken:
            broken.setattr(backstage.store, "erase", fails)
            assert call("account", "DELETE", "/me").status == 503
        assert call("account", "DELETE", "/me").body["sessions"] == 1
        assert left(bucket) == set()

    def test_it_stops_in_time_and_a_repeat_goes_on_until_the_receipt(
        self, call: Call, backstage: Backstage, bucket: S3Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for _ in range(50):
            begun(backstage, 1)
        drop(bucket, f"inbox/{ADAS}/a.txt")
        remove = backstage.store._memory.remove

        def slowly(owner: str, session_id: str, now_ms: int) -> bool:
            backstage.clock.tick(seconds=1)
            return remove(owner, session_id, now_ms)

        monkeypatch.setattr(backstage.store._memory, "remove", slowly)
        answers: list[Answered] = []
        seconds: list[float] = []
        while not answers or answers[-1].status == 202:
            began_ms = backstage.clock()
            answers.append(call("account", "DELETE", "/me"))
            seconds.append((backstage.clock() - began_ms) / 1000)
        assert [each.status for each in answers] == [202, 202, 200]
        assert [each.body["left"] for each in answers] == [31, 12, 0]
        assert [each.body["sessions"] for each in answers] == [19, 19, 12]
        assert [each.body["documents"] for each in answers] == [1, 0, 0]
        assert [each.body["erased_at"] is None for each in answers] == [True, True, False]
        assert max(seconds) < runtime.gateway_s()

    def test_what_s3_does_not_remove_is_no_receipt(
        self, call: Call, bucket: S3Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        drop(bucket, f"inbox/{ADAS}/a.txt")
        refused = {"Errors": [{"Key": "a", "Code": "AccessDenied", "Message": ""}]}
        monkeypatch.setattr(bucket, "delete_objects", lambda **_: refused)
        assert call("account", "DELETE", "/me").status == 503

    def test_it_is_for_people_who_are_signed_in(self, call: Call, bucket: S3Client) -> None:
        assert call("account", "DELETE", "/me", secret="s" * 43).status == 403
        assert call("account", "DELETE", "/me", owner=None).status == 401
        assert call("account", "DELETE", "/me", query={"all": ["1"]}).status == 400


@pytest.mark.parametrize("path", ["events/account.json", "events/account/erase.json"])
def test_the_example_is_answered(call: Call, bucket: S3Client, path: str) -> None:
    assert app("account").handler(json.loads(Path(path).read_text()), Context())["statusCode"] == 200
