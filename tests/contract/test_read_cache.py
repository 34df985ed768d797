"""CachedSessionStore: the contract, read consistently and from views, and when a view is used, kept and dropped."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.contract.session_store import (
    EVE,
    TOLERANCE_MS,
    SessionStoreContract,
    is_gone,
    lease_of,
    move_of,
    random_text,
    take,
    take_all,
    turn_of,
)
from tests.contract.steps import Store, TurnStoreContract
from tests.fakes import OWNER, START_MS, new_session, with_content
from turnlog.adapters.local.memory import MemorySessionStore
from turnlog.adapters.read_cache import CachedSessionStore
from turnlog.domain.messages import Message
from turnlog.domain.quotas import QuotaCharge
from turnlog.domain.sessions import Session, SessionView
from turnlog.domain.turns import MAX_TURN_BYTES, Lease, Slot, Turn
from turnlog.errors import ClockBehind, SessionNotFound, StoreUnavailable, TurnInProgress, TurnTooLarge
from turnlog.ports.session_store import SessionStore


class TestReadCache(SessionStoreContract, TurnStoreContract):
    @pytest.fixture
    def store(self) -> Store:
        return CachedSessionStore(MemorySessionStore())


class NeverConsistent(CachedSessionStore):
    """Answers every read from a view if it can: in one process that must make no difference."""

    def read(
        self,
        owner: str,
        session_id: str,
        now_ms: int,
        newest: int,
        *,
        consistent: bool = True,
        with_content: bool = True,
    ) -> SessionView:
        return super().read(owner, session_id, now_ms, newest, consistent=False, with_content=with_content)


class TestReadCacheOnItsViews(SessionStoreContract, TurnStoreContract):
    @pytest.fixture
    def store(self) -> Store:
        return NeverConsistent(MemorySessionStore())


class Durable(MemorySessionStore):
    """Counts its reads, fails when it is told to, and lets something else happen right after a commit."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.fails = False
        self.after_commit: Callable[[], object] | None = None

    def read(
        self,
        owner: str,
        session_id: str,
        now_ms: int,
        newest: int,
        *,
        consistent: bool = True,
        with_content: bool = True,
    ) -> SessionView:
        self.reads += 1
        self._fail()
        return super().read(owner, session_id, now_ms, newest, consistent=consistent, with_content=with_content)

    def acquire(self, session: Session, lease: Lease, over: Lease | None) -> Slot | None:
        self._fail()
        return super().acquire(session, lease, over)

    def commit(self, session: Session, turn: Turn, settlement: tuple[QuotaCharge, ...] = ()) -> Slot | None:
        self._fail()
        found = super().commit(session, turn, settlement)
        if self.after_commit:
            self.after_commit()
        return found

    def _fail(self) -> None:
        if self.fails:
            raise StoreUnavailable


@pytest.fixture
def durable() -> Durable:
    return Durable()


@pytest.fixture
def store(durable: Durable) -> CachedSessionStore:
    return CachedSessionStore(durable)


@pytest.fixture
def session(store: CachedSessionStore) -> Session:
    session = new_session()
    store.create(session, "A title")
    return session


def read_cached(store: SessionStore, session: Session, newest: int = 3, now_ms: int = START_MS) -> SessionView:
    return store.read(session.owner, session.id, now_ms, newest, consistent=False)


def read_and_take(store: SessionStore, session: Session, number: int, newest: int = 3) -> Turn:
    """Takes a turn as a handler does: after a read of the session."""
    store.read(session.owner, session.id, START_MS, newest)
    return take(store, session, number)


def is_kept(store: SessionStore, durable: Durable, session: Session, newest: int = 3) -> bool:
    """True if a view answers."""
    before = durable.reads
    read_cached(store, session, newest)
    return durable.reads == before


def test_a_read_after_an_own_commit_costs_nothing_and_is_right(
    store: CachedSessionStore, session: Session, durable: Durable
) -> None:
    for number in range(1, 9):
        read_and_take(store, session, number)
        assert is_kept(store, durable, session)
        assert read_cached(store, session) == durable.read(OWNER, session.id, START_MS, newest=3)


def test_a_turn_after_a_turn_needs_no_read_at_all(
    store: CachedSessionStore, session: Session, durable: Durable
) -> None:
    read_and_take(store, session, 1)
    for number in range(2, 9):
        assert read_cached(store, session).count == number - 1
        take(store, session, number)
    assert durable.reads == 1


def test_a_consistent_read_always_asks(store: CachedSessionStore, session: Session, durable: Durable) -> None:
    read_and_take(store, session, 1)
    take(durable, session, 2)
    assert store.read(OWNER, session.id, START_MS, newest=3).count == 2


def test_a_view_that_was_only_read_answers_nothing(
    store: CachedSessionStore, session: Session, durable: Durable
) -> None:
    store.read(OWNER, session.id, START_MS, newest=3)
    assert not is_kept(store, durable, session)
    store.acquire(session, lease_of(1), over=None)
    assert not is_kept(store, durable, session)


def test_nothing_is_answered_from_a_view_while_a_turn_runs(
    store: CachedSessionStore, session: Session, durable: Durable
) -> None:
    read_and_take(store, session, 1)
    store.acquire(session, lease_of(2), over=None)
    assert read_cached(store, session).running == lease_of(2)
    store.commit(session, turn_of(lease_of(2)))
    assert is_kept(store, durable, session)


def test_an_outdated_view_is_found_out_by_the_lease(
    store: CachedSessionStore, session: Session, durable: Durable
) -> None:
    read_and_take(store, session, 1)
    second = take(durable, session, 2)
    assert read_cached(store, session).count == 1
    assert store.acquire(session, lease_of(2, "late"), over=None) == second
    assert read_cached(store, session).count == 2


def fail_to_take_a_large_turn(store: SessionStore, session: Session) -> None:
    store.acquire(session, lease_of(2), over=None)
    large = Message.of_text(random_text(MAX_TURN_BYTES + 100_000))
    with pytest.raises(TurnTooLarge):
        store.commit(session, with_content(turn_of(lease_of(2)), message=large))
    MemorySessionStore.release(store._durable, session, lease_of(2), billed=False, now_ms=START_MS)  # type: ignore[attr-defined]


def be_refused_the_slot(store: SessionStore, session: Session) -> None:
    MemorySessionStore.acquire(store._durable, session, lease_of(2, "other"), over=None)  # type: ignore[attr-defined]
    store.acquire(session, lease_of(2), over=None)


def commit_without_a_lease(store: SessionStore, session: Session) -> None:
    assert store.commit(session, turn_of(lease_of(2))) is None


SURPRISES: dict[str, Callable[[SessionStore, Session], object]] = {
    "a release": lambda store, session: store.release(session, lease_of(2), billed=False, now_ms=START_MS),
    "a slot that was taken": be_refused_the_slot,
    "a lease that was lost": commit_without_a_lease,
    "a turn that is too large": fail_to_take_a_large_turn,
    "a sweep": lambda store, _: store.sweep(START_MS),
}


@pytest.mark.parametrize("surprise", SURPRISES.values(), ids=SURPRISES)
def test_a_view_is_dropped_by_each_surprise(
    store: CachedSessionStore,
    session: Session,
    durable: Durable,
    surprise: Callable[[SessionStore, Session], object],
) -> None:
    read_and_take(store, session, 1)
    surprise(store, session)
    assert not is_kept(store, durable, session)


@pytest.mark.parametrize("call", ["read", "acquire", "commit"])
def test_a_view_is_dropped_when_the_store_fails(
    store: CachedSessionStore, session: Session, durable: Durable, call: str
) -> None:
    read_and_take(store, session, 1)
    failing: dict[str, Callable[[], object]] = {
        "read": lambda: store.read(OWNER, session.id, START_MS, newest=3),
        "acquire": lambda: store.acquire(session, lease_of(2), over=None),
        "commit": lambda: store.commit(session, turn_of(lease_of(2))),
    }
    durable.fails = True
    with pytest.raises(StoreUnavailable):
        failing[call]()
    durable.fails = False
    assert not is_kept(store, durable, session)


def test_nothing_of_a_deleted_session_is_kept(store: CachedSessionStore, session: Session) -> None:
    read_and_take(store, session, 1)
    store.delete(OWNER, session.id, START_MS)
    with pytest.raises(SessionNotFound):
        read_cached(store, session)
    assert not store._views._views


def test_nothing_is_kept_where_a_session_moved_from(store: CachedSessionStore, session: Session) -> None:
    read_and_take(store, session, 1)
    moved = store.move(move_of(session))
    with pytest.raises(SessionNotFound):
        read_cached(store, session)
    assert read_cached(store, moved).count == 1


def test_a_move_that_is_refused_drops_the_view_too(
    store: CachedSessionStore, session: Session, durable: Durable
) -> None:
    read_and_take(store, session, 1)
    durable.acquire(session, lease_of(2), over=None)
    with pytest.raises(TurnInProgress):
        store.move(move_of(session))
    assert not is_kept(store, durable, session)


def test_a_session_that_is_deleted_during_a_commit_is_not_kept_by_it(
    store: CachedSessionStore, session: Session, durable: Durable
) -> None:
    durable.after_commit = lambda: store.delete(OWNER, session.id, START_MS)
    read_and_take(store, session, 1)
    assert not store._views._views
    assert is_gone(store, session)


def test_a_view_never_says_that_a_session_has_expired(
    store: CachedSessionStore, session: Session, durable: Durable
) -> None:
    turn = read_and_take(store, session, 1)
    end_ms = turn.at_ms + session.idle_ms
    take(durable, session, 2, at_ms=end_ms - 10)
    assert read_cached(store, session, now_ms=end_ms - 1).count == 1
    assert read_cached(store, session, now_ms=end_ms).count == 2


def test_a_view_decides_nothing_by_a_clock_that_lies_far_behind(store: CachedSessionStore, session: Session) -> None:
    turn = read_and_take(store, session, 1)
    assert read_cached(store, session, now_ms=turn.at_ms - TOLERANCE_MS).count == 1
    with pytest.raises(ClockBehind):
        read_cached(store, session, now_ms=turn.at_ms - TOLERANCE_MS - 1)


def test_a_view_is_never_found_under_another_owner(store: CachedSessionStore, session: Session) -> None:
    read_and_take(store, session, 1)
    eves = replace(session, owner=EVE)
    with pytest.raises(SessionNotFound):
        read_cached(store, eves)
    store.create(eves, "Eve's")
    assert read_cached(store, eves).title == "Eve's"
    assert read_cached(store, session).count == 1


def test_a_view_with_too_few_turns_is_not_used_and_one_with_too_many_is_cut(
    store: CachedSessionStore, session: Session, durable: Durable
) -> None:
    turns = take_all(durable, session, 8)
    turns.append(read_and_take(store, session, 9, newest=4))
    assert list(read_cached(store, session, newest=4).turns) == turns[-4:]
    assert is_kept(store, durable, session, newest=2)
    assert list(read_cached(store, session, newest=2).turns) == turns[-2:]
    assert not is_kept(store, durable, session, newest=5)
    assert list(read_cached(store, session, newest=9).turns) == turns


def test_a_view_of_a_short_session_answers_whatever_is_asked(
    store: CachedSessionStore, session: Session, durable: Durable
) -> None:
    turn = read_and_take(store, session, 1, newest=3)
    assert read_cached(store, session, newest=100).turns == (turn,)
    assert is_kept(store, durable, session, newest=100)


def test_a_read_that_tells_nothing_new_leaves_the_view(
    store: CachedSessionStore, session: Session, durable: Durable
) -> None:
    read_and_take(store, session, 1)
    store.read(OWNER, session.id, START_MS, newest=1)
    assert is_kept(store, durable, session)


def test_a_read_that_sees_another_turn_running_drops_the_view(
    store: CachedSessionStore, session: Session, durable: Durable
) -> None:
    read_and_take(store, session, 1)
    durable.acquire(session, lease_of(2), over=None)
    store.read(OWNER, session.id, START_MS, newest=3)
    assert read_cached(store, session).running == lease_of(2)


def test_a_turn_that_came_after_others_than_those_seen_proves_nothing(
    store: CachedSessionStore, session: Session, durable: Durable
) -> None:
    read_and_take(store, session, 1, newest=2)
    turns = [take(durable, session, 2), take(store, session, 3)]
    assert list(read_cached(store, session, newest=2).turns) == turns


def test_the_least_recently_used_of_too_many_views_goes(durable: Durable) -> None:
    store = CachedSessionStore(durable, most_sessions=2)
    first, second, third = (new_session() for _ in range(3))
    for session in (first, second):
        store.create(session, "")
        read_and_take(store, session, 1)
    read_cached(store, first)
    store.create(third, "")
    read_and_take(store, third, 1)
    kept = {session_id for _, session_id in store._views._views}
    assert kept == {first.id, third.id}


def test_views_are_bounded_in_bytes(durable: Durable) -> None:
    store = CachedSessionStore(durable, most_bytes=10_000)
    sessions = [new_session() for _ in range(3)]
    for session in sessions:
        store.create(session, "")
        store.read(OWNER, session.id, START_MS, newest=3)
        store.acquire(session, lease_of(1), over=None)
        store.commit(session, with_content(turn_of(lease_of(1)), message=Message.of_text("x" * 4000)))
    assert [is_kept(store, durable, session) for session in reversed(sessions)] == [True, True, False]
    huge = new_session()
    store.create(huge, "")
    store.read(OWNER, huge.id, START_MS, newest=3)
    store.acquire(huge, lease_of(1), over=None)
    store.commit(huge, with_content(turn_of(lease_of(1)), message=Message.of_text("x" * 11_000)))
    assert not is_kept(store, durable, huge)


def test_a_long_session_is_kept_only_as_far_as_was_asked_for(store: CachedSessionStore, session: Session) -> None:
    store.read(OWNER, session.id, START_MS, newest=3)
    for number in range(1, 50):
        take(store, session, number)
    (view,) = store._views._views.values()
    assert len(view.view.turns) == 3
    assert store._views._bytes == view.size


def test_many_sessions_one_after_the_other_leave_nothing_behind(durable: Durable) -> None:
    store = CachedSessionStore(durable)
    for _ in range(300):
        session = new_session()
        store.create(session, "")
        read_and_take(store, session, 1)
        store.delete(OWNER, session.id, START_MS)
    assert (store._views._views, store._views._bytes) == ({}, 0)


@pytest.mark.parametrize("seed", range(20))
def test_two_processes_with_views_of_their_own_take_turns_in_one_order(seed: int) -> None:
    durable, chance, session = MemorySessionStore(), random.Random(seed), new_session()
    stores = [CachedSessionStore(durable) for _ in range(2)]
    durable.create(session, "")
    stored: list[str] = []
    while len(stored) < 40:
        store = chance.choice(stores)
        view = store.read(OWNER, session.id, START_MS, newest=3, consistent=chance.random() < 0.3)
        lease = lease_of(view.count + 1, f"token {len(stored)} {chance.random()}")
        if store.acquire(session, lease, over=None) != lease:
            continue
        if chance.random() < 0.1:
            store.release(session, lease, billed=False, now_ms=START_MS)
            continue
        before = view.turns[-1].token if view.turns else ""
        assert store.commit(session, turn_of(lease, before)) == turn_of(lease, before)
        stored.append(lease.token)
    turns = durable.turns(session, 1, 99)
    assert [turn.token for turn in turns] == stored
    assert [turn.message.blocks[0]["text"] for turn in turns] == ["", *stored[:-1]]
