"""A small HTTP server on the loopback interface, in threads of this process, closed to web pages."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from types import TracebackType
from typing import Any

from local.guard import HOST, refusal

_POLL_S = 0.05  # how late the end is noticed


class GuardedHandler(BaseHTTPRequestHandler):
    """Answers a request with `answer`, unless a web page sent it. Logs nothing."""

    protocol_version = "HTTP/1.1"
    server_version = "turnlog-local"
    sys_version = ""
    disable_nagle_algorithm = True
    timeout = 120  # an idle connection's
    server: LoopbackServer

    def answer(self) -> None:
        """Sends the whole answer to `command` and `path`."""
        raise NotImplementedError

    def handle_any(self) -> None:
        if reason := refusal(self.headers.items(), self.server.server_port):
            self.close_connection = True
            self.send_json(403, {"title": "Forbidden", "detail": reason})
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
        """There is no access log."""


class LoopbackServer(ThreadingHTTPServer):
    """Serves between `with` and its end; then hangs up on every client. Raises OSError when the port is taken."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, port: int, handler: type[GuardedHandler]) -> None:
        self._clients: set[socket.socket] = set()
        self._serving: threading.Thread | None = None
        super().__init__((HOST, port), handler)

    @property
    def url(self) -> str:
        """Without a slash at the end."""
        return f"http://{HOST}:{self.server_port}"

    def __enter__(self) -> LoopbackServer:
        self._serving = threading.Thread(target=self.serve_forever, args=(_POLL_S,), daemon=True)
        self._serving.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.shutdown()
        self.server_close()
        for client in list(self._clients):
            with contextlib.suppress(OSError):  # it hung up first
                client.shutdown(socket.SHUT_RDWR)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # HTTPServer's own asks DNS for the name of the machine
        self.server_name, self.server_port = HOST, self.socket.getsockname()[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        self._clients.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._clients.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news, and an exception's text may hold content."""
