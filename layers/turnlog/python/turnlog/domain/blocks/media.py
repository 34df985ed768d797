"""The media in a message: images and PDFs as base64, wherever in its blocks they stand, and what they amount to."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeGuard

from turnlog.domain.blocks.images import ImageSize, image_size
from turnlog.domain.blocks.pdf import Effort, page_count
from turnlog.domain.messages import Message

PDF = "application/pdf"
TEXT = "text/plain"

MOST_IMAGES = 100
"""Images in one request (Claude's page on vision, for models with a context of 200,000 tokens; others take 600)."""

MOST_PIXELS = 8_000
"""Pixels of a side of an image (the same page)."""

MANY_IMAGES = 20
"""Above so many images in one request each has at most MOST_PIXELS_OF_MANY a side (the same page)."""

MOST_PIXELS_OF_MANY = 2_000

MOST_MESSAGE_BYTES = 4_500_000
"""Bytes of a caller's message. The gateway hands it over in base64, which makes 6,000,000 of it, and an event of a
function has at most 6,291,556 (quota of Lambda), those for headers and the caller included.
"""

MOST_PAGES = 100
"""Pages of all PDFs in one request (Claude's page on PDFs, and Bedrock's)."""

_HEAD = 87_384  # characters of base64: the first 64 KB, where all headers but those of some JPEGs end


def media_sources(blocks: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """Yields the sources with media: those of images and documents, also in results of tools and within documents.

    The blocks may be anything that was parsed from JSON.
    """
    waiting = [iter(blocks)]
    while waiting:
        block = next(waiting[-1], None)
        if block is None:
            waiting.pop()
        elif isinstance(block, dict):
            source = block.get("source")
            if _is_media(source):
                yield source
            for holder in (source, block):
                content = holder.get("content") if isinstance(holder, dict) else None
                if isinstance(content, list):
                    waiting.append(each for each in content if each is not None)


def _is_media(source: Any) -> TypeGuard[dict[str, Any]]:
    """True for base64 that is not that of a text."""
    if not isinstance(source, dict) or source.get("type") != "base64":
        return False
    return isinstance(source.get("data"), str) and source.get("media_type") != TEXT


def media_bytes(blocks: Iterable[Any]) -> int:
    """Returns the bytes that media take in the JSON of the blocks: they cost by pixels and pages, all else by bytes."""
    return sum(len(source["data"]) for source in media_sources(blocks))


def size_of(data: str) -> ImageSize | None:
    """Returns the size of an image in base64, for which it decodes no more than it must; None if it cannot be read."""
    for part in (data[:_HEAD], data):
        try:
            size = image_size(base64.b64decode(part))
        except ValueError:
            return None
        if size or len(part) == len(data):
            return size
    return None


def pages_of(data: str, effort: Effort) -> int:
    """Returns the pages of a PDF in base64, MOST_PAGES if they cannot be counted."""
    try:
        return page_count(base64.b64decode(data), MOST_PAGES, effort)
    except ValueError:  # those of PDFs included
        return MOST_PAGES


@dataclass(frozen=True, slots=True)
class Load:
    """Sizes of messages in a request: bytes as JSON, images, those of more than 2,000 pixels a side, and pages."""

    content_bytes: int = 0
    images: int = 0
    large_images: int = 0
    pages: int = 0

    def __add__(self, other: Load) -> Load:
        return Load(
            self.content_bytes + other.content_bytes,
            self.images + other.images,
            self.large_images + other.large_images,
            self.pages + other.pages,
        )

    def fits(self, most_bytes: int, share: float = 1) -> bool:
        """True if one request, or a share of one, can hold it."""
        return (
            self.content_bytes <= most_bytes * share
            and self.images <= MOST_IMAGES * share
            and self.pages <= MOST_PAGES * share
            and (self.large_images == 0 or self.images <= MANY_IMAGES * share)
        )


def bytes_of(message: Message) -> int:
    """Returns the bytes of a message as JSON."""
    return len(message.content) if message.content.isascii() else len(message.content.encode())


def surely_fits(messages: Iterable[Message], most_bytes: int) -> bool:
    """True if one request can hold the messages, as far as that is known without a look into them."""
    size, media, documents = 0, 0, 0
    for message in messages:
        size += bytes_of(message)
        media += message.content.count('"base64"')
        documents += message.content.count(f'"{PDF}"')
    return size <= most_bytes and media <= MANY_IMAGES and documents <= 1


def load_of(messages: Iterable[Message]) -> Load:
    """Returns what the messages add to a request. Those of text alone are not parsed for it."""
    total = Load()
    for message in messages:
        content = message.content
        total += Load(content_bytes=bytes_of(message))
        if '"base64"' not in content:
            continue
        effort = Effort()
        for source in media_sources(json.loads(content)):
            if source.get("media_type") == PDF:
                total += Load(pages=pages_of(source["data"], effort))
            else:
                size = size_of(source["data"])
                is_large = size is None or size.longest > MOST_PIXELS_OF_MANY
                total += Load(images=1, large_images=int(is_large))
    return total
