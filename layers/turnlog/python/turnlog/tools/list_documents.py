"""The caller's own uploaded documents, by name."""

from __future__ import annotations

from turnlog.clock import rfc3339
from turnlog.domain.documents import inbox_of
from turnlog.domain.owners import owner_hash
from turnlog.domain.tool_functions import tool
from turnlog.ports.tool_context import DocumentContext

_MOST = 200  # of a thousand, nobody reads all, and each name costs tokens


@tool(seconds=10, reads_only=True, runs_in="documents")
def list_documents(context: DocumentContext) -> dict[str, object]:
    """Returns the names, sizes and times of the documents that the user has uploaded."""
    owner = owner_hash(context.owner)
    inbox, found = inbox_of(owner), context.documents.list_inbox(owner, _MOST + 1)
    documents = [
        {"name": each.key.removeprefix(inbox), "bytes": each.size, "uploaded_at": rfc3339(each.at_ms)}
        for each in found[:_MOST]
    ]
    return {"documents": documents, "has_more": len(found) > _MOST}
