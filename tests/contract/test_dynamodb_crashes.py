"""A handler that dies at any of its calls leaves a session that is whole, in one place, and goes on."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.conftest import TABLE, USAGE_TABLE
from tests.contract.session_store import charge, lease_of, take, turn_of
from tests.fakes import OWNER, START_MS, new_session
from turnlog.adapters.dynamodb import DynamoDBSessionStore
from turnlog.adapters.dynamodb.items import owner_partition, partition
from turnlog.domain.margins import SWEEP_MARGIN
from turnlog.domain.quotas import QuotaCharges
from turnlog.domain.sessions import Metadata, Move, Session, SessionChanges, new_session_id
from turnlog.errors import LeaseLost, QuotaExceeded, SessionNotFound

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

LEASE_MS = 65_000
AFTER_LEASE_MS = START_MS + LEASE_MS + 1
ANOTHER_OWNER = "https://issuer.example/|eve"
STEPS = range(16)


ONE = QuotaCharges("source", (charge("1", "1"),))


class _CrashError(Exception):
    """Stands for the end of the process."""


class _Mortal:
    """Dies instead of making the call after `steps` calls."""

    def __init__(self, client: DynamoDBClient, steps: int) -> None:
        self._client = client
        self.steps = steps

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if self.steps == 0:
            raise _CrashError
        self.steps -= 1
        return getattr(self._client, name)  # type: ignore[no-any-return]


@pytest.fixture
def dynamodb(dynamodb: DynamoDBClient, quick_moto: DynamoDBClient) -> DynamoDBClient:
    """The same tables; hundreds of calls of the sweeps here need not be requests."""
    return quick_moto


@pytest.fixture
def store(dynamodb: DynamoDBClient) -> DynamoDBSessionStore:
    return DynamoDBSessionStore(dynamodb, TABLE, USAGE_TABLE, sleep=lambda _: None)


Dies = Callable[[int, Callable[[DynamoDBSessionStore], object]], bool]


@pytest.fixture
def dies(dynamodb: DynamoDBClient) -> Dies:
    """Runs something with a store whose process ends after so many calls. False when it was done before."""

    def run(steps: int, action: Callable[[DynamoDBSessionStore], object]) -> bool:
        mortal: Any = _Mortal(dynamodb, steps)
        try:
            action(DynamoDBSessionStore(mortal, TABLE, USAGE_TABLE, sleep=lambda _: None))
        except _CrashError:
            return True
        return False

    return run


def session_with(store: DynamoDBSessionStore, turns: int) -> Session:
    session = store.create(new_session(), "A title")
    for number in range(1, turns + 1):
        take(store, session, number)
    return session


def move_of(session: Session, *, key: bytes = b"m" * 16, at_ms: int = START_MS, to: str = "") -> Move:
    return Move(
        owner=session.owner,
        session_id=session.id,
        to_owner=ANOTHER_OWNER,
        to_id=to or new_session_id(),
        key=key,
        token=f"mover-{at_ms}",
        at_ms=at_ms,
        lease_expires_ms=at_ms + LEASE_MS,
    )


def where(store: DynamoDBSessionStore, session: Session, move: Move, now_ms: int) -> list[str]:
    """The names, "old" or "new", of the owner and id under which the session lives."""
    found = []
    for name, owner, session_id in (("old", session.owner, session.id), ("new", move.to_owner, move.to_id)):
        try:
            view = store.read(owner, session_id, now_ms, newest=10)
        except SessionNotFound:
            continue
        assert [turn.number for turn in view.turns] == [1, 2, 3]
        assert view.title == "A title"
        found.append(name)
    return found


def content(dynamodb: DynamoDBClient, pk: str) -> list[dict[str, Any]]:
    found = dynamodb.query(
        TableName=TABLE, KeyConditionExpression="pk = :pk", ExpressionAttributeValues={":pk": {"S": pk}}
    )
    return [dict(item) for item in found["Items"] if item.get("st") != {"S": "ended"}]


@pytest.mark.parametrize("steps", STEPS)
def test_a_crashed_move_is_finished_by_its_repeat(
    store: DynamoDBSessionStore, dynamodb: DynamoDBClient, dies: Dies, steps: int
) -> None:
    session, another = session_with(store, 3), session_with(store, 1)
    move = replace(move_of(session), quota=ONE)
    died = dies(steps, lambda mortal: mortal.move(move))
    assert len(where(store, session, move, START_MS)) == 1
    again = replace(move_of(session, at_ms=AFTER_LEASE_MS, to=move.to_id), quota=ONE)
    moved = store.move(again)
    assert (moved.owner, moved.id, moved.expires_ms) == (ANOTHER_OWNER, move.to_id, session.expires_ms)
    assert where(store, session, move, AFTER_LEASE_MS) == ["new"]
    assert content(dynamodb, partition(session.owner, session.id)) == []
    assert store.session_ids(session.owner) == [another.id]
    assert store.session_ids(ANOTHER_OWNER) == [move.to_id]
    with pytest.raises(QuotaExceeded):
        store.move(replace(move_of(another), quota=ONE))
    assert died == (steps < 14), "the steps of a move have changed: look whether STEPS still covers them"


@pytest.mark.parametrize("steps", STEPS)
def test_a_crashed_move_is_undone_by_the_next_turn(
    store: DynamoDBSessionStore, dynamodb: DynamoDBClient, dies: Dies, steps: int
) -> None:
    session, another = session_with(store, 3), session_with(store, 1)
    move = replace(move_of(session), quota=ONE)
    dies(steps, lambda mortal: mortal.move(move))
    if where(store, session, move, START_MS) == ["new"]:
        return  # it was far enough; its repeat is another test
    assert store.move(replace(move_of(another), quota=ONE)).owner == ANOTHER_OWNER, "what did not happen was charged"
    view = store.read(session.owner, session.id, AFTER_LEASE_MS, newest=10)
    lease = lease_of(4, at_ms=AFTER_LEASE_MS)
    assert store.acquire(session, lease, over=view.running) == lease
    turn = turn_of(lease)
    assert store.commit(session, turn) == turn
    assert content(dynamodb, partition(ANOTHER_OWNER, move.to_id)) == []
    assert store.read(session.owner, session.id, AFTER_LEASE_MS, newest=10).count == 4
    with pytest.raises(SessionNotFound):
        store.read(ANOTHER_OWNER, move.to_id, AFTER_LEASE_MS, newest=1)


@pytest.mark.parametrize("by", ["a turn", "a sweep"])
def test_a_move_that_crashed_hours_ago_is_undone(
    store: DynamoDBSessionStore, dynamodb: DynamoDBClient, dies: Dies, by: str
) -> None:
    """No lease may end an hour after its last use, or it is damaged: whoever undoes the move prolongs none."""
    session, later_ms = store.create(replace(new_session(), idle_ms=86_000_000), "A title"), START_MS + 3 * 3_600_000
    for number in (1, 2, 3):
        take(store, session, number)
    move = move_of(session)
    assert dies(7, lambda mortal: mortal.move(move))
    assert content(dynamodb, partition(ANOTHER_OWNER, move.to_id)) != []
    if by == "a sweep":
        store.sweep(later_ms)
    view = store.read(session.owner, session.id, later_ms, newest=10)
    lease = lease_of(4, at_ms=later_ms)
    assert store.acquire(session, lease, over=view.running) == lease
    assert content(dynamodb, partition(ANOTHER_OWNER, move.to_id)) == []


@pytest.mark.parametrize("steps", STEPS)
def test_a_delete_after_a_crashed_move_removes_the_copies(
    store: DynamoDBSessionStore, dynamodb: DynamoDBClient, dies: Dies, steps: int
) -> None:
    session = session_with(store, 3)
    move = move_of(session)
    dies(steps, lambda mortal: mortal.move(move))
    moved_away = where(store, session, move, START_MS) == ["new"]
    assert store.delete(session.owner, session.id, START_MS) is not moved_away
    if moved_away:
        assert store.delete(ANOTHER_OWNER, move.to_id, START_MS) is True
    for owner, session_id in ((session.owner, session.id), (ANOTHER_OWNER, move.to_id)):
        assert content(dynamodb, partition(owner, session_id)) == []


@pytest.mark.parametrize("steps", range(4))
def test_a_crashed_creation_is_whole_or_nothing(
    store: DynamoDBSessionStore, dynamodb: DynamoDBClient, dies: Dies, steps: int
) -> None:
    session, first = new_session(), turn_of(lease_of(1))
    died = dies(steps, lambda mortal: mortal.create(session, "T", quota=ONE, first=first))
    assert died == (steps < 2), "the steps of a creation have changed: look whether they are still covered"
    if died:
        with pytest.raises(SessionNotFound):
            store.read(OWNER, session.id, START_MS, newest=1)
        assert content(dynamodb, partition(OWNER, session.id)) == []
    assert store.create(session, "T", quota=ONE, first=first) == session
    assert store.read(OWNER, session.id, START_MS, newest=9).turns == (first,)
    with pytest.raises(QuotaExceeded):
        store.create(new_session(), "", quota=ONE)


@pytest.mark.parametrize("steps", range(12))
def test_a_crashed_fork_is_swept_without_its_parent(
    store: DynamoDBSessionStore, dynamodb: DynamoDBClient, dies: Dies, steps: int
) -> None:
    parent = session_with(store, 3)
    child = new_session()
    died = dies(steps, lambda mortal: mortal.fork(parent, 2, child, "A fork"))
    later_ms = START_MS + parent.idle_ms + int(SWEEP_MARGIN.total_seconds() * 1000) - 60_000
    take(store, parent, 4)
    if died:
        with pytest.raises(SessionNotFound):
            store.read(OWNER, child.id, START_MS, newest=1)
    else:
        assert [turn.number for turn in store.read(OWNER, child.id, START_MS, newest=9).turns] == [1, 2]
    store.sweep(later_ms + 2 * 60 * 60_000)
    assert content(dynamodb, partition(OWNER, child.id)) == []
    assert child.id not in store.session_ids(OWNER)


@pytest.mark.parametrize("steps", range(20, 60))
def test_a_sweep_that_died_is_finished_by_the_next(
    store: DynamoDBSessionStore, dynamodb: DynamoDBClient, dies: Dies, steps: int
) -> None:
    # As after a sweep, so that the next one has a place to begin, and reads few empty partitions.
    mark = {"pk": {"S": "D#"}, "sk": {"S": "swept"}, "v": {"N": "1"}, "span": {"N": str(START_MS // 900_000)}}
    dynamodb.put_item(TableName=TABLE, Item=mark)
    dead = session_with(store, 3)
    later_ms = START_MS + dead.idle_ms + int(SWEEP_MARGIN.total_seconds() * 1000) + 15 * 60_000
    alive = store.create(new_session(created_ms=later_ms - 60_000), "Alive")
    died = dies(steps, lambda mortal: mortal.sweep(later_ms))
    assert died == (steps < 50), "the steps of a sweep have changed: look whether they are still covered"
    store.sweep(later_ms)
    assert content(dynamodb, partition(OWNER, dead.id)) == []
    assert store.session_ids(OWNER) == [alive.id]
    assert store.read(OWNER, alive.id, later_ms, newest=1).title == "Alive"


def test_interrupted_sweeps_come_to_an_end(store: DynamoDBSessionStore, dynamodb: DynamoDBClient, dies: Dies) -> None:
    dead = session_with(store, 3)
    later_ms = START_MS + dead.idle_ms + int(SWEEP_MARGIN.total_seconds() * 1000) + 15 * 60_000
    cut_off = 0
    while dies(60, lambda mortal: mortal.sweep(later_ms)):
        cut_off += 1
        assert cut_off < 20
    assert cut_off > 1
    assert content(dynamodb, partition(OWNER, dead.id)) == []


def test_an_overtaken_move_can_commit_nothing(store: DynamoDBSessionStore, dynamodb: DynamoDBClient) -> None:
    session = session_with(store, 3)
    move = move_of(session)
    overtaken: list[str] = []

    class _Late:
        """Stops before the transaction until another handler has taken the session's next turn."""

        def __getattr__(self, name: str) -> Callable[..., Any]:
            if name == "transact_write_items" and not overtaken:
                overtaken.append(name)
                view = store.read(session.owner, session.id, AFTER_LEASE_MS, newest=10)
                lease = lease_of(4, at_ms=AFTER_LEASE_MS)
                assert store.acquire(session, lease, over=view.running) == lease
                store.commit(session, turn_of(lease))
            return getattr(dynamodb, name)  # type: ignore[no-any-return]

    late: Any = _Late()
    with pytest.raises(LeaseLost):
        DynamoDBSessionStore(late, TABLE, USAGE_TABLE, sleep=lambda _: None).move(move)
    assert overtaken
    assert store.read(session.owner, session.id, AFTER_LEASE_MS, newest=10).count == 4
    assert content(dynamodb, partition(ANOTHER_OWNER, move.to_id)) == []


@pytest.mark.parametrize("call", [2, 3])
def test_a_delete_overtaken_by_a_move_reports_nothing_deleted(
    store: DynamoDBSessionStore, dynamodb: DynamoDBClient, call: int
) -> None:
    session = session_with(store, 3)
    move = move_of(session)
    begun: list[str] = []

    class _Late:
        """Stops before its second look, or before the write after it, until another handler has moved the session."""

        def __getattr__(self, name: str) -> Callable[..., Any]:
            begun.append(name)
            if len(begun) == call:
                store.move(move)
            return getattr(dynamodb, name)  # type: ignore[no-any-return]

    late: Any = _Late()
    assert not DynamoDBSessionStore(late, TABLE, USAGE_TABLE, sleep=lambda _: None).delete(OWNER, session.id, START_MS)
    assert begun[call - 1] == {2: "query", 3: "put_item"}[call]
    assert where(store, session, move, START_MS) == ["new"]


def test_a_move_without_quota_left_changes_nothing(store: DynamoDBSessionStore, dynamodb: DynamoDBClient) -> None:
    session = session_with(store, 3)
    move = replace(move_of(session), quota=ONE)
    begun: list[str] = []

    class _Late:
        """Stops before its second transaction until somebody else has used up the allowance."""

        def __getattr__(self, name: str) -> Callable[..., Any]:
            begun.extend([name] * (name == "transact_write_items"))
            if begun.count(name) == 2:
                store.create(new_session(), "", quota=ONE)
            return getattr(dynamodb, name)  # type: ignore[no-any-return]

    late: Any = _Late()
    with pytest.raises(QuotaExceeded):
        DynamoDBSessionStore(late, TABLE, USAGE_TABLE, sleep=lambda _: None).move(move)
    assert where(store, session, move, START_MS) == ["old"]
    assert content(dynamodb, partition(ANOTHER_OWNER, move.to_id)) == []
    view = store.read(session.owner, session.id, START_MS, newest=10)
    lease = lease_of(4, at_ms=START_MS)
    assert store.acquire(session, lease, over=view.running) == lease


OLD, NEW = (("case", "17"),), (("case", "18"), ("topic", "birds"))
CHANGES: dict[str, tuple[Metadata, SessionChanges]] = {
    "a title": (OLD, SessionChanges(title="New")),
    "first metadata": ((), SessionChanges(metadata=NEW)),
    "other metadata": (OLD, SessionChanges(metadata=NEW)),
    "no metadata": (OLD, SessionChanges(metadata=())),
    "both": (OLD, SessionChanges("New", NEW)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_change_during_a_move_is_not_lost(
    store: DynamoDBSessionStore, dynamodb: DynamoDBClient, when: str, change: tuple[Metadata, SessionChanges]
) -> None:
    session = session_with(store, 3)
    metadata, changes = change
    store.change(session.owner, session.id, SessionChanges(metadata=metadata), START_MS)
    move = move_of(session)
    tried: list[type[Exception] | None] = []

    class _Late:
        """Stops before or after its last transaction until somebody, who found the session before, has changed it."""

        def __init__(self) -> None:
            self.transactions = 0

        def __getattr__(self, name: str) -> Callable[..., Any]:
            call: Callable[..., Any] = getattr(dynamodb, name)
            self.transactions += name == "transact_write_items"
            if name != "transact_write_items" or self.transactions != 2:
                return call

            def transact(**arguments: Any) -> Any:
                if when == "after":
                    answer = call(**arguments)
                tried.append(self.change())
                return answer if when == "after" else call(**arguments)

            return transact

        def change(self) -> type[Exception] | None:
            changing = DynamoDBSessionStore(dynamodb, TABLE, USAGE_TABLE, sleep=lambda _: None)
            changing.read = lambda *_, **__: view  # type: ignore[method-assign] # what it has seen before
            try:
                changing.change(session.owner, session.id, changes, START_MS)
            except SessionNotFound as error:
                return type(error)
            return None

    view, late = store.read(session.owner, session.id, START_MS, newest=1), _Late()
    moved = DynamoDBSessionStore(late, TABLE, USAGE_TABLE, sleep=lambda _: None).move(move)  # type: ignore[arg-type]
    assert tried == ([None] if when == "before" else [SessionNotFound])
    found = store.read(ANOTHER_OWNER, moved.id, START_MS, newest=9)
    before, after = ("A title", metadata), (changes.title or "A title", changes.metadata)
    if changes.metadata is None:
        after = after[0], metadata
    assert (found.title, found.metadata) == (after if when == "before" else before)


def test_a_large_turn_is_stored_and_deleted_in_parts(store: DynamoDBSessionStore, dynamodb: DynamoDBClient) -> None:
    session = store.create(new_session(), "")
    lease = lease_of(1)
    store.acquire(session, lease, over=None)
    turn = turn_of(lease, random.Random(1).randbytes(400_000).hex())
    assert store.commit(session, turn) == turn
    stored = content(dynamodb, partition(OWNER, session.id))
    names = sorted(item["sk"]["S"] for item in stored)
    assert names == ["!000000001.t", "!000000001.t.02", "000000001", "meta", "session"]
    assert store.read(OWNER, session.id, START_MS, newest=1).turns == (turn,)
    assert store.turns(session, 1, 1) == [turn]
    assert store.commit(session, turn) == turn  # as after a lost answer
    store.delete(OWNER, session.id, START_MS)
    assert content(dynamodb, partition(OWNER, session.id)) == []


def test_an_owners_partition_names_no_session_that_is_gone(
    store: DynamoDBSessionStore, dynamodb: DynamoDBClient
) -> None:
    session = session_with(store, 1)
    store.delete(OWNER, session.id, START_MS)
    assert content(dynamodb, owner_partition(OWNER)) == []
