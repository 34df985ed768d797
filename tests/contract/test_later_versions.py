"""P12: an item of a later version, which a rollback left in DynamoDB, is not damaged, and nothing of it is lost."""

from __future__ import annotations

import copy
from decimal import Decimal
from typing import Any

import pytest

from tests.contract.later_versions import require_unknown
from tests.contract.session_store import HOUR_MS, is_gone, lease_of, move_of, take, take_all, turn_of
from tests.fakes import OWNER, START_MS, HashModel, HeldClock, new_session
from tests.promises.simulator.dynamodb import SimulatedDynamoDB
from tests.wrapping import LocalWrapper
from turnlog.adapters.dynamodb import DynamoDBSessionStore, OwnerKeys
from turnlog.adapters.dynamodb.encode import lease_item
from turnlog.adapters.dynamodb.items import owner_partition, partition
from turnlog.adapters.read_cache import CachedSessionStore
from turnlog.domain.messages import Message
from turnlog.domain.quotas import QuotaCharge, QuotaCharges
from turnlog.domain.sessions import SessionChanges
from turnlog.domain.turns import Lease, UnknownLease
from turnlog.errors import ItemUnreadable, LeaseLost, SessionNotFound, TurnInProgress
from turnlog.usecases.turn_protocol import TakenTurn, run_turn
from turnlog.usecases.turn_request import TurnPolicy, TurnRequest

Item = dict[str, Any]

SESSIONS, USAGE, KEYS = "sessions", "usage", "keys"
LATER: Item = {"v": {"N": "4"}}
THEIRS = lease_of(3, "theirs")


class Scene:
    """A session of two turns on DynamoDB, and a caller who takes the next turn by a clock that is held."""

    def __init__(self, *, cached: bool = False, encrypted: bool = False) -> None:
        client: Any = SimulatedDynamoDB()
        self.tables, self.clock, self.model = client, HeldClock(), HashModel()
        keys = OwnerKeys(client, KEYS, LocalWrapper(), self.clock, sleep=lambda _: None) if encrypted else None
        durable = DynamoDBSessionStore(client, SESSIONS, USAGE, keys=keys, sleep=lambda _: None)
        self.store = CachedSessionStore(durable) if cached else durable
        self.policy = TurnPolicy(reads_cached=cached)
        self.session = self.store.create(new_session(), "A title")
        self.pk = partition(OWNER, self.session.id)
        take_all(self.store, self.session, 2)

    def item(self, sk: str, pk: str = "", table: str = SESSIONS) -> Item:
        key = {"pk": {"S": pk or self.pk}, "sk": {"S": sk}}
        found = self.tables.get_item(TableName=table, Key=key, ConsistentRead=True)
        return dict(found["Item"])

    def put(self, item: Item, table: str = SESSIONS) -> None:
        self.tables.put_item(TableName=table, Item=item)

    def make_later(self, sk: str, pk: str = "", table: str = SESSIONS) -> None:
        self.put(self.item(sk, pk, table) | LATER, table)

    def lease_by_later(self, lease: Lease = THEIRS) -> None:
        """Takes the next slot as a later version would, and stores a step of its turn beside it."""
        self.put(lease_item(self.session, lease) | LATER | {"seq": {"N": "7"}, "ns": {"N": "1"}, "k": {"S": "new"}})
        step = {"pk": {"S": self.pk}, "sk": {"S": "!000000003.s00"}, "ttl": {"N": str(self.session.ttl_s)}}
        self.put(step | LATER | {"body": {"B": b"what was said"}})

    def take(self, key: bytes = b"n" * 16) -> TakenTurn:
        return run_turn(
            TurnRequest(OWNER, self.session.id, key, b"f" * 16, Message.of_text("next")),
            store=self.store,
            model=self.model,
            clock=self.clock,
            remaining_s=lambda: 29.0,
            policy=self.policy,
        )

    def stored(self) -> list[Item]:
        return [
            copy.deepcopy(dict(item)) for table in (SESSIONS, USAGE, KEYS) for item in self.tables.tables.items(table)
        ]

    def left(self) -> list[str]:
        """The sort keys of all in the session's partition but tombstones."""
        return [item["sk"]["S"] for item in self.stored() if item["pk"]["S"] == self.pk and item.get("st") != ENDED]


ENDED = {"S": "ended"}


@pytest.fixture
def scene() -> Scene:
    return Scene()


# --- a lease ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cached", [False, True])
def test_an_unknown_lease_is_busy_until_it_ends_and_never_taken_over(cached: bool) -> None:
    scene = Scene(cached=cached)
    scene.lease_by_later()
    before = scene.stored()
    with pytest.raises(TurnInProgress) as busy:
        scene.take()
    assert busy.value.retry_after_s
    scene.clock.now_ms = THEIRS.lease_expires_ms - 1
    with pytest.raises(TurnInProgress):
        scene.take()
    for now_ms in (THEIRS.lease_expires_ms, THEIRS.lease_expires_ms + 1, THEIRS.lease_expires_ms + HOUR_MS // 4):
        scene.clock.now_ms = now_ms
        require_unknown(scene.take)
    assert (scene.stored(), scene.model.requests) == (before, [])


def test_a_session_under_an_unknown_lease_is_read_exported_and_forked(scene: Scene) -> None:
    before = scene.store.read(OWNER, scene.session.id, START_MS, newest=9)
    scene.lease_by_later()
    view = scene.store.read(OWNER, scene.session.id, START_MS, newest=9)
    assert (view.turns, view.count, view.running) == (before.turns, 2, None)
    assert view.unknown_lease == UnknownLease(3, THEIRS.lease_expires_ms, THEIRS.at_ms)
    assert (view.running_at(THEIRS.lease_expires_ms - 1), view.running_at(THEIRS.lease_expires_ms)) == (True, False)
    scene.store.change(OWNER, scene.session.id, SessionChanges(title="New"), START_MS)
    child = new_session()
    scene.store.fork(scene.session, 2, child, "")
    take(scene.store, child, 3)


def test_an_unknown_lease_counts_as_use(scene: Scene) -> None:
    late_ms = START_MS + scene.session.idle_ms - 1
    scene.lease_by_later(lease_of(3, "theirs", at_ms=late_ms))
    assert scene.store.read(OWNER, scene.session.id, late_ms + scene.session.idle_ms - 1, newest=1)
    with pytest.raises(SessionNotFound):
        scene.store.read(OWNER, scene.session.id, late_ms + scene.session.idle_ms, newest=1)


def test_a_stored_turn_is_replayed_beside_an_unknown_lease(scene: Scene) -> None:
    scene.lease_by_later()
    assert scene.take(lease_of(1).key).replayed
    assert scene.model.requests == []


def test_a_move_waits_for_an_unknown_lease_and_never_takes_it_over(scene: Scene) -> None:
    scene.lease_by_later()
    before = scene.stored()
    with pytest.raises(TurnInProgress):
        scene.store.move(move_of(scene.session))
    late = move_of(scene.session, at_ms=THEIRS.lease_expires_ms + 1)
    require_unknown(lambda: scene.store.move(late))
    assert scene.stored() == before


def test_a_tombstone_of_a_later_move_is_not_repeated(scene: Scene) -> None:
    move = move_of(scene.session)
    elsewhere = {"S": partition(move.to_owner, move.to_id)}
    scene.lease_by_later()
    scene.put(scene.item("000000003") | {"st": ENDED, "mk": {"B": move.key}, "dst": elsewhere})
    before = scene.stored()
    require_unknown(lambda: scene.store.move(move))
    assert scene.stored() == before


def test_a_lease_that_a_later_version_was_faster_to_take_is_looked_at(scene: Scene) -> None:
    scene.lease_by_later()
    found = scene.store.acquire(scene.session, lease_of(3, "mine"), over=None)
    assert found == UnknownLease(3, THEIRS.lease_expires_ms, THEIRS.at_ms)


def test_a_turn_whose_slot_a_later_version_took_over_is_not_stored(scene: Scene) -> None:
    scene.model.during = scene.lease_by_later
    with pytest.raises(LeaseLost):
        scene.take()
    assert scene.item("000000003")["tok"] == {"S": "theirs"}


@pytest.mark.parametrize("gone", ["st", "til", "ts"])
def test_a_slot_of_a_later_version_that_says_nothing_known_stays_taken(scene: Scene, gone: str) -> None:
    scene.lease_by_later()
    scene.put({name: value for name, value in scene.item("000000003").items() if name != gone})
    before = scene.stored()
    require_unknown(scene.take)
    assert (scene.stored(), scene.model.requests) == (before, [])
    if gone == "st":
        assert scene.store.delete(OWNER, scene.session.id, START_MS) is True
        assert scene.left() == []


def test_a_lease_below_the_newest_slot_is_nothing_damaged(scene: Scene) -> None:
    scene.put(lease_item(scene.session, lease_of(1)) | LATER)
    require_unknown(scene.take)


# --- turns, and all else of a session ---------------------------------------------------------------------------------


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("sk", ["session", "meta", "000000001", "000000002"])
def test_nothing_is_paid_or_changed_beside_an_unknown_item(sk: str, encrypted: bool) -> None:
    scene = Scene(encrypted=encrypted)
    scene.make_later(sk)
    before = scene.stored()
    for act in (scene.take, lambda: scene.store.move(move_of(scene.session))):
        require_unknown(act)
    assert (scene.stored(), scene.model.requests) == (before, [])
    assert scene.store.delete(OWNER, scene.session.id, START_MS) is True
    assert scene.left() == []


def test_a_turn_of_a_later_version_that_won_the_slot_is_not_overwritten(scene: Scene) -> None:
    def commits_later() -> None:
        scene.put(scene.item("000000002") | LATER | {"sk": {"S": "000000003"}})

    scene.model.during = commits_later
    require_unknown(scene.take)
    assert scene.item("000000003")["v"] == LATER["v"]


def test_a_proved_view_is_no_proof_against_a_turn_of_a_later_version() -> None:
    scene = Scene(cached=True)
    assert scene.take().turn.number == 3
    scene.put(scene.item("000000003") | LATER | {"sk": {"S": "000000004"}})
    require_unknown(lambda: scene.take(b"m" * 16))
    assert len(scene.model.requests) == 1


def test_a_proved_view_has_no_lease_of_a_later_version_any_more() -> None:
    scene = Scene(cached=True)
    scene.store.sweep(START_MS)  # which makes the store forget its view
    scene.lease_by_later()
    with pytest.raises(TurnInProgress):
        scene.take()
    scene.tables.delete_item(TableName=SESSIONS, Key={"pk": {"S": scene.pk}, "sk": {"S": "000000003"}})
    assert scene.take().turn.number == 3
    scene.tables.query = None  # the next turn reads nothing
    assert scene.take(b"m" * 16).turn.number == 4


def test_a_title_of_a_later_version_that_came_after_the_read_is_not_overwritten(scene: Scene) -> None:
    update = scene.tables.update_item

    def slower(**arguments: Any) -> Any:
        scene.make_later("meta")
        return update(**arguments)

    scene.tables.update_item = slower
    require_unknown(lambda: scene.store.change(OWNER, scene.session.id, SessionChanges(title="New"), START_MS))
    assert scene.item("meta")["title"] == {"S": "A title"}


def test_an_old_turn_that_is_unknown_stops_only_what_needs_it(scene: Scene) -> None:
    for number in range(3, 41):
        take(scene.store, scene.session, number)
    scene.make_later("000000001")
    assert scene.take().turn.number == 41
    require_unknown(lambda: scene.store.turns(scene.session, 1, 9))
    require_unknown(lambda: scene.store.fork(scene.session, 9, new_session(), ""))
    assert len(scene.store.turns(scene.session, 2, 9)) == 8


def test_a_key_of_an_unknown_turn_is_not_paid_again(scene: Scene) -> None:
    """The key of turn 1 is found by the turns after it, and only turn 1 itself can tell its reply."""
    for number in range(3, 31):
        scene.clock.tick(ms=10)
        scene.take(b"%016d" % number)
    scene.make_later("000000014")
    paid = len(scene.model.requests)
    scene.policy = TurnPolicy(window=scene.policy.window)
    require_unknown(lambda: scene.take(b"%016d" % 14))
    assert len(scene.model.requests) == paid


def test_expiry_is_told_whatever_a_later_version_stored(scene: Scene) -> None:
    scene.make_later("000000002")
    with pytest.raises(SessionNotFound):
        scene.store.read(OWNER, scene.session.id, scene.session.expires_ms, newest=9)


def test_one_part_of_a_later_version_makes_its_turn_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnlog.adapters.dynamodb.encode.PART_BYTES", 40)
    scene = Scene()
    scene.make_later("!000000002.t")
    require_unknown(scene.take)


# --- kinds of items that are not known --------------------------------------------------------------------------------


def test_steps_below_the_slots_are_not_read(scene: Scene) -> None:
    for step in range(200):
        key = {"pk": {"S": scene.pk}, "sk": {"S": f"!000000003.s{step:02d}"}, "ttl": {"N": str(scene.session.ttl_s)}}
        scene.put(key | LATER | {"body": {"B": b"x" * 300_000}})
    query, read = scene.tables.query, list[str]()

    def noting(**arguments: Any) -> Any:
        answer = query(**arguments)
        read.extend(item["sk"]["S"] for item in answer["Items"])
        return answer

    scene.tables.query = noting
    assert scene.take().turn.number == 3
    assert [sk for sk in read if sk.startswith("!")] == []
    moved = scene.store.move(move_of(scene.session))
    assert (scene.store.read(moved.owner, moved.id, START_MS, newest=9).count, scene.left()) == (3, [])


@pytest.mark.parametrize("sk", ["!000000003.s00", "job#1", "later"])
def test_a_delete_removes_items_of_every_kind(scene: Scene, sk: str) -> None:
    scene.put({"pk": {"S": scene.pk}, "sk": {"S": sk}, "ttl": {"N": str(scene.session.ttl_s)}} | LATER)
    assert scene.take().turn.number == 3
    assert scene.store.delete(OWNER, scene.session.id, START_MS) is True
    assert scene.left() == []


@pytest.mark.parametrize("act", ["delete", "erase"])
def test_a_running_unknown_lease_stops_no_deletion(scene: Scene, act: str) -> None:
    """Whoever holds the lease finds a tombstone."""
    scene.lease_by_later()
    if act == "delete":
        assert scene.store.delete(OWNER, scene.session.id, START_MS) is True
    else:
        assert scene.store.erase(OWNER, START_MS) == 1
    assert scene.left() == []
    assert is_gone(scene.store, scene.session)
    scene.store.commit(scene.session, turn_of(THEIRS))
    assert scene.left() == []


def test_a_delete_lays_no_tombstone_over_a_lease_that_it_did_not_see(scene: Scene) -> None:
    """Then it looks again: a move of a later version may have begun meanwhile, whose copies must go."""
    scene.lease_by_later()
    put = scene.tables.put_item
    others = [lease_item(scene.session, lease_of(3, "another")) | LATER | {"dst": {"S": "S#elsewhere"}}]

    def faster(**arguments: Any) -> Any:
        if others:
            put(TableName=SESSIONS, Item=others.pop())
        return put(**arguments)

    scene.tables.put_item = faster
    assert scene.store.delete(OWNER, scene.session.id, START_MS) is True
    assert scene.item("000000003")["und"] == {"S": "S#elsewhere"}


# --- the sweeper ------------------------------------------------------------------------------------------------------


def swept(scene: Scene, hours: int) -> int:
    """Sweeps each quarter of an hour for so long."""
    removed = 0
    for _ in range(4 * hours):
        removed += scene.store.sweep(scene.clock())
        scene.clock.tick(ms=HOUR_MS // 4)
    return removed


@pytest.mark.parametrize("sk", ["session", "meta", "000000002", "000000003", "!000000003.s00"])
def test_the_sweeper_leaves_a_session_with_an_unknown_item_until_it_is_known(scene: Scene, sk: str) -> None:
    scene.lease_by_later()
    kept = [item for item in scene.stored() if item["pk"]["S"] == scene.pk and int(item["v"]["N"]) < 4]
    for item in [scene.item("000000003"), scene.item("!000000003.s00")]:
        if item["sk"]["S"] != sk:
            scene.tables.delete_item(TableName=SESSIONS, Key={"pk": item["pk"], "sk": item["sk"]})
    scene.make_later(sk)
    if sk == "session":  # it may say by other attributes when it ends
        item = scene.item(sk)
        scene.put({name: value for name, value in item.items() if name not in ("created", "dies", "idle")})
    before = [item for item in scene.stored() if item["pk"]["S"] == scene.pk]
    assert swept(scene, hours=30) == 0
    assert [item for item in scene.stored() if item["pk"]["S"] == scene.pk] == before
    for item in kept:
        scene.put(item)
    for item in [item for item in before if item["sk"]["S"] in ("000000003", "!000000003.s00")]:
        scene.tables.delete_item(TableName=SESSIONS, Key={"pk": item["pk"], "sk": item["sk"]})
    assert swept(scene, hours=3) == 1
    assert scene.left() == []


def test_an_unknown_entry_of_the_sweepers_list_stays_on_it_and_stops_no_sweep(scene: Scene) -> None:
    other = scene.store.create(new_session(), "")
    (entry,) = [item for item in scene.stored() if item["sk"]["S"] == scene.pk and "own" in item and "sid" not in item]
    scene.put(entry | LATER | {"new": {"S": "of it"}})
    assert swept(scene, hours=30) == 1
    assert is_gone(scene.store, other)
    (left,) = [item for item in scene.stored() if item["sk"]["S"] == scene.pk and "own" in item]
    assert {name: value for name, value in left.items() if name != "pk"} == {
        name: value for name, value in (entry | LATER | {"new": {"S": "of it"}}).items() if name != "pk"
    }
    scene.put(left | {"v": {"N": "1"}})
    assert swept(scene, hours=3) == 1


def test_the_sweepers_mark_goes_on_to_be_one_of_a_later_version(scene: Scene) -> None:
    swept(scene, hours=1)
    before = scene.item("swept", "D#")
    scene.put(before | LATER | {"new": {"S": "of it"}})
    swept(scene, hours=1)
    assert scene.item("swept", "D#") == before | LATER | {
        "new": {"S": "of it"},
        "span": {"N": str(int(before["span"]["N"]) + 4)},
    }


def test_the_sweeper_leaves_what_a_later_version_stores_while_it_looks(scene: Scene) -> None:
    query, looks = scene.tables.query, iter(range(99))

    def slower(**arguments: Any) -> Any:
        answer = query(**arguments)
        if arguments["ExpressionAttributeValues"][":pk"]["S"] == scene.pk and next(looks) == 0:
            scene.make_later("000000002")
        return answer

    scene.tables.query = slower
    assert swept(scene, hours=30) == 0
    assert scene.left() == ["000000001", "000000002", "meta", "session"]


@pytest.mark.parametrize("state", ["running", "of its own"])
@pytest.mark.parametrize("comes_late", [False, True])
def test_the_sweeper_leaves_the_copies_of_an_unknown_move(scene: Scene, state: str, comes_late: bool) -> None:
    """The move may go on when the later version is back, so neither its lease nor its copies are touched."""
    target = new_session(created_ms=START_MS)
    pk = partition(target.owner, target.id)
    copied = scene.item("000000001") | {"pk": {"S": pk}}
    scene.put(copied)
    scene.lease_by_later(lease_of(3, "theirs"))
    scene.put(scene.item("000000003") | {"dst": {"S": pk}, "st": {"S": state}})
    if comes_late:
        became_later(scene)
    (entry,) = [item for item in scene.stored() if item["sk"]["S"] == scene.pk and "own" in item and "sid" not in item]
    scene.put(entry | {"sk": {"S": pk}, "src": {"S": scene.pk}})
    assert swept(scene, hours=30) == 0
    assert scene.item("000000001", pk) == copied
    lease = scene.item("000000003")
    assert (lease["tok"], lease["st"], lease["v"]) == ({"S": "theirs"}, {"S": state}, LATER["v"])


def became_later(scene: Scene) -> None:
    """Lets the lease be one of this version until the sweeper has seen that it is there."""
    get, lease = scene.tables.get_item, scene.item("000000003")
    scene.put(lease | {"v": {"N": "1"}, "st": {"S": "running"}})

    def later(**arguments: Any) -> Any:
        if arguments["Key"]["sk"]["S"] == "000000003":
            scene.put(lease)
        return get(**arguments)

    scene.tables.get_item = later


# --- beside the session -----------------------------------------------------------------------------------------------


def test_a_name_of_a_later_version_is_listed_and_hides_no_other(scene: Scene) -> None:
    other = scene.store.create(new_session(), "")
    scene.make_later(scene.pk, owner_partition(OWNER))
    assert sorted(scene.store.session_ids(OWNER)) == sorted([scene.pk, other.id])
    assert scene.take().turn.number == 3
    assert scene.store.delete(OWNER, scene.pk, START_MS) is True
    assert scene.store.session_ids(OWNER) == [other.id]


def test_a_counter_of_a_later_version_counts_on_and_stays_its_own(scene: Scene) -> None:
    charge = QuotaCharge("turns#x", Decimal(1), Decimal(2), START_MS + 60_000)
    charges = QuotaCharges(OWNER, (charge,))
    scene.store.acquire(scene.session, lease_of(3, "a"), over=None)
    durable = DynamoDBSessionStore(scene.tables, SESSIONS, USAGE, sleep=lambda _: None)
    durable.create(new_session(), "", quota=charges)
    scene.make_later("turns#x", owner_partition(OWNER), USAGE)
    durable.create(new_session(), "", quota=charges)
    counter = scene.item("turns#x", owner_partition(OWNER), USAGE)
    assert (counter["n"], counter["v"]) == ({"N": "2"}, LATER["v"])


@pytest.mark.parametrize("state", ["active", "later"])
def test_a_data_key_of_a_later_version_is_neither_used_nor_replaced(state: str) -> None:
    scene = Scene(encrypted=True)
    key = scene.item("000001", owner_partition(OWNER), KEYS) | LATER | {"st": {"S": state}}
    scene.put(key, KEYS)
    scene.clock.tick(seconds=600)  # until no key is in memory
    for act in (scene.take, lambda: scene.store.create(new_session(), "")):
        require_unknown(act)
    assert scene.item("000001", owner_partition(OWNER), KEYS) == key


@pytest.mark.parametrize("changed", [{}, {"st": {"S": "of its own"}}, {"st": {"N": "1"}}, {"st": None}])
def test_an_erasure_destroys_a_data_key_of_a_later_version(changed: Item) -> None:
    scene = Scene(encrypted=True)
    key = scene.item("000001", owner_partition(OWNER), KEYS) | LATER | changed
    scene.put({name: value for name, value in key.items() if value}, KEYS)
    scene.store.erase(OWNER, START_MS)
    assert "key" not in scene.item("000001", owner_partition(OWNER), KEYS)
    assert scene.left() == []
    assert scene.store.create(new_session(), "").cipher.kid == "000002"


def test_a_fork_that_a_later_version_began_is_not_continued(scene: Scene) -> None:
    child = new_session()
    index = scene.item(scene.pk, owner_partition(OWNER)) | {"sk": {"S": partition(OWNER, child.id)}} | LATER
    scene.put(index)
    require_unknown(lambda: scene.store.fork(scene.session, 1, child, ""))
    assert scene.item(partition(OWNER, child.id), owner_partition(OWNER)) == index


def test_a_move_that_a_later_version_began_is_not_continued(scene: Scene) -> None:
    """The name is all that it has made so far, before any copy."""
    move = move_of(scene.session)
    pk, named = owner_partition(move.to_owner), partition(move.to_owner, move.to_id)
    index = scene.item(scene.pk, owner_partition(OWNER)) | {"pk": {"S": pk}, "sk": {"S": named}} | LATER
    scene.put(index)
    require_unknown(lambda: scene.store.move(move))
    scene.clock.now_ms = move.at_ms
    assert scene.take().turn.number == 3
    swept(scene, hours=2)
    assert scene.item(named, pk) == index


@pytest.mark.parametrize("version", ["0", "-1", "2.5", "x"])
def test_a_version_that_never_was_is_damage(scene: Scene, version: str) -> None:
    for sk in ("000000002", "session", "meta"):
        item = scene.item(sk)
        scene.tables.tables.write(SESSIONS, (scene.pk, sk), item | {"v": {"N": version}})
        with pytest.raises(ItemUnreadable):
            scene.take()
        scene.put(item)
