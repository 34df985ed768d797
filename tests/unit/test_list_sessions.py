"""An owner's sessions, page by page, the one used last first."""

from __future__ import annotations

import pytest

from tests.fakes import OWNER, SERVER_KEY, START_MS, audit_of, new_session
from turnlog.adapters.local.memory import MemorySessionStore
from turnlog.domain.sessions import Session, SessionView
from turnlog.domain.turns import Lease
from turnlog.errors import ItemUnreadable, ItemVersionUnknown, TurnsMissing
from turnlog.usecases.caller import Caller
from turnlog.usecases.list_sessions import SessionPage, list_sessions


@pytest.fixture
def store() -> MemorySessionStore:
    return MemorySessionStore()


def used(store: MemorySessionStore, session: Session, at_ms: int) -> None:
    store.acquire(session, Lease(1, "t", at_ms + 1000, b"k", b"f", at_ms), over=None)


def page_of(store: MemorySessionStore, limit: int, cursor: str | None = None) -> SessionPage:
    caller = Caller(OWNER)
    return list_sessions(
        caller,
        limit=limit,
        cursor=cursor,
        store=store,
        server_key=SERVER_KEY,
        audit=audit_of(caller),
        now_ms=START_MS + 5000,
    )


def listed(store: MemorySessionStore, limit: int = 100) -> list[list[str]]:
    """The ids, page by page."""
    pages, cursor = [], None
    while True:
        page = page_of(store, limit, cursor)
        pages.append([view.session.id for view in page.sessions])
        cursor = page.next
        if cursor is None:
            return pages


def test_sessions_come_by_last_activity_and_pages_hold_each_once(store: MemorySessionStore) -> None:
    sessions = [store.create(new_session(created_ms=START_MS + number), f"{number}") for number in range(7)]
    used(store, sessions[2], START_MS + 1000)
    expected = [sessions[number].id for number in (2, 6, 5, 4, 3, 1, 0)]
    assert listed(store) == [expected]
    assert listed(store, limit=3) == [expected[:3], expected[3:6], expected[6:]]
    assert listed(store, limit=7) == [expected]


def test_the_dead_and_what_is_anothers_are_not_listed(store: MemorySessionStore) -> None:
    alive = store.create(new_session(), "")
    store.create(new_session(idle_s=2), "")
    store.create(new_session(owner="https://issuer.example/|eve"), "")
    deleted = store.create(new_session(), "")
    store.delete(OWNER, deleted.id, START_MS)
    assert listed(store) == [[alive.id]]


def test_an_unreadable_session_hides_no_other_and_is_named(
    store: MemorySessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, damaged, later, last = (store.create(new_session(created_ms=START_MS + number), "") for number in range(4))
    read = store.read

    def reading(owner: str, session_id: str, now_ms: int, newest: int) -> SessionView:
        if session_id in (damaged.id, later.id):
            raise TurnsMissing if session_id == damaged.id else ItemVersionUnknown
        return read(owner, session_id, now_ms, newest)

    monkeypatch.setattr(store, "read", reading)
    assert listed(store, limit=1) == [[last.id], [first.id]]
    page = page_of(store, 1)
    assert (page.damaged, page.unavailable, page.unnamed) == ([damaged.id], [later.id], 0)
    rest = page_of(store, 1, page.next)
    assert (rest.damaged, rest.unavailable) == ([], [])


def test_what_cannot_even_be_named_hides_no_other_and_is_counted(
    store: MemorySessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, last = (store.create(new_session(created_ms=START_MS + number), "") for number in range(2))
    read = store.read

    def reading(owner: str, session_id: str, now_ms: int, newest: int) -> SessionView:
        if session_id.startswith("S#"):
            raise ItemUnreadable
        return read(owner, session_id, now_ms, newest)

    monkeypatch.setattr(store, "read", reading)
    monkeypatch.setattr(store, "session_ids", lambda _: [first.id, "S#one", last.id, "S#two"])
    page = page_of(store, 1)
    assert ([view.session.id for view in page.sessions], page.damaged, page.unnamed) == ([last.id], [], 2)
    rest = page_of(store, 1, page.next)
    assert ([view.session.id for view in rest.sessions], rest.unnamed) == ([first.id], 0)


def test_sessions_of_the_same_instant_are_paged_without_loss(store: MemorySessionStore) -> None:
    ids = {store.create(new_session(), "").id for _ in range(10)}
    pages = listed(store, limit=4)
    assert [len(page) for page in pages] == [4, 4, 2]
    assert {session_id for page in pages for session_id in page} == ids


def test_a_session_that_is_used_between_two_pages_is_not_shown_twice(store: MemorySessionStore) -> None:
    sessions = [store.create(new_session(created_ms=START_MS + number), "") for number in range(4)]
    first = page_of(store, 2)
    used(store, sessions[3], START_MS + 3000)
    second = page_of(store, 2, first.next)
    assert [view.session.id for view in [*first.sessions, *second.sessions]] == [each.id for each in reversed(sessions)]


def test_an_owner_without_sessions_has_an_empty_page(store: MemorySessionStore) -> None:
    assert listed(store) == [[]]
