"""Citations: Claude takes them for all documents and search results of a request or for none, earlier ones included."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from turnlog.domain.messages import Message
from turnlog.errors import ValueRefused

_CITABLE = ("document", "search_result")


def require_like_citations(sent: Iterable[Message], asked: Message) -> None:
    """Raises ValueRefused unless what is asked has citations as the messages sent before it, if both have something."""
    own, before = set(_cited(asked)), {each for message in sent for each in _cited(message)}
    if own and len(own | before) > 1:
        raise ValueRefused("citations_mixed", "/message")


def _cited(message: Message) -> Iterator[bool]:
    """Yields for each document and search result of a caller's message whether its citations are enabled."""
    if message.role != "user" or not any(f'"{kind}"' in message.content for kind in _CITABLE):
        return
    for block in message.blocks:
        content = block.get("content") if block["type"] == "tool_result" else [block]
        for each in content if isinstance(content, list) else []:
            if each["type"] in _CITABLE:
                yield _is_cited(each)


def _is_cited(block: dict[str, Any]) -> bool:
    return bool(block.get("citations", {}).get("enabled"))
