"""Encrypted content on DynamoDB: what lies in the tables, what can be decrypted, what it costs, and how it ends."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tests.contract.session_store import forked, lease_of, move_of, random_text, take, take_all, turn_of
from tests.fakes import OWNER, START_MS, HashModel, HeldClock, new_session, with_content
from tests.promises.simulator.attribute_values import size
from tests.promises.simulator.dynamodb import SimulatedDynamoDB
from tests.wrapping import LocalWrapper
from turnlog.adapters.dynamodb import DynamoDBSessionStore, OwnerKeys
from turnlog.adapters.dynamodb.data_keys import CACHED, MOST_CACHED, RENEWED_AFTER
from turnlog.adapters.dynamodb.items import owner_partition, partition
from turnlog.domain.content_encryption import PLAIN
from turnlog.domain.messages import Message
from turnlog.domain.owners import owner_hash
from turnlog.domain.quotas import QuotaCharge
from turnlog.domain.sessions import Session, SessionChanges, SessionSettings
from turnlog.errors import (
    ErasureInProgress,
    ItemUnreadable,
    ItemVersionUnknown,
    KeysUnavailable,
    LeaseLost,
    SessionNotFound,
    TurnlogError,
)
from turnlog.usecases.turn_protocol import run_turn
from turnlog.usecases.turn_request import TurnPolicy, TurnRequest

Item = dict[str, Any]

EVE = "https://issuer.example/|eve"
SESSIONS, USAGE, KEYS = "sessions", "usage", "keys"
SECRET = "what nobody else may read"
CONTENT = {"session": "cfg", "meta": "title", "000000001": "body", "000000002": "body"}


class CrashError(Exception):
    """Stands for the end of the process."""


class Environment:
    """A warm environment: a store with keys in memory, over tables that others see too. Notes its calls.

    It dies instead of making the call after `left` calls, if that is not None.
    """

    def __init__(self, tables: SimulatedDynamoDB, clock: HeldClock, *, encrypts: bool = True) -> None:
        self.tables, self.clock = tables, clock
        self.wrapper = LocalWrapper()
        self.calls: list[str] = []
        self.left: int | None = None
        client: Any = self
        self.keys = OwnerKeys(client, KEYS, self.wrapper, clock, encrypts=encrypts, sleep=lambda _: None)
        self.store = DynamoDBSessionStore(client, SESSIONS, USAGE, keys=self.keys, sleep=lambda _: None)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if self.left == 0:
            raise CrashError
        if self.left is not None:
            self.left -= 1
        self.calls.append(name)
        operation: Callable[..., Any] = getattr(self.tables, name)
        return operation

    def another(self, *, encrypts: bool = True) -> Environment:
        """Another environment, with nothing in memory, on the same tables."""
        return Environment(self.tables, self.clock, encrypts=encrypts)

    def items(self, table: str = SESSIONS) -> list[Item]:
        return [copy.deepcopy(dict(item)) for item in self.tables.tables.items(table)]

    def item(self, session: Session, sk: str) -> Item:
        (found,) = [item for item in self.items() if (item["pk"]["S"], item["sk"]["S"]) == (partition_of(session), sk)]
        return found

    def put(self, item: Item, table: str = SESSIONS) -> None:
        self.tables.put_item(TableName=table, Item=item)


def partition_of(session: Session) -> str:
    return partition(session.owner, session.id)


@pytest.fixture
def here() -> Environment:
    return Environment(SimulatedDynamoDB(), HeldClock())


@pytest.fixture
def session(here: Environment) -> Session:
    """A session with two turns."""
    return conversation(here)


NAMED = ((f"name-{SECRET.replace(' ', '-')}", SECRET),)


def conversation(here: Environment, owner: str = OWNER) -> Session:
    settings = SessionSettings("claude-sonnet-5-5", 1000, f"System: {SECRET}")
    session = here.store.create(replace(new_session(owner), settings=settings), f"Title: {SECRET}", metadata=NAMED)
    for number in (1, 2):
        lease = lease_of(number)
        here.store.acquire(session, lease, over=None)
        turn = turn_of(lease, f"Turn {number}: {SECRET}")
        assert here.store.commit(session, turn) == turn
    return session


def texts(items: list[Item]) -> Iterator[bytes]:
    for item in items:
        for name, value in item.items():
            yield name.encode()
            yield value["B"] if "B" in value else str(value).encode()


# --- what lies in the tables ------------------------------------------------------------------------------------------


@pytest.mark.asvs("11.3.2")
def test_no_content_and_no_id_lies_in_the_clear(here: Environment, session: Session) -> None:
    here.store.fork(session, 2, new_session(), f"Fork: {SECRET}", metadata=NAMED)
    here.store.change(OWNER, session.id, SessionChanges(metadata=NAMED), START_MS)
    moved = here.store.move(move_of(session))
    stored = b"\n".join(texts([item for table in (SESSIONS, USAGE, KEYS) for item in here.items(table)]))
    for hidden in (SECRET, NAMED[0][0], "Title", "System", "claude-sonnet", session.id, moved.id, OWNER, EVE):
        assert hidden.encode() not in stored


def test_items_with_content_have_version_2_and_name_their_key(here: Environment, session: Session) -> None:
    here.store.acquire(session, lease_of(3), over=None)
    held = {
        item["sk"]["S"]: (item["v"]["N"], item.get("kid", {}).get("S"))
        for item in here.items()
        if item["pk"]["S"][0] != "D"
    }
    encrypted, plain = ("2", "000001"), ("1", None)
    assert held.pop("000000003") == plain
    assert set(held.values()) == {encrypted}
    assert set(held) == {*CONTENT, partition_of(session)}
    here.store.delete(OWNER, session.id, START_MS)
    assert {item["v"]["N"] for item in here.items()} == {"1"}


def test_a_large_turn_is_encrypted_as_a_whole(here: Environment) -> None:
    session = here.store.create(new_session(), "")
    lease = lease_of(1)
    here.store.acquire(session, lease, over=None)
    turn = with_content(turn_of(lease), message=Message.of_text(random_text(900_000)))
    here.store.commit(session, turn)
    parts = [item for item in here.items() if "part" in item]
    assert len(parts) == 3
    assert here.store.turns(session, 1, 1) == [turn]
    here.put(parts[0] | {"part": parts[1]["part"]})
    with pytest.raises(ItemUnreadable):
        here.store.turns(session, 1, 1)


# --- what opens, and what does not ------------------------------------------------------------------------------------


def require_unreadable(
    here: Environment, act: Callable[[], object], error: type[TurnlogError] = ItemUnreadable
) -> None:
    """Nothing is written, but how far a sweep came, and it is an error of just this kind."""

    def stored() -> list[dict[str, Any]]:
        return [item for table in (SESSIONS, KEYS) for item in here.items(table) if item["sk"]["S"] != "swept"]

    before = stored()
    with pytest.raises(error) as raised:
        act()
    assert type(raised.value) is error
    assert stored() == before


def read(here: Environment, session: Session) -> Callable[[], object]:
    return lambda: here.store.read(session.owner, session.id, START_MS, newest=9)


@pytest.mark.asvs("11.3.3")
@pytest.mark.parametrize("sk", CONTENT)
@pytest.mark.parametrize("from_whom", ["another session", "another owner"])
def test_content_does_not_open_in_another_session(here: Environment, session: Session, sk: str, from_whom: str) -> None:
    other = conversation(here, OWNER if from_whom == "another session" else EVE)
    name = CONTENT[sk]
    here.put(here.item(session, sk) | {name: here.item(other, sk)[name]})
    require_unreadable(here, read(here, session))


def test_metadata_opens_in_its_own_session_alone(here: Environment, session: Session) -> None:
    meta, other = here.item(session, "meta"), here.item(conversation(here), "meta")
    for md in (other["md"], meta["title"], {"B": b"?"}, {"S": '{"a":"b"}'}):
        here.put(meta | {"md": md})
        require_unreadable(here, read(here, session))
    here.put(meta)
    assert here.store.read(OWNER, session.id, START_MS, newest=1).metadata == NAMED
    moved = here.store.move(move_of(session))
    assert here.store.read(moved.owner, moved.id, START_MS + 200, newest=1).metadata == NAMED


def test_content_decrypts_only_in_its_own_attribute(here: Environment, session: Session) -> None:
    first, second, meta, header = (here.item(session, sk) for sk in ("000000001", "000000002", "meta", "session"))
    for mixed in (first | {"body": second["body"]}, meta | {"title": header["cfg"]}, first | {"body": header["cfg"]}):
        here.put(mixed)
        require_unreadable(here, read(here, session))
        for item in (first, meta):
            here.put(item)
    assert here.store.read(OWNER, session.id, START_MS, newest=9).count == 2


@pytest.mark.parametrize("sk", CONTENT)
def test_changed_or_plain_content_is_refused(here: Environment, session: Session, sk: str) -> None:
    item, name = here.item(session, sk), CONTENT[sk]
    encrypted = item[name]["B"]
    for content in (encrypted[:-1] + bytes([encrypted[-1] ^ 1]), encrypted[:20], b"", b"j{}"):
        here.put(item | {name: {"B": content}})
        require_unreadable(here, read(here, session))


def test_plain_and_encrypted_items_do_not_mix(here: Environment, session: Session) -> None:
    plain = DynamoDBSessionStore(here, SESSIONS, USAGE, sleep=lambda _: None)  # type: ignore[arg-type]
    other = plain.create(new_session(), "")
    take(plain, other, 1)
    forged, real = here.item(other, "000000001"), here.item(session, "000000001")
    here.put(forged | {"pk": real["pk"]})
    require_unreadable(here, read(here, session))
    here.put(real | {"pk": forged["pk"]})
    require_unreadable(here, read(here, other))


def test_an_item_under_another_key_is_refused(here: Environment, session: Session) -> None:
    here.put(here.item(session, "000000002") | {"kid": {"S": "000002"}})
    require_unreadable(here, read(here, session))


def test_a_session_s_name_decrypts_only_in_its_own_item(here: Environment, session: Session) -> None:
    other = conversation(here)
    mine, its = ({"pk": {"S": owner_partition(OWNER)}, "sk": {"S": partition_of(each)}} for each in (session, other))
    taken = here.tables.get_item(TableName=SESSIONS, Key=its)["Item"]
    here.put(taken | mine)
    assert sorted(here.store.session_ids(OWNER)) == sorted([partition_of(session), other.id])


def damaged_name(here: Environment, session: Session) -> str:
    """Damages the session's name and returns the one under which it is listed from now on."""
    index = {"pk": {"S": owner_partition(session.owner)}, "sk": {"S": partition_of(session)}}
    here.put(here.tables.get_item(TableName=SESSIONS, Key=index)["Item"] | {"sid": {"B": b"?" * 80}})
    return partition_of(session)


def test_a_session_with_an_undecryptable_name_can_be_deleted(here: Environment, session: Session) -> None:
    other, name = conversation(here), damaged_name(here, session)
    assert sorted(here.store.session_ids(OWNER)) == sorted([name, other.id])
    require_unreadable(here, lambda: here.store.read(OWNER, name, START_MS, newest=1))
    assert here.store.delete(OWNER, name, START_MS) is True
    assert here.store.session_ids(OWNER) == [other.id]
    with pytest.raises(SessionNotFound):
        read(here, session)()
    assert not [item for item in here.items() if item["pk"]["S"] == name and item.get("st") != {"S": "ended"}]
    assert read(here, other)()


def test_an_undecryptable_name_works_for_its_owner_alone(here: Environment, session: Session) -> None:
    name, before = damaged_name(here, session), here.items()
    assert here.store.delete(EVE, name, START_MS) is False
    assert here.items() == before


def test_a_name_of_nothing_that_does_not_open_goes_too(here: Environment, session: Session) -> None:
    name = damaged_name(here, session)
    for item in [item for item in here.items() if item["pk"]["S"] == name]:
        here.tables.delete_item(TableName=SESSIONS, Key={"pk": item["pk"], "sk": item["sk"]})
    assert here.store.delete(OWNER, name, START_MS) is False
    assert here.store.session_ids(OWNER) == []


def test_a_missing_key_does_not_make_names_damaged(here: Environment, session: Session) -> None:
    cold = here.another()
    cold.wrapper.down = True
    with pytest.raises(KeysUnavailable):
        cold.store.session_ids(OWNER)


def test_a_store_without_keys_refuses_encrypted_sessions(here: Environment, session: Session) -> None:
    plain = DynamoDBSessionStore(here, SESSIONS, USAGE, sleep=lambda _: None)  # type: ignore[arg-type]
    for act in (
        lambda: plain.read(OWNER, session.id, START_MS, newest=9),
        lambda: plain.move(move_of(session)),
    ):
        require_unreadable(here, act, ItemVersionUnknown)
    assert plain.session_ids(OWNER) == [partition_of(session)]
    assert plain.delete(OWNER, session.id, START_MS)


def test_a_name_of_a_later_version_is_listed_without_its_id(here: Environment, session: Session) -> None:
    (name,) = [item for item in here.items() if item["pk"]["S"] == owner_partition(OWNER)]
    here.put(name | {"v": {"N": "4"}})
    assert here.store.session_ids(OWNER) == [partition_of(session)]


# --- plain sessions beside encrypted ones -----------------------------------------------------------------------------


def test_a_plain_session_is_encrypted_by_a_move_or_fork(here: Environment) -> None:
    plain = DynamoDBSessionStore(here, SESSIONS, USAGE, sleep=lambda _: None)  # type: ignore[arg-type]
    began = plain.create(new_session(), "A title")
    first = take(plain, began, 1)
    session = here.store.read(OWNER, began.id, START_MS, newest=9).session
    second = take(here.store, session, 2)
    assert here.item(session, "000000002")["v"] == {"N": "1"}
    assert here.store.read(OWNER, began.id, START_MS, newest=9).turns == (first, second)
    child = forked(here.store, session, 2, new_session())
    moved = here.store.move(move_of(session))
    for each in (child, moved):
        assert {here.item(each, sk)["v"]["N"] for sk in CONTENT} == {"2"}
        assert here.store.read(each.owner, each.id, START_MS, newest=9).count == 2


def test_without_encryption_encrypted_sessions_go_on_encrypted(here: Environment, session: Session) -> None:
    off = here.another(encrypts=False)
    plain = off.store.create(new_session(), "")
    take(off.store, plain, 1)
    assert here.item(plain, "000000001")["v"] == {"N": "1"}
    take(off.store, off.store.read(OWNER, session.id, START_MS, newest=1).session, 3)
    assert here.item(session, "000000003")["v"] == {"N": "2"}
    assert here.store.read(OWNER, session.id, START_MS, newest=9).count == 3
    assert sorted(off.store.session_ids(OWNER)) == sorted([plain.id, session.id])


def test_a_moved_session_is_under_its_new_owner_s_key(here: Environment, session: Session) -> None:
    turns = here.store.read(OWNER, session.id, START_MS, newest=9).turns
    moved = here.store.move(move_of(session))
    here.store.erase(OWNER, START_MS)
    assert here.another().store.read(EVE, moved.id, START_MS, newest=9).turns == turns
    here.store.erase(EVE, START_MS)
    with pytest.raises(SessionNotFound):
        here.store.read(EVE, moved.id, START_MS, newest=9)


# --- keys -------------------------------------------------------------------------------------------------------------


def test_a_key_costs_two_calls_until_it_is_cached(here: Environment, session: Session) -> None:
    cold = here.another()
    for calls, wrapping in ((["query", "get_item"], ["unwrap"]), (["query"], [])):
        cold.calls.clear()
        cold.wrapper.calls.clear()
        view = cold.store.read(OWNER, session.id, START_MS, newest=25)
        take(cold.store, view.session, view.count + 1)
        assert (cold.calls, cold.wrapper.calls) == ([*calls, "put_item", "put_item"], wrapping)


def test_an_owner_s_first_session_makes_one_key(here: Environment) -> None:
    here.store.create(new_session(), "")
    here.store.create(new_session(), "")
    assert here.wrapper.calls == ["new key"]
    assert len(here.items(KEYS)) == 1


def test_a_turn_of_a_kilobyte_costs_3_wcu_and_10_rcu(here: Environment) -> None:
    """Counts as DynamoDB does: a write unit is 1 KB, a consistent read unit 4 KB of all that a query returns."""
    session = here.store.create(new_session(), "A title of ordinary length")
    texts = [random_text(1000 + number)[:1150] for number in range(26)]  # which packs to 1 KB
    for number, text in enumerate(texts, 1):
        lease = replace(lease_of(number), token="t" * 22)
        here.store.acquire(session, lease, over=None)
        leased = -(-size(here.item(session, f"{number:09d}")) // 1024)
        here.store.commit(session, replace(turn_of(lease, text), token=lease.token))
        stored = here.item(session, f"{number:09d}")
        assert 950 <= len(stored["body"]["B"]) <= 1100
        assert leased + -(-size(stored) // 1024) <= 3
    page = here.tables.query(
        TableName=SESSIONS,
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": {"S": partition_of(session)}},
        ScanIndexForward=False,
        Limit=28,
    )
    assert -(-sum(map(size, page["Items"])) // 4096) <= 10


def test_a_key_is_cached_for_five_minutes(here: Environment, session: Session) -> None:
    here.wrapper.calls.clear()
    here.clock.tick(seconds=CACHED.total_seconds(), ms=-1)
    read(here, session)()
    here.store.create(new_session(), "")
    assert here.wrapper.calls == []
    here.clock.tick(ms=1)
    read(here, session)()
    assert here.wrapper.calls == ["unwrap"]
    here.clock.tick(seconds=CACHED.total_seconds())
    here.store.create(new_session(), "")
    assert here.wrapper.calls == ["unwrap"] * 2
    assert {kid for _, kid in here.keys._cached} == {"", "000001"}


def test_no_more_keys_are_kept_than_agreed(here: Environment) -> None:
    for number in range(MOST_CACHED):
        here.keys.current(f"owner {number}")
    assert len(here.keys._cached) == MOST_CACHED
    here.wrapper.calls.clear()
    here.keys.current(f"owner {MOST_CACHED // 2}")
    here.keys.current("owner 0")
    assert here.wrapper.calls == ["unwrap"]


def test_new_sessions_get_a_new_key_after_90_days(here: Environment) -> None:
    lasting = here.store.create(new_session(idle_s=400 * 86_400, life_s=400 * 86_400), "")
    here.clock.tick(seconds=RENEWED_AFTER.total_seconds())
    new = here.store.create(new_session(created_ms=here.clock.now_ms), "")
    take_all(here.store, lasting, 2)
    take_all(here.store, new, 2)
    kids = [[here.item(each, sk)["kid"]["S"] for sk in CONTENT] for each in (lasting, new)]
    assert kids == [["000001"] * 4, ["000002"] * 4]
    cold = here.another()
    for each in (lasting, new):
        assert cold.store.read(OWNER, each.id, here.clock.now_ms, newest=9).count == 2
    assert sorted(cold.store.session_ids(OWNER)) == sorted([lasting.id, new.id])


def test_a_repeated_move_ignores_copies_under_an_older_key(here: Environment) -> None:
    session = here.store.create(new_session(idle_s=400 * 86_400, life_s=400 * 86_400), "A title")
    turns = take_all(here.store, session, 2)
    mortal, died = here.another(), move_of(session)
    mortal.left = 10  # before the transaction that makes it a session
    with pytest.raises(CrashError):
        mortal.store.move(died)
    assert [item["kid"] for item in here.items() if item["pk"]["S"] == partition(EVE, died.to_id)] == [
        {"S": "000001"}
    ] * 2
    here.clock.tick(seconds=RENEWED_AFTER.total_seconds())
    now = here.clock.now_ms
    with pytest.raises(LeaseLost):
        here.store.move(replace(died, token="again", at_ms=now, lease_expires_ms=now + 65_000))
    another = replace(
        move_of(session), key=b"another key", token="yet again", at_ms=now + 1, lease_expires_ms=now + 65_000
    )
    moved = here.store.move(another)
    assert here.store.read(EVE, moved.id, now, newest=9).turns == tuple(turns)
    assert {here.item(moved, sk)["kid"]["S"] for sk in CONTENT} == {"000002"}


def test_whoever_makes_a_key_second_takes_the_first_one(here: Environment) -> None:
    there = here.another()

    class Slow(LocalWrapper):
        """A wrapper that lets another environment make its key meanwhile."""

        def new_key(self, owner: str) -> tuple[bytes, bytes]:
            there.keys.current(OWNER)
            return super().new_key(owner)

    here.keys._wrapper = Slow()
    encrypted = here.keys.current(OWNER).encrypt(b"", b"content")
    assert there.keys.current(OWNER).decrypt(b"", encrypted) == b"content"
    assert len(here.items(KEYS)) == 1


@pytest.mark.parametrize("kid", ["000001", ""])
def test_a_lost_key_is_an_error(here: Environment, session: Session, kid: str) -> None:
    cold = here.another()
    (key,) = here.items(KEYS)
    if kid:
        here.tables.delete_item(TableName=KEYS, Key={"pk": key["pk"], "sk": key["sk"]})
    else:
        here.put(here.item(session, "session") | {"kid": {"S": ""}})
    require_unreadable(cold, read(cold, session))


@pytest.mark.parametrize("damage", ["of another owner", "changed", "missing", "of a later version", "stateless"])
def test_a_key_that_does_not_unwrap_is_an_error(here: Environment, session: Session, damage: str) -> None:
    here.keys.current(EVE)
    (mine,) = [item for item in here.items(KEYS) if owner_hash(OWNER) in item["pk"]["S"]]
    (eves,) = [item for item in here.items(KEYS) if owner_hash(EVE) in item["pk"]["S"]]
    damaged = {
        "of another owner": mine | {"key": eves["key"]},
        "changed": mine | {"key": {"B": b"x" + mine["key"]["B"][1:]}},
        "missing": {name: value for name, value in mine.items() if name != "key"},
        "of a later version": mine | {"v": {"N": "2"}},
        "stateless": {name: value for name, value in mine.items() if name != "st"},
    }
    here.put(damaged[damage], KEYS)
    cold = here.another()
    error = ItemVersionUnknown if damage == "of a later version" else ItemUnreadable
    require_unreadable(cold, read(cold, session), error)
    require_unreadable(cold, lambda: cold.store.create(new_session(), ""), error)


def test_without_kms_nothing_is_begun_and_no_model_is_asked(here: Environment, session: Session) -> None:
    cold = here.another()
    cold.wrapper.down = True
    model = HashModel()
    asked = TurnRequest(OWNER, session.id, b"k" * 16, b"f" * 16, Message.of_text("hello"))

    def turn() -> object:
        return run_turn(
            asked,
            store=cold.store,
            model=model,
            clock=cold.clock,
            remaining_s=lambda: 29.0,
            policy=TurnPolicy(),
        )

    here.store.sweep(START_MS)
    acts = (
        turn,
        lambda: cold.store.create(new_session(), ""),
        lambda: cold.store.create(new_session(EVE), ""),
        lambda: cold.store.move(move_of(session)),
        lambda: cold.store.fork(session, 1, new_session(), ""),
    )
    for act in acts:
        require_unreadable(cold, act, KeysUnavailable)
    assert model.requests == []
    cold.wrapper.down = False
    assert turn()


def test_a_delete_and_a_sweep_need_no_kms(here: Environment, session: Session) -> None:
    other = conversation(here)
    here.store.sweep(START_MS)
    cold = here.another()
    cold.wrapper.down = True
    assert cold.store.delete(OWNER, session.id, START_MS) is True
    assert cold.store.sweep(START_MS + session.idle_ms + 3_600_000) == 1
    assert {
        item["st"]["S"] for item in here.items() if item["pk"]["S"] in (partition_of(session), partition_of(other))
    } == {"ended"}


def test_a_running_turn_is_stored_without_kms(here: Environment, session: Session) -> None:
    view = here.store.read(OWNER, session.id, START_MS, newest=9)
    here.wrapper.down = True
    here.clock.tick(seconds=CACHED.total_seconds())
    assert take(here.store, view.session, 3).number == 3


# --- erasure ----------------------------------------------------------------------------------------------------------


WINDOW_OVER_MS = START_MS + 60_000


def charged(here: Environment, session: Session) -> None:
    counter = QuotaCharge("turns#2026-11-25T14:05", Decimal(1), Decimal(9), WINDOW_OVER_MS)
    here.store.acquire(session, lease_of(3, charges=(counter,)), over=None)


def require_nothing_left(here: Environment, sessions: int) -> None:
    """Asserts that nothing of the owner is left but tombstones and entries of the sweeper's list."""
    owned = owner_partition(OWNER)
    assert [item for item in [*here.items(), *here.items(USAGE)] if item["pk"]["S"] == owned] == []
    keys = [item for item in here.items(KEYS) if item["pk"]["S"] == owned]
    assert {item["st"]["S"] for item in keys} == {"erased"}
    assert [item for item in keys if set(item) != {"pk", "sk", "v", "st"}] == []
    left = [item for item in here.items() if item["pk"]["S"][0] == "S"]
    assert [item for item in left if item["st"] != {"S": "ended"} or set(item) != {"pk", "sk", "v", "st", "ttl"}] == []
    assert len({item["pk"]["S"] for item in left}) == sessions


def test_after_an_erasure_nothing_is_left_but_tombstones(here: Environment, session: Session) -> None:
    charged(here, session)
    conversation(here)
    assert here.store.erase(OWNER, WINDOW_OVER_MS) == 2
    require_nothing_left(here, sessions=2)
    with pytest.raises(SessionNotFound):
        read(here, session)()


def test_what_a_backup_holds_cannot_be_read_after_the_erasure(here: Environment, session: Session) -> None:
    backup = here.items()
    here.store.erase(OWNER, START_MS)
    for item in backup:
        here.put(item)
    cold = here.another()
    with pytest.raises(SessionNotFound):
        read(cold, session)()
    assert cold.store.session_ids(OWNER) == []
    assert cold.wrapper.calls == []


def test_an_erasure_needs_no_key_and_works_on_damaged_sessions(here: Environment, session: Session) -> None:
    here.put(here.item(session, "session") | {"cfg": {"B": b"?"}, "v": {"N": "4"}})
    here.put(here.item(session, "000000001") | {"body": {"B": b"?"}})
    cold = here.another()
    cold.wrapper.down = True
    assert cold.store.erase(OWNER, START_MS) == 1
    require_nothing_left(here, sessions=1)


@pytest.mark.parametrize("lost", ["st", "made", "v"])
def test_an_erasure_destroys_a_key_that_is_damaged(here: Environment, session: Session, lost: str) -> None:
    (key,) = here.items(KEYS)
    here.put({name: value for name, value in key.items() if name != lost}, KEYS)
    assert here.another().store.erase(OWNER, START_MS) == 1
    require_nothing_left(here, sessions=1)


def test_an_erasure_takes_keys_of_every_age(here: Environment) -> None:
    here.store.create(new_session(), "")
    here.clock.tick(seconds=RENEWED_AFTER.total_seconds())
    here.store.create(new_session(), "")
    assert len(here.items(KEYS)) == 2
    here.store.erase(OWNER, START_MS)
    require_nothing_left(here, sessions=2)


def test_who_comes_back_gets_a_key_that_never_was(here: Environment, session: Session) -> None:
    warm = here.another()
    warm.keys.current(OWNER)
    here.store.erase(OWNER, START_MS)
    for environment, kid in ((warm, "000002"), (here, "000002")):
        back = environment.store.create(new_session(), "")
        take(environment.store, back, 1)
        assert {here.item(back, sk)["kid"]["S"] for sk in ("session", "meta", "000000001")} == {kid}
        assert here.another().store.read(OWNER, back.id, START_MS, newest=1).count == 1


@pytest.mark.parametrize("state", ["erasing", "erased"])
def test_no_session_is_made_under_an_erased_key(here: Environment, session: Session, state: str) -> None:
    """Not by a creation, not by a fork, not by a move: each has the key in memory from before."""
    eves = conversation(here, EVE)
    creating, forking, moving = warm = [here.another() for _ in range(3)]
    for environment in warm:
        environment.keys.current(OWNER)
    here.keys.begin_erasure(OWNER)
    if state == "erased":
        here.keys.finish_erasure(OWNER)
    if state == "erasing":
        with pytest.raises(ErasureInProgress):
            creating.store.create(new_session(), "")
    else:
        assert here.item(creating.store.create(new_session(), ""), "session")["kid"] == {"S": "000002"}
    with pytest.raises(SessionNotFound):
        forking.store.fork(session, 1, new_session(), "")
    with pytest.raises(LeaseLost):
        moving.store.move(replace(move_of(eves), owner=EVE, to_owner=OWNER))
    headers = [item for item in here.items() if item["sk"]["S"] == "session" and item["kid"] == {"S": "000001"}]
    assert {item["pk"]["S"] for item in headers} == {partition_of(session), partition_of(eves)}
    assert here.store.read(EVE, eves.id, START_MS, newest=9).count == 2


def test_a_crashed_erasure_is_finished_by_the_next(here: Environment) -> None:
    steps, died = 0, True
    while died:
        consistent = Environment(SimulatedDynamoDB(), HeldClock())
        session = conversation(consistent)
        charged(consistent, session)
        conversation(consistent)
        mortal = consistent.another()
        mortal.left, died = steps, False
        try:
            mortal.store.erase(OWNER, WINDOW_OVER_MS)
        except CrashError:
            died = True
        if steps >= 2:  # a look at the keys, and the first write
            with pytest.raises(SessionNotFound):
                read(consistent.another(), session)()
        assert consistent.another().store.erase(OWNER, WINDOW_OVER_MS) <= 2
        require_nothing_left(consistent, sessions=2)
        back = consistent.another().store.create(new_session(), "")
        assert consistent.store.session_ids(OWNER) == [back.id]
        steps += 1
    assert steps > 15


def test_two_erasures_at_once_leave_nothing(here: Environment, session: Session) -> None:
    there = here.another()
    here.keys.begin_erasure(OWNER)
    there.keys.begin_erasure(OWNER)
    there.store.erase(OWNER, START_MS)
    here.store.erase(OWNER, START_MS)
    require_nothing_left(here, sessions=1)
    assert here.store.create(new_session(), "")


def test_a_name_that_is_written_after_an_erasure_is_not_listed(here: Environment) -> None:
    """The name is written as by a fork that the erasure overtook."""
    here.another().store.create(new_session(), "")
    (name,) = [item for item in here.items() if item["pk"]["S"] == owner_partition(OWNER)]
    here.store.erase(OWNER, START_MS)
    here.put(name)
    assert here.another().store.session_ids(OWNER) == []


def test_a_store_without_keys_makes_and_erases_plain_sessions(here: Environment) -> None:
    plain = DynamoDBSessionStore(here, SESSIONS, USAGE, sleep=lambda _: None)  # type: ignore[arg-type]
    session = plain.create(new_session(), "A title")
    assert session.cipher is PLAIN
    take(plain, session, 1)
    charged(here, session)
    assert plain.erase(OWNER, WINDOW_OVER_MS) == 1
    assert [item for item in here.items() if item["pk"]["S"][0] == "S" and item["st"] != {"S": "ended"}] == []
    assert here.items(USAGE) == here.items(KEYS) == []
