"""P5: a session is gone at that very millisecond, whether or not TTL has run, and nothing brings it back to life.

TTL never runs by itself here. The tests remove every subset of the items that it might have removed after the end.
"""

from __future__ import annotations

import itertools
from contextlib import suppress
from dataclasses import replace

import pytest

from tests.fakes import OWNER, START_MS, HashModel, HeldClock, new_session
from tests.promises.integration.handlers import TurnTask
from tests.promises.simulator.dynamodb import SimulatedDynamoDB
from turnlog.adapters.dynamodb import DynamoDBSessionStore
from turnlog.adapters.dynamodb.items import partition
from turnlog.domain.server_key import ServerKey
from turnlog.domain.sessions import Move, Session, new_session_id
from turnlog.domain.turns import Lease
from turnlog.errors import SessionNotFound
from turnlog.usecases.list_sessions import page_of_sessions
from turnlog.usecases.turn_protocol import TakenTurn, run_turn
from turnlog.usecases.turn_request import TurnPolicy

SESSIONS, USAGE = "sessions", "usage"
IDLE_S, LIFE_S = 1800, 86_400


class Scene:
    """One session, its table without TTL, and a clock."""

    def __init__(self, idle_s: int = IDLE_S, life_s: int = LIFE_S) -> None:
        self.client = SimulatedDynamoDB()
        self.store = DynamoDBSessionStore(self.client, SESSIONS, USAGE, sleep=lambda _: None)  # type: ignore[arg-type]
        self.clock = HeldClock()
        self.model = HashModel()
        self.session = self.store.create(new_session(idle_s=idle_s, life_s=life_s), "A title")

    def take(self, text: str) -> TakenTurn:
        request = TurnTask(self.session.owner, self.session.id, text).request()
        return run_turn(
            request,
            store=self.store,
            model=self.model,
            clock=self.clock,
            remaining_s=lambda: 29.0,
            policy=TurnPolicy(),
        )

    def move(self) -> Session:
        to = new_session_id()
        now = self.clock()
        return self.store.move(Move(OWNER, self.session.id, "eve", to, b"m" * 16, "mover", now, now + 34_000))

    @property
    def is_found(self) -> bool:
        """True when a read finds it; the listing must agree."""
        listed = page_of_sessions(
            OWNER, limit=10, after=None, store=self.store, server_key=ServerKey("k"), names=(), now_ms=self.clock()
        ).sessions
        try:
            self.store.read(OWNER, self.session.id, self.clock(), newest=25)
        except SessionNotFound:
            assert listed == []
            return False
        assert [view.session.id for view in listed] == [self.session.id]
        return True


@pytest.mark.asvs("7.3.1")
@pytest.mark.parametrize("turns", [0, 1, 3])
@pytest.mark.parametrize("off_ms", [-1, 0, 1])
def test_a_session_is_idle_dead_from_the_very_millisecond_on(turns: int, off_ms: int) -> None:
    scene = Scene()
    for number in range(turns):
        scene.clock.tick(seconds=60)
        scene.take(f"{number}")
    ends_ms = START_MS + turns * 60_000 + IDLE_S * 1000
    scene.clock.now_ms = ends_ms + off_ms
    assert scene.is_found is (off_ms < 0)
    asked = len(scene.model.requests)
    if off_ms < 0:
        assert scene.take("more").turn.number == turns + 1
    else:
        with pytest.raises(SessionNotFound):
            scene.take("more")
        assert len(scene.model.requests) == asked


@pytest.mark.asvs("7.3.2")
@pytest.mark.parametrize("off_ms", [-1, 0, 1])
def test_a_busy_session_ends_at_its_absolute_end(off_ms: int) -> None:
    scene = Scene(idle_s=IDLE_S, life_s=3600)
    for number in range(6):
        scene.clock.tick(seconds=590)
        scene.take(f"{number}")
    scene.clock.now_ms = scene.session.expires_ms + off_ms
    assert scene.is_found is (off_ms < 0)


def test_a_repeat_under_a_stored_key_is_not_found_after_the_end() -> None:
    scene = Scene()
    scene.take("one")
    scene.clock.tick(seconds=IDLE_S)
    with pytest.raises(SessionNotFound):
        scene.take("one")


@pytest.mark.parametrize("off_ms", [-1, 0, 1])
def test_a_move_finds_what_a_read_finds(off_ms: int) -> None:
    scene = Scene()
    scene.take("one")
    scene.clock.tick(seconds=IDLE_S, ms=off_ms)
    if off_ms < 0:
        assert scene.move().expires_ms == scene.session.expires_ms
    else:
        with pytest.raises(SessionNotFound):
            scene.move()


@pytest.mark.parametrize("off_ms", [-1, 0, 1])
def test_a_delete_says_that_there_was_nothing_once_the_session_has_ended(off_ms: int) -> None:
    scene = Scene()
    scene.take("one")
    scene.clock.tick(seconds=IDLE_S, ms=off_ms)
    assert scene.store.delete(OWNER, scene.session.id, scene.clock()) is (off_ms < 0)
    assert not scene.is_found


# --- while a turn runs ------------------------------------------------------------------------------------------------


def test_a_turn_over_the_idle_end_is_stored_and_counts_as_use() -> None:
    scene = Scene()
    scene.clock.tick(seconds=IDLE_S, ms=-1)
    began_ms = scene.clock()
    scene.model.during = lambda: scene.clock.tick(seconds=20)
    taken = scene.take("one")
    ended_ms = began_ms + 20_000
    assert (taken.turn.at_ms, taken.idle_expires_ms) == (ended_ms, ended_ms + IDLE_S * 1000)
    scene.clock.now_ms = taken.idle_expires_ms - 1
    assert scene.is_found
    scene.clock.tick(ms=1)
    assert not scene.is_found


def test_a_session_is_alive_while_its_turn_runs_beyond_the_idle_end() -> None:
    scene = Scene()
    scene.clock.tick(seconds=IDLE_S, ms=-1)
    seen: list[bool] = []

    def look() -> None:
        scene.clock.tick(seconds=20)
        seen.append(scene.is_found)

    scene.model.during = look
    scene.take("one")
    assert seen == [True]


def test_a_turn_over_the_absolute_end_is_returned_and_the_session_gone() -> None:
    scene = Scene(life_s=3600, idle_s=3600)
    scene.clock.now_ms = scene.session.expires_ms - 1
    scene.model.during = lambda: scene.clock.tick(ms=2)
    taken = scene.take("one")
    assert taken.turn.number == 1
    assert taken.idle_expires_ms == scene.session.expires_ms
    assert not scene.is_found
    with pytest.raises(SessionNotFound):
        scene.take("two")


# --- items that TTL has removed after the end -------------------------------------------------------------------------


SUBSETS = [set(chosen) for size in range(8) for chosen in itertools.combinations(range(7), size)]
"""The subsets of header, meta, three turns, the owner's index and the sweeper's entry: all 128."""


def dead_scene(removed: set[int]) -> Scene:
    """Makes a session of three turns, ended and past its grace, without these of its items."""
    scene = Scene()
    for text in ("one", "two", "three"):
        scene.take(text)
    scene.clock.now_ms = (scene.session.ttl_s + 1) * 1000
    items = scene.client.tables.items(SESSIONS)
    assert len(items) == 7
    for at in removed:
        scene.client.delete_item(TableName=SESSIONS, Key={name: items[at][name] for name in ("pk", "sk")})
    return scene


def test_an_ended_session_stays_gone_whatever_ttl_has_removed() -> None:
    for removed in SUBSETS:
        scene = dead_scene(removed)
        asked = len(scene.model.requests)
        for text in ("four", "one", ""):
            with pytest.raises(SessionNotFound):
                _ = scene.take(text) if text else scene.move()
            assert not scene.is_found, f"revived with the items {removed} removed"
        assert len(scene.model.requests) == asked


def test_a_handler_that_stood_still_over_the_end_revives_nothing() -> None:
    for removed in SUBSETS:
        living = Scene()
        read = [living.take(text) for text in ("one", "two", "three")][-1]
        scene = dead_scene(removed)
        lease = Lease(4, "stale", START_MS + 34_000, b"k" * 16, b"f" * 16, START_MS)
        late = replace(read.turn, number=4, token=lease.token, key=lease.key)
        scene.store.acquire(scene.session, lease, over=None)
        assert not scene.is_found
        scene.store.commit(scene.session, late)
        assert not scene.is_found
        scene.store.release(scene.session, lease, billed=True, now_ms=scene.clock())
        assert not scene.is_found


def test_an_id_of_which_anything_is_left_is_never_given_a_new_life() -> None:
    for removed in SUBSETS:
        scene = dead_scene(removed)
        if not scene.client.tables.partition(SESSIONS, partition(OWNER, scene.session.id)):
            continue  # nothing tells any more that there ever was one
        again = replace(scene.session, created_ms=scene.clock(), expires_ms=scene.clock() + 3_600_000)
        with suppress(SessionNotFound):
            assert scene.store.create(again, "Again") == scene.session, "another session stands under its id"
        assert not scene.is_found


def test_a_delete_works_on_whatever_ttl_has_left_and_leaves_no_content() -> None:
    for removed in SUBSETS:
        scene = dead_scene(removed)
        assert scene.store.delete(OWNER, scene.session.id, scene.clock()) is False
        left = scene.client.tables.partition(SESSIONS, partition(OWNER, scene.session.id))
        assert all(item["st"]["S"] == "ended" for item in left)
        assert not scene.is_found


def test_ttl_of_every_item_lies_beyond_the_end_of_its_session() -> None:
    scene = dead_scene(set())
    for item in scene.client.tables.items(SESSIONS):
        assert int(item["ttl"]["N"]) * 1000 >= scene.session.expires_ms + 3_600_000
