"""A session that goes on elsewhere: as a fork beside it, under a new secret, or as a signed-in caller's own."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from turnlog.clock import utc_date
from turnlog.domain.model_limits import made_possible
from turnlog.domain.models import require_not_retired
from turnlog.domain.older_keys import KEY_STRIDE
from turnlog.domain.owners import anonymous_owner, anonymous_owner_of
from turnlog.domain.quotas import QuotaCharges
from turnlog.domain.server_key import ServerKey
from turnlog.domain.sessions import Move, Session, SessionView, named_session_id, new_session_id
from turnlog.domain.window import WindowPolicy
from turnlog.errors import (
    AlreadyOwned,
    Forbidden,
    KeyReused,
    KeyUsedUp,
    LeaseLost,
    MoveLost,
    SessionNotFound,
    TurnNotFound,
    ValueRefused,
)
from turnlog.ports.session_store import SessionStore
from turnlog.usecases.audit import Audit
from turnlog.usecases.caller import Caller
from turnlog.usecases.finished_turn import keep_interrupted
from turnlog.usecases.held_lease import lease_ms
from turnlog.usecases.policy import CreationPolicy
from turnlog.usecases.sessions import find_existing


def fork_session(
    caller: Caller,
    parent_id: str,
    turn: int,
    *,
    model: str | None = None,
    key: str | None,
    store: SessionStore,
    server_key: ServerKey,
    audit: Audit,
    policy: CreationPolicy,
    now_ms: int,
) -> SessionView:
    """Creates a session of the same owner with the turns up to `turn`, which goes on with `model` if one is named.

    Its lifetime is as long as the parent's was at its creation, and begins now. Returns the one that was forked under
    the same `key` before. Raises Unauthorized, Forbidden where no anonymous session may begin, SessionNotFound,
    TurnNotFound, ModelRetired, KeyReused, KeyUsedUp, QuotaExceeded, ErasureInProgress or AuditUnavailable.
    """
    owner, hashed = caller.require_verified(), server_key.keyed_hash
    if caller.is_anonymous:
        policy.require_anonymous_sessions()
    child_id, fingerprint = new_session_id(), b""
    if key is not None:
        child_id = named_session_id(hashed("fork", owner.encode(), parent_id.encode(), key.encode()))
        fingerprint = hashed("fingerprint", parent_id.encode(), b"%d" % turn, *([model.encode()] if model else []))
    audit.act("fork", parent_id, to_id=child_id)
    view = None
    if key is not None:
        view = find_existing(store, owner, child_id, now_ms)
        # Earlier versions named a fork by its owner and key alone: a repeat still finds such a fork.
        before = named_session_id(hashed("fork", owner.encode(), key.encode()))
        if view is None and (made := find_existing(store, owner, before, now_ms)):
            view = made if made.session.fingerprint == fingerprint else None
    if view is None:
        parent = store.read(owner, parent_id, now_ms, newest=1, with_content=False)
        if turn > parent.count:
            raise TurnNotFound
        charges = policy.charges(caller, server_key, now_ms)
        try:
            view = _fork(store, parent, turn, child_id, model, fingerprint, charges, now_ms)
        except SessionNotFound as error:
            # It may be the parent that ended meanwhile.
            store.read(owner, parent_id, now_ms, newest=1, with_content=False)
            if key is None:
                raise
            raise KeyUsedUp from error
    if view.session.fingerprint != fingerprint:
        raise KeyReused
    return view


def rotate_secret(
    caller: Caller,
    session_id: str,
    secret_sha256: str,
    *,
    key: str,
    store: SessionStore,
    server_key: ServerKey,
    audit: Audit,
    policy: CreationPolicy,
    remaining_s: Callable[[], float],
    now_ms: int,
) -> SessionView:
    """Moves an anonymous session under a new secret and id; the old ones are dead in the same instant.

    Raises Unauthorized, Forbidden for a caller who is signed in, ValueRefused if the secret is the old one,
    SessionNotFound, TurnInProgress, MoveLost, QuotaExceeded or AuditUnavailable.
    """
    owner, new_owner = caller.require_verified(), anonymous_owner(secret_sha256)
    if not caller.is_anonymous:
        raise Forbidden
    if new_owner == owner:
        raise ValueRefused("secret_not_new", "/secret_sha256")
    charges = policy.charges(caller, server_key, now_ms)
    move = _move_of(owner, session_id, new_owner, key, server_key, charges, remaining_s(), now_ms)
    return _move("rotate", move, store=store, audit=audit, window=policy.window)


def claim_session(
    caller: Caller,
    session_id: str,
    secret: str,
    *,
    key: str,
    store: SessionStore,
    server_key: ServerKey,
    audit: Audit,
    policy: CreationPolicy,
    remaining_s: Callable[[], float],
    now_ms: int,
) -> SessionView:
    """Makes an anonymous session the caller's, under a new id; the old id and secret are dead in the same instant.

    Raises Unauthorized, Forbidden for an anonymous caller, SessionNotFound if the secret is not the session's,
    AlreadyOwned, TurnInProgress, MoveLost, QuotaExceeded, ErasureInProgress or AuditUnavailable.
    """
    user, owner = caller.require_user(), anonymous_owner_of(secret)
    charges = policy.charges(caller, server_key, now_ms)
    move = _move_of(owner, session_id, user, key, server_key, charges, remaining_s(), now_ms)
    try:
        return _move("claim", move, store=store, audit=audit, window=policy.window)
    except SessionNotFound:
        if find_existing(store, user, session_id, now_ms):
            raise AlreadyOwned from None
        raise


def _move_of(
    owner: str,
    session_id: str,
    to_owner: str,
    key: str,
    server_key: ServerKey,
    charges: QuotaCharges | None,
    remaining_s: float,
    now_ms: int,
) -> Move:
    """Returns the move. A repeat gets the same new id, and the store answers it only for the same new owner.

    The new owner begins with unused quotas, so a move is charged as a new session.
    """
    named, hashed = (owner.encode(), session_id.encode(), key.encode()), server_key.keyed_hash
    to_id = named_session_id(hashed("moved-session", *named))
    lease_expires_ms = now_ms + lease_ms(remaining_s)
    token = secrets.token_urlsafe(12)
    return Move(
        owner, session_id, to_owner, to_id, hashed("move", *named), token, now_ms, lease_expires_ms, quota=charges
    )


def move_whole(move: Move, *, store: SessionStore, window: WindowPolicy) -> Session:
    """Does SessionStore.move. What a dead handler left of a turn moves along as a turn."""
    with suppress(SessionNotFound):  # it may have moved already
        newest = max(window.turns, KEY_STRIDE)  # a turn remembers the key of one that many turns before it
        view = store.read(move.owner, move.session_id, move.at_ms, newest)
        keep_interrupted(store, view, move.at_ms, window)
    return store.move(move)


def _move(action: str, move: Move, *, store: SessionStore, audit: Audit, window: WindowPolicy) -> SessionView:
    audit.act(action, move.session_id, subject=move.owner, to_id=move.to_id)
    try:
        move_whole(move, store=store, window=window)
    except LeaseLost as error:
        raise MoveLost from error
    return store.read(move.to_owner, move.to_id, move.at_ms, newest=1, with_content=False)


def _fork(
    store: SessionStore,
    parent: SessionView,
    turn: int,
    child_id: str,
    model: str | None,
    fingerprint: bytes,
    charges: QuotaCharges | None,
    now_ms: int,
) -> SessionView:
    old, settings = parent.session, parent.session.settings
    if model:
        require_not_retired(model, utc_date(now_ms))
        settings = made_possible(replace(settings, model=model))
    expires_ms = now_ms + old.expires_ms - old.created_ms
    child = Session(old.owner, child_id, now_ms, expires_ms, old.idle_ms, settings, fingerprint)
    with suppress(LeaseLost):  # another one was faster under this name, or is gone since: the read says which
        store.fork(old, turn, child, parent.title, metadata=parent.metadata, quota=charges)
    return store.read(old.owner, child_id, now_ms, newest=1, with_content=False)
