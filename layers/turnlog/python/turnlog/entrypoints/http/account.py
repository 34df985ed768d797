"""All that there is of a user: taken along, or erased."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from turnlog import runtime
from turnlog.adapters.s3_documents import Document
from turnlog.clock import rfc3339
from turnlog.domain.owners import owner_hash
from turnlog.domain.sessions import is_session_id
from turnlog.domain.turns import Turn
from turnlog.entrypoints.http import auditing
from turnlog.entrypoints.http.api import Remaining, Response
from turnlog.entrypoints.http.cursors import opened, sealed
from turnlog.entrypoints.http.pagination import WHOLE, has_room, turns_after
from turnlog.entrypoints.http.request import Request
from turnlog.entrypoints.http.schemas import session_shape, turn_shape
from turnlog.errors import SessionCorrupt, SessionNotFound

_FORMAT = "turnlog-user-1"


@dataclass
class _Part:
    """One answer of an export while it is filled; `next` is where the part after it begins, and `prompts` how many
    characters the system prompts of its sessions have.
    """

    sessions: list[dict[str, Any]] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    unnamed: int = 0
    turns: list[Turn] = field(default_factory=list)
    prompts: int = 0
    next: tuple[str, int] | None = None


def export(request: Request, _: Remaining) -> Response:
    """Every session with its turns, and what lies in the bucket, in as many parts as it takes.

    A session that is longer than a part goes on in the next one; one that is begun or used meanwhile may be missed.
    """
    owner, now = request.user, runtime.now_ms()
    asked = request.query("cursor")
    begin_at, after = ("", 0)
    if "cursor" in asked:
        begin_at, number = opened(asked["cursor"], "export", owner).split(" ")
        after = int(number)
    auditing.note(request, "export all")
    part = _filled(owner, now, begin_at, after)
    body: dict[str, Any] = {
        "format": _FORMAT,
        "exported_at": rfc3339(now),
        "sessions": part.sessions,
        "damaged": part.damaged,
        "unnamed": part.unnamed,
        "documents": [] if begin_at else [_document_shape(each) for each in runtime.documents().of(owner_hash(owner))],
        "next": sealed(f"{part.next[0]} {part.next[1]}", "export", owner) if part.next else None,
    }
    return Response(200, body, noted={"count": len(part.turns)})


def erase(request: Request, _: Remaining) -> Response:
    """Removes everything of the caller and answers with a receipt; whatever cuts it off, a repeat finishes it.

    The keys go before the sessions, so that what backups hold is unreadable from then on.
    """
    owner, now = request.user, runtime.now_ms()
    request.query()
    auditing.note(request, "erase")
    documents = runtime.documents().erase(owner_hash(owner))
    sessions = runtime.session_store().erase(owner, now)
    receipt = {"erased_at": rfc3339(runtime.now_ms()), "sessions": sessions, "documents": documents}
    return Response(200, receipt, noted={"count": sessions})


def _filled(owner: str, now_ms: int, begin_at: str, after: int) -> _Part:
    part, store = _Part(), runtime.session_store()
    for session_id in sorted(each for each in store.session_ids(owner) if each >= begin_at):
        already = after if session_id == begin_at else 0
        if not has_room(part.turns, part.prompts):
            part.next = session_id, already
            break
        try:
            view = store.read(owner, session_id, now_ms, newest=1)
            prompts = part.prompts + len(view.session.settings.system)
            turns = turns_after(view, already, WHOLE, part.turns, prompts)
        except SessionNotFound:
            continue
        except SessionCorrupt:
            if is_session_id(session_id):
                part.damaged.append(session_id)
            else:
                part.unnamed += 1
            continue
        if part.turns and not turns and already < view.count:
            part.next = session_id, already
            break
        part.turns += turns
        part.prompts = prompts
        part.sessions.append({"session": session_shape(view, now_ms), "turns": [turn_shape(turn) for turn in turns]})
        if already + len(turns) < view.count:
            part.next = session_id, already + len(turns)
            break
    return part


def _document_shape(document: Document) -> dict[str, Any]:
    return {"key": document.key, "bytes": document.size, "at": rfc3339(document.at_ms)}
