"""The stand-in as a server on the loopback interface, for a test or for a whole session on one machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from local.claude_stand_in.connection import Connection
from local.claude_stand_in.faults import Fault, Faults
from local.claude_stand_in.record import Record, Request, Stats
from local.guard import HOST
from local.loopback import LoopbackServer


class StandIn:
    """A stand-in for Claude, served from threads of this process between `start` and `stop`.

    As a context manager it starts and stops by itself. Port 0 takes a free one. `clock` returns seconds since 1970: by
    it what is cached grows old and models retire.
    """

    def __init__(self, port: int = 0, clock: Callable[[], float] = time.time) -> None:
        self._port = port
        self._clock = clock
        self._record = Record()
        self._faults = Faults()
        self._server: LoopbackServer | None = None

    def start(self) -> None:
        """Serves from now on. Raises OSError when the port is taken."""
        server = LoopbackServer(
            self._port, Connection.serving(self._record, self._faults, self._clock), "claude stand-in"
        )
        self._port = server.server_port
        self._server = server
        server.start()

    def stop(self) -> None:
        """Hangs up on every client and leaves no thread behind, within a second. A second call does nothing."""
        if self._server:
            self._server.stop()
            self._server = None

    def __enter__(self) -> StandIn:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The base URL for the SDK, once started."""
        return f"http://{HOST}:{self._port}"

    @property
    def requests(self) -> list[Request]:
        """The last 200 requests to /v1/…, oldest first, refused ones included."""
        return self._record.requests

    @property
    def stats(self) -> Stats:
        """Numbers of calls: in total, running now, and the most that ran at once."""
        return self._record.stats

    def forget_requests(self) -> None:
        """Empties `requests`; the counts in `stats` stay."""
        self._record.forget_requests()

    def fail(
        self,
        kind: str,
        times: int = 1,
        *,
        retry_after_s: float | None = None,
        seconds: float | None = None,
        match: str = "",
        events: int | None = None,
        error_type: str = "overloaded_error",
    ) -> None:
        """Makes the next `times` valid calls fail whose last user message contains `match`.

        `events` is how many of a stream's events come before a fault in the middle of it: by default those up to the
        first text. Faults wait in the order of these calls. Raises ApiError when there is no such fault.
        """
        self._faults.add(Fault(kind, times, retry_after_s, seconds, match, events, error_type))

    def clear_faults(self) -> None:
        """Removes all faults that wait."""
        self._faults.clear()
