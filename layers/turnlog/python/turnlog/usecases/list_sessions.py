"""An owner's sessions: the one used last first or, of many, the one created last first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from turnlog.domain.server_key import ServerKey
from turnlog.domain.sessions import ListedSession, SessionView, is_session_id
from turnlog.errors import InvalidRequest, SessionCorrupt, SessionNotFound, SessionUnreadable
from turnlog.ports.session_store import SessionStore
from turnlog.usecases.audit import Audit
from turnlog.usecases.caller import Caller
from turnlog.usecases.cursors import make_cursor, read_cursor

READS_AT_ONCE = 16
"""Sessions that are read side by side, since each read waits for the network. A client has a connection for each."""

MOST_READS = 400
"""Sessions that are read for one page: as many as live at once under the template's limits, in 2 to 3 s at 512 MB."""

_BY_CREATION = "by creation"
"""A further name of the cursors of that order, so that they are good for no other, in an earlier version neither."""

SortKey = tuple[int, str]
"""The time of a session's last use or creation, in epoch milliseconds, and its id."""

State = SessionView | SessionUnreadable | None
"""A session as a page finds it: alive, not to be read, or gone."""

Read = Callable[[Sequence[ListedSession]], list[tuple[str, State]]]
"""Reads sessions side by side; returns the id and the state of each."""


@dataclass(frozen=True, slots=True)
class Position:
    """The session after which a page begins, and the order of its list."""

    sort_key: SortKey
    by_creation: bool


@dataclass(frozen=True, slots=True)
class SessionPage:
    """Sessions with their last turn, and the cursor of the next page; None when this is the last.

    `damaged` are the ids of sessions that cannot be read: they can still be deleted. `unavailable` are the ids of those
    that cannot be read now: a later version stored them, or a clock is wrong. `unnamed` counts further ones whose very
    id cannot be read. Each is on one page: by last use the first, and by creation the one in whose place it is.
    """

    sessions: Sequence[SessionView]
    next: str | None = None
    damaged: Sequence[str] = ()
    unavailable: Sequence[str] = ()
    unnamed: int = 0


def list_sessions(
    caller: Caller,
    *,
    limit: int,
    cursor: str | None,
    store: SessionStore,
    server_key: ServerKey,
    audit: Audit,
    now_ms: int,
) -> SessionPage:
    """Returns a page of the caller's live sessions, as `page_of_sessions`.

    Raises Unauthorized, Forbidden, InvalidRequest for a bad cursor, AuditUnavailable or StoreUnavailable.
    """
    owner = caller.require_user()
    after = read_position(server_key, cursor, "sessions", owner)
    audit.act("list")
    return page_of_sessions(
        owner, limit=limit, after=after, store=store, server_key=server_key, names=("sessions", owner), now_ms=now_ms
    )


def read_position(server_key: ServerKey, cursor: str | None, *names: str) -> Position | None:
    """Returns the position after which a page begins; None without a cursor. Raises InvalidRequest."""
    if cursor is None:
        return None
    try:
        by_creation, text = False, read_cursor(server_key, cursor, *names)
    except InvalidRequest:
        by_creation, text = True, read_cursor(server_key, cursor, *names, _BY_CREATION)
    at_ms, session_id = text.split(" ", 1)
    return Position((int(at_ms), session_id), by_creation)


def page_of_sessions(
    owner: str,
    *,
    limit: int,
    after: Position | None,
    store: SessionStore,
    server_key: ServerKey,
    names: Sequence[str],
    now_ms: int,
) -> SessionPage:
    """Returns up to `limit` sessions of the owner after the position. Its cursor is good for the same `names`.

    Up to MOST_READS sessions come by last use, newest first: all of them are read for each page, since nothing else
    says when they were used. A session that is used between two pages moves to the front: a later page may miss it, but
    none is shown twice. More sessions come by creation, newest first, and a page reads those that it shows: then each
    session that lives all the time is on one page. The first page decides; its cursor says the order. By creation a
    page ends after MOST_READS reads, so where many have expired it may be short, or empty, with a cursor.
    """
    listed = store.listed(owner)

    def state(session_id: str) -> State:
        try:
            return store.read(owner, session_id, now_ms, newest=1, with_content=False)
        except SessionNotFound:
            return None
        except SessionUnreadable as error:
            return error

    with ThreadPoolExecutor(READS_AT_ONCE) as pool:

        def read(some: Sequence[ListedSession]) -> list[tuple[str, State]]:
            ids = [each.id for each in some]
            return list(zip(ids, pool.map(state, ids), strict=True))

        key = after.sort_key if after else None
        if after.by_creation if after else len(listed) > MOST_READS:
            page, last = _page_by_creation(listed, key, limit, read)
            names = *names, _BY_CREATION
        else:
            page, last = _page_by_last_use(listed, key, limit, read)
    return replace(page, next=make_cursor(server_key, f"{last[0]} {last[1]}", *names)) if last else page


def _page_by_last_use(
    listed: Sequence[ListedSession], after: SortKey | None, limit: int, read: Read
) -> tuple[SessionPage, SortKey | None]:
    """Returns the page, and the sort key of its end when it is not the last page."""
    if after and len(listed) > MOST_READS:  # there are more than on the first page, since some were created after it
        listed = [each for each in listed if each.created_ms <= after[0]]
    found = read(listed)
    ordered = sorted((each for _, each in found if isinstance(each, SessionView)), key=_last_use, reverse=True)
    left = [view for view in ordered if after is None or _last_use(view) < after]
    page = _with_unreadable(SessionPage(left[:limit]), found if after is None else [])
    return page, _last_use(left[limit - 1]) if len(left) > limit else None


def _page_by_creation(
    listed: Sequence[ListedSession], after: SortKey | None, limit: int, read: Read
) -> tuple[SessionPage, SortKey | None]:
    """Returns the page, and the sort key of its end when it is not the last page."""
    left = sorted((each for each in listed if after is None or _creation(each) < after), key=_creation, reverse=True)
    most = min(len(left), MOST_READS)
    found: list[tuple[str, State]] = []
    shown: list[SessionView] = []
    while len(shown) < limit and len(found) < most:
        upto = len(found) + max(limit - len(shown), READS_AT_ONCE)
        for session_id, each in read(left[len(found) : min(upto, most)]):
            if len(shown) == limit:
                break
            found.append((session_id, each))
            if isinstance(each, SessionView):
                shown.append(each)
    page = _with_unreadable(SessionPage(shown), found)
    return page, _creation(left[len(found) - 1]) if len(found) < len(left) else None


def _with_unreadable(page: SessionPage, found: Sequence[tuple[str, State]]) -> SessionPage:
    unread = {session_id: each for session_id, each in found if isinstance(each, SessionUnreadable)}
    named = sorted(filter(is_session_id, unread))
    damaged = [session_id for session_id in named if isinstance(unread[session_id], SessionCorrupt)]
    unavailable = [session_id for session_id in named if session_id not in damaged]
    return replace(page, damaged=damaged, unavailable=unavailable, unnamed=len(unread) - len(named))


def _last_use(view: SessionView) -> SortKey:
    return view.active_ms, view.session.id


def _creation(listed: ListedSession) -> SortKey:
    return listed.created_ms, listed.id
