"""MemorySessionStore: the contract, and what it holds at most."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.contract.session_store import (
    COUNTER,
    HOUR_MS,
    MARGIN_MS,
    SessionStoreContract,
    at_once,
    charge,
    is_gone,
    lease_of,
    move_of,
    take,
    take_all,
    turn_of,
)
from tests.contract.steps import Store, TurnStoreContract
from tests.contract.test_files import checkpointed, interrupted, step_of
from tests.fakes import OWNER, START_MS, new_session, with_content
from turnlog.adapters.local.memory import MemorySessionStore
from turnlog.domain.messages import Message
from turnlog.domain.sessions import Session, SessionChanges
from turnlog.domain.turns import Tombstone, Turn
from turnlog.errors import SessionNotFound
from turnlog.ports.session_store import SessionStore


class TestMemory(SessionStoreContract, TurnStoreContract):
    @pytest.fixture
    def store(self) -> Store:
        return MemorySessionStore()


def created(store: SessionStore, count: int) -> list[Session]:
    sessions = [new_session() for _ in range(count)]
    for session in sessions:
        store.create(session, "")
    return sessions


def take_large(store: SessionStore, session: Session, number: int, size: int) -> None:
    lease = lease_of(number)
    store.acquire(session, lease, over=None)
    store.commit(session, with_content(turn_of(lease), message=Message.of_text("x" * size)))


def test_of_more_sessions_than_it_holds_the_one_used_least_recently_goes() -> None:
    store = MemorySessionStore(most_sessions=3)
    first, second, third = created(store, 3)
    store.read(OWNER, first.id, START_MS, newest=1)
    take(store, second, 1)
    created(store, 1)
    assert is_gone(store, third)
    assert len(store.session_ids(OWNER)) == 3


def test_a_session_whose_turn_runs_stays_while_another_can_go() -> None:
    store = MemorySessionStore(most_sessions=3)
    running, lapsed, idle = created(store, 3)
    store.acquire(running, lease_of(1), over=None)
    store.acquire(lapsed, lease_of(1, lease_expires_ms=START_MS), over=None)
    store.read(OWNER, idle.id, START_MS, newest=1)
    created(store, 2)
    assert (is_gone(store, running), is_gone(store, lapsed), is_gone(store, idle)) == (False, True, True)


def test_where_every_turn_runs_the_session_used_least_recently_goes() -> None:
    store = MemorySessionStore(most_sessions=3)
    running = created(store, 3)
    for session in running:
        store.acquire(session, lease_of(1), over=None)
    created(store, 1)
    assert [is_gone(store, session) for session in running] == [True, False, False]


def test_content_is_bounded_in_bytes_and_the_oldest_goes_for_it() -> None:
    store = MemorySessionStore(most_bytes=10_000)
    first, second, third = created(store, 3)
    for session in (first, second, third):
        take_large(store, session, 1, 4000)
    assert [is_gone(store, session) for session in (first, second, third)] == [True, False, False]


def test_bytes_are_those_of_utf_8() -> None:
    store = MemorySessionStore(most_bytes=10_000)
    first, second = created(store, 2)
    take(store, first, 1)
    lease = lease_of(1)
    store.acquire(second, lease, over=None)
    store.commit(second, with_content(turn_of(lease), message=Message.of_text("☃" * 3400)))
    assert is_gone(store, first)


def test_the_session_that_is_written_stays_however_large_it_is() -> None:
    store = MemorySessionStore(most_bytes=10_000)
    (session,) = created(store, 1)
    for number in range(1, 6):
        take_large(store, session, number, 4000)
    assert store.read(OWNER, session.id, START_MS, newest=9).count == 5


@pytest.mark.parametrize("how", ["deleted", "moved and deleted", "swept"])
def test_what_is_gone_makes_room(how: str) -> None:
    store = MemorySessionStore(most_bytes=10_000)
    for _ in range(5):
        (session,) = created(store, 1)
        take_large(store, session, 1, 9000)
        if how == "deleted":
            store.delete(OWNER, session.id, START_MS)
        if how == "moved and deleted":
            moved = store.move(move_of(session))
            store.delete(moved.owner, moved.id, START_MS)
        if how == "swept":
            store.sweep(session.expires_ms + HOUR_MS)
    (kept,) = created(store, 1)
    take(store, kept, 1)
    (last,) = created(store, 1)
    take_large(store, last, 1, 9000)
    assert not is_gone(store, kept)


def test_a_fork_counts_as_content_of_its_own() -> None:
    store = MemorySessionStore(most_bytes=10_000)
    parent, other = created(store, 2)
    take_large(store, parent, 1, 4000)
    take(store, other, 1)
    store.read(OWNER, parent.id, START_MS, newest=1)
    store.fork(parent, 1, new_session(), "")
    assert other.id in store.session_ids(OWNER)
    store.fork(parent, 1, new_session(), "")
    assert other.id not in store.session_ids(OWNER)


def take_steps(store: MemorySessionStore, session: Session, number: int, size: int) -> Turn:
    """Keeps steps of `size` bytes in the slot, which then has lapsed. Returns the turn that may take its place."""
    lease = lease_of(number)
    store.acquire(session, lease, over=None)
    large = replace(step_of(1), reply=Message("assistant", "x" * size))
    last = replace(lease, sequence=1, steps=1)
    assert store.checkpoint(session, last, 0, large) == last
    return replace(interrupted(last, 0), messages=(Message.of_text("?"), large.reply))


def test_steps_of_a_running_turn_count_as_content() -> None:
    store = MemorySessionStore(most_bytes=10_000)
    first, second = created(store, 2)
    take(store, first, 1)
    take_steps(store, second, 1, 10_000)
    assert (is_gone(store, first), is_gone(store, second)) == (True, False)


def test_steps_count_no_more_once_their_turn_is_stored() -> None:
    store = MemorySessionStore(most_bytes=10_000)
    other, session = created(store, 2)
    for number in (1, 2):
        turn = take_steps(store, session, number, 2400)
        lease = store.read(OWNER, session.id, START_MS, newest=1).running
        assert lease is not None
        assert store.interrupt(session, turn, lease) == turn
    assert not is_gone(store, other)
    take_steps(store, session, 3, 6000)
    assert is_gone(store, other)


def test_metadata_counts_as_content() -> None:
    store = MemorySessionStore(most_bytes=10_000)
    first, second = created(store, 2)
    take(store, first, 1)
    metadata = tuple((f"{number}", "\u2603" * 200) for number in range(16))
    store.change(OWNER, second.id, SessionChanges(metadata=metadata), START_MS)
    assert not is_gone(store, first)
    third = store.create(new_session(), "", metadata=metadata)
    assert [is_gone(store, each) for each in (first, second, third)] == [False, True, False]
    store.change(OWNER, third.id, SessionChanges(metadata=()), START_MS)
    store.delete(OWNER, first.id, START_MS)
    assert store._memory.bytes == 0


@pytest.mark.parametrize("how", ["given up", "deleted", "swept"])
def test_steps_that_are_gone_make_room(how: str) -> None:
    store = MemorySessionStore()
    (session,) = created(store, 1)
    store.acquire(session, lease_of(1), over=None)
    lease = checkpointed(store, session, lease_of(1), 2)
    assert store._memory.bytes > 0
    if how == "given up":
        store.acquire(session, lease_of(1, "other", at_ms=lease.lease_expires_ms + 1), over=lease)
    if how == "deleted":
        store.delete(OWNER, session.id, START_MS)
    if how == "swept":
        store.sweep(session.expires_ms + HOUR_MS)
    assert store._memory.bytes == 0


def test_a_session_that_made_room_is_dead_and_its_id_is_not_used_again() -> None:
    store = MemorySessionStore(most_sessions=2)
    first, second = created(store, 2)
    store.acquire(first, lease_of(1), over=None)
    store.read(OWNER, second.id, START_MS, newest=1)
    store.acquire(second, lease_of(1), over=None)
    created(store, 1)
    assert isinstance(store.commit(first, turn_of(lease_of(1))), Tombstone)
    with pytest.raises(SessionNotFound):
        store.create(first, "")


def test_ids_of_deleted_sessions_are_known_until_their_ttl() -> None:
    store = MemorySessionStore()
    (session,) = created(store, 1)
    store.delete(OWNER, session.id, START_MS)
    store.sweep(session.ttl_s * 1000 - 1)
    with pytest.raises(SessionNotFound):
        store.create(session, "")
    store.sweep(session.ttl_s * 1000)
    assert store.create(session, "") == session


def test_no_more_deleted_ids_are_known_than_sessions_are_held() -> None:
    store = MemorySessionStore(most_sessions=3)
    sessions = created(store, 3)
    sessions += created(store, 3)
    for session in sessions[3:]:
        store.delete(OWNER, session.id, START_MS)
    assert store.create(sessions[0], "") == sessions[0]
    with pytest.raises(SessionNotFound):
        store.create(sessions[3], "")


def test_a_sweep_takes_what_ended_exactly_the_margin_ago() -> None:
    store = MemorySessionStore()
    (session,) = created(store, 1)
    assert store.sweep(START_MS + session.idle_ms + MARGIN_MS - 1) == 0
    assert store.sweep(START_MS + session.idle_ms + MARGIN_MS) == 1


def test_a_creation_removes_what_is_over() -> None:
    store = MemorySessionStore()
    old = created(store, 3)
    take(store, old[0], 1)
    late = new_session(created_ms=START_MS + old[0].idle_ms + 5 + MARGIN_MS)
    store.create(late, "")
    assert store.session_ids(OWNER) == [late.id]


def test_quotas_are_forgotten_an_hour_after_their_window() -> None:
    store = MemorySessionStore()
    for number, session in enumerate(created(store, 3)):
        store.acquire(session, lease_of(1, charges=(charge("1", counter=f"turns#{number}"),)), over=None)
    store.sweep(START_MS + 60_000 + HOUR_MS - 1)
    assert store._memory.quotas
    store.sweep(START_MS + 60_000 + HOUR_MS)
    assert not store._memory.quotas


def test_many_sessions_one_after_the_other_leave_nothing_behind() -> None:
    store = MemorySessionStore()
    for number in range(2000):
        session = new_session(f"owner {number}", created_ms=START_MS + number * HOUR_MS, life_s=1800)
        store.create(session, "")
        store.acquire(session, lease_of(1, charges=(charge("1"),)), over=None)
    store.sweep(START_MS + 3000 * HOUR_MS)
    kept = store._memory
    assert (kept.sessions, kept.tombstones, kept.quotas, kept.bytes) == ({}, {}, {}, 0)


def test_a_slot_beyond_the_next_is_not_taken() -> None:
    store = MemorySessionStore()
    (session,) = created(store, 1)
    take_all(store, session, 2)
    assert store.acquire(session, lease_of(5), over=None) is None
    assert store.read(OWNER, session.id, START_MS, newest=9).running is None


def test_no_charge_is_lost_between_threads() -> None:
    store = MemorySessionStore()
    sessions = created(store, 8 * 1000)

    def charge_many(mine: list[Session]) -> None:
        for session in mine:
            store.acquire(session, lease_of(1, charges=(charge("1", limit="9999"),)), over=None)

    at_once(*(lambda first=first: charge_many(sessions[first::8]) for first in range(8)))
    assert store._memory.quotas[OWNER].used[COUNTER][0] == 8 * 1000
