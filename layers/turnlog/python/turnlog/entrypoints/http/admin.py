"""What administrators may do with others' sessions; who does what to whom is audited before it is done."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from turnlog import runtime
from turnlog.domain.owners import owner_hash
from turnlog.domain.server_key import DecryptionFailed
from turnlog.domain.sessions import SessionView, new_session_id
from turnlog.entrypoints.http import auditing, turns
from turnlog.entrypoints.http.api import Remaining, Response
from turnlog.entrypoints.http.naming import logged
from turnlog.entrypoints.http.request import Request
from turnlog.entrypoints.http.schemas import ReasonBody, listed_session_shape
from turnlog.errors import InvalidRequest, SessionNotFound
from turnlog.usecases import listing

_AT_ONCE = 8  # sessions that are ended side by side, of the ten connections that a client has
_LEFT_FOR_AN_END_S = 10  # of the 29 s that the gateway waits: the end of a long session is many calls
_ID_LENGTH = len(new_session_id())


def list_sessions(request: Request, _: Remaining) -> Response:
    """A user's live sessions, the one used last first: that they are there, and nothing that was said or named."""
    request.require_role("admin")
    owner, now = _owner_of(request), runtime.now_ms()
    asked = request.query("limit", "cursor")
    limit, after = request.limit(asked), _after(asked, request.owner, owner)
    auditing.note(request, "admin list", subject=owner_hash(owner))
    page = listing.list_sessions(owner, store=runtime.session_store(), now_ms=now, limit=limit, after=after)
    cursor = page.next and _sealed("admin-cursor", f"{page.next[0]} {page.next[1]}", request.owner, owner)
    items = [{"ref": _ref(owner, view.session.id)} | _shape(view, now) for view in page.sessions]
    damaged = [_ref(owner, session_id) for session_id in page.damaged]
    body = {"items": items, "damaged": damaged, "unnamed": page.unnamed, "next": cursor}
    return Response(200, body, noted={"count": len(items)})


def terminate(request: Request, _: Remaining) -> Response:
    """Ends somebody's session; 204 says that its content is gone."""
    request.require_role("admin")
    request.query()
    owner, session_id = _session_of(request)
    auditing.note(request, "admin terminate", session_id, subject=owner_hash(owner))
    if not runtime.session_store().delete(owner, session_id, runtime.now_ms()):
        raise SessionNotFound
    return Response(204, noted={"session": logged(session_id)})


def terminate_all(request: Request, remaining_s: Remaining) -> Response:
    """Ends all sessions of a user, as many as there is time for; a repeat goes on with those that are left."""
    request.require_role("admin")
    owner = _owner_of(request)
    request.query()
    auditing.note(request, "admin terminate all", subject=owner_hash(owner))
    store = runtime.session_store()

    def end(session_id: str) -> bool | None:
        """Whether it was alive; None when there is no time."""
        return store.delete(owner, session_id, runtime.now_ms()) if remaining_s() > _LEFT_FOR_AN_END_S else None

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        ended = list(pool.map(end, store.session_ids(owner)))
    return Response(200, {"ended": ended.count(True), "left": ended.count(None)}, noted={"count": ended.count(True)})


def show_content(request: Request, _: Remaining) -> Response:
    """A page of the turns of somebody's session, for a reason that stands in the audit trail and raises an alarm."""
    request.require_role("admin")
    request.require_role("admin:content")
    asked = request.query("limit", "cursor")
    limit, reason = request.limit(asked), request.body(ReasonBody).reason
    owner, session_id = _session_of(request)  # after what can be refused without a secret
    bound = "admin-content", request.owner, owner, session_id
    after = turns.turn_before(asked, *bound)
    auditing.note(request, "admin content", session_id, subject=owner_hash(owner), reason=reason)
    return turns.page_of(owner, session_id, after, limit, *bound)


def _shape(view: SessionView, now_ms: int) -> dict[str, Any]:
    shown = listed_session_shape(view, now_ms)
    del shown["session_id"], shown["title"]
    return shown


def _ref(owner: str, session_id: str) -> str:
    """What an administrator calls the session; it is good for every administrator."""
    return _sealed("admin-ref", session_id + owner)


def _owner_of(request: Request) -> str:
    """Whom the path names: an owner, as base64url. Raises InvalidRequest."""
    try:
        owner = _from_base64(request.parameter("owner")).decode()
    except ValueError as error:
        raise InvalidRequest("owner_invalid") from error
    if not owner:
        raise InvalidRequest("owner_invalid")
    return owner


def _session_of(request: Request) -> tuple[str, str]:
    """The owner and the id in the path's ref. What this service did not seal as one names no session."""
    try:
        named = _opened("admin-ref", request.parameter("ref"))
    except ValueError as error:
        raise SessionNotFound from error
    return named[_ID_LENGTH:], named[:_ID_LENGTH]


def _after(asked: dict[str, str], admin: str, owner: str) -> tuple[int, str] | None:
    """The last session of the page before. The list's own cursors are no use: an id can be read in them."""
    if "cursor" not in asked:
        return None
    try:
        active_ms, session_id = _opened("admin-cursor", asked["cursor"], admin, owner).split(" ")
    except ValueError as error:
        raise InvalidRequest("cursor_invalid", details={"parameter": "cursor"}) from error
    return int(active_ms), session_id


def _sealed(purpose: str, text: str, *bound: str) -> str:
    """The text in a form that says nothing, for whoever names the same `bound`."""
    return _base64(runtime.server_key().sealed(purpose, text.encode(), *(each.encode() for each in bound)))


def _opened(purpose: str, sealed: str, *bound: str) -> str:
    """The text. Raises ValueError for all that was not sealed so."""
    try:
        return runtime.server_key().opened(purpose, _from_base64(sealed), *(each.encode() for each in bound)).decode()
    except DecryptionFailed as error:
        raise ValueError from error


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _from_base64(text: str) -> bytes:
    """Raises ValueError for any other text than the one that stands for the bytes."""
    raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if _base64(raw) != text:
        raise ValueError
    return raw
