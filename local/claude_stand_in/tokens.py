"""Token counts by rules that never change: not Claude's numbers, but sums that a test can check.

A text has a token for each 4 bytes of UTF-8, rounded up; any other block the tokens of its JSON. Each tool, each block
and each message is rounded by itself, and a message has 4 more for its frame. A mark of the cache changes nothing.
"""

from __future__ import annotations

import json
from typing import Any

TOKENS_PER_MESSAGE = 4  # ours: stands for the role and the frame of a message
TOKENS_PER_MEDIUM = 1_600  # ours: about what Claude counts for a large image

_MEDIA = ("image", "document", "container_upload")


def tokens_of(text: str) -> int:
    """Tokens of a text: a quarter of its UTF-8 bytes, rounded up."""
    return -(-len(text.encode()) // 4)


def tokens_of_block(block: dict[str, Any]) -> int:
    """Tokens of one block: of its text, of a picture, or of its JSON."""
    if block["type"] == "text":
        return tokens_of(block["text"])
    if block["type"] in _MEDIA:
        return TOKENS_PER_MEDIUM
    return tokens_of_json(block)


def tokens_of_json(value: Any) -> int:
    """Tokens of the JSON of a tool or a block."""
    if isinstance(value, dict):
        value = {name: each for name, each in value.items() if name != "cache_control"}
    return tokens_of(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
