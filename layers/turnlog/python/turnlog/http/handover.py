"""A session that goes on elsewhere: as a fork beside it."""

from __future__ import annotations

from contextlib import suppress

from turnlog import runtime
from turnlog.errors import ClaimLost, KeyReused, SessionNotFound, TurnNotFound
from turnlog.http.api import Answer, Remaining
from turnlog.http.billing import of_creation
from turnlog.http.naming import location, logged, session_of
from turnlog.http.request import Request
from turnlog.http.shapes import ForkBody, session_shape
from turnlog.sessions import Bill, Log, Session, named_session_id, new_session_id


def fork(request: Request, _: Remaining) -> Answer:
    """A new session of the same owner with the turns up to one of them; it lives as long as the first one was to."""
    parent_id, owner, now = session_of(request), request.owner, runtime.now_ms()
    hashed = runtime.server_key().keyed_hash
    request.query()
    key = request.optional_idempotency_key
    turn = request.body(ForkBody).turn
    child_id, fingerprint = new_session_id(), b""
    if key is not None:
        child_id = named_session_id(hashed("fork", owner.encode(), key.encode()))
        fingerprint = hashed("fingerprint", parent_id.encode(), b"%d" % turn)
    log = None if key is None else _there(owner, child_id, now)
    if log is None:
        parent = runtime.session_store().read(owner, parent_id, now, newest=1)
        if turn > parent.count:
            raise TurnNotFound
        log = _forked(parent, turn, child_id, fingerprint, now, of_creation(request, now))
    if log.session.fingerprint != fingerprint:
        raise KeyReused
    return Answer(201, session_shape(log, now), location(child_id), {"session": logged(child_id)})


def _there(owner: str, session_id: str, now_ms: int) -> Log | None:
    """What was made under this name before."""
    with suppress(SessionNotFound):
        return runtime.session_store().read(owner, session_id, now_ms, newest=1)
    return None


def _forked(parent: Log, turn: int, child_id: str, fingerprint: bytes, now_ms: int, bill: Bill | None) -> Log:
    old = parent.session
    dies_ms = now_ms + old.dies_ms - old.created_ms
    child = Session(old.owner, child_id, now_ms, dies_ms, old.idle_ms, old.settings, fingerprint)
    with suppress(ClaimLost):  # another one was faster under this name, or has ended since: the look says which
        runtime.session_store().fork(old, turn, child, parent.title, bill=bill)
    return runtime.session_store().read(old.owner, child_id, now_ms, newest=1)
