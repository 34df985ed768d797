"""A session's life: created, listed, looked at and ended by its owner."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from turnlog import runtime
from turnlog.domain.owners import anonymous_owner
from turnlog.domain.quotas import QuotaCharges
from turnlog.domain.sessions import Session, SessionView, named_session_id, new_session_id
from turnlog.domain.turns import Turn
from turnlog.entrypoints.http import auditing, continuations
from turnlog.entrypoints.http.api import Remaining, Response
from turnlog.entrypoints.http.billing import of_anonymous_creation, of_creation
from turnlog.entrypoints.http.cursors import opened, sealed
from turnlog.entrypoints.http.naming import location, logged, session_of, source_of
from turnlog.entrypoints.http.request import Request
from turnlog.entrypoints.http.schemas import (
    NewAnonymousSessionBody,
    NewSessionBody,
    TitleBody,
    canonical,
    listed_session_shape,
    session_shape,
)
from turnlog.errors import Forbidden, KeyReused, NameUsedUp, SessionNotFound
from turnlog.usecases.listing import list_sessions


def create(request: Request, _: Remaining) -> Response:
    """A new session of the caller; the one that is there when it was created under the same key before."""
    owner, now = request.user, runtime.now_ms()
    request.query()
    key = request.optional_idempotency_key
    body = request.body(NewSessionBody)
    hashed = runtime.server_key().keyed_hash
    session_id = new_session_id() if key is None else named_session_id(hashed("session", owner.encode(), key.encode()))
    fingerprint = b"" if key is None else hashed("fingerprint", canonical(body))
    session, first = body.session(owner, now, session_id, fingerprint, runtime.session_life()), None
    if "continuation" in body.model_fields_set:
        body.require_no_other_settings()
        if key is None or there(owner, session_id, now) is None:  # a repeat may come after the continuation's time
            continuation = continuations.opened(body.continuation, owner, now)
            session, first = replace(session, settings=continuation.settings), continuation.turn
    auditing.note(request, "create", session.id)
    return _created(session, body.title, of_creation(request, now), first)


def create_anonymous(request: Request, _: Remaining) -> Response:
    """A session of whoever holds the secret with the hash that is sent; the one that is there when it is repeated."""
    now = runtime.now_ms()
    request.query()
    body = request.body(NewAnonymousSessionBody)
    require_anonymous_sessions()
    owner, hashed = anonymous_owner(body.secret_sha256), runtime.server_key().keyed_hash
    session_id, fingerprint = hashed("anonymous-session", owner.encode()), hashed("fingerprint", canonical(body))
    session = body.session(owner, now, named_session_id(session_id), fingerprint, runtime.anonymous_settings())
    auditing.note(request, "create", session.id, source=source_of(request))
    made = _made(session, body.title, of_anonymous_creation(request, now))
    # As it began, also when it is repeated: whoever has only the hash learns nothing of what it became.
    return Response(
        201, session_shape(SessionView(made, body.title, 0, ()), now), location(made.id), {"session": logged(made.id)}
    )


def require_anonymous_sessions() -> None:
    """Raises Forbidden where none may be begun."""
    if runtime.anonymous_settings().anonymous_sessions == "off":
        raise Forbidden


def there(owner: str, session_id: str, now_ms: int) -> SessionView | None:
    """What was made under this name before."""
    with suppress(SessionNotFound):
        return runtime.session_store().read(owner, session_id, now_ms, newest=1)
    return None


def _created(session: Session, title: str, quota: QuotaCharges | None, first: Turn | None = None) -> Response:
    """The session, new or as it is if it was made before. Raises KeyReused when that was by another request."""
    now, made = session.created_ms, _made(session, title, quota, first)
    view = SessionView(made, title, 1, (first,)) if first else SessionView(made, title, 0, ())
    if session.fingerprint:  # it may have been there, and gone on
        view = runtime.session_store().read(made.owner, made.id, now, newest=1)
    return Response(201, session_shape(view, now), location(made.id), {"session": logged(made.id)})


def _made(session: Session, title: str, quota: QuotaCharges | None, first: Turn | None = None) -> Session:
    try:
        made = runtime.session_store().create(session, title, quota=quota, first=first)
    except SessionNotFound as error:
        raise NameUsedUp from error
    if made.fingerprint != session.fingerprint:
        raise KeyReused
    return made


def list_all(request: Request, _: Remaining) -> Response:
    """The caller's sessions, the one used last first, a page at a time; no content."""
    owner, now = request.user, runtime.now_ms()
    asked = request.query("limit", "cursor")
    limit, after = request.limit(asked), None
    if "cursor" in asked:
        active_ms, session_id = opened(asked["cursor"], "sessions", owner).split(" ")
        after = int(active_ms), session_id
    auditing.note(request, "list")
    page = list_sessions(owner, store=runtime.session_store(), now_ms=now, limit=limit, after=after)
    cursor = sealed(f"{page.next[0]} {page.next[1]}", "sessions", owner) if page.next else None
    items = [listed_session_shape(view, now) for view in page.sessions]
    body = {"items": items, "damaged": page.damaged, "unnamed": page.unnamed, "next": cursor}
    return Response(200, body, noted={"count": len(items)})


def get(request: Request, _: Remaining) -> Response:
    """What the session is and when it ends; no content."""
    session_id = session_of(request)
    request.query()
    now = runtime.now_ms()
    view = runtime.session_store().read(request.owner, session_id, now, newest=1)
    return Response(200, session_shape(view, now), noted={"session": logged(session_id)})


def rename(request: Request, _: Remaining) -> Response:
    """Another title."""
    session_id, owner, now = session_of(request), request.owner, runtime.now_ms()
    request.query()
    title = request.body(TitleBody).title
    auditing.note(request, "rename", session_id)
    runtime.session_store().rename(owner, session_id, title, now)
    view = runtime.session_store().read(owner, session_id, now, newest=1)
    return Response(200, session_shape(view, now), noted={"session": logged(session_id)})


def delete(request: Request, _: Remaining) -> Response:
    """Ends the session; 204 says that its content is gone."""
    session_id = session_of(request)
    request.query()
    auditing.note(request, "delete", session_id)
    if not runtime.session_store().delete(request.owner, session_id, runtime.now_ms()):
        raise SessionNotFound
    return Response(204, noted={"session": logged(session_id)})
