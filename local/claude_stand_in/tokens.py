"""Token counts by rules that never change: not Claude's numbers, but sums that a test can check.

- A text has a token for each 4 bytes of UTF-8, rounded up.
- An image has a token for each 750 pixels, rounded up, once it is scaled down to 1,568 pixels on its longer side, and
  at most 1,600: the rule of the provider's page Vision.
- A page of a PDF has 1,500 for its text and 1,600 for its image: the page PDF support says 1,500 to 3,000 for the text.
- Another document has the tokens of its texts; the result of a tool those of its JSON, and of the blocks in it.
- Any other block, and each tool, has the tokens of its JSON, and each message 4 more for its frame.

Each tool and each block is rounded by itself. A mark of the cache changes nothing.
"""

from __future__ import annotations

import json
from typing import Any

from local.claude_stand_in.images import image_in
from local.claude_stand_in.pdf import pages_of, pdf_in

TOKENS_PER_MESSAGE = 4  # ours: stands for the role and the frame of a message
TOKENS_PER_PAGE = 1_500 + 1_600
MOST_TOKENS_OF_IMAGE = 1_600

_LONGER_SIDE = 1_568
_PIXELS_PER_TOKEN = 750


def tokens_of(text: str) -> int:
    """Tokens of a text: a quarter of its UTF-8 bytes, rounded up."""
    return -(-len(text.encode()) // 4)


def tokens_of_block(block: dict[str, Any]) -> int:
    """Tokens of one valid block."""
    kind = block["type"]
    if kind == "text":
        return tokens_of(block["text"])
    if kind == "image":
        return _tokens_of_image(block["source"]["data"])
    if kind == "document":
        named = [block[name] for name in ("title", "context") if block.get(name)]
        return sum(map(tokens_of, named)) + _tokens_of_source(block["source"])
    if kind == "tool_result" and isinstance(block.get("content"), list):
        frame = {name: value for name, value in block.items() if name != "content"}
        return tokens_of_json(frame) + sum(map(tokens_of_block, block["content"]))
    return tokens_of_json(block)


def tokens_of_json(value: Any) -> int:
    """Tokens of the JSON of a tool or a block."""
    if isinstance(value, dict):
        value = {name: each for name, each in value.items() if name != "cache_control"}
    return tokens_of(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def _tokens_of_image(data: str) -> int:
    image = image_in(data)
    if not image:
        return MOST_TOKENS_OF_IMAGE
    scale = min(1.0, _LONGER_SIDE / max(image.width, image.height))
    pixels = max(1, int(image.width * scale)) * max(1, int(image.height * scale))
    return min(MOST_TOKENS_OF_IMAGE, -(-pixels // _PIXELS_PER_TOKEN))


def _tokens_of_source(source: dict[str, Any]) -> int:
    if source["type"] == "base64":
        return TOKENS_PER_PAGE * pages_of(pdf_in(source["data"]) or b"")
    if source["type"] == "text":
        return tokens_of(source["data"])
    content = source["content"]
    return tokens_of(content) if isinstance(content, str) else sum(map(tokens_of_block, content))
