"""A record of the last requests and of the calls that ran at once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

KEPT_REQUESTS = 200
KEPT_BYTES = 128 * 1024 * 1024  # of bodies, since some have pictures
KEPT_HEADERS = ("anthropic-version", "anthropic-beta", "content-type", "user-agent", "x-stainless-retry-count")


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it arrived, refused or not. `body` is None when it was no JSON object or its headers were refused.

    `headers` are those of KEPT_HEADERS that were sent; `authorised` is True when there were credentials.
    """

    path: str
    headers: Mapping[str, str]
    authorised: bool
    body: dict[str, Any] | None

    def to_json(self) -> dict[str, Any]:
        """The item of GET /_stand_in/requests. The body is not copied, since it can be large and deep."""
        return {"path": self.path, "headers": self.headers, "authorised": self.authorised, "body": self.body}


@dataclass(frozen=True, slots=True)
class Stats:
    """Calls of POST /v1/messages since the start, whatever became of them. A call runs until its last byte is ready."""

    calls: int = 0
    running: int = 0
    most_running: int = 0


class Record:
    """Keeps the last KEPT_REQUESTS requests, up to KEPT_BYTES, and the counts. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: deque[tuple[Request, int]] = deque()
        self._bytes = 0
        self._stats = Stats()

    @property
    def requests(self) -> list[Request]:
        """The last requests, oldest first."""
        with self._lock:
            return [request for request, _ in self._requests]

    @property
    def stats(self) -> Stats:
        with self._lock:
            return self._stats

    def keep(self, request: Request, size: int) -> None:
        """Adds the newest request, whose body has `size` bytes, and drops the oldest of too many or too large ones."""
        with self._lock:
            self._requests.append((request, size))
            self._bytes += size
            while len(self._requests) > KEPT_REQUESTS or (self._bytes > KEPT_BYTES and len(self._requests) > 1):
                self._bytes -= self._requests.popleft()[1]

    def forget_requests(self) -> None:
        """Removes the requests; the counts stay."""
        with self._lock:
            self._requests.clear()
            self._bytes = 0

    @contextmanager
    def one_call(self) -> Iterator[None]:
        """Counts a call, which is running until the block ends."""
        self._count(calls=1, running=1)
        try:
            yield
        finally:
            self._count(calls=0, running=-1)

    def _count(self, calls: int, running: int) -> None:
        with self._lock:
            now = self._stats.running + running
            self._stats = Stats(self._stats.calls + calls, now, max(self._stats.most_running, now))
