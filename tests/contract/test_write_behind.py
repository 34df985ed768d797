"""WriteBehindSessionStore: the contract, when what is in memory is written to the files, and what a crash loses."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from tests.contract.later_versions import LaterVersionContract, StoreLater
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
from tests.contract.steps import Store, TurnStoreContract
from tests.contract.test_files import (
    checkpointed,
    interrupted,
    kept_steps,
    step_of,
    store_later_in,
    with_results,
)
from tests.fakes import OWNER, START_MS, HeldClock, new_session
from turnlog.adapters.local.files import FileSessionStore
from turnlog.adapters.local.files.store import session_path
from turnlog.adapters.local.files.write_behind import WriteBehindSessionStore
from turnlog.domain.quotas import QuotaCharges
from turnlog.domain.sessions import Session, SessionChanges, SessionView
from turnlog.errors import QuotaExceeded, SessionNotFound, StoreUnavailable
from turnlog.ports.session_store import SessionStore


def no_sync(_: int) -> None:
    """Syncs nothing: a process that dies needs none."""


class TestWriteBehind(SessionStoreContract, TurnStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return WriteBehindSessionStore(tmp_path, clock=HeldClock(), sync=no_sync)


class TestWriteBehindThatIsAlwaysIdle(SessionStoreContract, TurnStoreContract, LaterVersionContract):
    """Each method writes what the one before it left in memory."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return WriteBehindSessionStore(tmp_path, idle_s=0, clock=HeldClock(), sync=no_sync)

    @pytest.fixture
    def store_later(self, tmp_path: Path, store: WriteBehindSessionStore) -> StoreLater:
        def make_later(session: Session) -> Callable[[], object]:
            store.flush()
            return store_later_in(tmp_path)(session)

        return make_later


class FailingDisk:
    """A sync that fails when it is told to: from its call number `fails_at` on, or for one file."""

    def __init__(self) -> None:
        self.fails_at: int | None = None
        self.fails_for: Path | None = None

    def __call__(self, fd: int) -> None:
        if self.fails_at == 0 or (self.fails_for and os.path.samestat(os.fstat(fd), self.fails_for.stat())):
            raise OSError
        if self.fails_at:
            self.fails_at -= 1


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


@pytest.fixture
def disk() -> FailingDisk:
    return FailingDisk()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "sessions"


@pytest.fixture
def store(root: Path, clock: HeldClock, disk: FailingDisk) -> WriteBehindSessionStore:
    return WriteBehindSessionStore(root, idle_s=60, clock=clock, sync=disk)


@pytest.fixture
def session(store: WriteBehindSessionStore) -> Session:
    return store.create(new_session(), "A title")


DurableView = Callable[[Session], SessionView]


@pytest.fixture
def durable(root: Path) -> DurableView:
    """Reads a session as a process would that comes after a crash at this moment."""
    copies = count()

    def view(session: Session) -> SessionView:
        copy = root.with_name(f"copy {next(copies)}")
        shutil.copytree(root, copy)
        return FileSessionStore(copy, sync=no_sync).read(session.owner, session.id, START_MS, newest=999)

    return view


def test_a_creation_is_durable_at_once(session: Session, durable: DurableView) -> None:
    assert durable(session).title == "A title"


def test_turns_are_in_memory_until_the_session_was_idle(
    store: WriteBehindSessionStore, session: Session, durable: DurableView, clock: HeldClock
) -> None:
    turns = take_all(store, session, 3)
    clock.tick(seconds=60, ms=-1)
    store.session_ids(EVE)
    assert durable(session).turns == ()
    clock.tick(ms=1)
    store.session_ids(EVE)
    assert durable(session).turns == tuple(turns)
    assert store.read(OWNER, session.id, START_MS, newest=9).turns == tuple(turns)


def test_a_session_that_is_used_is_not_idle(
    store: WriteBehindSessionStore, session: Session, durable: DurableView, clock: HeldClock
) -> None:
    for number in range(1, 5):
        take(store, session, number)
        clock.tick(seconds=40)
    assert durable(session).turns == ()


def test_a_session_that_is_read_is_used(
    store: WriteBehindSessionStore, session: Session, durable: DurableView, clock: HeldClock
) -> None:
    take(store, session, 1)
    for _ in range(3):
        clock.tick(seconds=40)
        store.read(OWNER, session.id, START_MS, newest=1)
    assert durable(session).turns == ()


def test_closing_writes_everything_and_can_be_repeated(root: Path, clock: HeldClock) -> None:
    with WriteBehindSessionStore(root, clock=clock, sync=no_sync) as store:
        sessions = [store.create(new_session(), "") for _ in range(3)]
        turns = [take_all(store, session, 2) for session in sessions]
    store.close()
    left = FileSessionStore(root, sync=no_sync)
    assert [left.turns(session, 1, 9) for session in sessions] == turns


def test_what_is_written_is_all_that_the_turns_were(
    store: WriteBehindSessionStore, session: Session, durable: DurableView
) -> None:
    take_all(store, session, 30)
    before = store.read(OWNER, session.id, START_MS, newest=99)
    assert store.turns(session, 1, 99) == list(before.turns)
    assert durable(session).count == 0
    store.flush()
    assert durable(session) == before


def test_a_range_of_turns_spans_files_and_memory(
    store: WriteBehindSessionStore, session: Session, durable: DurableView
) -> None:
    turns = take_all(store, session, 3)
    store.flush()
    turns += [take(store, session, number) for number in (4, 5)]
    for first in range(1, 7):
        for last in range(first, 7):
            assert store.turns(session, first, last) == turns[first - 1 : last]
    assert durable(session).turns == tuple(turns[:3])


def test_a_running_turn_is_written_too_and_can_be_taken_over(
    store: WriteBehindSessionStore, session: Session, durable: DurableView
) -> None:
    turn = take(store, session, 1)
    store.acquire(session, lease_of(2), over=None)
    store.flush()
    assert (durable(session).turns, durable(session).running) == ((turn,), lease_of(2))
    heir = lease_of(2, "heir", at_ms=lease_of(2).lease_expires_ms + 1)
    assert store.acquire(session, heir, over=lease_of(2)) == heir
    assert store.commit(session, turn_of(heir)) == turn_of(heir)
    store.flush()
    assert durable(session).turns == (turn, turn_of(heir))


def test_a_lease_that_was_written_can_be_committed_and_released(
    store: WriteBehindSessionStore, session: Session, durable: DurableView
) -> None:
    store.acquire(session, lease_of(1), over=None)
    store.flush()
    store.release(session, lease_of(1), billed=False, now_ms=START_MS)
    assert durable(session).running == lease_of(1)
    store.flush()
    assert durable(session).running is None
    store.acquire(session, lease_of(1), over=None)
    store.flush()
    assert store.commit(session, turn_of(lease_of(1))) == turn_of(lease_of(1))
    assert store.read(OWNER, session.id, START_MS, newest=1).turns == (turn_of(lease_of(1)),)


def test_turns_with_charges_are_durable_at_once_with_those_before_them(
    store: WriteBehindSessionStore, session: Session, durable: DurableView, root: Path
) -> None:
    first = take(store, session, 1)
    lease = lease_of(2, charges=(charge("9"),))
    store.acquire(session, lease, over=None)
    assert (durable(session).turns, durable(session).running) == ((first,), lease_of(2))
    store.commit(session, turn_of(lease), (charge("-1"),))
    assert durable(session).turns == (first, turn_of(lease))
    store.close()
    left = FileSessionStore(root, sync=no_sync)
    with pytest.raises(QuotaExceeded):
        left.charge(QuotaCharges(OWNER, (charge("3"),)), START_MS)
    left.charge(QuotaCharges(OWNER, (charge("2"),)), START_MS)


def test_steps_are_in_memory_until_the_session_was_idle(
    store: WriteBehindSessionStore, session: Session, durable: DurableView, root: Path, clock: HeldClock
) -> None:
    store.acquire(session, lease_of(1), over=None)
    lease = checkpointed(store, session, lease_of(1), 2)
    assert durable(session).running is None
    assert store.steps(session, lease) == kept_steps(2)
    clock.tick(seconds=60)
    store.session_ids(EVE)
    assert durable(session).running == lease
    store.close()
    assert FileSessionStore(root, sync=no_sync).steps(session, lease) == kept_steps(2)


def test_a_turn_that_goes_on_is_in_use(
    store: WriteBehindSessionStore, session: Session, durable: DurableView, clock: HeldClock
) -> None:
    store.acquire(session, lease_of(1), over=None)
    for sequence in range(1, 5):
        clock.tick(seconds=40)
        renewed = replace(lease_of(1), sequence=sequence)
        assert store.renew(session, renewed, sequence - 1) == renewed
    assert durable(session).running is None


@pytest.mark.parametrize("kind", ["settlement", "charges"])
def test_steps_of_a_budget_are_durable_at_once_with_those_before_them(
    store: WriteBehindSessionStore, session: Session, durable: DurableView, kind: str
) -> None:
    turn = take(store, session, 1)
    store.acquire(session, lease_of(2), over=None)
    lease = checkpointed(store, session, lease_of(2), 1)
    last, results = replace(lease, sequence=9), with_results(step_of(2))
    if kind == "settlement":
        store.checkpoint(session, last, lease.sequence, results, settlement=(charge("1"),))
    else:
        store.checkpoint(session, last, lease.sequence, results, charges=(charge("1"),))
    assert (durable(session).turns, durable(session).running) == ((turn,), last)


def test_an_interrupted_turn_is_in_memory_like_others(
    store: WriteBehindSessionStore, session: Session, durable: DurableView
) -> None:
    store.acquire(session, lease_of(1), over=None)
    lease = checkpointed(store, session, lease_of(1), 1)
    turn = interrupted(lease, 1)
    assert store.interrupt(session, turn, lease) == turn
    assert durable(session).count == 0
    store.flush()
    assert durable(session).turns == (turn,)


def test_quotas_are_durable_at_once(store: WriteBehindSessionStore, root: Path) -> None:
    store.charge(QuotaCharges(OWNER, (charge("10"),)), START_MS)
    copy = root.with_name("copy")
    shutil.copytree(root, copy)
    with pytest.raises(QuotaExceeded):
        FileSessionStore(copy).charge(QuotaCharges(OWNER, (charge("1"),)), START_MS)


def test_a_title_is_durable_at_once_with_the_turns_before_it(
    store: WriteBehindSessionStore, session: Session, durable: DurableView
) -> None:
    turn = take(store, session, 1)
    store.change(OWNER, session.id, SessionChanges(title="New"), START_MS)
    assert (durable(session).title, durable(session).turns) == ("New", (turn,))


def test_a_deletion_is_durable_at_once_and_nothing_comes_back(
    store: WriteBehindSessionStore, session: Session, durable: DurableView, clock: HeldClock
) -> None:
    take(store, session, 1)
    store.acquire(session, lease_of(2), over=None)
    assert store.delete(OWNER, session.id, START_MS) is True
    with pytest.raises(SessionNotFound):
        durable(session)
    clock.tick(seconds=100)
    store.flush()
    assert is_gone(store, session)
    with pytest.raises(SessionNotFound):
        durable(session)


def test_a_session_alive_in_memory_alone_was_alive_when_deleted(
    store: WriteBehindSessionStore, session: Session
) -> None:
    take(store, session, 1, at_ms=START_MS + session.idle_ms - 10)
    assert store.delete(OWNER, session.id, START_MS + session.idle_ms + 60_000) is True


def test_a_repeated_creation_finds_what_is_alive_in_memory_alone(
    store: WriteBehindSessionStore, session: Session
) -> None:
    take(store, session, 1, at_ms=START_MS + session.idle_ms - 10)
    assert store.create(replace(session, created_ms=START_MS + session.idle_ms + 60_000), "") == session


@pytest.mark.parametrize("fails_at", [0, 1])  # the tombstone, and the names in the folder
def test_a_deletion_that_fails_loses_nothing(
    store: WriteBehindSessionStore, session: Session, disk: FailingDisk, fails_at: int
) -> None:
    turn = take(store, session, 1)
    disk.fails_at = fails_at
    with pytest.raises(StoreUnavailable):
        store.delete(OWNER, session.id, START_MS)
    disk.fails_at = None
    assert store.read(OWNER, session.id, START_MS, newest=1).turns == (turn,)


def test_moves_and_forks_take_along_what_is_in_memory(
    store: WriteBehindSessionStore, session: Session, durable: DurableView
) -> None:
    turns = take_all(store, session, 3)
    child = new_session()
    store.fork(session, 3, child, "")
    assert durable(child).turns == tuple(turn.forked() for turn in turns)
    turns.append(take(store, session, 4))
    assert list(durable(store.move(move_of(session))).turns) == turns


def test_a_sweep_takes_nothing_that_is_alive_in_memory(store: WriteBehindSessionStore, session: Session) -> None:
    turn = take(store, session, 1, at_ms=START_MS + session.idle_ms - 10)
    now = START_MS + session.idle_ms + HOUR_MS // 3
    assert store.sweep(now) == 0
    assert store.read(OWNER, session.id, now, newest=1).turns == (turn,)


def test_of_more_sessions_than_it_holds_the_one_used_least_recently_is_written(
    root: Path, clock: HeldClock, durable: DurableView
) -> None:
    store = WriteBehindSessionStore(root, most_sessions=2, clock=clock, sync=no_sync)
    sessions = [store.create(new_session(), "") for _ in range(4)]
    for session in sessions:
        take(store, session, 1)
    store.session_ids(EVE)
    assert [durable(session).count for session in sessions] == [1, 1, 0, 0]


def test_a_write_that_failed_is_repeated_by_the_next_call(
    store: WriteBehindSessionStore, session: Session, durable: DurableView, disk: FailingDisk
) -> None:
    turns = take_all(store, session, 3)
    store.acquire(session, lease_of(4), over=None)
    for _ in range(2):
        disk.fails_at = 0
        with pytest.raises(StoreUnavailable):
            store.close()
        assert durable(session).count == 0
        disk.fails_at = None
        view = store.read(OWNER, session.id, START_MS, newest=9)
        assert (list(view.turns), view.running) == (turns, lease_of(4))
    store.close()
    assert durable(session) == view


@pytest.mark.parametrize("by", ["close", "time"])
def test_one_session_that_cannot_be_written_keeps_no_other_from_it(
    store: WriteBehindSessionStore,
    session: Session,
    durable: DurableView,
    root: Path,
    clock: HeldClock,
    disk: FailingDisk,
    by: str,
) -> None:
    take(store, session, 1)
    others = [store.create(new_session(), "") for _ in range(2)]
    for other in others:
        take(store, other, 1)
    disk.fails_for = session_path(root, OWNER, session.id)
    clock.tick(seconds=60)
    if by == "time":
        store.session_ids(EVE)
    else:
        with pytest.raises(StoreUnavailable):
            store.close()
    assert [durable(other).count for other in others] == [1, 1]
    assert durable(session).count == 0
    disk.fails_for = None
    store.close()
    assert durable(session).count == 1


def test_a_closed_store_answers_nothing(store: WriteBehindSessionStore, session: Session) -> None:
    store.close()
    with pytest.raises(StoreUnavailable):
        store.read(OWNER, session.id, START_MS, newest=1)


# --- a crash


Crash = Callable[[Callable[[WriteBehindSessionStore], object]], FileSessionStore]


@pytest.fixture
def crashed(root: Path, clock: HeldClock) -> Crash:
    """Lets a process do something and kills it; then the files, as the next process finds them."""

    def crash(operation: Callable[[WriteBehindSessionStore], object]) -> FileSessionStore:
        if (child := os.fork()) == 0:
            try:
                operation(WriteBehindSessionStore(root, clock=clock, sync=no_sync))
                os.kill(os.getpid(), 9)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        assert status == 9
        return FileSessionStore(root, sync=no_sync)

    return crash


def test_a_crash_loses_the_turns_since_the_last_write_and_nothing_else(
    crashed: Crash, root: Path, clock: HeldClock
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
    left.close()
    with WriteBehindSessionStore(root, clock=clock, sync=no_sync) as store:
        take(store, session, 4)
    assert FileSessionStore(root).read(OWNER, session.id, START_MS, newest=9).count == 4


def test_a_crash_loses_the_steps_since_the_last_write(crashed: Crash, clock: HeldClock) -> None:
    session, written = new_session(), replace(lease_of(1), sequence=3, steps=2)

    def operation(store: WriteBehindSessionStore) -> None:
        store.create(session, "")
        store.acquire(session, lease_of(1), over=None)
        assert checkpointed(store, session, lease_of(1), 1) == written
        clock.tick(seconds=60)
        last = replace(written, sequence=4)
        assert store.checkpoint(session, last, 3, with_results(step_of(2))) == last

    left = crashed(operation)
    assert left.read(OWNER, session.id, START_MS, newest=1).running == written
    assert left.steps(session, written) == kept_steps(1)


def test_a_second_process_is_refused_until_it_is_closed(root: Path) -> None:
    with WriteBehindSessionStore(root), pytest.raises(StoreUnavailable):
        FileSessionStore(root)
    FileSessionStore(root)
