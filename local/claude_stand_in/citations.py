"""Citations: what a reply cites of the documents and search results whose citations are enabled."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from local.claude_stand_in.media import all_media
from local.claude_stand_in.turns import Block, text_of

_MOST = 3  # blocks with a citation in one reply
_FIRST_SENTENCE = re.compile(r"\S.{0,300}?(?:[.!?](?=\s)|$|\n)", re.DOTALL)


def cited_blocks(messages: list[dict[str, Any]]) -> list[Block]:
    """A block of text for each of the first documents and search results that may be cited."""
    return [
        {"type": "text", "text": f" “{citation['cited_text'].strip()}”", "citations": [citation]}
        for citation in list(_citations(messages))[:_MOST]
    ]


def _citations(messages: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    documents = results = -1
    for _, block in all_media(messages):
        documents += block["type"] == "document"
        results += block["type"] == "search_result"
        if not (block.get("citations") or {}).get("enabled"):
            continue
        if block["type"] == "document":
            yield _of_document(block, documents)
        elif block["type"] == "search_result":
            yield {
                "type": "search_result_location",
                "cited_text": block["content"][0]["text"],
                "search_result_index": results,
                "source": block["source"],
                "title": block["title"],
                "start_block_index": 0,
                "end_block_index": 1,
            }


def _of_document(block: Block, index: int) -> dict[str, Any]:
    known = {"document_index": index, "document_title": block.get("title"), "file_id": None}
    source = block["source"]
    if source["type"] == "base64":
        pages = {"start_page_number": 1, "end_page_number": 2}
        return {"type": "page_location", "cited_text": "The first page.", **known, **pages}
    if source["type"] == "content":
        content = source["content"]
        first = text_of(content if isinstance(content, str) else content[:1])
        return {
            "type": "content_block_location",
            "cited_text": first,
            **known,
            "start_block_index": 0,
            "end_block_index": 1,
        }
    found = _FIRST_SENTENCE.search(source["data"])
    start, end = found.span() if found else (0, len(source["data"]))
    return {
        "type": "char_location",
        "cited_text": source["data"][start:end],
        **known,
        "start_char_index": start,
        "end_char_index": end,
    }
