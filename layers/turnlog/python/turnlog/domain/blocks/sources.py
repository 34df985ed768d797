"""The sources of images and documents: bytes that are what they say, within the bounds, and need not be fetched."""

from __future__ import annotations

import base64
from typing import Any

from turnlog.domain.blocks.fields import Path, kind_of, malformed, refuse, require_fields, text_of
from turnlog.domain.blocks.images import IMAGE_TYPES, image_size, image_type
from turnlog.domain.blocks.media import MOST_PAGES, MOST_PIXELS, PDF, TEXT
from turnlog.domain.blocks.pdf import PdfEncrypted, PdfUnreadable, page_count
from turnlog.domain.blocks.plain_text import decode_text
from turnlog.domain.blocks.whole import Whole

Source = dict[str, Any]

MOST_IMAGE_BYTES = 10_000_000
"""Characters of an image's base64 (Claude's page on vision: 10 MB)."""

_FETCHED = ("url", "file")


def source_kind(source: Any, at: Path, allowed: tuple[str, ...]) -> str:
    """Returns the kind of a source. Raises ValueRefused for one that would have to be fetched from elsewhere."""
    if isinstance(source, dict) and source.get("type") in _FETCHED:
        refuse("source_not_fetched", (*at, "type"), allowed=list(allowed))
    return kind_of(source, at, allowed, "source_type_unknown")


def require_image(source: Any, at: Path, whole: Whole) -> None:
    """Raises InvalidRequest or ValueRefused unless this is an image that Claude takes."""
    source_kind(source, at, ("base64",))
    data = _bytes_of(source, at, IMAGE_TYPES)
    if image_type(data) != source["media_type"]:
        refuse("media_type_mismatch", (*at, "media_type"))
    size = image_size(data)
    if size is None:
        refuse("image_invalid", (*at, "data"))
    if len(source["data"]) > MOST_IMAGE_BYTES:
        refuse("image_too_large", (*at, "data"), max_length=MOST_IMAGE_BYTES)
    if size.longest > MOST_PIXELS:
        refuse("image_too_large", (*at, "data"), maximum=MOST_PIXELS)
    whole.add_image((*at, "data"), size.longest)


def require_text(source: Source, at: Path) -> None:
    """Raises InvalidRequest or ValueRefused unless this is a document's text."""
    require_fields(source, at, ("type", "media_type", "data"))
    _require_media_type(source, at, (TEXT,))
    text_of(source["data"], (*at, "data"))


def read_document(source: Source, at: Path, whole: Whole) -> Source:
    """Returns the source of a document that came as bytes: a PDF as it is, a text as a source of text, in UTF-8."""
    data = _bytes_of(source, at, (PDF, TEXT))
    if source["media_type"] == PDF:
        _require_pdf(data, at, whole)
        return source
    text = decode_text(data)
    if text is None:
        refuse("document_not_text", (*at, "data"))
    return {"type": "text", "media_type": TEXT, "data": text_of(text, (*at, "data"))}


def _require_pdf(data: bytes, at: Path, whole: Whole) -> None:
    if not data.startswith(b"%PDF-"):
        refuse("media_type_mismatch", (*at, "media_type"))
    try:
        pages = page_count(data, MOST_PAGES, whole.effort)
    except PdfEncrypted:
        refuse("document_encrypted", (*at, "data"))
    except PdfUnreadable:
        refuse("document_invalid", (*at, "data"))
    whole.add_pages((*at, "data"), pages)


def _require_media_type(source: Source, at: Path, allowed: tuple[str, ...]) -> None:
    if not isinstance(source["media_type"], str):
        malformed("wrong_type", (*at, "media_type"))
    if source["media_type"] not in allowed:
        refuse("media_type_unknown", (*at, "media_type"), allowed=list(allowed))


def _bytes_of(source: Source, at: Path, allowed: tuple[str, ...]) -> bytes:
    require_fields(source, at, ("type", "media_type", "data"))
    _require_media_type(source, at, allowed)
    if not isinstance(source["data"], str):
        malformed("wrong_type", (*at, "data"))
    try:
        return base64.b64decode(source["data"], validate=True)
    except ValueError:  # binascii.Error, and what it says of text that is no ASCII
        malformed("base64_invalid", (*at, "data"))
