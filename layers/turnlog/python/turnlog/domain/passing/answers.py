"""The answer to a request that was passed on, read as far as its events and its usage have to be known."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from turnlog.domain.received_reply import short_name
from turnlog.domain.reply_events import ReplyEvent
from turnlog.domain.server_sent_events import EventReader, EventTooLarge
from turnlog.errors import ModelProtocolError

MOST_BYTES = 32_000_000
"""The most bytes of a whole answer, or of one event: far more than the longest reply has."""


def whole_body(chunks: Iterable[bytes]) -> bytes:
    """Returns the whole body. Raises ModelProtocolError for one of more than MOST_BYTES."""
    parts, size = [], 0
    for chunk in chunks:
        size += len(chunk)
        if size > MOST_BYTES:
            raise ModelProtocolError
        parts.append(chunk)
    return b"".join(parts)


def events_in(chunks: Iterable[bytes]) -> Iterator[ReplyEvent]:
    """Yields the events of a stream, each with the data as it came, and named as its data says if it has no name.

    Raises ModelProtocolError for one whose data is no JSON object.
    """
    reader = EventReader(MOST_BYTES)
    try:
        for chunk in chunks:
            for event in reader.feed(chunk):
                kind = short_name(json_object(event.data.encode()).get("type"))
                yield ReplyEvent(kind if kind and event.event == "message" else event.event, event.data)
    except (EventTooLarge, UnicodeDecodeError) as error:
        raise ModelProtocolError from error


def json_object(data: bytes) -> dict[str, Any]:
    """Returns the object that the JSON text is. Raises ModelProtocolError for any other text."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ModelProtocolError from error
    if not isinstance(found, dict):
        raise ModelProtocolError
    return found
