"""Uploaded documents and the summaries that are written beside them: values and the order of versions."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from turnlog.domain import base64url
from turnlog.domain.messages import has_foreign_controls

INBOX, OUTBOX = "inbox/", "outbox/"

_SUMMARY = ".summary.json"
_MAX_KEY = 1024
"""Bytes of a key at most (S3)."""

MAX_DOCUMENT = 1024 * 1024
"""Bytes of a document; about 250,000 tokens, a quarter of the models' context."""


def inbox_of(owner: str) -> str:
    """The beginning of the keys of an owner's documents; the owner is named by owner_hash."""
    return f"{INBOX}{owner}/"


def inbox_key(owner: str, name: str) -> str | None:
    """The key of the owner's document of this name; None when no document can have it.

    A name is somebody's text. One with a part such as `..` is refused, since software on the way to S3 may take that
    for the folder above, which is another owner's.
    """
    key = inbox_of(owner) + name
    if has_foreign_controls(name) or any(part in ("", ".", "..") for part in name.split("/")):
        return None
    return key if len(key.encode(errors="replace")) <= _MAX_KEY else None


@dataclass(frozen=True, slots=True)
class Upload:
    """One version of a document: `inbox/<owner>/<name>`. Of two uploads of a key the higher `sequencer` is newer."""

    key: str
    sequencer: str
    version: str | None = None

    @property
    def summary_key(self) -> str:
        """The key of its summary, under another prefix, so that no summary is summarized.

        A name that would make a longer key than S3 takes is cut, and the hash of the document's key follows it.
        """
        key = OUTBOX + self.key.removeprefix(INBOX)
        if len(key.encode()) + len(_SUMMARY) <= _MAX_KEY:
            return key + _SUMMARY
        ending = "~" + base64url.encode(hashlib.sha256(self.key.encode()).digest()) + _SUMMARY
        return key.encode()[: _MAX_KEY - len(ending)].decode(errors="ignore") + ending

    def is_newer_than(self, sequencer: str) -> bool:
        """True if this upload came later. The shorter sequencer is padded with zeros on the right (S3's rule)."""
        width = max(len(self.sequencer), len(sequencer))
        return self.sequencer.ljust(width, "0") > sequencer.ljust(width, "0")


@dataclass(frozen=True, slots=True)
class Document:
    """An object of an owner, a document or a summary; `size` is in bytes."""

    key: str
    size: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class SummaryState:
    """The summary stored for a document: being made until `lease_expires_ms`, or complete, which is 0.

    `etag` names the put that stored it, and no other one: whoever replaces it by that name has seen it.
    """

    etag: str
    sequencer: str
    lease_expires_ms: int

    def can_be_replaced_by(self, upload: Upload, now_ms: int) -> bool:
        """True if the upload is still to be summarized: it is newer, or the handler that began this very one has died.

        What is left of a newer one is never replaced: its own event comes again.
        """
        if upload.is_newer_than(self.sequencer):
            return True
        is_older = Upload(upload.key, self.sequencer).is_newer_than(upload.sequencer)
        return not is_older and 0 < self.lease_expires_ms < now_ms
