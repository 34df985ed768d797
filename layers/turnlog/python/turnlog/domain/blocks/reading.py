"""read_message(): a caller's message out of parsed JSON, checked for all that can be known before it is paid."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from operator import is_
from typing import Any

from turnlog.domain.blocks.fields import (
    Path,
    kind_of,
    list_of,
    malformed,
    refuse,
    require_bool,
    require_fields,
    text_of,
)
from turnlog.domain.blocks.sources import read_document, require_image, require_text, source_kind
from turnlog.domain.blocks.whole import Whole
from turnlog.domain.messages import Message, to_json

Block = dict[str, Any]

MOST_TITLE = 500
"""Characters of a document's title, as the API has it."""

TOOL_USE_ID_PATTERN = "^[A-Za-z0-9_-]{1,256}$"

_TOOL_USE_ID = re.compile(r"[A-Za-z0-9_-]{1,256}")
_IN_A_RESULT = ("text", "image", "document", "search_result")


def read_message(value: object, at: Path = ("message",), *, with_results: bool = True) -> Message:
    """Returns the message of a string or a list of blocks.

    The blocks stay as they were received. But a text document that came as bytes, in whatever encoding, goes on as text
    in UTF-8, since Claude takes it in no other form. Without `with_results` it has no results of tools.

    Raises InvalidRequest for what is no message, and ValueRefused for one that Claude would refuse: with the code of
    the rule and the pointer to what breaks it. The API has no bound on the number of blocks, but on images and pages.
    """
    if isinstance(value, str):
        return Message.of_text(text_of(value, at))
    given = list_of(value, at)
    if not given:
        refuse("message_empty", at)
    reading = _Reading(Whole(at, takes_results=with_results))
    blocks = reading.blocks(given, at, BLOCK_TYPES)
    for index, (before, block) in enumerate(pairwise(blocks), start=1):
        if block["type"] == "tool_result" != before["type"]:
            refuse("tool_result_misplaced", (*at, index))
    reading.whole.require_small_images()
    return Message("user", to_json(blocks))


@dataclass
class _Reading:
    """One message while it is read. Each kind of block has a method, which returns the block to keep."""

    whole: Whole

    def blocks(self, blocks: Any, at: Path, allowed: tuple[str, ...]) -> list[Block]:
        """Returns blocks of the kinds that are allowed there; the same list if none is changed."""
        given = list_of(blocks, at)
        read = [
            _READERS[kind_of(block, (*at, index), allowed, "block_type_unknown")](self, block, (*at, index))
            for index, block in enumerate(given)
        ]
        return given if all(map(is_, given, read)) else read

    def text(self, block: Block, at: Path) -> Block:
        require_fields(block, at, ("type", "text"))
        text_of(block["text"], (*at, "text"))
        return block

    def image(self, block: Block, at: Path) -> Block:
        require_fields(block, at, ("type", "source"))
        require_image(block["source"], (*at, "source"), self.whole)
        return block

    def document(self, block: Block, at: Path) -> Block:
        require_fields(block, at, ("type", "source"), ("title", "context", "citations"))
        if "title" in block and len(text_of(block["title"], (*at, "title"))) > MOST_TITLE:
            refuse("document_title_range", (*at, "title"), max_length=MOST_TITLE)
        if "context" in block:
            text_of(block["context"], (*at, "context"))
        self.citations(block, at)
        at, source = (*at, "source"), block["source"]
        kind = source_kind(source, at, ("base64", "text", "content"))
        if kind == "base64":
            read = read_document(source, at, self.whole)
            return block if read is source else {**block, "source": read}
        if kind == "text":
            require_text(source, at)
            return block
        require_fields(source, at, ("type", "content"))
        if isinstance(source["content"], str):
            text_of(source["content"], (*at, "content"))
        else:
            self.some_blocks(source["content"], (*at, "content"), ("text", "image"))
        return block

    def search_result(self, block: Block, at: Path) -> Block:
        require_fields(block, at, ("type", "source", "title", "content"), ("citations",))
        text_of(block["source"], (*at, "source"))
        text_of(block["title"], (*at, "title"))
        self.citations(block, at)
        self.some_blocks(block["content"], (*at, "content"), ("text",))
        return block

    def tool_result(self, block: Block, at: Path) -> Block:
        if not self.whole.takes_results:
            refuse("tool_result_unexpected", at)
        require_fields(block, at, ("type", "tool_use_id"), ("content", "is_error"))
        if not isinstance(block["tool_use_id"], str):
            malformed("wrong_type", (*at, "tool_use_id"))
        if not _TOOL_USE_ID.fullmatch(block["tool_use_id"]):
            refuse("tool_use_id_range", (*at, "tool_use_id"), pattern=TOOL_USE_ID_PATTERN)
        self.whole.add_result((*at, "tool_use_id"), block["tool_use_id"])
        if "is_error" in block:
            require_bool(block["is_error"], (*at, "is_error"))
        content = block.get("content", "")
        if isinstance(content, str):
            text_of(content, (*at, "content"), may_be_blank=True)
            return block
        allowed = ("text",) if block.get("is_error") else _IN_A_RESULT  # Claude takes only text of an error
        read = self.blocks(content, (*at, "content"), allowed)
        return block if read is content else {**block, "content": read}

    def some_blocks(self, blocks: Any, at: Path, allowed: tuple[str, ...]) -> None:
        if not self.blocks(blocks, at, allowed):
            refuse("message_empty", at)

    def citations(self, block: Block, at: Path) -> None:
        enabled = False
        if "citations" in block:
            at, given = (*at, "citations"), block["citations"]
            if not isinstance(given, dict):
                malformed("wrong_type", at)
            require_fields(given, at, (), ("enabled",))
            enabled = given.get("enabled", False)
            require_bool(enabled, (*at, "enabled"))
        self.whole.add_citations(at, enabled=enabled)


_READERS: dict[str, Callable[[_Reading, Block, Path], Block]] = {
    "text": _Reading.text,
    "image": _Reading.image,
    "document": _Reading.document,
    "search_result": _Reading.search_result,
    "tool_result": _Reading.tool_result,
}

BLOCK_TYPES = tuple(_READERS)
