"""Server-sent events: read from bytes as they come, and written, by the rules of the WHATWG's HTML standard."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class EventTooLarge(ValueError):
    """One event has more bytes than the reader takes."""


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event: its name, which is `message` where the sender gave none, and its data, whose lines end in LF."""

    event: str
    data: str


class EventReader:
    """Reads the events of one stream out of its chunks, which may end anywhere, within a character too.

    Departs from the standard in three ways. The fields `id` and `retry` are passed over, since they are for those who
    connect again. Bytes that are not UTF-8 raise UnicodeDecodeError, where a browser replaces them. An event with more
    than `most_bytes`, unfinished or not, raises EventTooLarge. An event without an empty line after it never came.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._is_first_line = True
        self._is_after_cr = False
        self._unfinished: list[bytes] = []
        self._held = 0
        self._event = b""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> Iterator[ServerSentEvent]:
        """Yields the events that end in this chunk. It must be read to its end before the next chunk is given."""
        if not chunk:
            return
        # A line ends with its CR, without waiting for the LF that may come with the next chunk.
        given = chunk[1:] if self._is_after_cr and chunk[:1] == b"\n" else chunk
        self._is_after_cr = chunk[-1:] == b"\r"
        *ended, rest = _LINE_END.split(given)
        for piece in ended:
            self._hold(piece)
            line = b"".join(self._unfinished)
            self._unfinished.clear()
            if (event := self._take(line)) is not None:
                yield event
        self._hold(rest)

    def _hold(self, piece: bytes) -> None:
        if piece:
            self._unfinished.append(piece)
            self._held += len(piece)
            if self._held > self._most_bytes:
                raise EventTooLarge(self._most_bytes)

    def _take(self, line: bytes) -> ServerSentEvent | None:
        """Takes a line without its end. Returns the event that it ends, if it does."""
        if self._is_first_line:
            self._is_first_line = False
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if not line:
            return self._end()
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
        elif field == b"event":
            self._event = value
        else:
            self._held -= len(line)  # nothing of a comment is kept, so any number of them may come
        return None

    def _end(self) -> ServerSentEvent | None:
        name, lines = self._event, self._data
        self._event, self._data, self._held = b"", [], 0
        if not lines:
            return None
        return ServerSentEvent(name.decode() or "message", b"\n".join(lines).decode())


def rendered(event: str, data: str) -> bytes:
    """One event as bytes. `data` is JSON, where a line end means as much as a space: it becomes one line of data.

    Raises ValueError for a name that has a line end, which would begin another field.
    """
    if "\r" in event or "\n" in event:
        raise ValueError("the name of an event is one line")
    line = data.replace("\r", " ").replace("\n", " ")
    return f"event: {event}\ndata: {line}\n\n".encode()
