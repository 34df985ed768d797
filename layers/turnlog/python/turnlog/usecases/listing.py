"""An owner's sessions, the one used last first."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from turnlog.domain.sessions import SessionView, is_session_id
from turnlog.errors import SessionCorrupt, SessionNotFound
from turnlog.ports.session_store import SessionStore

_AT_ONCE = 16  # reads side by side: each waits for the network, and a client has ten connections or more


@dataclass(frozen=True, slots=True)
class Page:
    """Sessions with their last turn, and where the next page begins; None when this is the last.

    `damaged` are the ids of sessions that cannot be read, on the first page alone: they can still be deleted. `unnamed`
    says how many there are beside them whose very id cannot be read.
    """

    sessions: Sequence[SessionView]
    next: tuple[int, str] | None
    damaged: Sequence[str] = ()
    unnamed: int = 0


def list_sessions(
    owner: str, *, store: SessionStore, now_ms: int, limit: int, after: tuple[int, str] | None = None
) -> Page:
    """The owner's live sessions by last activity, newest first, `limit` of them after the place `after`.

    One query names them all and one read each says how they stand, side by side; so the cost of a page grows with the
    owner's sessions and not with their turns. A session that is used between two pages moves to the front: it may be
    missed by the later page, but none is shown twice. Raises ClockBehind and StoreUnavailable.
    """

    def stands(session_id: str) -> SessionView | str | None:
        try:
            return store.read(owner, session_id, now_ms, newest=1)
        except SessionNotFound:
            return None
        except SessionCorrupt:
            return session_id

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = list(pool.map(stands, store.session_ids(owner)))
    damaged = sorted(each for each in found if isinstance(each, str)) if after is None else []
    ordered = sorted((each for each in found if isinstance(each, SessionView)), key=_place, reverse=True)
    left = [view for view in ordered if after is None or _place(view) < after]
    more = len(left) > limit
    named = [each for each in damaged if is_session_id(each)]
    return Page(left[:limit], _place(left[limit - 1]) if more else None, named, len(damaged) - len(named))


def _place(view: SessionView) -> tuple[int, str]:
    return view.active_ms, view.session.id
