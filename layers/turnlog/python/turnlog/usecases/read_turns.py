"""The turns of a session, read by their owner: one, a page at a time, or all for an export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from turnlog.domain.server_key import ServerKey
from turnlog.domain.sessions import SessionView
from turnlog.domain.turns import Turn
from turnlog.errors import TurnNotFound
from turnlog.ports.session_store import SessionStore
from turnlog.usecases.audit import Audit
from turnlog.usecases.caller import Caller
from turnlog.usecases.cursors import make_cursor, read_cursor
from turnlog.usecases.turn_pages import MOST_TURNS, read_turns, turns_after


@dataclass(frozen=True, slots=True)
class TurnPage:
    """Finished turns of a session, oldest first, and the cursor of the next page; None when this is the last."""

    view: SessionView
    turns: Sequence[Turn]
    next: str | None


def get_turn(caller: Caller, session_id: str, number: int, *, store: SessionStore, now_ms: int) -> Turn:
    """Returns one finished turn. Raises Unauthorized, TurnNotFound, or what SessionStore.read raises."""
    view = store.read(caller.require_verified(), session_id, now_ms, newest=1, with_content=False)
    if not 1 <= number <= view.count:
        raise TurnNotFound
    return read_turns(store, view, number, number, now_ms)[0]


def list_turns(
    caller: Caller,
    session_id: str,
    *,
    limit: int,
    cursor: str | None,
    store: SessionStore,
    server_key: ServerKey,
    now_ms: int,
) -> TurnPage:
    """Returns at most `limit` finished turns, oldest first, as many as one answer holds.

    Raises Unauthorized, InvalidRequest for a bad cursor, or what SessionStore.read raises.
    """
    owner = caller.require_verified()
    names = ("turns", owner, session_id)
    after = read_turn_number(server_key, cursor, *names)
    return page_of_turns(
        owner, session_id, after, limit, store=store, server_key=server_key, names=names, now_ms=now_ms
    )


def export_session(
    caller: Caller,
    session_id: str,
    *,
    cursor: str | None,
    store: SessionStore,
    server_key: ServerKey,
    audit: Audit,
    now_ms: int,
) -> TurnPage:
    """Returns the session and all its finished turns, in as many parts as it takes. Raises as `list_turns`."""
    owner = caller.require_verified()
    names = ("session-export", owner, session_id)
    after = read_turn_number(server_key, cursor, *names)
    audit.act("export", session_id)
    return page_of_turns(
        owner, session_id, after, MOST_TURNS, store=store, server_key=server_key, names=names, now_ms=now_ms
    )


def read_turn_number(server_key: ServerKey, cursor: str | None, *names: str) -> int:
    """Returns the last turn of the page before; 0 without a cursor. Raises InvalidRequest."""
    return 0 if cursor is None else int(read_cursor(server_key, cursor, *names))


def page_of_turns(
    owner: str,
    session_id: str,
    after: int,
    limit: int,
    *,
    store: SessionStore,
    server_key: ServerKey,
    names: Sequence[str],
    now_ms: int,
) -> TurnPage:
    """Returns the turns after number `after`. The cursor of the page is good for the same `names`."""
    view = store.read(owner, session_id, now_ms, newest=1, with_content=False)
    turns = turns_after(store, view, after, limit, now_ms)
    has_more = turns and turns[-1].number < view.count
    return TurnPage(view, turns, make_cursor(server_key, str(turns[-1].number), *names) if has_more else None)
