"""The images and documents of a prompt, wherever they stand, and how to speak of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from local.claude_stand_in.images import image_in
from local.claude_stand_in.pdf import pages_of, pdf_in
from local.claude_stand_in.turns import Block

_MEDIA = ("image", "document", "search_result")


def media_in(blocks: list[Block], path: str = "") -> Iterator[tuple[str, Block]]:
    """Images, documents and search results with their paths, those in results of tools and in documents too."""
    for number, block in enumerate(blocks):
        where = f"{path}.{number}"
        if not isinstance(block, dict):
            continue  # the rules of blocks refuse it
        if block.get("type") in _MEDIA:
            yield where, block
        if block.get("type") == "tool_result" and isinstance(block.get("content"), list):
            yield from media_in(block["content"], f"{where}.tool_result.content")
        if block.get("type") == "document" and isinstance(_source_of(block).get("content"), list):
            yield from media_in(_source_of(block)["content"], f"{where}.document.source.content")


def all_media(messages: list[dict[str, Any]]) -> list[tuple[str, Block]]:
    """All of them in a list of messages."""
    return [
        found
        for number, message in enumerate(messages)
        if isinstance(message["content"], list)
        for found in media_in(message["content"], f"messages.{number}.content")
    ]


def described(blocks: list[Block]) -> str:
    """Says which images and documents are among blocks; "" when there are none."""
    images, documents = [], []
    for _, block in media_in(blocks):
        if block["type"] == "image":
            images.append(str(image_in(block["source"]["data"])))
        elif block["type"] == "document":
            documents.append(_document(block))
    counted = [_counted("image", images)] if images else []
    counted += [_counted("document", documents)] if documents else []
    return " and ".join(counted)


def _source_of(block: Block) -> dict[str, Any]:
    source = block.get("source")
    return source if isinstance(source, dict) else {}


def _document(block: Block) -> str:
    source = block["source"]
    if source["type"] == "base64":
        pages = pages_of(pdf_in(source["data"]) or b"")
        return f"PDF, {pages} page{'' if pages == 1 else 's'}"
    if source["type"] == "text":
        return f"text, {len(source['data'])} characters"
    return f"content, {1 if isinstance(source['content'], str) else len(source['content'])} blocks"


def _counted(thing: str, each: list[str]) -> str:
    return f"{len(each)} {thing}{'' if len(each) == 1 else 's'} ({'; '.join(each)})"
