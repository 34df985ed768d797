"""The DynamoDB store beside the contract: the items in its table, and its errors when DynamoDB fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError, ReadTimeoutError

from tests.contract.conftest import TABLE, USAGE_TABLE
from tests.contract.session_store import charge, lease_of, move_of, take, take_all
from tests.fakes import OWNER, START_MS, new_session
from turnlog.adapters.dynamodb import DynamoDBSessionStore
from turnlog.adapters.dynamodb.items import partition
from turnlog.domain.margins import GRACE
from turnlog.domain.quotas import QuotaCharges
from turnlog.domain.sessions import Session, SessionChanges
from turnlog.errors import KeyReused, QuotaExceeded, SessionCorrupt, SessionNotFound, StoreUnavailable

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


def items(dynamodb: DynamoDBClient) -> list[dict[str, Any]]:
    """Every item of sessions: the whole table but the sweeper's list."""
    return [item for item in everything(dynamodb) if not item["pk"]["S"].startswith("D#")]


def everything(dynamodb: DynamoDBClient) -> list[dict[str, Any]]:
    return [dict(item) for item in dynamodb.scan(TableName=TABLE)["Items"]]


class FlakyClient:
    """Lets the real client answer, but raises the next of `failures` first (before) or afterwards (after)."""

    def __init__(self, client: DynamoDBClient) -> None:
        self._client = client
        self.before: list[Exception] = []
        self.after: list[Exception] = []
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        operation = getattr(self._client, name)

        def call(**arguments: Any) -> Any:
            self.calls.append(name)
            if self.before:
                raise self.before.pop(0)
            answer = operation(**arguments)
            if self.after:
                raise self.after.pop(0)
            return answer

        return call


def refusal(code: str, status: int = 400) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "PutItem")  # type: ignore[typeddict-item]


TRANSIENT = [
    refusal("ThrottlingException"),
    refusal("ProvisionedThroughputExceededException"),
    refusal("SomethingNew", 500),
    ReadTimeoutError(endpoint_url="http://dynamodb"),
    ConnectTimeoutError(endpoint_url="http://dynamodb"),
]


@pytest.fixture
def flaky(dynamodb: DynamoDBClient) -> FlakyClient:
    return FlakyClient(dynamodb)


@pytest.fixture
def store(flaky: FlakyClient) -> DynamoDBSessionStore:
    return DynamoDBSessionStore(flaky, TABLE, sleep=lambda _: None)  # type: ignore[arg-type]


@pytest.fixture
def session(store: DynamoDBSessionStore) -> Session:
    session = new_session()
    store.create(session, "A title")
    return session


def test_a_turn_costs_one_query_and_two_puts(store: DynamoDBSessionStore, session: Session, flaky: FlakyClient) -> None:
    flaky.calls.clear()
    store.read(OWNER, session.id, START_MS, newest=25)
    take(store, session, 1)
    assert flaky.calls == ["query", "put_item", "put_item"]


@pytest.mark.asvs("14.2.7")
def test_every_item_has_a_ttl_an_hour_after_the_end(
    store: DynamoDBSessionStore, session: Session, dynamodb: DynamoDBClient
) -> None:
    take(store, session, 1)
    store.acquire(session, lease_of(2), over=None)
    expected = session.expires_ms // 1000 + int(GRACE.total_seconds())
    assert {int(item["ttl"]["N"]) for item in everything(dynamodb)} == {expected}
    assert {int(item["v"]["N"]) for item in everything(dynamodb)} == {1}
    assert len(everything(dynamodb)) == 6  # index, the sweeper's entry, header, meta, a turn, a lease


def test_a_delete_leaves_only_empty_tombstones(
    store: DynamoDBSessionStore, session: Session, dynamodb: DynamoDBClient
) -> None:
    take(store, session, 1)
    store.delete(OWNER, session.id, START_MS)
    assert [set(item) for item in items(dynamodb)] == [{"pk", "sk", "v", "st", "ttl"}] * 2


def test_keys_hold_no_owner_and_no_session_id(
    store: DynamoDBSessionStore, session: Session, dynamodb: DynamoDBClient
) -> None:
    take(store, session, 1)
    keys = str([(item["pk"], item["sk"]) for item in items(dynamodb)])
    assert session.id not in keys
    assert "ada" not in keys


def test_owner_and_id_cannot_be_shifted_into_one_another() -> None:
    assert partition("a", "bses_x") != partition("ab", "ses_x")


@pytest.mark.parametrize("failure", TRANSIENT, ids=str)
def test_a_transient_failure_is_tried_again(
    store: DynamoDBSessionStore, session: Session, flaky: FlakyClient, failure: Exception
) -> None:
    flaky.before = [failure, failure]
    assert store.read(OWNER, session.id, START_MS, newest=1).count == 0


@pytest.mark.parametrize("failure", TRANSIENT, ids=str)
def test_a_write_whose_answer_was_lost_is_recognised_as_done(
    store: DynamoDBSessionStore, session: Session, flaky: FlakyClient, failure: Exception
) -> None:
    flaky.after = [failure]
    assert store.acquire(session, lease_of(1), over=None) == lease_of(1)


def test_a_failure_that_lasts_is_reported_after_four_tries(
    store: DynamoDBSessionStore, session: Session, flaky: FlakyClient
) -> None:
    flaky.calls.clear()
    flaky.before = [refusal("ThrottlingException")] * 9
    with pytest.raises(StoreUnavailable):
        store.read(OWNER, session.id, START_MS, newest=1)
    assert len(flaky.calls) == 4


def test_a_refusal_of_permission_is_not_tried_again(
    store: DynamoDBSessionStore, session: Session, flaky: FlakyClient
) -> None:
    flaky.calls.clear()
    flaky.before = [refusal("AccessDeniedException")]
    with pytest.raises(StoreUnavailable):
        store.read(OWNER, session.id, START_MS, newest=1)
    assert len(flaky.calls) == 1


def test_an_unknown_failure_of_a_request_is_not_hidden(
    store: DynamoDBSessionStore, session: Session, flaky: FlakyClient
) -> None:
    flaky.before = [refusal("ValidationException")]
    with pytest.raises(ClientError):
        store.read(OWNER, session.id, START_MS, newest=1)


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_gap_in_the_turns_is_an_error(
    store: DynamoDBSessionStore, session: Session, dynamodb: DynamoDBClient, lost: int
) -> None:
    for number in (1, 2, 3, 4):
        take(store, session, number)
    key = {"pk": {"S": partition(OWNER, session.id)}, "sk": {"S": f"{lost:09d}"}}
    dynamodb.delete_item(TableName=TABLE, Key=key)
    with pytest.raises(SessionCorrupt):
        store.read(OWNER, session.id, START_MS, newest=25)


@pytest.mark.parametrize(
    ("name", "value"), [("body", {"B": b"zbroken"}), ("v", {"N": "2"}), ("fp", None), ("tot", {"S": "?"})]
)
def test_an_unreadable_item_is_an_error(
    store: DynamoDBSessionStore, session: Session, dynamodb: DynamoDBClient, name: str, value: dict[str, Any] | None
) -> None:
    take(store, session, 1)
    item = next(item for item in items(dynamodb) if item["sk"]["S"] == "000000001")
    item.pop(name)
    dynamodb.put_item(TableName=TABLE, Item=item | ({name: value} if value else {}))
    with pytest.raises(SessionCorrupt):
        store.read(OWNER, session.id, START_MS, newest=25)


def test_a_header_that_cannot_be_read_is_an_error(
    store: DynamoDBSessionStore, session: Session, dynamodb: DynamoDBClient
) -> None:
    item = next(item for item in items(dynamodb) if item["sk"]["S"] == "session")
    dynamodb.put_item(TableName=TABLE, Item=item | {"cfg": {"B": b"z"}})
    with pytest.raises(SessionCorrupt):
        store.read(OWNER, session.id, START_MS, newest=25)


def test_fields_of_a_later_version_are_tolerated(
    store: DynamoDBSessionStore, session: Session, dynamodb: DynamoDBClient
) -> None:
    turn = take(store, session, 1)
    for item in items(dynamodb):
        dynamodb.put_item(TableName=TABLE, Item=item | {"new": {"S": "later"}})
    assert store.read(OWNER, session.id, START_MS, newest=25).turns == (turn,)


def test_a_damaged_session_can_be_deleted(
    store: DynamoDBSessionStore, session: Session, dynamodb: DynamoDBClient
) -> None:
    for number in (1, 2, 3):
        take(store, session, number)
    dynamodb.delete_item(TableName=TABLE, Key={"pk": {"S": partition(OWNER, session.id)}, "sk": {"S": "000000002"}})
    assert store.delete(OWNER, session.id, START_MS) is True
    assert {item["st"]["S"] for item in items(dynamodb)} == {"ended"}


def test_a_delete_that_was_interrupted_is_finished_by_the_next(
    store: DynamoDBSessionStore, session: Session, flaky: FlakyClient, dynamodb: DynamoDBClient
) -> None:
    take(store, session, 1)
    done = len(flaky.calls)
    store.delete(OWNER, session.id, START_MS)
    steps = len(flaky.calls) - done
    assert steps >= 6
    for step in range(steps):
        other = new_session()
        store.create(other, "secret title")
        take(store, other, 1)
        crashing = _Crashing(flaky, step)
        with pytest.raises(_CrashError):
            DynamoDBSessionStore(crashing, TABLE, sleep=lambda _: None).delete(OWNER, other.id, START_MS)  # type: ignore[arg-type]
        store.delete(OWNER, other.id, START_MS)
        left = [item for item in items(dynamodb) if item["pk"]["S"] == partition(OWNER, other.id)]
        assert {item["st"]["S"] for item in left} == {"ended"}
        assert not [item for item in items(dynamodb) if item["sk"]["S"] == partition(OWNER, other.id)]


@pytest.mark.parametrize("changes", [SessionChanges(title="canary"), SessionChanges(metadata=(("name", "canary"),))])
def test_a_change_that_comes_after_the_end_brings_nothing_back(
    dynamodb: DynamoDBClient, store: DynamoDBSessionStore, session: Session, changes: SessionChanges
) -> None:
    class EndsItFirst:
        def __getattr__(self, name: str) -> Any:
            if name == "update_item":
                store.delete(OWNER, session.id, START_MS)
            return getattr(dynamodb, name)

    late: Any = EndsItFirst()
    take(store, session, 1)
    with pytest.raises(SessionNotFound):
        DynamoDBSessionStore(late, TABLE, sleep=lambda _: None).change(OWNER, session.id, changes, START_MS)
    assert "canary" not in str(everything(dynamodb))
    assert {item.get("st", {}).get("S") for item in items(dynamodb)} == {"ended"}


def test_metadata_lies_beside_the_title_and_leaves_with_it(
    dynamodb: DynamoDBClient, store: DynamoDBSessionStore, session: Session
) -> None:
    def meta() -> dict[str, Any]:
        return next(item for item in items(dynamodb) if item["sk"]["S"] == "meta")

    before = meta()
    store.change(OWNER, session.id, SessionChanges(metadata=(("a", "☃"), ("b", ""))), START_MS)
    assert meta() == before | {"md": {"S": '{"a":"☃","b":""}'}}
    store.change(OWNER, session.id, SessionChanges(metadata=()), START_MS)
    assert meta() == before


class _CrashError(Exception):
    pass


class _Crashing:
    """Dies instead of making the call after `steps` calls."""

    def __init__(self, client: Any, steps: int) -> None:
        self._client = client
        self._steps = steps

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if self._steps == 0:
            raise _CrashError
        self._steps -= 1
        return getattr(self._client, name)  # type: ignore[no-any-return]


def test_a_fork_gets_no_turn_of_another_fork(
    store: DynamoDBSessionStore, session: Session, dynamodb: DynamoDBClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_all(store, session, 3)
    begun = replace(new_session(), fingerprint=b"one turn")
    with monkeypatch.context() as dying:
        dying.setattr(store._sessions, "check_action", died)  # before the transaction that would make it
        with pytest.raises(RuntimeError):
            store.fork(session, 1, begun, "")
    with pytest.raises(KeyReused):
        store.fork(session, 3, replace(begun, fingerprint=b"three turns"), "")
    store.fork(session, 1, begun, "")
    assert store.read(OWNER, begun.id, START_MS, newest=9).count == 1


def died(*_: Any) -> Any:
    raise RuntimeError


def test_what_a_limit_refuses_leaves_nothing(
    store: DynamoDBSessionStore, session: Session, dynamodb: DynamoDBClient
) -> None:
    take_all(store, session, 2)
    before, quota = everything(dynamodb), QuotaCharges(OWNER, (charge("1", "0"),))
    limited = DynamoDBSessionStore(dynamodb, TABLE, USAGE_TABLE)
    with pytest.raises(QuotaExceeded):
        limited.create(new_session(), "", quota=quota)
    with pytest.raises(QuotaExceeded):
        limited.fork(session, 2, new_session(), "", quota=quota)
    with pytest.raises(QuotaExceeded):
        limited.move(replace(move_of(session), quota=quota))
    assert everything(dynamodb) == before
