"""/sessions/{id}/fork, /rotate and /claim: a session goes on beside itself, under a new secret, or as a user's own."""

from __future__ import annotations

from turnlog import runtime
from turnlog.domain.sessions import SessionView
from turnlog.entrypoints.http.answers import Response
from turnlog.entrypoints.http.api import Invocation, location, session_field
from turnlog.entrypoints.http.bodies import ClaimBody, ForkBody, NewSecretBody
from turnlog.entrypoints.http.replies import Session
from turnlog.entrypoints.http.request import Request
from turnlog.usecases.transfers import claim_session, fork_session, rotate_secret


def fork(request: Request, invocation: Invocation) -> Response:
    """A new session of the same owner with the turns up to one of them."""
    parent_id, now = request.session_id, runtime.now_ms()
    request.query()
    key, asked = request.optional_idempotency_key, request.body(ForkBody)
    view = fork_session(
        request.caller,
        parent_id,
        asked.turn,
        model=asked.model,
        key=key,
        store=runtime.session_store(),
        server_key=runtime.server_key(),
        audit=invocation.audit,
        policy=runtime.creation_policy(),
        now_ms=now,
    )
    return _new_place(201, view, now)


def rotate(request: Request, invocation: Invocation) -> Response:
    """The anonymous session under its new secret and id."""
    session_id, now = request.session_id, runtime.now_ms()
    request.query()
    key = request.idempotency_key
    view = rotate_secret(
        request.caller,
        session_id,
        request.body(NewSecretBody).secret_sha256,
        key=key,
        store=runtime.session_store(),
        server_key=runtime.server_key(),
        audit=invocation.audit,
        policy=runtime.creation_policy(),
        remaining_s=invocation.remaining_s,
        now_ms=now,
    )
    return _new_place(200, view, now)


def claim(request: Request, invocation: Invocation) -> Response:
    """The session that was anonymous, as the caller's own under its new id."""
    session_id, caller, now = request.session_id, request.user, runtime.now_ms()
    request.query()
    key = request.idempotency_key
    view = claim_session(
        caller,
        session_id,
        request.body(ClaimBody).secret,
        key=key,
        store=runtime.session_store(),
        server_key=runtime.server_key(),
        audit=invocation.audit,
        policy=runtime.creation_policy(),
        remaining_s=invocation.remaining_s,
        now_ms=now,
    )
    return _new_place(200, view, now)


def _new_place(status: int, view: SessionView, now_ms: int) -> Response:
    session_id = view.session.id
    return Response(status, Session.of(view, now_ms), location(session_id), session_field(session_id))
