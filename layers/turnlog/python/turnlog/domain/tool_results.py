"""The result of a tool as the API takes it: a text or content blocks, clean, and within the tool's bound."""

from __future__ import annotations

import re
from typing import Any

from turnlog.domain.messages import to_json
from turnlog.domain.tool_functions import ContentBlocks, Tool, ToolFailure
from turnlog.domain.tools import ToolCall, ToolResult

FAILED = "The tool failed."
TOO_LARGE = "The tool returned more than it may."
OVERTIME = "The tool took too long. If it changes anything, whether it has done so is unknown."
NOT_BEGUN = "There was no time left to run the tool."
INPUT_INVALID = "The input does not fit the tool's schema."
NOT_AVAILABLE = "The tool is not available."
EMPTY = "The tool returned nothing."

_UNSENDABLE = re.compile("[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f-\x9f\ud800-\udfff]")
_BLOCK_TYPES = ("text", "image", "document", "search_result")


def failed(call: ToolCall, text: str = FAILED) -> ToolResult:
    """The result that tells the model in a fixed text why there is none."""
    return ToolResult(call.id, to_json(text), is_error=True)


def result_of(call: ToolCall, tool: Tool, returned: object) -> ToolResult:
    """The result of a call. Raises ValueError, TypeError or RecursionError when it is nothing that a tool may return.

    Characters that the API refuses, half surrogates and most controls, become U+FFFD. What is too large, or empty, is
    an error, or a text, that says so.
    """
    if isinstance(returned, ToolFailure):
        return failed(call, _clean(returned.text) or FAILED)
    content = _content(returned)
    # First by characters, of which there are no more than bytes: no copy is made of what is far too large.
    if len(content) > tool.result_bytes or len(content.encode()) > tool.result_bytes:
        return failed(call, TOO_LARGE)
    return ToolResult(call.id, content)


def _content(returned: object) -> str:
    if isinstance(returned, ContentBlocks):
        blocks = [_clean_value(block) for block in returned.blocks if not _is_blank(block)]
        return to_json(blocks or EMPTY)
    text = returned if isinstance(returned, str) else "" if returned is None else to_json(returned)
    return to_json(_clean(text) if text.strip() else EMPTY)


def _is_blank(block: dict[str, Any]) -> bool:
    """True for a text block without text, which the API refuses. Raises ValueError for no block of a result."""
    if block.get("type") not in _BLOCK_TYPES:
        raise ValueError("no block of a result")
    return block["type"] == "text" and not block["text"].strip()


def _clean(text: str) -> str:
    return _UNSENDABLE.sub("\ufffd", text)


def _clean_value(value: Any) -> Any:
    if isinstance(value, str):
        return _clean(value)
    if isinstance(value, dict):
        return {_clean(str(name)): _clean_value(each) for name, each in value.items()}
    return [_clean_value(each) for each in value] if isinstance(value, list | tuple) else value
