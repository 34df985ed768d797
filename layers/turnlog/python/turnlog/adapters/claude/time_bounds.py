"""Bounds on the time and the size of an answer, which the HTTP client has none for.

The client's own timeouts start anew with each byte that comes.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx2

MOST_BYTES = 32_000_000
"""The most bytes of one answer: as many as the API takes of a request, so that no larger reply could be sent back."""

_BETWEEN_BYTES_S = 3.0  # of a body that has begun: the most by which a reply can outlast its time
_SILENCE_S = 300.0  # of a stream: as long as the SDKs and Claude Code wait, since not every provider sends pings
_UNTIL = "turnlog_until"  # the extension of a request with the time at which its reply must be here


class TooLong(httpx2.RemoteProtocolError):
    """The answer has more bytes than MOST_BYTES."""


def is_stream(response: httpx2.Response) -> bool:
    """True for an answer of events; what is asked for a stream may answer as a whole, with an error above all."""
    kind: str = response.headers.get("content-type", "")
    return response.status_code == 200 and kind.lower().startswith("text/event-stream")


class TotalTime:
    """Hooks of an HTTP client that stop a body at its request's time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock

    def begin(self, request: httpx2.Request) -> None:
        """Notes the time at which the reply must be here: now and the request's timeout."""
        request.extensions[_UNTIL] = self._clock() + request.extensions["timeout"]["read"]

    def bound(self, response: httpx2.Response) -> None:
        """Bounds the body that begins: a silence, the total time, and the bytes."""
        extensions = response.request.extensions
        silence_s = _SILENCE_S if is_stream(response) else _BETWEEN_BYTES_S
        extensions["timeout"]["read"] = min(extensions["timeout"]["read"], silence_s)
        response.stream = _Bounded(response.stream, extensions[_UNTIL], self._clock)


class _Bounded(httpx2.SyncByteStream):
    """The bytes of `stream`. Raises ReadTimeout when one comes after the time `until`, or TooLong."""

    def __init__(self, stream: Any, until: float, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._until = until
        self._clock = clock

    def __iter__(self) -> Iterator[bytes]:
        read = 0
        for chunk in self._stream:
            if self._clock() > self._until:
                raise httpx2.ReadTimeout("too late")
            read += len(chunk)
            if read > MOST_BYTES:
                raise TooLong("too long")
            yield chunk

    def close(self) -> None:
        self._stream.close()


class Cutter:
    """Cuts one connection when its time is over, however silent it is then."""

    def __init__(self, connection: socket.socket | None) -> None:
        self._connection = connection
        self._timer: threading.Timer | None = None
        self.has_cut = False

    def within(self, seconds: float) -> None:
        """Gives the connection this much time, whatever it was given before."""
        self.stop()
        self._timer = threading.Timer(max(0.0, seconds), self._cut)
        self._timer.daemon = True
        self._timer.start()

    def stop(self) -> None:
        """Cuts no more. No thread is left."""
        if self._timer:
            self._timer.cancel()
            self._timer.join()

    def _cut(self) -> None:
        self.has_cut = True
        if self._connection:
            with suppress(OSError):  # it is closed already
                # Of the socket below TLS, so that nothing is written: whoever reads finds the end.
                socket.socket.shutdown(self._connection, socket.SHUT_RDWR)


@contextmanager
def cut_within(response: httpx2.Response, seconds: float) -> Iterator[Cutter]:
    """Cuts the connection of the answer after this time. In a stream a silence may be longer than what time is left."""
    network: Any = response.extensions.get("network_stream")
    cutter = Cutter(network.get_extra_info("socket") if network else None)
    cutter.within(seconds)
    try:
        yield cutter
    finally:
        cutter.stop()
