"""One reader of a stream: http.client for the connection, and a public library for the events."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any, ClassVar

from sseclient import SSEClient

from tests.readers import Events
from tests.stream.held_model import PATIENCE_S, HeldModel
from turnlog.domain.reply_events import ReplyEvent

if TYPE_CHECKING:
    from tests.stream.conftest import Served

ADA = {"Authorization": "Bearer ada", "Content-Type": "application/json"}

_HEARD = 12
"""The events of a turn with HeldModel before its end, which comes once it is stored."""


class Reading:
    """A request that was sent, and its answer as far as it has been read."""

    made: ClassVar[list[Reading]] = []
    """All of a test, which are hung up at its end."""

    def __init__(
        self, served: Served, path: str, body: object, headers: Mapping[str, str] | None = None, *, buffer: int = 0
    ) -> None:
        self._connection = HTTPConnection("127.0.0.1", served.port, timeout=PATIENCE_S)
        self._connection.connect()
        self._socket: socket.socket = self._connection.sock
        self.made.append(self)
        if buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self._connection.request("POST", path, json.dumps(body), {**ADA, **(headers or {})})

    def open(self) -> Reading:
        """Reads the status and the headers."""
        self.response = self._connection.getresponse()
        self.status, self.headers = self.response.status, self.response.headers
        self._events = (ReplyEvent(each.event, each.data) for each in SSEClient(self.response).events())
        return self

    def next(self) -> ReplyEvent:
        """The next event."""
        return next(self._events)

    def step(self, model: HeldModel, count: int) -> Events:
        """The first events of a turn, so many of them, each told after the one before was read."""
        model.allow()  # the first event comes with the second one, which is the model's first
        self.open()
        found = Events()
        for number in range(count):
            if number >= _HEARD:
                model.free()
            elif number > 1:
                model.allow()
            found.append(self.next())
        return found

    def rest(self) -> Events:
        """All events up to the end of the answer."""
        return Events(self._events)

    @property
    def problem(self) -> dict[str, Any]:
        """The body of an answer that is no stream."""
        assert self.headers["content-type"] == "application/problem+json; charset=utf-8"
        read: dict[str, Any] = json.loads(self.response.read())
        return read

    def hang_up(self) -> None:
        """Closes the connection, in the middle of whatever it is."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        if hasattr(self, "response"):
            self.response.close()
        self._connection.close()
        self._socket.close()


def running_work() -> Iterator[threading.Thread]:
    """The threads in which requests are worked on."""
    return (thread for thread in threading.enumerate() if thread.name == "turn")


def wait_for_work() -> None:
    """Returns once all work has ended."""
    for thread in running_work():
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
