"""A stream of server-sent events as it is heard: its events, when they came, and what a whole one must be."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.smoke.outcome import Unexpected

FIRST, LAST = "turnlog.turn", "turnlog.done"


@dataclass(frozen=True, slots=True)
class Event:
    """One event, and the milliseconds from the request to it."""

    kind: str
    data: Mapping[str, Any]
    at_ms: int


@dataclass(frozen=True, slots=True)
class Heard:
    """A stream that has ended."""

    events: Sequence[Event]

    @property
    def first_ms(self) -> int:
        return self.events[0].at_ms

    @property
    def took_ms(self) -> int:
        return self.events[-1].at_ms

    @property
    def text(self) -> str:
        """The text of the reply."""
        deltas = (each.data.get("delta", {}) for each in self.events if each.kind == "content_block_delta")
        return "".join(str(each.get("text", "")) for each in deltas)

    @property
    def done(self) -> Mapping[str, Any]:
        """The last event's facts, such as the price."""
        return self.events[-1].data

    def require_whole(self) -> None:
        """Raises Unexpected unless it is one message with a text, between Turnlog's first event and its last."""
        kinds = [each.kind for each in self.events]
        if "error" in kinds:
            error = next(each.data for each in self.events if each.kind == "error").get("error", {})
            raise Unexpected(f"an error in the stream: {error.get('message', 'without a message')}")
        if kinds[:1] != [FIRST] or kinds[-1:] != [LAST]:
            ends = f"from {kinds[0]} to {kinds[-1]}" if kinds else "without an event"
            raise Unexpected(f"a stream {ends}, not from {FIRST} to {LAST}: was it cut?")
        counts = {kind: kinds.count(kind) for kind in ("message_start", "message_stop")}
        if set(counts.values()) != {1}:
            raise Unexpected(f"a stream with {counts}, not one of each")
        if not self.text:
            raise Unexpected("a stream without a text")


def events_of(lines: Iterable[tuple[str, int]]) -> list[Event]:
    """Returns the events of the lines, each of which comes with the milliseconds after which it was there.

    Raises Unexpected for an event whose data are no JSON object.
    """
    found: list[Event] = []
    kind, data = "", ""
    for line, at_ms in lines:
        name, _, value = line.partition(":")
        if name == "event":
            kind = value.strip()
        elif name == "data":
            data += value.strip()
        elif not line and data:
            found.append(Event(kind, _object(kind, data), at_ms))
            kind, data = "", ""
    return found


def _object(kind: str, data: str) -> dict[str, Any]:
    try:
        parsed = json.loads(data)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise Unexpected(f"an event {kind or 'without a name'} whose data are no JSON object")
    return parsed
