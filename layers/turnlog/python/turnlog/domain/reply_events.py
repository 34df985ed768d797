"""Events of a reply as it grows, in the form of the Messages API's stream."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from turnlog.domain.messages import Reply, to_json


@dataclass(frozen=True, slots=True)
class ReplyEvent:
    """One event of a reply. `data` is its JSON text, as after `data:` in the API's stream; `type` is its type."""

    type: str
    data: str


OnEvent = Callable[[ReplyEvent], bool]
"""A listener to the events of one reply, in their order. Returns False to stop the reply. It must not raise."""


def events_of(reply: Reply) -> Iterator[ReplyEvent]:
    """The events of a reply that came whole; put together as the API's events are, they make up the same reply.

    A text comes in one delta. Every other block comes whole in its start event, which is right for any type. Fields of
    the API that a Reply does not keep are left out, and so are those that are empty.
    """
    usage = reply.usage.fields
    message = {"type": "message", "role": "assistant", "model": reply.model, "content": [], "usage": usage}
    if reply.id:
        message["id"] = reply.id
    yield _event("message_start", message=message | {"stop_reason": None})
    for index, block in enumerate(reply.message.blocks):
        if block["type"] == "text":
            yield _event("content_block_start", index=index, content_block=block | {"text": ""})
            yield _event("content_block_delta", index=index, delta={"type": "text_delta", "text": block["text"]})
        else:
            yield _event("content_block_start", index=index, content_block=block)
        yield _event("content_block_stop", index=index)
    delta: dict[str, Any] = {"stop_reason": reply.stop_reason}
    if reply.stop_sequence:
        delta["stop_sequence"] = reply.stop_sequence
    if reply.stop_details:
        delta["stop_details"] = json.loads(reply.stop_details)
    yield _event("message_delta", delta=delta, usage=usage)
    yield _event("message_stop")


def _event(event_type: str, **fields: Any) -> ReplyEvent:
    return ReplyEvent(event_type, to_json({"type": event_type} | fields))
