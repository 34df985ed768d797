"""/sessions: a session's life: created, listed, read, changed and deleted by its owner."""

from __future__ import annotations

from typing import Any

from turnlog import runtime
from turnlog.domain.sessions import SessionChanges
from turnlog.entrypoints.http.answers import Response
from turnlog.entrypoints.http.api import Invocation, location, session_field
from turnlog.entrypoints.http.bodies import (
    NewAnonymousSessionBody,
    NewSessionBody,
    SessionBody,
    SessionChangesBody,
    metadata_pairs,
)
from turnlog.entrypoints.http.replies import ListedSession, Session, Sessions
from turnlog.entrypoints.http.request import Body, Request
from turnlog.usecases.list_sessions import list_sessions
from turnlog.usecases.sessions import (
    NewSession,
    change_session,
    create_anonymous_session,
    create_session,
    delete_session,
    read_session,
)


def create(request: Request, invocation: Invocation) -> Response:
    """A new session of the caller; the one that was created under the same key before."""
    caller, now = request.user, runtime.now_ms()
    request.query()
    key, body = request.optional_idempotency_key, request.body(NewSessionBody)
    view = create_session(
        caller,
        _asked(body),
        key=key,
        store=runtime.session_store(),
        server_key=runtime.server_key(),
        audit=invocation.audit,
        policy=runtime.creation_policy(),
        now_ms=now,
    )
    session_id = view.session.id
    return Response(201, Session.of(view, now), location(session_id), session_field(session_id))


def create_anonymous(request: Request, invocation: Invocation) -> Response:
    """A session of whoever holds the secret with the given hash; a repeat gets the same."""
    caller, now = request.stranger, runtime.now_ms()
    request.query()
    body = request.body(NewAnonymousSessionBody)
    policy = runtime.anonymous_creation_policy()
    policy.require_anonymous_sessions()  # before the server key is read
    view = create_anonymous_session(
        caller,
        _asked(body),
        store=runtime.session_store(),
        server_key=runtime.server_key(),
        audit=invocation.audit,
        policy=policy,
        now_ms=now,
    )
    session_id = view.session.id
    return Response(201, Session.of(view, now), location(session_id), session_field(session_id))


def _asked(body: SessionBody) -> NewSession:
    return NewSession(**_given(body))


def _given(body: Body) -> dict[str, Any]:
    """The fields that the caller gave, by name."""
    given = {name: getattr(body, name) for name in body.model_fields_set}
    return given | {"metadata": metadata_pairs(given["metadata"])} if "metadata" in given else given


def list_all(request: Request, invocation: Invocation) -> Response:
    """The caller's sessions, a page at a time; no content."""
    caller, now = request.user, runtime.now_ms()
    asked = request.query("limit", "cursor")
    page = list_sessions(
        caller,
        limit=request.limit(asked),
        cursor=asked.get("cursor"),
        store=runtime.session_store(),
        server_key=runtime.server_key(),
        audit=invocation.audit,
        now_ms=now,
    )
    items = [ListedSession.of(view, now) for view in page.sessions]
    body = Sessions(
        items=items,
        damaged=list(page.damaged),
        unavailable=list(page.unavailable),
        unnamed=page.unnamed,
        next=page.next,
    )
    return Response(200, body, noted={"count": len(items)})


def get(request: Request, _: Invocation) -> Response:
    """The session and its ends; no content."""
    session_id = request.session_id
    request.query()
    now = runtime.now_ms()
    view = read_session(request.caller, session_id, store=runtime.session_store(), now_ms=now)
    return Response(200, Session.of(view, now), noted=session_field(session_id))


def change(request: Request, invocation: Invocation) -> Response:
    """The session with another title, other metadata or both."""
    session_id, now = request.session_id, runtime.now_ms()
    request.query()
    changes = SessionChanges(**_given(request.body(SessionChangesBody)))
    view = change_session(
        request.caller, session_id, changes, store=runtime.session_store(), audit=invocation.audit, now_ms=now
    )
    return Response(200, Session.of(view, now), noted=session_field(session_id))


def delete(request: Request, invocation: Invocation) -> Response:
    """Nothing: 204 says that the session's content is gone."""
    session_id = request.session_id
    request.query()
    delete_session(
        request.caller,
        session_id,
        store=runtime.session_store(),
        audit=invocation.audit,
        now_ms=runtime.now_ms(),
    )
    return Response(204, noted=session_field(session_id))
