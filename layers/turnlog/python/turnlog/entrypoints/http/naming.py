"""How a session is named, in a request's path, in an answer's header and in a log; how a place is counted."""

from __future__ import annotations

from turnlog import runtime
from turnlog.domain.sessions import is_session_id
from turnlog.entrypoints.http.request import Request
from turnlog.errors import SessionNotFound


def session_of(request: Request) -> str:
    """The id in the path, for a verified caller. What has not the form of an id was never one."""
    request.owner  # noqa: B018 (raises when nobody was verified)
    session_id = request.parameter("id")
    if not is_session_id(session_id):
        raise SessionNotFound
    return session_id


def location(session_id: str) -> dict[str, str]:
    """The header that says where a new session is."""
    return {"Location": f"/v1/sessions/{session_id}"}


def source_of(request: Request) -> str:
    """Where a request comes from, as it is noted and counted: the address itself cannot be told from it."""
    return runtime.server_key().keyed_hash("source", request.source.encode()).hex()


def logged(session_id: str) -> str:
    """A session's name in logs: enough to follow it, not to find it."""
    return runtime.server_key().keyed_hash("log", session_id.encode()).hex()[:10]
