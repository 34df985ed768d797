"""/me: everything of a user, exported or erased."""

from __future__ import annotations

from typing import Any

from turnlog import runtime
from turnlog.clock import rfc3339
from turnlog.domain.documents import Document
from turnlog.entrypoints.http.api import Invocation, Response
from turnlog.entrypoints.http.request import Request
from turnlog.entrypoints.http.schemas import session_shape, turn_shape
from turnlog.usecases.account import erase_everything, export_everything


def export(request: Request, invocation: Invocation) -> Response:
    """Every session with its turns, and the documents, in as many parts as it takes."""
    caller, now = request.user, runtime.now_ms()
    part = export_everything(
        caller,
        cursor=request.query("cursor").get("cursor"),
        store=runtime.session_store(),
        documents=runtime.document_store(),
        server_key=runtime.server_key(),
        audit=invocation.audit,
        now_ms=now,
    )
    body: dict[str, Any] = {
        "format": "turnlog-user-1",
        "exported_at": rfc3339(now),
        "sessions": [
            {"session": session_shape(view, now), "turns": [turn_shape(turn) for turn in turns]}
            for view, turns in part.sessions
        ],
        "damaged": part.damaged,
        "unnamed": part.unnamed,
        "documents": [_document_shape(each) for each in part.documents],
        "next": part.next,
    }
    return Response(200, body, noted={"count": len(part.turns)})


def erase(request: Request, invocation: Invocation) -> Response:
    """A receipt: nothing of the caller is left."""
    caller, now = request.user, runtime.now_ms()
    request.query()
    receipt = erase_everything(
        caller,
        store=runtime.session_store(),
        documents=runtime.document_store(),
        audit=invocation.audit,
        now_ms=now,
    )
    body = {
        "erased_at": rfc3339(runtime.now_ms()),
        "sessions": receipt.sessions,
        "documents": receipt.documents,
    }
    return Response(200, body, noted={"count": receipt.sessions})


def _document_shape(document: Document) -> dict[str, Any]:
    return {"key": document.key, "bytes": document.size, "at": rfc3339(document.at_ms)}
