"""The steps of long turns in DynamoDB's table: their items, their costs, and what a crash or a race leaves of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.conftest import KEYS_TABLE, TABLE, USAGE_TABLE
from tests.contract.later_versions import require_unknown
from tests.contract.session_store import EVE, charge, is_gone, lease_of, move_of, take, turn_of
from tests.contract.steps import (
    ANSWER,
    QUESTION,
    again,
    held,
    results_of,
    step_of,
    stepped,
    taken,
    turn_with,
    without_content,
)
from tests.fakes import OWNER, SERVER_KEY, START_MS, HeldClock, new_session
from tests.promises.simulator.attribute_values import size
from tests.wrapping import LocalWrapper
from turnlog.adapters.dynamodb import DynamoDBSessionStore, OwnerKeys
from turnlog.adapters.dynamodb.items import partition
from turnlog.domain.margins import SWEEP_MARGIN
from turnlog.domain.messages import Message, to_json
from turnlog.domain.sessions import Session, SessionSettings, new_session_id
from turnlog.domain.turns import INTERRUPTED, Lease, Step, Totals, Turn
from turnlog.errors import ItemUnreadable, LeaseLost, SessionNotFound, StoreUnavailable
from turnlog.usecases.read_turns import page_of_turns
from turnlog.usecases.turn_pages import MOST_READ_BYTES, MOST_TURNS, read_turns, turns_after

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Item = dict[str, Any]

STEPS = step_of(1, results=True), step_of(2), step_of(3, results=True)
SWEPT_MS = int(SWEEP_MARGIN.total_seconds() * 1000)


class Noting:
    """Notes the calls of a client, and lets something happen before the next call of a name."""

    def __init__(self, client: DynamoDBClient) -> None:
        self._client = client
        self.calls: list[str] = []
        self.before: dict[str, Callable[[], object]] = {}
        self.dies_after: int | None = None

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if self.dies_after is not None and len(self.calls) >= self.dies_after:
            raise _CrashError
        self.calls.append(name)
        if name in self.before:
            self.before.pop(name)()
        return getattr(self._client, name)  # type: ignore[no-any-return]


class _CrashError(Exception):
    """Stands for the end of the process."""


@pytest.fixture
def dynamodb(dynamodb: DynamoDBClient, quick_moto: DynamoDBClient) -> DynamoDBClient:
    """The same tables; hundreds of calls of the sweeps here need not be requests."""
    return quick_moto


@pytest.fixture
def client(dynamodb: DynamoDBClient) -> Noting:
    return Noting(dynamodb)


def store_on(client: Any) -> DynamoDBSessionStore:
    return DynamoDBSessionStore(client, TABLE, USAGE_TABLE, sleep=lambda _: None)


@pytest.fixture
def store(client: Noting) -> DynamoDBSessionStore:
    return store_on(client)


@pytest.fixture
def session(store: DynamoDBSessionStore) -> Session:
    return store.create(new_session(), "A title")


def items(dynamodb: DynamoDBClient, session: Session) -> dict[str, Item]:
    """All items of the session but tombstones, by sort key."""
    pk = {":pk": {"S": partition(session.owner, session.id)}}
    found = dynamodb.query(TableName=TABLE, KeyConditionExpression="pk = :pk", ExpressionAttributeValues=pk)["Items"]
    return {item["sk"]["S"]: dict(item) for item in found if item.get("st") != {"S": "ended"}}


def pieces(dynamodb: DynamoDBClient, session: Session) -> list[str]:
    return [sk for sk in items(dynamodb, session) if sk.startswith("!")]


def commit_steps(store: DynamoDBSessionStore, session: Session, number: int = 1, **more: Any) -> Turn:
    lease = stepped(store, session, taken(store, session, number), *STEPS)
    turn = replace(turn_with(lease, *STEPS), **more)
    assert store.commit(session, turn) == turn
    return turn


# --- items and their versions -----------------------------------------------------------------------------------------


def test_steps_lie_below_all_slots(store: DynamoDBSessionStore, session: Session, dynamodb: DynamoDBClient) -> None:
    commit_steps(store, session)
    names = ["!000000001.r01", "!000000001.r03", "!000000001.s00", "!000000001.s01", "!000000001.s02", "!000000001.s03"]
    assert list(items(dynamodb, session)) == [*names, "000000001", "meta", "session"]
    turn = items(dynamodb, session)["000000001"]
    assert (turn["ns"], turn["kept"]) == ({"N": "3"}, {"S": "srssr"})


def test_every_new_form_has_a_version_of_its_own_and_the_ttl_of_its_session(
    store: DynamoDBSessionStore, session: Session, dynamodb: DynamoDBClient
) -> None:
    lease = taken(store, session)
    assert items(dynamodb, session)["000000001"]["v"] == {"N": "1"}
    store.ask_to_stop(session, lease)
    assert items(dynamodb, session)["000000001"]["v"] == {"N": "1"}
    store.commit(session, turn_of(lease))
    commit_steps(store, session, 2)
    store.renew(session, again(taken(store, session, 3)), 0)
    stored = items(dynamodb, session)
    assert {sk: item["v"]["N"] for sk, item in stored.items() if not sk.startswith("!")} == {
        "000000001": "1",
        "000000002": "3",
        "000000003": "3",
        "meta": "1",
        "session": "1",
    }
    assert {item["v"]["N"] for sk, item in stored.items() if sk.startswith("!")} == {"3"}
    assert {item["ttl"]["N"] for item in stored.values()} == {str(session.ttl_s)}


@pytest.mark.parametrize(
    ("changed", "version"),
    [
        ({}, "1"),
        ({"messages": (*QUESTION, Message.of_system("Be brief."), ANSWER)}, "3"),
        ({"window_system": "Be brief."}, "3"),
    ],
)
def test_a_turn_has_the_version_that_its_form_needs(
    store: DynamoDBSessionStore, session: Session, dynamodb: DynamoDBClient, changed: dict[str, Any], version: str
) -> None:
    turn = replace(turn_of(taken(store, session)), **changed)
    store.commit(session, turn)
    assert items(dynamodb, session)["000000001"]["v"] == {"N": version}
    assert store.turns(session, 1, 1) == [turn]


def test_a_header_has_the_version_that_its_settings_need(
    store: DynamoDBSessionStore, session: Session, dynamodb: DynamoDBClient
) -> None:
    settings = SessionSettings("claude-sonnet-5-5", 1000, effort="low")
    chosen = store.create(replace(new_session(), settings=settings), "")
    assert [items(dynamodb, each)["session"]["v"]["N"] for each in (session, chosen)] == ["1", "3"]


@pytest.mark.usefixtures("small_parts")
def test_content_of_every_kind_may_need_several_items(
    store: DynamoDBSessionStore, session: Session, dynamodb: DynamoDBClient
) -> None:
    turn = commit_steps(store, session, window_system="Be brief. " * 20)
    assert {"!000000001.s00.02", "!000000001.s01.02", "!000000001.r01.02", "!000000001.t.02"} <= set(
        pieces(dynamodb, session)
    )
    assert store.turns(session, 1, 1) == [turn]
    assert store.delete(OWNER, session.id, START_MS)
    assert items(dynamodb, session) == {}


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnlog.adapters.dynamodb.encode.PART_BYTES", 60)


@pytest.fixture
def small_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each piece is copied in a transaction of its own."""
    monkeypatch.setattr("turnlog.adapters.dynamodb.copies.MAX_TURN_BYTES", 1)


# --- costs ------------------------------------------------------------------------------------------------------------


def test_a_renewal_is_one_write_unit(
    store: DynamoDBSessionStore, session: Session, client: Noting, dynamodb: DynamoDBClient
) -> None:
    lease = replace(taken(store, session), attempt_counts=bytes(16 * 7))
    client.calls.clear()
    store.renew(session, again(lease), 0)
    assert client.calls == ["put_item"]
    assert size(items(dynamodb, session)["000000001"]) <= 1024


def test_a_checkpoint_is_one_transaction_of_the_lease_and_its_step(
    store: DynamoDBSessionStore, session: Session, client: Noting, dynamodb: DynamoDBClient
) -> None:
    lease = stepped(store, session, taken(store, session), step_of(1))
    client.calls.clear()
    before = set(items(dynamodb, session))
    store.checkpoint(session, again(lease, steps=1), 1, step_of(1, results=True), charges=(charge("1"),))
    assert client.calls == ["transact_write_items"]
    assert set(items(dynamodb, session)) - before == {"!000000001.r01"}


def test_a_turn_of_steps_is_committed_with_one_write_of_what_is_left(
    store: DynamoDBSessionStore, session: Session, client: Noting, dynamodb: DynamoDBClient
) -> None:
    lease = stepped(store, session, taken(store, session), *STEPS)
    before = set(items(dynamodb, session))
    client.calls.clear()
    store.commit(session, turn_with(lease, *STEPS))
    assert client.calls == ["get_item", "put_item"]
    assert set(items(dynamodb, session)) == before


def test_an_interruption_writes_no_step_again(
    store: DynamoDBSessionStore, session: Session, client: Noting, dynamodb: DynamoDBClient
) -> None:
    dead = stepped(store, session, taken(store, session), *STEPS)
    turn = replace(turn_with(dead, *STEPS, answer=None, stop_reason=INTERRUPTED), at_ms=dead.lease_expires_ms + 1)
    client.calls.clear()
    store.interrupt(session, turn, over=dead)
    assert client.calls == ["put_item"]
    assert "body" not in items(dynamodb, session)["000000001"]


def test_a_wish_to_stop_is_one_update(store: DynamoDBSessionStore, session: Session, client: Noting) -> None:
    lease = taken(store, session)
    client.calls.clear()
    store.ask_to_stop(session, lease)
    assert client.calls == ["update_item"]


@pytest.mark.parametrize(
    ("window_from", "newest", "with_content", "read"),
    [
        (1, 9, True, [1, 2, 3]),
        (2, 9, True, [2, 3]),
        (3, 9, True, [3]),
        (1, 2, True, [2, 3]),
        (1, 9, False, []),
    ],
)
def test_only_content_of_the_window_is_read_in_one_further_query(
    store: DynamoDBSessionStore,
    session: Session,
    client: Noting,
    window_from: int,
    newest: int,
    with_content: bool,
    read: list[int],
) -> None:
    turns = [commit_steps(store, session, number, window_from=min(window_from, number)) for number in (1, 2, 3)]
    running = stepped(store, session, taken(store, session, 4), step_of(1))
    client.calls.clear()
    view = store.read(OWNER, session.id, START_MS, newest, with_content=with_content)
    assert client.calls == ["query", "query"] if read else ["query"]
    assert view.running == running
    assert list(view.turns) == [each if each.number in read else without_content(each) for each in turns][-newest:]


def test_an_export_has_every_turn_whole(store: DynamoDBSessionStore, session: Session) -> None:
    turns = [commit_steps(store, session, number, window_from=number) for number in (1, 2, 3)]
    page = page_of_turns(
        OWNER, session.id, 0, MOST_TURNS, store=store, server_key=SERVER_KEY, names=("x",), now_ms=START_MS
    )
    assert (page.turns, page.next) == (turns, None)
    seen = store.read(OWNER, session.id, START_MS, newest=3)
    assert read_turns(store, seen, 1, 3, START_MS) == turns


def test_turns_of_a_large_session_are_read_in_small_groups(
    store: DynamoDBSessionStore, session: Session, client: Noting
) -> None:
    large = Totals(content_bytes=MOST_READ_BYTES + 1)
    turns = [commit_steps(store, session, number, totals=large) for number in range(1, 8)]
    view = store.read(OWNER, session.id, START_MS, newest=1, with_content=False)
    client.calls.clear()
    assert turns_after(store, view, 0, MOST_TURNS, START_MS) == turns
    assert client.calls == ["query"] * 4  # five turns and two, each with their content


def test_a_session_without_content_below_its_slots_is_read_in_one_query(
    store: DynamoDBSessionStore, session: Session, client: Noting
) -> None:
    take(store, session, 1)
    stepped(store, session, taken(store, session, 2), step_of(1))
    client.calls.clear()
    store.read(OWNER, session.id, START_MS, newest=9)
    assert client.calls == ["query"]


# --- encryption -------------------------------------------------------------------------------------------------------


@pytest.fixture
def encrypted(client: Any) -> DynamoDBSessionStore:
    keys = OwnerKeys(client, KEYS_TABLE, LocalWrapper(), HeldClock())
    return DynamoDBSessionStore(client, TABLE, USAGE_TABLE, keys=keys, sleep=lambda _: None)


@pytest.mark.usefixtures("small_parts")
def test_nothing_of_a_step_is_stored_in_the_clear(encrypted: DynamoDBSessionStore, dynamodb: DynamoDBClient) -> None:
    session = encrypted.create(new_session(), "A title")
    turn = commit_steps(encrypted, session)
    assert encrypted.turns(session, 1, 1) == [turn]
    stored = items(dynamodb, session)
    assert {item["kid"]["S"] for sk, item in stored.items() if sk.startswith("!")} == {"000001"}
    for word in ("ada", "toolu", "look", "found", "claude", "msg_"):
        assert word not in str(stored)


@pytest.mark.parametrize(
    ("moved", "to"),
    [("s01", "s02"), ("s02", "s01"), ("r01", "r03"), ("s01", "r01"), ("s00", "r01")],
)
def test_a_piece_decrypts_nowhere_else(
    encrypted: DynamoDBSessionStore, dynamodb: DynamoDBClient, moved: str, to: str
) -> None:
    session = encrypted.create(new_session(), "A title")
    commit_steps(encrypted, session)
    piece = items(dynamodb, session)[f"!000000001.{moved}"]
    dynamodb.put_item(TableName=TABLE, Item=piece | {"sk": {"S": f"!000000001.{to}"}})
    with pytest.raises(ItemUnreadable):
        encrypted.turns(session, 1, 1)


def test_a_move_encrypts_steps_anew(encrypted: DynamoDBSessionStore, dynamodb: DynamoDBClient) -> None:
    session = encrypted.create(new_session(), "A title")
    turn = commit_steps(encrypted, session)
    before = items(dynamodb, session)
    moved = encrypted.move(move_of(session))
    after = items(dynamodb, moved)
    assert set(before) == set(after)
    assert not [sk for sk in before if "part" in before[sk] and before[sk]["part"] == after[sk]["part"]]
    assert encrypted.turns(moved, 1, 1) == [turn]
    assert encrypted.turns(encrypted.read(EVE, moved.id, START_MS, newest=1).session, 1, 1) == [turn]


def test_an_erased_key_takes_all_steps_with_it(encrypted: DynamoDBSessionStore, dynamodb: DynamoDBClient) -> None:
    session = encrypted.create(new_session(), "A title")
    stepped(encrypted, session, taken(encrypted, session), *STEPS)
    assert encrypted.erase(OWNER, START_MS) == 1
    assert items(dynamodb, session) == {}


# --- what cannot be read ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["s00", "s01", "r01", "s01.02", "t", "t.02"])
@pytest.mark.usefixtures("small_parts")
def test_a_turn_of_which_a_piece_is_missing_is_no_smaller_turn(
    store: DynamoDBSessionStore, session: Session, dynamodb: DynamoDBClient, lost: str
) -> None:
    commit_steps(store, session)
    key = {"pk": {"S": partition(OWNER, session.id)}, "sk": {"S": f"!000000001.{lost}"}}
    dynamodb.delete_item(TableName=TABLE, Key=key)
    for act in (
        lambda: store.read(OWNER, session.id, START_MS, newest=1),
        lambda: store.turns(session, 1, 1),
        lambda: store.fork(session, 1, new_session(), ""),
        lambda: store.move(move_of(session)),
    ):
        with pytest.raises(ItemUnreadable):
            act()
    assert store.read(OWNER, session.id, START_MS, newest=1, with_content=False).count == 1
    assert store.delete(OWNER, session.id, START_MS)


@pytest.mark.parametrize("sk", ["!000000001.s01", "000000001"])
@pytest.mark.parametrize(
    "damage",
    [
        {"part": {"B": b"zbroken"}, "kept": {"S": "rs"}},
        {"part": {"S": "text"}, "kept": {"S": "sx"}},
        {"v": {"N": "2"}},
        {"v": {"N": "0"}},
        {"kid": {"S": "000001"}},
    ],
)
def test_a_damaged_piece_or_turn_of_steps_is_an_error(
    store: DynamoDBSessionStore, session: Session, dynamodb: DynamoDBClient, sk: str, damage: Item
) -> None:
    commit_steps(store, session)
    dynamodb.put_item(TableName=TABLE, Item=items(dynamodb, session)[sk] | damage)
    with pytest.raises(ItemUnreadable):
        store.read(OWNER, session.id, START_MS, newest=1)


def test_steps_of_a_running_lease_that_are_damaged_are_an_error(
    store: DynamoDBSessionStore, session: Session, dynamodb: DynamoDBClient
) -> None:
    lease = stepped(store, session, taken(store, session), *STEPS)
    key = {"pk": {"S": partition(OWNER, session.id)}, "sk": {"S": "!000000001.s02"}}
    dynamodb.delete_item(TableName=TABLE, Key=key)
    with pytest.raises(ItemUnreadable):
        store.steps(session, lease)
    heir = replace(lease_of(1, "heir", at_ms=lease.lease_expires_ms + 1), steps=3)
    store.acquire(session, heir, over=lease)
    with pytest.raises(LeaseLost):
        store.steps(session, lease)
    store.delete(OWNER, session.id, START_MS)
    with pytest.raises(SessionNotFound):
        store.steps(session, heir)


@pytest.mark.parametrize("sk", ["!000000001.s00", "!000000001.s02", "!000000001.r01", "000000001"])
def test_a_piece_of_a_later_version_is_not_damaged(
    store: DynamoDBSessionStore, session: Session, dynamodb: DynamoDBClient, sk: str
) -> None:
    commit_steps(store, session)
    before = items(dynamodb, session)
    dynamodb.put_item(TableName=TABLE, Item=before[sk] | {"v": {"N": "4"}})
    for act in (
        lambda: store.read(OWNER, session.id, START_MS, newest=1),
        lambda: store.turns(session, 1, 1),
        lambda: store.move(move_of(session)),
        lambda: store.fork(session, 1, new_session(), ""),
    ):
        require_unknown(act)
    assert store.sweep(session.expires_ms + SWEPT_MS) == 0
    dynamodb.put_item(TableName=TABLE, Item=before[sk])
    assert store.turns(session, 1, 1)


def test_results_that_came_too_late_are_no_part_of_a_turn(
    store: DynamoDBSessionStore, session: Session, client: Noting
) -> None:
    lease = stepped(store, session, taken(store, session), step_of(1))
    turn = turn_with(lease, Step(1, step_of(1).reply, step_of(1).call, results_of(1, "another")))
    late = again(lease, steps=1)
    client.before["put_item"] = lambda: store.checkpoint(session, late, 1, step_of(1, results=True))
    assert store.commit(session, turn) == turn
    assert store.turns(session, 1, 1) == [turn]


# --- crashes ----------------------------------------------------------------------------------------------------------


def dies(dynamodb: DynamoDBClient, calls: int, act: Callable[[DynamoDBSessionStore], object]) -> bool:
    """Does something with a store whose process ends after so many calls. False when it was done before."""
    mortal = Noting(dynamodb)
    mortal.dies_after = calls
    try:
        act(store_on(mortal))
    except _CrashError:
        return True
    return False


def three_turns(store: DynamoDBSessionStore, session: Session) -> list[Turn]:
    return [take(store, session, 1), commit_steps(store, session, 2), take(store, session, 3)]


MOST_CALLS = 25


@pytest.mark.usefixtures("small_copies")
@pytest.mark.parametrize("calls", range(MOST_CALLS))
def test_a_crashed_move_of_steps_is_finished_by_a_repeat_or_undone(
    store: DynamoDBSessionStore, dynamodb: DynamoDBClient, calls: int
) -> None:
    move, again_ms = None, START_MS + 200_000
    for then in ("repeat", "next turn"):
        session = store.create(new_session(), "A title")
        turns = three_turns(store, session)
        move = move_of(session)
        died = dies(dynamodb, calls, partial(DynamoDBSessionStore.move, move=move))
        assert died == (calls < MOST_CALLS - 2), "the steps of a move have changed: look whether all are covered"
        if then == "repeat":
            moved = store.move(replace(move, token="again", at_ms=again_ms, lease_expires_ms=again_ms + 65_000))
            assert store.turns(moved, 1, 9) == turns
            assert store.read(EVE, moved.id, again_ms, newest=9).turns == tuple(turns)
            assert items(dynamodb, session) == {}
            continue
        try:
            view = store.read(OWNER, session.id, again_ms, newest=9)
        except SessionNotFound:
            continue  # it was far enough
        assert view.turns == tuple(turns)
        lease = lease_of(4, at_ms=again_ms)
        assert store.acquire(session, lease, over=view.running) == lease
        assert items(dynamodb, replace(session, owner=EVE, id=move.to_id)) == {}
        assert store.turns(session, 1, 9) == turns


@pytest.mark.usefixtures("small_copies")
@pytest.mark.parametrize("calls", range(22))
def test_a_crashed_fork_of_steps_is_finished_by_its_repeat_or_swept(
    store: DynamoDBSessionStore, session: Session, dynamodb: DynamoDBClient, calls: int
) -> None:
    turns = three_turns(store, session)
    child, swept = new_session(), new_session()
    for each in (child, swept):
        fork = partial(DynamoDBSessionStore.fork, parent=session, number=3, child=each, title="A fork")
        dies(dynamodb, calls, fork)
    store.fork(session, 3, child, "A fork")
    assert store.turns(child, 1, 9) == [turn.forked() for turn in turns]
    store.sweep(START_MS + session.idle_ms + SWEPT_MS + 2 * 3_600_000)
    assert items(dynamodb, swept) == items(dynamodb, child) == {}


@pytest.mark.usefixtures("small_copies")
def test_a_mover_that_was_overtaken_leaves_no_content(
    store: DynamoDBSessionStore, session: Session, client: Noting, dynamodb: DynamoDBClient
) -> None:
    turns = three_turns(store, session)
    move = move_of(session)
    for copied in range(1, 20):
        late = Noting(dynamodb)

        def overtake() -> None:
            view = store.read(OWNER, session.id, START_MS + 200_000, newest=1)
            lease = lease_of(4, f"heir {len(client.calls)}", at_ms=START_MS + 200_000)
            assert store.acquire(session, lease, over=view.running) == lease
            store.release(session, lease, billed=True, now_ms=START_MS + 1)

        before_call(late, "transact_write_items", copied, overtake)
        to = replace(move, to_id=new_session_id(), token=f"mover {copied}")
        try:
            store_on(late).move(to)
        except LeaseLost:
            assert items(dynamodb, replace(session, owner=EVE, id=to.to_id)) == {}
            assert store.turns(session, 1, 9) == turns
            continue
        break  # it was done before so many transactions
    assert copied > 6


def before_call(client: Noting, name: str, number: int, act: Callable[[], None]) -> None:
    """Lets something happen before this call of the name, counted from 1."""

    def count() -> None:
        nonlocal number
        number -= 1
        if number:
            client.before[name] = count
        else:
            act()

    client.before[name] = count


@pytest.mark.usefixtures("small_copies")
@pytest.mark.parametrize("end", ["delete", "sweep", "erase"])
def test_a_fork_that_comes_late_leaves_no_content(
    store: DynamoDBSessionStore, session: Session, dynamodb: DynamoDBClient, end: str
) -> None:
    three_turns(store, session)
    for copied in range(1, 12):
        child = new_session()
        late = Noting(dynamodb)

        def end_it(child: Session = child) -> None:
            if end == "delete":
                store.delete(OWNER, child.id, START_MS)
            if end == "erase":
                store_on(dynamodb).erase(OWNER, START_MS)
            if end == "sweep":
                store.sweep(START_MS + session.idle_ms + SWEPT_MS + 2 * 3_600_000)

        before_call(late, "transact_write_items", copied + 1, end_it)
        try:
            store_on(late).fork(session, 3, child, "A fork")
        except (LeaseLost, SessionNotFound, StoreUnavailable):
            assert items(dynamodb, child) == {}
            if end == "delete":
                continue
            return
        break  # it was done before so many transactions
    assert copied > 6


@pytest.mark.parametrize("call", range(1, 9))
@pytest.mark.parametrize("has_results", [True, False])
def test_a_step_that_is_stored_during_a_delete_does_not_outlive_it(
    store: DynamoDBSessionStore, session: Session, dynamodb: DynamoDBClient, call: int, has_results: bool
) -> None:
    take(store, session, 1)
    lease = stepped(store, session, taken(store, session, 2), step_of(1))
    step = step_of(1, results=True) if has_results else step_of(2)
    reached: list[str] = []

    class Later:
        def __getattr__(self, name: str) -> Callable[..., Any]:
            reached.append(name)
            if len(reached) == call:
                store.checkpoint(session, again(lease, steps=step.number), lease.sequence, step)
            return getattr(dynamodb, name)  # type: ignore[no-any-return]

    assert store_on(Later()).delete(OWNER, session.id, START_MS) is True
    assert items(dynamodb, session) == {}
    assert is_gone(store, session)


@pytest.mark.usefixtures("small_copies")
@pytest.mark.parametrize("end", ["delete", "erase"])
@pytest.mark.parametrize("call", range(1, 9))
def test_a_copied_step_that_is_stored_during_a_delete_does_not_outlive_it(
    store: DynamoDBSessionStore, session: Session, dynamodb: DynamoDBClient, call: int, end: str
) -> None:
    commit_steps(store, session)
    child, sent = new_session(), list[dict[str, Any]]()

    class Slow:
        """Sends its third transaction, which copies a step, when the process has died already."""

        def __getattr__(self, name: str) -> Callable[..., Any]:
            return self.send if name == "transact_write_items" else getattr(dynamodb, name)

        def send(self, **arguments: Any) -> Any:
            sent.append(arguments)
            if len(sent) == 3:
                raise _CrashError
            return dynamodb.transact_write_items(**arguments)

    with pytest.raises(_CrashError):
        store_on(Slow()).fork(session, 1, child, "A fork")
    reached: list[str] = []

    class Later:
        def __getattr__(self, name: str) -> Callable[..., Any]:
            reached.append(name)
            if len(reached) == call:
                with suppress(dynamodb.exceptions.TransactionCanceledException):
                    dynamodb.transact_write_items(**sent[-1])
            return getattr(dynamodb, name)  # type: ignore[no-any-return]

    if end == "delete":
        store_on(Later()).delete(OWNER, child.id, START_MS)
    else:
        store_on(Later()).erase(OWNER, START_MS)
    assert items(dynamodb, child) == {}


def test_a_crashed_checkpoint_stored_all_or_nothing(
    store: DynamoDBSessionStore, session: Session, dynamodb: DynamoDBClient
) -> None:
    """A process that dies before or right after its only call; the next one finds which it was."""
    lease = taken(store, session)
    renewed = again(lease, steps=1)

    def checkpoint(mortal: DynamoDBSessionStore) -> object:
        return mortal.checkpoint(session, renewed, 0, step_of(1), message=QUESTION, charges=(charge("4"),))

    assert dies(dynamodb, 0, checkpoint)
    assert (held(store, session), pieces(dynamodb, session)) == (lease, [])
    assert not dies(dynamodb, 1, checkpoint)
    assert (held(store, session), pieces(dynamodb, session)) == (renewed, ["!000000001.s00", "!000000001.s01"])


def test_a_reply_that_could_not_be_stored_leaves_the_lease_to_the_next(
    store: DynamoDBSessionStore, session: Session, dynamodb: DynamoDBClient
) -> None:
    lease = stepped(store, session, taken(store, session), step_of(1, results=True))
    turn = turn_with(lease, step_of(1, results=True))
    for calls in range(2):
        assert dies(dynamodb, calls, lambda mortal: mortal.commit(session, turn))
        assert store.steps(session, held(store, session)) == (QUESTION, (step_of(1, results=True),))
    assert not dies(dynamodb, 2, lambda mortal: mortal.commit(session, turn))
    assert store.turns(session, 1, 1) == [turn]


def test_a_lease_of_a_later_version_is_neither_renewed_nor_checkpointed(
    store: DynamoDBSessionStore, session: Session, dynamodb: DynamoDBClient
) -> None:
    lease = taken(store, session)
    later = items(dynamodb, session)["000000001"] | {"v": {"N": "4"}, "tok": {"S": "theirs"}}
    dynamodb.put_item(TableName=TABLE, Item=later)
    before = items(dynamodb, session)
    for found in (
        store.renew(session, again(lease), 0),
        store.checkpoint(session, again(lease, steps=1), 0, step_of(1), message=QUESTION),
    ):
        assert not isinstance(found, Lease | Turn)
    assert store.ask_to_stop(session, lease) is False
    assert items(dynamodb, session) == before


def test_text_of_a_step_is_kept_just_as_it_came(store: DynamoDBSessionStore, session: Session) -> None:
    reply = Message("assistant", to_json([{"type": "text", "text": 'snow ☃ \\ " \0'}]))
    step = replace(step_of(1), reply=reply)
    lease = stepped(store, session, taken(store, session), step)
    assert store.steps(session, lease) == (QUESTION, (step,))
