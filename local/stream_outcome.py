"""Tokens, dollars and an error's code of a streamed answer, read as it passes by, for the line of its request."""

from __future__ import annotations

import json
from typing import Any

from local.request_line import MOST_READ_BYTES, dollars, error_code, sum_of

KIND = "text/event-stream"
_READ = (b"message_start", b"message_delta", b"error", b"turnlog.")
"""Events by the beginnings of their names. The others hold content, and are most of the bytes."""
_MOST_NAME_BYTES = 100


class StreamOutcome:
    """The facts that the events told so far. `feed` takes the bytes of the answer, however they are cut into pieces."""

    def __init__(self) -> None:
        self.cost_usd: str | None = None
        self.code: str | None = None
        self.is_replayed = False
        self._usage: dict[str, Any] = {}
        self._line = bytearray()
        self._is_read = False

    @property
    def tokens(self) -> int | None:
        """All tokens of the usage that was named last."""
        return sum_of(self._usage)

    def feed(self, piece: bytes) -> None:
        """Reads what has come now."""
        *ended, rest = piece.split(b"\n")
        for part in ended:
            self._add(part)
            self._read(bytes(self._line).rstrip(b"\r"))
            self._line.clear()
        self._add(rest)

    def _add(self, part: bytes) -> None:
        """Keeps what there is room for of a line; one that was cut says nothing."""
        room = (MOST_READ_BYTES if self._is_read else _MOST_NAME_BYTES) - len(self._line)
        self._line.extend(part[: max(room, 0)])

    def _read(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"event":
            self._is_read = value.startswith(_READ)
        elif name == b"data" and self._is_read:
            self._is_read = False
            self._take(value)

    def _take(self, data: bytes) -> None:
        try:
            event = json.loads(data)
        except (ValueError, RecursionError):
            return
        if not isinstance(event, dict):
            return
        usage = event.get("usage") or _of(event.get("message"), "usage")
        if isinstance(usage, dict):
            self._usage |= usage
        self.cost_usd = dollars(event.get("cost_usd")) or self.cost_usd
        self.is_replayed = self.is_replayed or event.get("replayed") is True
        self.code = error_code(event) or self.code


def _of(value: object, name: str) -> object:
    return value.get(name) if isinstance(value, dict) else None
