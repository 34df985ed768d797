"""Relays from the address of Docker's bridge to a server on the loopback interface, for containers alone.

A container cannot reach the loopback interface of its host. A relay listens on the bridge's own address and takes
connections from the bridge's network only, so that neither the network of this machine nor a web page gets through.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Network, ip_address
from socketserver import TCPServer
from typing import Any
from urllib.parse import urlsplit

_TIMEOUT_S = 120
_HOP_BY_HOP = {"connection", "content-length", "host", "keep-alive", "transfer-encoding", "upgrade"}


@contextmanager
def relays(address: str, network: IPv4Network, urls: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """Serves a relay for each URL while the block runs. Yields the address for containers by URL.

    Raises OSError when this machine has not the address.
    """
    servers: list[_Server] = []
    try:
        for url in urls:
            servers.append(server := _Server(address, network, url))
            threading.Thread(target=server.serve_forever, name="bridge relay", daemon=True).start()
        yield {server.url: f"http://{address}:{server.server_port}" for server in servers}
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a container keeps its connections

    def __init__(self, address: str, network: IPv4Network, url: str) -> None:
        self.network = network
        self.url = url
        self.behind = urlsplit(url).netloc
        super().__init__((address, 0), _Relay)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # HTTPServer's own asks DNS for the name of the machine
        self.server_name, self.server_port = self.socket.getsockname()

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002 (the base class's signature)
        return ip_address(client_address[0]) in self.network


class _Relay(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = _TIMEOUT_S
    server: _Server

    def forward(self) -> None:
        """Passes a request on under the loopback name, and the answer back as it comes."""
        own = f"{self.server.server_name}:{self.server.server_port}"
        # The server behind sees its own name as Host; by the other headers it refuses web pages itself.
        if self.headers.get("Host") != own:
            self.send_error(403, "This relay answers containers only.")
            return
        if "Transfer-Encoding" in self.headers:
            self.send_error(411)
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        behind = http.client.HTTPConnection(self.server.behind, timeout=_TIMEOUT_S)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
            behind.request(self.command, self.path, body, headers)
            self._pass_on(behind.getresponse())
        except (OSError, http.client.HTTPException):
            self.close_connection = True  # the container sees a broken connection, as it would without a relay
        finally:
            behind.close()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = forward  # noqa: N815

    def _pass_on(self, reply: http.client.HTTPResponse) -> None:
        self.send_response_only(reply.status)
        for name, value in reply.getheaders():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        has_body = self.command != "HEAD" and reply.status not in (204, 304)
        if has_body:
            self.send_header("Transfer-Encoding", "chunked")
        elif length := reply.getheader("Content-Length"):
            self.send_header("Content-Length", length)
        self.end_headers()
        while has_body and (piece := reply.read1(1 << 16)):
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        if has_body:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class's signature)
        """Logs nothing: there is no access log."""
