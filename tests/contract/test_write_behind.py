"""WriteBehindSessionStore: the contract, when what is in memory is written to the files, and what a crash loses."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tests.contract.session_store import (
    EVE,
    HOUR_MS,
    SessionStoreContract,
    charge,
    is_gone,
    lease_of,
    move_of,
    take,
    take_all,
    turn_of,
)
from tests.fakes import OWNER, START_MS, HeldClock, new_session
from turnlog.adapters.files import FileSessionStore
from turnlog.adapters.memory import MemorySessionStore
from turnlog.adapters.write_behind import WriteBehindSessionStore
from turnlog.domain.quotas import QuotaCharge
from turnlog.domain.sessions import Session
from turnlog.domain.turns import Lease, Slot, Turn
from turnlog.errors import LeaseLost, QuotaExceeded, SessionNotFound, StoreUnavailable, TurnlogError
from turnlog.ports.session_store import SessionStore


def no_sync(_: int) -> None:
    """A process that dies needs none."""


def files(folder: Path) -> FileSessionStore:
    return FileSessionStore(folder, sole=True, sync=no_sync)


class TakesUp(WriteBehindSessionStore):
    """Looks at a session before each claim, as every turn does, so that its turns come to be in memory."""

    def acquire(self, session: Session, lease: Lease, over: Lease | None) -> Slot | None:
        with suppress(TurnlogError):
            self.read(session.owner, session.id, lease.at_ms, newest=1)
        return super().acquire(session, lease, over)


class TestWriteBehind(SessionStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> SessionStore:
        return TakesUp(files(tmp_path), clock=HeldClock())


class TestWriteBehindThatIsAlwaysIdle(SessionStoreContract):
    """Whatever a method left in memory is written back by the next one."""

    @pytest.fixture
    def store(self) -> SessionStore:
        return TakesUp(MemorySessionStore(), idle_s=0, clock=HeldClock())


class TestWriteBehindThatTakesNothingUp(SessionStoreContract):
    @pytest.fixture
    def store(self) -> SessionStore:
        return WriteBehindSessionStore(MemorySessionStore(), clock=HeldClock())


class Durable(MemorySessionStore):
    """Fails when it is told to: from its write number `fails_at` on, or for one session."""

    def __init__(self) -> None:
        super().__init__()
        self.fails_at: int | None = None
        self.fails_for = ""

    def acquire(self, session: Session, lease: Lease, over: Lease | None) -> Slot | None:
        self._fail(session)
        return super().acquire(session, lease, over)

    def commit(self, session: Session, turn: Turn, settlement: tuple[QuotaCharge, ...] = ()) -> Slot | None:
        self._fail(session)
        return super().commit(session, turn, settlement)

    def _fail(self, session: Session) -> None:
        if self.fails_for == session.id or self.fails_at == 0:
            raise StoreUnavailable
        if self.fails_at:
            self.fails_at -= 1


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


@pytest.fixture
def durable() -> Durable:
    return Durable()


@pytest.fixture
def store(durable: Durable, clock: HeldClock) -> WriteBehindSessionStore:
    return TakesUp(durable, idle_s=60, clock=clock)


@pytest.fixture
def session(store: WriteBehindSessionStore) -> Session:
    session = new_session()
    store.create(session, "A title")
    return session


def test_a_creation_is_durable_at_once(store: WriteBehindSessionStore, session: Session, durable: Durable) -> None:
    assert durable.read(OWNER, session.id, START_MS, newest=1).title == "A title"


def test_turns_are_in_memory_until_the_session_was_idle(
    store: WriteBehindSessionStore, session: Session, durable: Durable, clock: HeldClock
) -> None:
    turns = take_all(store, session, 3)
    clock.tick(seconds=60, ms=-1)
    store.flush_idle(clock())
    assert durable.turns(session, 1, 9) == []
    clock.tick(ms=1)
    store.flush_idle(clock())
    assert durable.turns(session, 1, 9) == turns
    assert store.read(OWNER, session.id, START_MS, newest=9).turns == tuple(turns)


def test_a_session_that_is_used_is_not_idle(
    store: WriteBehindSessionStore, session: Session, durable: Durable, clock: HeldClock
) -> None:
    for number in range(1, 5):
        take(store, session, number)
        clock.tick(seconds=40)
    assert durable.turns(session, 1, 9) == []


def test_any_call_writes_back_what_is_idle(
    store: WriteBehindSessionStore, session: Session, durable: Durable, clock: HeldClock
) -> None:
    turn = take(store, session, 1)
    clock.tick(seconds=60)
    with pytest.raises(SessionNotFound):
        store.read(EVE, session.id, START_MS, newest=1)
    assert durable.turns(session, 1, 9) == [turn]


def test_closing_writes_everything_back_and_can_be_repeated(durable: Durable, clock: HeldClock) -> None:
    sessions = [new_session() for _ in range(3)]
    with TakesUp(durable, clock=clock) as store:
        for session in sessions:
            store.create(session, "")
            take_all(store, session, 2)
    for session in sessions:
        assert len(durable.turns(session, 1, 9)) == 2
    store.close()


def test_what_is_written_back_is_all_that_the_turns_were(
    store: WriteBehindSessionStore, session: Session, durable: Durable
) -> None:
    take_all(store, session, 30)
    before = store.read(OWNER, session.id, START_MS, newest=99)
    assert store.turns(session, 1, 99) == list(before.turns)
    store.close()
    assert durable.read(OWNER, session.id, START_MS, newest=99) == before


def test_a_range_of_turns_spans_files_and_memory(
    store: WriteBehindSessionStore, session: Session, durable: Durable
) -> None:
    turns = take_all(durable, session, 3)
    turns += [take(store, session, number) for number in (4, 5)]
    for first in range(1, 7):
        for last in range(first, 7):
            assert store.turns(session, first, last) == turns[first - 1 : last]
    assert durable.turns(session, 1, 9) == turns[:3]


def test_a_running_turn_is_written_back_too_and_whoever_comes_next_takes_it_over(
    store: WriteBehindSessionStore, session: Session, durable: Durable
) -> None:
    turn = take(store, session, 1)
    store.acquire(session, lease_of(2), over=None)
    store.close()
    view = durable.read(OWNER, session.id, START_MS, newest=9)
    assert (view.turns, view.running) == ((turn,), lease_of(2))
    heir = lease_of(2, "heir", at_ms=lease_of(2).lease_expires_ms + 1)
    assert store.acquire(session, heir, over=lease_of(2)) == heir
    assert store.commit(session, turn_of(heir)) == turn_of(heir)
    store.close()
    assert durable.turns(session, 2, 2) == [turn_of(heir)]


def test_a_claim_that_was_written_back_can_be_committed_and_released(
    store: WriteBehindSessionStore, session: Session, durable: Durable
) -> None:
    store.acquire(session, lease_of(1), over=None)
    store.close()
    store.release(session, lease_of(1), billed=False, now_ms=START_MS)
    assert durable.read(OWNER, session.id, START_MS, newest=1).running is None
    store.acquire(session, lease_of(1), over=None)
    store.close()
    assert store.commit(session, turn_of(lease_of(1))) == turn_of(lease_of(1))
    assert store.read(OWNER, session.id, START_MS, newest=1).turns == (turn_of(lease_of(1)),)


def test_turns_with_charges_are_durable_at_once_and_so_are_those_before_them(
    store: WriteBehindSessionStore, session: Session, durable: Durable
) -> None:
    first = take(store, session, 1)
    lease = lease_of(2, charges=(charge("9"),))
    store.acquire(session, lease, over=None)
    assert durable.turns(session, 1, 9) == [first]
    store.commit(session, turn_of(lease), (charge("-1"),))
    assert durable.turns(session, 1, 9) == [first, turn_of(lease)]
    other = new_session()
    durable.create(other, "")
    with pytest.raises(QuotaExceeded):
        durable.acquire(other, lease_of(1, charges=(charge("3"),)), over=None)
    durable.acquire(other, lease_of(1, charges=(charge("2"),)), over=None)


def test_an_end_is_durable_at_once_and_nothing_comes_back(
    store: WriteBehindSessionStore, session: Session, durable: Durable, clock: HeldClock
) -> None:
    take(store, session, 1)
    store.acquire(session, lease_of(2), over=None)
    assert store.delete(OWNER, session.id, START_MS) is True
    assert is_gone(durable, session)
    clock.tick(seconds=100)
    store.flush_idle(clock())
    store.close()
    assert is_gone(durable, session)


def test_what_lives_in_memory_alone_was_alive_when_it_was_deleted(
    store: WriteBehindSessionStore, session: Session
) -> None:
    take(store, session, 1, at_ms=START_MS + session.idle_ms - 10)
    assert store.delete(OWNER, session.id, START_MS + session.idle_ms + 60_000) is True


def test_a_repeated_creation_finds_what_is_alive_in_memory_alone(
    store: WriteBehindSessionStore, session: Session
) -> None:
    take(store, session, 1, at_ms=START_MS + session.idle_ms - 10)
    assert store.create(replace(session, created_ms=START_MS + session.idle_ms + 60_000), "") == session


def test_a_delete_that_fails_loses_nothing(
    store: WriteBehindSessionStore, session: Session, durable: Durable, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = take(store, session, 1)

    def unavailable(*_: object) -> bool:
        raise StoreUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(durable, "delete", unavailable)
        with pytest.raises(StoreUnavailable):
            store.delete(OWNER, session.id, START_MS)
    assert store.read(OWNER, session.id, START_MS, newest=1).turns == (turn,)


def test_moves_and_forks_take_along_what_is_in_memory(
    store: WriteBehindSessionStore, session: Session, durable: Durable
) -> None:
    turns = take_all(store, session, 3)
    child = new_session()
    store.fork(session, 3, child, "")
    assert len(durable.turns(child, 1, 9)) == 3
    turns.append(take(store, session, 4))
    moved = store.move(move_of(session))
    assert durable.turns(moved, 1, 9) == turns


def test_a_sweep_takes_nothing_that_is_alive_in_memory(
    store: WriteBehindSessionStore, session: Session, durable: Durable
) -> None:
    turn = take(store, session, 1, at_ms=START_MS + session.idle_ms - 10)
    now = START_MS + session.idle_ms + HOUR_MS // 3
    assert store.sweep(now) == 0
    assert store.read(OWNER, session.id, now, newest=1).turns == (turn,)


def test_of_more_sessions_than_it_holds_the_one_used_least_recently_is_written_back(
    durable: Durable, clock: HeldClock
) -> None:
    store = TakesUp(durable, most_sessions=2, clock=clock)
    sessions = [new_session() for _ in range(4)]
    for session in sessions:
        store.create(session, "")
        take(store, session, 1)
    store.flush_idle(clock())
    assert [len(durable.turns(session, 1, 9)) for session in sessions] == [1, 1, 0, 0]


@pytest.mark.parametrize("fails_at", range(7))
def test_a_write_back_that_failed_anywhere_is_finished_by_the_next(
    store: WriteBehindSessionStore, session: Session, durable: Durable, fails_at: int
) -> None:
    turns = take_all(store, session, 3)
    store.acquire(session, lease_of(4), over=None)
    durable.fails_at = fails_at
    with pytest.raises(StoreUnavailable):
        store.close()
    durable.fails_at = None
    view = store.read(OWNER, session.id, START_MS, newest=9)
    assert (list(view.turns), view.running) == (turns, lease_of(4))
    store.close()
    assert durable.read(OWNER, session.id, START_MS, newest=9) == view


def test_a_claim_that_was_half_written_back_and_then_taken_over_is_no_obstacle(
    store: WriteBehindSessionStore, session: Session, durable: Durable
) -> None:
    dead = lease_of(1, "dead")
    store.acquire(session, dead, over=None)
    durable.acquire(session, dead, over=None)  # and its answer was lost
    heir = lease_of(1, "heir", at_ms=dead.lease_expires_ms + 1)
    assert WriteBehindSessionStore.acquire(store, session, heir, over=dead) == heir
    assert store.commit(session, turn_of(heir)) == turn_of(heir)
    store.close()
    assert durable.turns(session, 1, 9) == [turn_of(heir)]


@pytest.mark.parametrize("by", ["close", "flush"])
def test_one_session_that_cannot_be_written_back_keeps_no_other_from_it(
    store: WriteBehindSessionStore, session: Session, durable: Durable, clock: HeldClock, by: str
) -> None:
    take(store, session, 1)
    others = [new_session() for _ in range(2)]
    for other in others:
        store.create(other, "")
        take(store, other, 1)
    durable.fails_for = session.id
    clock.tick(seconds=60)
    if by == "flush":
        store.flush_idle(clock())
    else:
        with pytest.raises(StoreUnavailable):
            store.close()
    assert [len(durable.turns(other, 1, 9)) for other in others] == [1, 1]
    durable.fails_for = ""
    store.close()
    assert len(durable.turns(session, 1, 9)) == 1


def test_a_session_that_ended_behind_its_back_is_not_brought_back(
    store: WriteBehindSessionStore, session: Session, durable: Durable
) -> None:
    take(store, session, 1)
    durable.delete(OWNER, session.id, START_MS)
    store.close()
    assert is_gone(store, session)


@pytest.mark.parametrize("what", ["a claim", "a turn"])
def test_whoever_else_writes_is_noticed_once_and_is_no_obstacle_afterwards(
    store: WriteBehindSessionStore, session: Session, durable: Durable, what: str
) -> None:
    take(store, session, 1)
    other = lease_of(1, "another process")
    durable.acquire(session, other, over=None)
    if what == "a turn":
        durable.commit(session, turn_of(other))
    with pytest.raises(LeaseLost):
        store.close()
    store.close()
    assert store.commit(session, turn_of(other)) == turn_of(other)
    assert store.read(OWNER, session.id, START_MS, newest=9).turns == (turn_of(other),)


# --- a crash


@pytest.fixture
def crashed(
    tmp_path: Path, clock: HeldClock
) -> Iterator[Callable[[Callable[[SessionStore], object]], FileSessionStore]]:
    """Lets a process do something and kills it; then the files, as the next process finds them."""

    def crash(operation: Callable[[SessionStore], object]) -> FileSessionStore:
        if (child := os.fork()) == 0:
            try:
                operation(TakesUp(files(tmp_path), clock=clock))
                os.kill(os.getpid(), 9)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        assert status == 9
        return files(tmp_path)

    yield crash


def test_a_crash_loses_the_turns_since_the_last_write_back_and_nothing_else(
    crashed: Callable[[Callable[[SessionStore], object]], FileSessionStore], clock: HeldClock
) -> None:
    session, other = new_session(), new_session()

    def operation(store: SessionStore) -> None:
        store.create(session, "A title")
        store.create(other, "")
        take_all(store, session, 3)
        clock.tick(seconds=60)
        for number in (4, 5):
            take(store, session, number)
        take(store, other, 1)
        store.acquire(other, lease_of(2), over=None)

    left = crashed(operation)
    view = left.read(OWNER, session.id, START_MS, newest=9)
    assert (view.title, view.count, view.running) == ("A title", 3, None)
    assert left.read(OWNER, other.id, START_MS, newest=9).count == 0
    with TakesUp(left, clock=clock) as store:
        take(store, session, 4)
    assert left.read(OWNER, session.id, START_MS, newest=9).count == 4


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    with WriteBehindSessionStore(files(tmp_path)), pytest.raises(StoreUnavailable):
        FileSessionStore(tmp_path)
