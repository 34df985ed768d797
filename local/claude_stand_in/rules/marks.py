"""The marks of the prompt cache: where `cache_control` may stand, how often, and in which order of lifetimes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from local.claude_stand_in.errors import invalid

MOST_MARKS = 4


def check_marks(body: dict[str, Any]) -> None:
    """Raises ApiError for a mark that is none, for a fifth one, and for an hour after five minutes."""
    marks = list(_marks(body))
    for each in marks:
        known = isinstance(each, dict) and each.keys() <= {"type", "ttl"} and each.get("type") == "ephemeral"
        if not known or each.get("ttl", "5m") not in ("5m", "1h"):
            raise invalid("cache_control: Input should be of type 'ephemeral' with a ttl of '5m' or '1h'")
    if len(marks) > MOST_MARKS:
        raise invalid(f"A maximum of {MOST_MARKS} blocks with cache_control may be provided. Found {len(marks)}.")
    lifetimes = [each.get("ttl", "5m") for each in marks]
    if lifetimes != sorted(lifetimes):  # "1h" sorts before "5m"
        raise invalid(
            "cache_control.ttl: a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block."
            " Note that blocks are processed in the following order: `tools`, `system`, `messages`."
        )


def _marks(body: dict[str, Any]) -> Iterator[Any]:
    """Every cache_control that is not null: on tools, system, messages and what is in them, and at top level last."""
    contents = [body.get("tools"), body.get("system"), *(message["content"] for message in body["messages"])]
    for content in contents:
        yield from _marks_in(content)
    if body.get("cache_control") is not None:
        yield body["cache_control"]


def _marks_in(content: Any) -> Iterator[Any]:
    for block in content if isinstance(content, list) else []:
        if block.get("type") == "tool_result":
            yield from _marks_in(block.get("content"))
        if block.get("cache_control") is not None:
            yield block["cache_control"]
