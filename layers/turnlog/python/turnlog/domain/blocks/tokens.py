"""The most tokens that a message can have, for what is reserved before a call: media by pixels and pages, not by bytes.

It is an upper bound by the provider's own rules. What a call really used is settled after it.
"""

from __future__ import annotations

import json

from turnlog.domain.blocks.images import ImageSize
from turnlog.domain.blocks.media import PDF, bytes_of, media_sources, pages_of, size_of
from turnlog.domain.blocks.pdf import Effort
from turnlog.domain.messages import Message

_PATCH = 28
"""Pixels of a side of the squares that Claude sees an image in, a token each (Claude's page on vision)."""

_PIXELS_PER_TOKEN = 750
"""The older rule of the same page, which gives a few tokens more for most images."""

MOST_IMAGE_TOKENS = 4_784
"""The tokens of the largest image: a larger one is scaled down before (the same page, from Opus 4.7 on)."""

_MOST_IMAGE_TOKENS_BEFORE = 1_600  # for the models before that, which see at most 1,568 pixels a side
_MODELS_BEFORE = ("haiku-4", "sonnet-4", "opus-4-0", "opus-4-1", "opus-4-5", "opus-4-6", "claude-3")

PAGE_TEXT_TOKENS = 3_000
"""The most tokens of a page's text; each page is shown as an image too (Claude's page on PDFs)."""


def tokens_of(message: Message, model: str) -> int:
    """Returns the most tokens of the message: a token for each byte of all that is no image and no PDF."""
    content = message.content
    tokens = bytes_of(message)
    if '"base64"' not in content:
        return tokens
    effort = Effort()
    for source in media_sources(json.loads(content)):
        data = source["data"]
        tokens -= len(data)
        if source.get("media_type") == PDF:
            tokens += pages_of(data, effort) * (PAGE_TEXT_TOKENS + _most_image_tokens(model))
        else:
            tokens += image_tokens(size_of(data), model)
    return tokens


def image_tokens(size: ImageSize | None, model: str) -> int:
    """Returns the most tokens of an image, the larger of two documented rules; of an unknown size those of the largest.

    A model that is not known is taken to see as much as the newest.
    """
    most = _most_image_tokens(model)
    if size is None:
        return most
    patches = -(-size.width // _PATCH) * -(-size.height // _PATCH)
    return min(most, max(patches, -(-size.width * size.height // _PIXELS_PER_TOKEN)))


def _most_image_tokens(model: str) -> int:
    return _MOST_IMAGE_TOKENS_BEFORE if any(name in model for name in _MODELS_BEFORE) else MOST_IMAGE_TOKENS
