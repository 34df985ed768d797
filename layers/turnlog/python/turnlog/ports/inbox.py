"""The port to the documents that people upload, for who only reads them."""

from __future__ import annotations

from typing import Protocol

from turnlog.domain.documents import Document, Upload


class Inbox(Protocol):
    """Uploaded documents. Both methods raise StoreUnavailable."""

    def list_inbox(self, owner: str, most: int) -> list[Document]:
        """The first documents of the owner by name, at most so many; the owner is named by owner_hash."""

    def read_text(self, upload: Upload) -> str:
        """Returns the document. Raises DocumentRefused if it is gone, empty, too large or no text in UTF-8."""
