"""ShownCall: one call's events, passed on as a part of a longer message."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from turnlog.domain.messages import Reply, to_json
from turnlog.domain.reply_events import ReplyEvent, events_of


class ShownCall:
    """Passes on the blocks of one call, whose indexes go on from `first_index`; calls of the tools `hidden` stay out.

    `is_begun` is true once a start of the call's message was heard, and `is_whole` once its end was.
    """

    def __init__(self, emit: Callable[[ReplyEvent], None], first_index: int, hidden: frozenset[str]) -> None:
        self._emit = emit
        self._hidden = hidden
        self._indexes: dict[int, int | None] = {}
        self._open: int | None = None
        self._open_characters = 0
        self.next_index = first_index
        self.is_begun = False
        self.is_whole = False

    def pass_on(self, event: ReplyEvent) -> None:
        """Shows the event, unless it is of a hidden block. The message's own start and end are another's to show."""
        if event.type == "ping":
            self._emit(event)
            return
        fields = json.loads(event.data)
        given = fields.get("index")
        if not isinstance(given, int):
            self._emit(event)
            return
        if event.type == "content_block_start":
            self._begin(given, fields["content_block"])
        elif event.type == "content_block_delta":
            delta = fields["delta"]
            self._open_characters += len(delta["text"]) if delta["type"] == "text_delta" else 0
        elif event.type == "content_block_stop":
            self._open = None
        if (index := self._indexes.get(given)) is not None:
            self._emit(event if index == given else ReplyEvent(event.type, to_json(fields | {"index": index})))

    def _begin(self, given: int, block: dict[str, Any]) -> None:
        is_hidden = block.get("type") == "tool_use" and block.get("name") in self._hidden
        self._indexes[given] = None if is_hidden else self.next_index
        self.next_index += not is_hidden
        self._open = given
        self._open_characters = len(block.get("text", "")) if block.get("type") == "text" else 0

    def complete(self, reply: Reply) -> list[int]:
        """Shows what the reply has and nobody has heard, if its listener has stopped it.

        Returns the indexes of blocks that were shown and are not kept, since they were not whole: a call of a tool, or
        thinking.
        """
        kept, begun = reply.message.blocks, len(self._indexes)
        if self._open is not None:
            self._close(self._open, kept)
        for event in () if self.is_whole else events_of(reply):
            index = json.loads(event.data).get("index")
            if index is not None and index >= begun:
                self.pass_on(event)
        self.is_whole = True
        return [shown for given, shown in self._indexes.items() if given >= len(kept) and shown is not None]

    def _close(self, index: int, kept: list[dict[str, Any]]) -> None:
        block = kept[index] if index < len(kept) else None
        if block and block["type"] == "text" and (rest := block["text"][self._open_characters :]):
            delta = {"type": "text_delta", "text": rest}
            self.pass_on(_event("content_block_delta", index=index, delta=delta))
        self.pass_on(_event("content_block_stop", index=index))


def _event(event_type: str, **fields: Any) -> ReplyEvent:
    return ReplyEvent(event_type, to_json({"type": event_type} | fields))
