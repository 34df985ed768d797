"""The parts of a document that is longer than a model's context: cut between paragraphs or lines, each one message."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from turnlog.domain.blocks.tokens import tokens_of
from turnlog.domain.messages import Message, ModelSettings, to_json
from turnlog.domain.models import model_of
from turnlog.errors import ContextTooLong

MOST_PARTS = 8
"""The most parts of a document, which bounds what one request can cost: eight contexts of 200,000 tokens are 3 MB of
prose, and more than any request or upload may have.
"""

BYTES_PER_TOKEN = (2, 1)
"""The bytes that a token is taken to have, first and at last. Prose has about 4 and dense data 2; fewer than 1 it never
has, so what does not fit by the first does by the second.
"""

_LEAST_BYTES = 1_000
"""Bytes of a part; with room for fewer a model would see scraps."""

_FRAME_TOKENS = 1_000
"""Tokens for what surrounds the texts: roles, tags, and the word about the part."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a document as a message. `lines_before` are those of the document before the part's first one.

    `lines` is the number of lines in it; None where a message has several texts, which have lines of their own.
    """

    message: Message
    lines_before: int
    lines: int | None


def parts_of(message: Message, settings: ModelSettings, bytes_per_token: int) -> list[Part]:
    """Returns the message in parts that fit into the model's context; in one if it does, or if that is not known.

    The longest text is cut, that of a block or of a document; all else of the message is in each part. Raises
    ContextTooLong when that does not help, or there would be more than MOST_PARTS.
    """
    blocks = message.blocks
    texts = {index: text for index, block in enumerate(blocks) if (text := _text_of(block)) is not None}
    if not texts:
        return [Part(message, 0, None)]
    index, text = max(texts.items(), key=lambda each: len(each[1]))
    lines = text.count("\n") + 1 if len(texts) == 1 else None
    model = model_of(settings.model)
    context = model.context_tokens if model else None
    if context is None:
        return [Part(message, 0, lines)]
    around = settings.max_tokens + _FRAME_TOKENS
    around += len((settings.system + settings.output_schema).encode()) + tokens_of(
        _with(blocks, index, ""), settings.model
    )
    most = (context - around) * bytes_per_token
    size = len(text.encode())
    if size <= most:
        return [Part(message, 0, lines)]
    if most < _LEAST_BYTES or size > most * MOST_PARTS:
        raise ContextTooLong
    found, before = [], 0
    for piece in _cut(text, most):
        breaks = piece.count("\n")
        if piece.strip():  # a blank text is none that a model takes
            found.append(Part(_with(blocks, index, piece), before, breaks + 1 if lines else None))
        before += breaks
    if len(found) > MOST_PARTS:
        raise ContextTooLong
    return found


def _text_of(block: dict[str, Any]) -> str | None:
    if block["type"] == "document" and block["source"]["type"] == "text":
        return str(block["source"]["data"])
    return str(block["text"]) if block["type"] == "text" else None


def _with(blocks: list[dict[str, Any]], index: int, text: str) -> Message:
    """The message with another text in one of its blocks."""
    block = blocks[index]
    changed = (
        {**block, "text": text} if block["type"] == "text" else {**block, "source": {**block["source"], "data": text}}
    )
    return Message("user", to_json([*blocks[:index], changed, *blocks[index + 1 :]]))


def _cut(text: str, most: int) -> Iterator[str]:
    """Yields pieces of at most so many bytes, which are the text again if they are put together.

    A piece ends with a paragraph, else with a line, else with a word, but in its second half, or where it must.
    """
    while text:
        piece = text[:most].encode()[:most].decode(errors="ignore")
        if len(piece) < len(text):
            ends = (piece.rfind(mark, len(piece) // 2) + len(mark) for mark in ("\n\n", "\n", " "))
            piece = piece[: next((end for end in ends if end > len(piece) // 2), len(piece))]
        yield piece
        text = text[len(piece) :]
