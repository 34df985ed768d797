"""/me: everything of a user, exported or erased."""

from __future__ import annotations

from turnlog import runtime
from turnlog.clock import rfc3339
from turnlog.entrypoints.http.answers import Response
from turnlog.entrypoints.http.api import Invocation
from turnlog.entrypoints.http.replies import Erasure, ExportedDocument, ExportedSession, UserExport
from turnlog.entrypoints.http.request import Request
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
    body = UserExport(
        format="turnlog-user-1",
        exported_at=rfc3339(now),
        sessions=[ExportedSession.of(view, turns, now) for view, turns in part.sessions],
        damaged=part.damaged,
        unavailable=part.unavailable,
        unnamed=part.unnamed,
        documents=[ExportedDocument.of(each) for each in part.documents],
        next=part.next,
    )
    return Response(200, body, noted={"count": len(part.turns)})


def erase(request: Request, invocation: Invocation) -> Response:
    """A receipt: nothing of the caller is left; or 202 with the number of sessions that are left for a repeat."""
    caller, now = request.user, runtime.now_ms()
    request.query()
    receipt = erase_everything(
        caller,
        store=runtime.session_store(),
        documents=runtime.document_store(),
        audit=invocation.audit,
        now_ms=now,
        answer_s=invocation.answer_s,
    )
    is_done = not receipt.left
    body = Erasure(
        erased_at=rfc3339(runtime.now_ms()) if is_done else None,
        sessions=receipt.sessions,
        documents=receipt.documents,
        left=receipt.left,
    )
    return Response(200 if is_done else 202, body, noted={"count": receipt.sessions})
