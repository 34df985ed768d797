"""An owner's sessions, page by page: the one used last first or, of many, the one created last first."""

from __future__ import annotations

import pytest

from tests.fakes import OWNER, SERVER_KEY, START_MS, audit_of, new_session
from turnlog.adapters.local.memory import MemorySessionStore
from turnlog.domain.sessions import ListedSession, Session, SessionView
from turnlog.domain.turns import Lease
from turnlog.errors import InvalidRequest, ItemUnreadable, ItemVersionUnknown, TurnsMissing
from turnlog.usecases.caller import Caller
from turnlog.usecases.cursors import read_cursor
from turnlog.usecases.list_sessions import MOST_READS, SessionPage, list_sessions


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

    def reading(owner: str, session_id: str, now_ms: int, newest: int, **how: bool) -> SessionView:
        if session_id in (damaged.id, later.id):
            raise TurnsMissing if session_id == damaged.id else ItemVersionUnknown
        return read(owner, session_id, now_ms, newest, **how)

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

    def reading(owner: str, session_id: str, now_ms: int, newest: int, **how: bool) -> SessionView:
        if session_id.startswith("S#"):
            raise ItemUnreadable
        return read(owner, session_id, now_ms, newest, **how)

    monkeypatch.setattr(store, "read", reading)
    listed = [ListedSession(name, START_MS) for name in (first.id, "S#one", last.id, "S#two")]
    monkeypatch.setattr(store, "listed", lambda _: listed)
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


# --- more than are read for one page


def created(store: MemorySessionStore, count: int) -> list[str]:
    """The ids of so many new sessions, the one created last first."""
    ids = [store.create(new_session(created_ms=START_MS + number), "").id for number in range(count)]
    return ids[::-1]


@pytest.fixture
def reads(store: MemorySessionStore, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the sessions that are read."""
    ids: list[str] = []
    read = store.read

    def reading(owner: str, session_id: str, now_ms: int, newest: int, **how: bool) -> SessionView:
        ids.append(session_id)
        return read(owner, session_id, now_ms, newest, **how)

    monkeypatch.setattr(store, "read", reading)
    return ids


@pytest.fixture
def few_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page reads up to 40 sessions, so that 41 are many."""
    monkeypatch.setattr("turnlog.usecases.list_sessions.MOST_READS", 40)


def test_ten_thousand_sessions_come_by_creation_and_a_page_reads_those_that_it_shows(
    store: MemorySessionStore, reads: list[str]
) -> None:
    ids = created(store, 10_000)
    first = page_of(store, 100)
    second = page_of(store, 100, first.next)
    assert [view.session.id for view in first.sessions] == ids[:100]
    assert [view.session.id for view in second.sessions] == ids[100:200]
    assert sorted(reads) == sorted(ids[:200])


def test_as_many_as_are_read_for_a_page_still_come_by_last_activity(
    store: MemorySessionStore, reads: list[str]
) -> None:
    sessions = [store.create(new_session(created_ms=START_MS), "") for _ in range(MOST_READS)]
    used(store, sessions[7], START_MS + 1000)
    assert page_of(store, 1).sessions[0].session.id == sessions[7].id
    assert len(reads) == MOST_READS


@pytest.mark.usefixtures("few_reads")
def test_pages_by_creation_hold_each_session_once_whatever_happens_meanwhile(
    store: MemorySessionStore,
) -> None:
    ids = created(store, 60)
    shown: list[str] = []
    cursor, number = None, 0
    while cursor or not number:
        page = page_of(store, 7, cursor)
        shown += [view.session.id for view in page.sessions]
        store.delete(OWNER, shown[-1], START_MS)  # the one that the cursor names
        used(store, store.read(OWNER, ids[59 - number], START_MS, newest=1).session, START_MS + 2000 + number)
        store.create(new_session(created_ms=START_MS + 1000 + number), "")
        cursor, number = page.next, number + 1
    assert shown == ids


@pytest.mark.usefixtures("few_reads")
def test_sessions_of_one_instant_are_paged_by_creation_without_loss(store: MemorySessionStore) -> None:
    ids = {store.create(new_session(), "").id for _ in range(50)}
    pages = listed(store, limit=20)
    assert [len(page) for page in pages] == [20, 20, 10]
    assert {session_id for page in pages for session_id in page} == ids


@pytest.mark.usefixtures("few_reads")
@pytest.mark.parametrize("shrinks", [True, False])
def test_the_order_of_the_first_page_stays_that_of_the_others(store: MemorySessionStore, shrinks: bool) -> None:
    ids = created(store, 45 if shrinks else 40)
    used(store, store.read(OWNER, ids[-1], START_MS, newest=1).session, START_MS + 1000)
    in_order = ids if shrinks else [ids[-1], *ids[:-1]]
    first = page_of(store, 10)
    for session_id in in_order[:10]:
        store.delete(OWNER, session_id, START_MS)
    if not shrinks:
        for _ in range(20):
            store.create(new_session(created_ms=START_MS + 2000), "")
    rest, cursor = list[str](), first.next
    while cursor:
        page = page_of(store, 10, cursor)
        rest += [view.session.id for view in page.sessions]
        cursor = page.next
    assert [view.session.id for view in first.sessions] == in_order[:10]
    assert rest == in_order[10:]


@pytest.mark.usefixtures("few_reads")
def test_later_pages_by_last_use_read_no_session_that_was_created_after_them(
    store: MemorySessionStore, reads: list[str]
) -> None:
    created(store, 40)
    cursor = page_of(store, 10).next
    for _ in range(1000):
        store.create(new_session(created_ms=START_MS + 2000), "")
    reads.clear()
    page_of(store, 10, cursor)
    assert len(reads) <= 40


@pytest.mark.usefixtures("few_reads")
def test_expired_sessions_make_pages_short_and_hide_none(store: MemorySessionStore, reads: list[str]) -> None:
    oldest = created(store, 5)
    for number in range(100):
        store.create(new_session(created_ms=START_MS + 10 + number, idle_s=2), "")
    newest = [store.create(new_session(created_ms=START_MS + 1000 + number), "").id for number in range(3)][::-1]
    pages: list[SessionPage] = []
    while not pages or pages[-1].next:
        reads.clear()
        pages.append(page_of(store, 10, pages[-1].next if pages else None))
        assert len(reads) <= 40
    assert [len(page.sessions) for page in pages] == [3, 0, 5]
    assert [view.session.id for page in pages for view in page.sessions] == newest + oldest


@pytest.mark.usefixtures("few_reads")
def test_by_creation_each_page_names_the_unreadable_sessions_in_its_place(
    store: MemorySessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = created(store, 50)
    read = store.read
    broken = {ids[2]: TurnsMissing, ids[3]: ItemVersionUnknown, ids[30]: TurnsMissing, "S#one": ItemUnreadable}

    def reading(owner: str, session_id: str, now_ms: int, newest: int, **how: bool) -> SessionView:
        if session_id in broken:
            raise broken[session_id]
        return read(owner, session_id, now_ms, newest, **how)

    monkeypatch.setattr(store, "read", reading)
    found = [ListedSession("S#one", 0), *store.listed(OWNER)]
    monkeypatch.setattr(store, "listed", lambda _: found)
    first = page_of(store, 20)
    second = page_of(store, 20, first.next)
    third = page_of(store, 20, second.next)
    pages = (first, second, third)
    assert [view.session.id for page in pages for view in page.sessions] == [each for each in ids if each not in broken]
    assert [page.damaged for page in pages] == [[ids[2]], [ids[30]], []]
    assert [page.unavailable for page in pages] == [[ids[3]], [], []]
    assert [page.unnamed for page in pages] == [0, 0, 1]
    assert third.next is None


@pytest.mark.usefixtures("few_reads")
def test_a_cursor_by_creation_is_good_for_no_list_by_last_use(store: MemorySessionStore) -> None:
    created(store, 41)
    cursor = page_of(store, 10).next
    assert cursor
    with pytest.raises(InvalidRequest):  # as the version before reads it
        read_cursor(SERVER_KEY, cursor, "sessions", OWNER)
