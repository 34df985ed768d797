"""An owner's sessions, the one used last first."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from turnlog.domain.server_key import ServerKey
from turnlog.domain.sessions import SessionView, is_session_id
from turnlog.errors import SessionCorrupt, SessionNotFound, SessionUnreadable, TurnlogError
from turnlog.ports.session_store import SessionStore
from turnlog.usecases.audit import Audit
from turnlog.usecases.caller import Caller
from turnlog.usecases.cursors import make_cursor, read_cursor

READS_AT_ONCE = 16
"""Sessions that are read side by side, since each read waits for the network. A client has a connection for each."""

Position = tuple[int, str]
"""The position of a session in the list: the time of its last use, in epoch milliseconds, and its id."""


@dataclass(frozen=True, slots=True)
class SessionPage:
    """Sessions with their last turn, and the cursor of the next page; None when this is the last.

    `damaged` are the ids of sessions that cannot be read, on the first page alone: they can still be deleted.
    `unavailable` are there the ids of those that cannot be read now: a later version stored them, or a clock is wrong.
    `unnamed` counts further ones whose very id cannot be read.
    """

    sessions: Sequence[SessionView]
    next: str | None
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
    """Returns a page of the caller's live sessions by last activity, newest first.

    One query names all sessions and one read each shows its state, side by side; so a page costs by the number of the
    owner's sessions and not by their turns. A session that is used between two pages moves to the front: a later page
    may miss it, but none is shown twice. Raises Unauthorized, Forbidden, InvalidRequest for a bad cursor,
    AuditUnavailable or StoreUnavailable.
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
    active_ms, session_id = read_cursor(server_key, cursor, *names).split(" ")
    return int(active_ms), session_id


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
    """Returns `limit` sessions of the owner after the position. Its cursor is good for the same `names`."""

    ids = store.session_ids(owner)

    def state(session_id: str) -> SessionView | SessionUnreadable | None:
        """Returns the session; the error if it cannot be read; None if it is gone."""
        try:
            return store.read(owner, session_id, now_ms, newest=1)
        except SessionNotFound:
            return None
        except SessionUnreadable as error:
            return error

    with ThreadPoolExecutor(READS_AT_ONCE) as pool:
        found = list(pool.map(state, ids))
    unread = {session_id: each for session_id, each in zip(ids, found, strict=True) if isinstance(each, TurnlogError)}
    named = sorted(filter(is_session_id, unread)) if after is None else []
    damaged = [session_id for session_id in named if isinstance(unread[session_id], SessionCorrupt)]
    unavailable = [session_id for session_id in named if session_id not in damaged]
    unnamed = len(unread) - len(named) if after is None else 0
    ordered = sorted((each for each in found if isinstance(each, SessionView)), key=_position, reverse=True)
    left = [view for view in ordered if after is None or _position(view) < after]
    cursor = None
    if len(left) > limit:
        active_ms, session_id = _position(left[limit - 1])
        cursor = make_cursor(server_key, f"{active_ms} {session_id}", *names)
    return SessionPage(left[:limit], cursor, damaged, unavailable, unnamed)


def _position(view: SessionView) -> Position:
    return view.active_ms, view.session.id
