"""The port to uploaded documents and their summaries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from turnlog.domain.documents import Document, SummaryState, Upload


class DocumentStore(Protocol):
    """Documents that people upload, and the summaries written for them. All methods raise StoreUnavailable."""

    def exists(self, upload: Upload) -> bool:
        """True if this version of the document is still there."""

    def read_text(self, upload: Upload) -> str:
        """Returns the document. Raises DocumentRefused if it is gone, empty, too large or no text in UTF-8."""

    def find_summary(self, upload: Upload) -> SummaryState | None:
        """Returns the state of the document's summary; None if there is none."""

    def put_summary(
        self, upload: Upload, summary: Mapping[str, object], over: SummaryState | None, lease_expires_ms: int = 0
    ) -> SummaryState:
        """Stores the summary as JSON in place of `over`; `lease_expires_ms` says that it is still being made.

        Each call stores under an etag of its own, also for equal summaries, so that `over` names one put alone. Raises
        SummaryTaken if something else was stored there meanwhile; then nothing has changed.
        """

    def list_documents(self, owner: str) -> list[Document]:
        """The owner's documents and summaries; the owner is named by owner_hash."""

    def erase(self, owner: str) -> int:
        """Removes everything of the owner in every version. Returns the number of keys. May be repeated."""
