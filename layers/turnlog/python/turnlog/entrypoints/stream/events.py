"""The last event of a stream: what its buffered answer says beside the reply itself."""

from __future__ import annotations

from typing import Any

from turnlog.domain.reply_events import ReplyEvent
from turnlog.domain.turn_stream import own_event
from turnlog.entrypoints.http.answers import Response

_SHOWN = ("text", "content", "steps", "results")
"""What the stream has shown already."""


def done_event(given: Response, **more: Any) -> ReplyEvent:
    """Returns `turnlog.done`, with the fields of the whole answer that no other event has told."""
    fields = {} if given.body is None else given.body.fields_but(*_SHOWN)
    return own_event("done", **fields, **more)
