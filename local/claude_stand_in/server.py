"""The stand-in as a server on the loopback interface, for a test or for a whole session on one machine."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from http.server import ThreadingHTTPServer
from socketserver import TCPServer
from types import TracebackType
from typing import Any

from local.claude_stand_in.connection import Connection
from local.claude_stand_in.faults import Fault, Faults
from local.claude_stand_in.record import Record, Request, Stats

HOST = "127.0.0.1"
STOP_WITHIN_S = 1.0
_POLL_S = 0.02  # how late `stop` is noticed


class StandIn:
    """A stand-in for Claude, served from threads of this process between `start` and `stop`.

    As a context manager it starts and stops by itself. Port 0 takes a free one.
    """

    def __init__(self, port: int = 0) -> None:
        self._port = port
        self._record = Record()
        self._faults = Faults()
        self._server: _Server | None = None

    def start(self) -> None:
        """Serves from now on. Raises OSError when the port is taken."""
        server = _Server((HOST, self._port), Connection.serving(self._record, self._faults))
        self._port = server.server_port
        self._server = server
        server.start()

    def stop(self) -> None:
        """Hangs up on every client and leaves no thread behind, within STOP_WITHIN_S. Again does nothing."""
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
        """How many calls there were, are, and were at once."""
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
    ) -> None:
        """Lets the next `times` valid calls fail whose last user message contains `match`.

        Faults wait in the order they were asked for. Raises ApiError when there is no such fault.
        """
        self._faults.add(Fault(kind, times, retry_after_s, seconds, match))

    def clear_faults(self) -> None:
        """The next calls go well."""
        self._faults.clear()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # a burst of clients must not be refused: the default of 5 is one

    def __init__(self, address: tuple[str, int], handler: type[Connection]) -> None:
        self._lock = threading.Lock()
        self._clients: dict[threading.Thread, socket.socket] = {}
        super().__init__(address, handler)

    def start(self) -> None:
        self._accepting = threading.Thread(
            target=self.serve_forever, args=(_POLL_S,), name="claude stand-in", daemon=True
        )
        self._accepting.start()

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # HTTPServer's own asks DNS for the name of the machine
        self.server_name, self.server_port = HOST, self.socket.getsockname()[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(
            target=self.process_request_thread, args=(request, client_address), name="claude stand-in", daemon=True
        )
        with self._lock:
            self._clients[thread] = request
        thread.start()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                del self._clients[threading.current_thread()]

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 (the base class's signature)
        """Says where it went wrong, never with what: the message of an exception may hold content."""
        error = sys.exception()
        if error is None or isinstance(error, ConnectionError | TimeoutError):
            return  # the client went, which is its right
        frame = error.__traceback__
        while frame and frame.tb_next:
            frame = frame.tb_next
        place = f"{frame.tb_frame.f_code.co_name}, line {frame.tb_lineno}" if frame else "unknown place"
        print(f"claude stand-in: {type(error).__name__} in {place}", file=sys.stderr)

    def stop(self) -> None:
        deadline = time.monotonic() + STOP_WITHIN_S
        self.shutdown()
        self.server_close()
        with self._lock:
            clients = dict(self._clients)
        for client in clients.values():
            with contextlib.suppress(OSError):  # it hung up first
                client.shutdown(socket.SHUT_RDWR)
        for thread in (self._accepting, *clients):
            thread.join(max(0.0, deadline - time.monotonic()))
