"""A session that goes on elsewhere: as a fork beside it, under a new secret, or as a signed-in caller's own."""

from __future__ import annotations

import secrets
from contextlib import suppress

from turnlog import runtime
from turnlog.domain.owners import anonymous_owner, anonymous_owner_of, owner_hash
from turnlog.domain.quotas import QuotaCharges
from turnlog.domain.sessions import Move, Session, SessionView, named_session_id, new_session_id
from turnlog.entrypoints.http import auditing
from turnlog.entrypoints.http.api import Remaining, Response
from turnlog.entrypoints.http.billing import of_creation
from turnlog.entrypoints.http.naming import location, logged, session_of
from turnlog.entrypoints.http.request import Request
from turnlog.entrypoints.http.schemas import ClaimBody, ForkBody, NewSecretBody, session_shape
from turnlog.entrypoints.http.sessions import require_anonymous_sessions, there
from turnlog.errors import (
    AlreadyOwned,
    Forbidden,
    KeyReused,
    LeaseLost,
    MoveLost,
    NameUsedUp,
    SessionNotFound,
    TurnNotFound,
    ValueRefused,
)
from turnlog.usecases.take_turn import lease_ms


def fork(request: Request, _: Remaining) -> Response:
    """A new session of the same owner with the turns up to one of them; it lives as long as the first one was to."""
    parent_id, owner, now = session_of(request), request.owner, runtime.now_ms()
    request.query()
    key = request.optional_idempotency_key
    turn = request.body(ForkBody).turn
    if request.is_anonymous:
        require_anonymous_sessions()
    hashed = runtime.server_key().keyed_hash
    child_id, fingerprint = new_session_id(), b""
    if key is not None:
        child_id = named_session_id(hashed("fork", owner.encode(), key.encode()))
        fingerprint = hashed("fingerprint", parent_id.encode(), b"%d" % turn)
    auditing.note(request, "fork", parent_id, to=logged(child_id))
    view = None if key is None else there(owner, child_id, now)
    if view is None:
        parent = runtime.session_store().read(owner, parent_id, now, newest=1)
        if turn > parent.count:
            raise TurnNotFound
        view = _forked(parent, turn, child_id, fingerprint, now, of_creation(request, now))
    if view.session.fingerprint != fingerprint:
        raise KeyReused
    return Response(201, session_shape(view, now), location(child_id), {"session": logged(child_id)})


def rotate(request: Request, remaining_s: Remaining) -> Response:
    """An anonymous session under a new secret and id; the old ones are dead in the same instant."""
    session_id, owner = session_of(request), request.owner
    request.query()
    key, new_owner = request.idempotency_key, anonymous_owner(request.body(NewSecretBody).secret_sha256)
    if not request.is_anonymous:
        raise Forbidden
    if new_owner == owner:
        raise ValueRefused("secret_not_new", "/secret_sha256")
    return _moved(request, "rotate", owner, session_id, new_owner, key, remaining_s)


def claim(request: Request, remaining_s: Remaining) -> Response:
    """An anonymous session becomes the caller's, under a new id; the old id and secret are dead in the same instant."""
    session_id, user = session_of(request), request.user
    request.query()
    key, owner = request.idempotency_key, anonymous_owner_of(request.body(ClaimBody).secret)
    try:
        return _moved(request, "claim", owner, session_id, user, key, remaining_s)
    except SessionNotFound:
        if there(user, session_id, runtime.now_ms()):
            raise AlreadyOwned from None
        raise


def _moved(
    request: Request, action: str, owner: str, session_id: str, to_owner: str, key: str, remaining_s: Remaining
) -> Response:
    """A repeat is answered only for the same new owner: the store knows the old place by where it has gone.

    Whoever has the session then has begun with new allowances, so it counts as a session that is made.
    """
    now, hashed = runtime.now_ms(), runtime.server_key().keyed_hash
    named = owner.encode(), session_id.encode(), key.encode()
    to_id, until = named_session_id(hashed("moved-session", *named)), now + lease_ms(remaining_s())
    token, quota = secrets.token_urlsafe(12), of_creation(request, now)
    move = Move(owner, session_id, to_owner, to_id, hashed("move", *named), token, now, until, quota)
    auditing.note(request, action, session_id, subject=owner_hash(owner), to=logged(to_id))
    try:
        runtime.session_store().move(move)
    except LeaseLost as error:
        raise MoveLost from error
    view = runtime.session_store().read(to_owner, to_id, now, newest=1)
    return Response(200, session_shape(view, now), location(to_id), {"session": logged(to_id)})


def _forked(
    parent: SessionView, turn: int, child_id: str, fingerprint: bytes, now_ms: int, quota: QuotaCharges | None
) -> SessionView:
    old = parent.session
    expires_ms = now_ms + old.expires_ms - old.created_ms
    child = Session(old.owner, child_id, now_ms, expires_ms, old.idle_ms, old.settings, fingerprint)
    store = runtime.session_store()
    try:
        with suppress(LeaseLost):  # another one was faster under this name, or has ended since: the look says which
            store.fork(old, turn, child, parent.title, quota=quota)
        return store.read(old.owner, child_id, now_ms, newest=1)
    except SessionNotFound as error:
        store.read(old.owner, old.id, now_ms, newest=1)  # it may be the parent that ended meanwhile
        raise NameUsedUp from error
