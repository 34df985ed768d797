"""/admin: what administrators may do with others' sessions."""

from __future__ import annotations

from functools import partial

from turnlog import runtime
from turnlog.domain import base64url
from turnlog.entrypoints.http.answers import Response
from turnlog.entrypoints.http.api import Invocation, session_field
from turnlog.entrypoints.http.bodies import ReasonBody
from turnlog.entrypoints.http.replies import Terminated, UsersSession, UsersSessions
from turnlog.entrypoints.http.request import Request
from turnlog.entrypoints.http.turns import page_of_turns
from turnlog.errors import InvalidRequest
from turnlog.usecases import admin


def list_sessions(request: Request, invocation: Invocation) -> Response:
    """A user's live sessions, a page at a time: that they are there, without their titles and content."""
    request.require_role("admin")
    owner, now = _owner_of(request), runtime.now_ms()
    asked = request.query("limit", "cursor")
    limit, server_key = request.limit(asked), runtime.server_key()
    page = admin.list_users_sessions(
        request.caller,
        owner,
        limit=limit,
        cursor=asked.get("cursor"),
        store=runtime.session_store(),
        server_key=server_key,
        audit=invocation.audit,
        now_ms=now,
    )
    make_ref = partial(admin.make_ref, server_key, owner)
    items = [UsersSession.of(make_ref(view.session.id), view, now) for view in page.sessions]
    body = UsersSessions(
        items=items,
        damaged=list(map(make_ref, page.damaged)),
        unavailable=list(map(make_ref, page.unavailable)),
        unnamed=page.unnamed,
        next=page.next,
    )
    return Response(200, body, noted={"count": len(items)})


def terminate(request: Request, invocation: Invocation) -> Response:
    """Nothing: 204 says that the content of somebody's session is gone."""
    request.require_role("admin")
    request.query()
    owner, session_id = admin.read_ref(runtime.server_key(), request.parameter("ref"))
    admin.terminate_session(
        owner, session_id, store=runtime.session_store(), audit=invocation.audit, now_ms=runtime.now_ms()
    )
    return Response(204, noted=session_field(session_id))


def terminate_all(request: Request, invocation: Invocation) -> Response:
    """The number of a user's sessions that were deleted, and of those left for a repeat."""
    request.require_role("admin")
    owner = _owner_of(request)
    request.query()
    done = admin.terminate_users_sessions(
        owner,
        store=runtime.session_store(),
        audit=invocation.audit,
        clock=runtime.now_ms,
        answer_s=invocation.answer_s,
    )
    return Response(200, Terminated(ended=done.deleted, left=done.left), noted={"count": done.deleted})


def show_content(request: Request, invocation: Invocation) -> Response:
    """A page of the turns of somebody's session, for a reason that is audited."""
    request.require_role("admin")
    request.require_role("admin:content")
    asked = request.query("limit", "cursor")
    limit, reason = request.limit(asked), request.body(ReasonBody).reason
    owner, session_id = admin.read_ref(runtime.server_key(), request.parameter("ref"))
    page = admin.show_content(
        request.caller,
        owner,
        session_id,
        reason,
        limit=limit,
        cursor=asked.get("cursor"),
        store=runtime.session_store(),
        server_key=runtime.server_key(),
        audit=invocation.audit,
        now_ms=runtime.now_ms(),
    )
    return page_of_turns(page)


def _owner_of(request: Request) -> str:
    """The user in the path, an owner as base64url. Raises InvalidRequest."""
    try:
        owner = base64url.decode(request.parameter("owner")).decode()
    except ValueError as error:
        raise InvalidRequest("owner_invalid") from error
    if not owner:
        raise InvalidRequest("owner_invalid")
    return owner
