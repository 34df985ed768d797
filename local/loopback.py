"""A small HTTP server on the loopback interface, in threads of this process, closed to web pages."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from types import TracebackType
from typing import Any

from local.guard import HOST, refusal

STOP_WITHIN_S = 1.0
_POLL_S = 0.02  # how late the end is noticed


class GuardedHandler(BaseHTTPRequestHandler):
    """Answers a request with `answer`, or with `refuse` when a web page may have sent it. Logs nothing."""

    protocol_version = "HTTP/1.1"
    server_version = "turnlog-local"
    sys_version = ""
    disable_nagle_algorithm = True
    timeout = 120  # an idle connection's
    server: LoopbackServer

    def answer(self) -> None:
        """Sends the whole answer to `command` and `path`."""
        raise NotImplementedError

    def refuse(self, reason: str) -> None:
        """Sends a 403 with the reason."""
        self.send_json(403, {"title": "Forbidden", "detail": reason})

    def handle_any(self) -> None:
        """Takes every method of HTTP."""
        if reason := refusal(self.headers.items(), self.server.server_port):
            self.close_connection = True
            self.refuse(reason)
        else:
            self.answer()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = handle_any  # noqa: N815

    def send_json(self, status: int, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class's signature)
        """Logs nothing: there is no access log."""


class LoopbackServer(ThreadingHTTPServer):
    """Serves from `start` to `stop`, or in a `with` block. Port 0 takes a free one. Raises OSError when it is taken."""

    daemon_threads = True
    request_queue_size = 128  # a burst of clients must not be refused: the default of 5 is one

    def __init__(self, port: int, handler: type[GuardedHandler], name: str) -> None:
        self._lock = threading.Lock()
        self._clients: dict[threading.Thread, socket.socket] = {}
        self._name = name
        self._accepting = threading.Thread(target=self.serve_forever, args=(_POLL_S,), name=name, daemon=True)
        super().__init__((HOST, port), handler)

    @property
    def url(self) -> str:
        """The server's address without a slash at the end."""
        return f"http://{HOST}:{self.server_port}"

    def start(self) -> None:
        self._accepting.start()

    def stop(self) -> None:
        """Hangs up on every client and leaves no thread behind, within STOP_WITHIN_S."""
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

    def __enter__(self) -> LoopbackServer:
        self.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.stop()

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # HTTPServer's own asks DNS for the name of the machine
        self.server_name, self.server_port = HOST, self.socket.getsockname()[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(
            target=self.process_request_thread, args=(request, client_address), name=self._name, daemon=True
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
        """Prints the exception's type and source line, never its message, which may hold content."""
        error = sys.exception()
        if error is None or isinstance(error, ConnectionError | TimeoutError):
            return  # the client went, which is its right
        frame = error.__traceback__
        while frame and frame.tb_next:
            frame = frame.tb_next
        source_line = f"{frame.tb_frame.f_code.co_name}, line {frame.tb_lineno}" if frame else "an unknown line"
        print(f"{self._name}: {type(error).__name__} in {source_line}", file=sys.stderr)
