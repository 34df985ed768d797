"""Events: what a reader got of a stream, put together."""

from __future__ import annotations

import json
from typing import Any

from tests.fakes import put_together
from turnlog.domain.messages import Reply
from turnlog.domain.reply_events import ReplyEvent


class Events(list[ReplyEvent]):
    """The events that somebody has read, in order."""

    @property
    def types(self) -> list[str]:
        return [event.type for event in self]

    @property
    def message(self) -> Reply:
        """The message that the API's own events make up."""
        return put_together(event for event in self if not event.type.startswith("turnlog."))

    def own(self, kind: str) -> list[dict[str, Any]]:
        """The fields of Turnlog's own events of this kind."""
        return [json.loads(event.data) for event in self if event.type == f"turnlog.{kind}"]
