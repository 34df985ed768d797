"""Administrators' acts on others' sessions; every act is audited before it is done.

The entry point has checked the caller's role. A session is named by a ref: an opaque token that holds its owner and id.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from turnlog.domain.opaque_tokens import TokenInvalid, make_token, read_token
from turnlog.domain.server_key import ServerKey
from turnlog.domain.sessions import new_session_id
from turnlog.errors import SessionNotFound
from turnlog.ports.session_store import SessionStore
from turnlog.usecases.account import LEFT_FOR_A_DELETION_S
from turnlog.usecases.audit import Audit
from turnlog.usecases.caller import Caller
from turnlog.usecases.list_sessions import SessionPage, page_of_sessions, read_position
from turnlog.usecases.read_turns import TurnPage, page_of_turns, read_turn_number

_AT_ONCE = 8  # sessions that are deleted side by side: fewer than are read, since each is many writes
_ID_LENGTH = len(new_session_id())
_REF = "admin-ref"


@dataclass(frozen=True, slots=True)
class Terminated:
    """The numbers of sessions that were deleted, and of those that there was no time for."""

    deleted: int
    left: int


def make_ref(server_key: ServerKey, owner: str, session_id: str) -> str:
    """Returns what administrators call the session; it says nothing and is good for every administrator."""
    return make_token(server_key, _REF, (session_id + owner).encode())


def read_ref(server_key: ServerKey, ref: str) -> tuple[str, str]:
    """Returns the owner and the session's id. Raises SessionNotFound for a text that is no ref."""
    try:
        named = read_token(server_key, _REF, ref).decode()
    except (TokenInvalid, ValueError) as error:
        raise SessionNotFound from error
    return named[_ID_LENGTH:], named[:_ID_LENGTH]


def list_users_sessions(
    admin: Caller,
    owner: str,
    *,
    limit: int,
    cursor: str | None,
    store: SessionStore,
    server_key: ServerKey,
    audit: Audit,
    now_ms: int,
) -> SessionPage:
    """Returns a page of a user's live sessions, in the order of their own list. Raises as `list_sessions`.

    The list's cursor is encrypted, since a session's id is in it.
    """
    names = ("admin-sessions", admin.owner, owner)
    after = read_position(server_key, cursor, *names)
    audit.act("admin list", subject=owner)
    return page_of_sessions(
        owner, limit=limit, after=after, store=store, server_key=server_key, names=names, now_ms=now_ms
    )


def terminate_session(owner: str, session_id: str, *, store: SessionStore, audit: Audit, now_ms: int) -> None:
    """Deletes somebody's session; all its content is gone on return. Raises SessionNotFound, AuditUnavailable."""
    audit.act("admin terminate", session_id, subject=owner)
    if not store.delete(owner, session_id, now_ms):
        raise SessionNotFound


def terminate_users_sessions(
    owner: str, *, store: SessionStore, audit: Audit, clock: Callable[[], int], answer_s: Callable[[], float]
) -> Terminated:
    """Deletes all sessions of a user, as many as there is time for; a repeat goes on with those that are left.

    `answer_s` returns the seconds until nobody waits for the answer any more.
    """
    audit.act("admin terminate all", subject=owner)

    def delete(session_id: str) -> bool | None:
        """Returns True if it was alive, None if there is no time."""
        return store.delete(owner, session_id, clock()) if answer_s() > LEFT_FOR_A_DELETION_S else None

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        done = list(pool.map(delete, store.session_ids(owner)))
    return Terminated(done.count(True), done.count(None))


def show_content(
    admin: Caller,
    owner: str,
    session_id: str,
    reason: str,
    *,
    limit: int,
    cursor: str | None,
    store: SessionStore,
    server_key: ServerKey,
    audit: Audit,
    now_ms: int,
) -> TurnPage:
    """Returns a page of somebody's turns, for a reason that stands in the audit trail and raises an alarm."""
    names = ("admin-content", admin.owner, owner, session_id)
    after = read_turn_number(server_key, cursor, *names)
    audit.act("admin content", session_id, subject=owner, reason=reason)
    return page_of_turns(
        owner, session_id, after, limit, store=store, server_key=server_key, names=names, now_ms=now_ms
    )
