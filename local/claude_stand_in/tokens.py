"""Token counts by rules that never change: not Claude's numbers, but sums that a test can check."""

from __future__ import annotations

import json
from typing import Any

TOKENS_PER_MESSAGE = 4  # ours: stands for the role and the frame of a message
TOKENS_PER_MEDIUM = 1_600  # ours: about what Claude counts for a large image

_MEDIA = ("image", "document", "container_upload")


def tokens_of(text: str) -> int:
    """Tokens of a text: a quarter of its UTF-8 bytes, rounded up."""
    return -(-len(text.encode()) // 4)


def tokens_of_content(content: str | list[dict[str, Any]]) -> int:
    """Tokens of a string or of its blocks one by one. Cache breakpoints change nothing."""
    if isinstance(content, str):
        return tokens_of(content)
    return sum(tokens_of_block(block) for block in content)


def input_tokens(body: dict[str, Any]) -> int:
    """Tokens of tools, system and messages of a valid request."""
    total = sum(_tokens_of_json(tool) for tool in body.get("tools", []))
    total += tokens_of_content(body.get("system", ""))
    return total + sum(TOKENS_PER_MESSAGE + tokens_of_content(each["content"]) for each in body["messages"])


def tokens_of_block(block: dict[str, Any]) -> int:
    """Tokens of one block: of its text, of a picture, or of its JSON."""
    if block["type"] == "text":
        return tokens_of(block["text"])
    if block["type"] in _MEDIA:
        return TOKENS_PER_MEDIUM
    return _tokens_of_json(block)


def _tokens_of_json(value: Any) -> int:
    if isinstance(value, dict):
        value = {name: each for name, each in value.items() if name != "cache_control"}
    return tokens_of(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
