"""HTTP as the Messages API speaks it: bodies of a known length, ids of requests, errors in their envelope, events."""

from __future__ import annotations

import json
import re
import secrets
import socket
from collections.abc import Mapping
from typing import Any

from local.claude_stand_in.errors import ApiError, invalid
from local.loopback import GuardedHandler

MOST_BYTES = 32 * 1024 * 1024  # the API's limit of a request
_MOST_DISCARDED = 4 * MOST_BYTES  # what is read of a larger one, so that its sender gets to read the answer


class ApiHandler(GuardedHandler):
    """Reads the requests of one client and sends the answers, each with a request id of its own."""

    server_version = "claude-stand-in"
    request_id = ""

    def refuse(self, reason: str) -> None:
        self.request_id = new_request_id()
        self.send_refusal(ApiError("permission_error", reason))

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """Sends a refusal of the base class, such as of a malformed request line, in the API's envelope."""
        self.request_id = new_request_id()
        self.close_connection = True
        envelope = invalid("The request is no HTTP that this server knows.").envelope(self.request_id)
        self.send_answer(code, envelope)

    def read_body(self) -> bytes:
        """The whole body. Raises ApiError when its length is unknown or too large."""
        length = self.headers.get("content-length", "0")
        if "transfer-encoding" in self.headers or not re.fullmatch(r"[0-9]{1,15}", length):
            self.close_connection = True
            raise invalid("The request needs a content-length.")
        if int(length) > MOST_BYTES:
            self._discard(int(length))
            raise ApiError("request_too_large", "Request exceeds the maximum size")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise ConnectionAbortedError
        return body

    def _discard(self, length: int) -> None:
        self.close_connection = True
        left = min(length, _MOST_DISCARDED)
        while left > 0 and (piece := self.rfile.read(min(left, 1 << 20))):
            left -= len(piece)

    def client_waits(self, seconds: float) -> bool:
        """True once `seconds` have passed; False as soon as the client hangs up or the server stops."""
        self.connection.settimeout(seconds)
        try:
            self.connection.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            return True
        except OSError:
            return False
        finally:
            self.connection.settimeout(self.timeout)
        return False

    def send_refusal(self, error: ApiError) -> None:
        """Sends an error in its envelope."""
        self.send_answer(error.status, error.envelope(self.request_id), error.headers)

    def send_answer(self, status: int, value: object, headers: Mapping[str, str] | None = None) -> None:
        """Sends a whole answer of JSON."""
        body = json_bytes(value)
        self.send_head(status, "application/json", {"content-length": str(len(body)), **(headers or {})})
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_head(self, status: int, content_type: str, headers: Mapping[str, str]) -> None:
        """Sends all before the body: the headers of every answer, and these."""
        self.send_response(status)
        ours = {"content-type": content_type, "request-id": self.request_id, "x-turnlog-stand-in": "1"}
        for name, value in {**ours, **headers}.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("connection", "close")
        self.end_headers()


def new_request_id() -> str:
    return f"req_{secrets.token_hex(12)}"


def json_bytes(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def event_bytes(event: dict[str, Any]) -> bytes:
    """One event of a stream."""
    return f"event: {event['type']}\n".encode() + b"data: " + json_bytes(event) + b"\n\n"


def chunk(data: bytes) -> bytes:
    """A piece of a body whose length nobody knows at its start; an empty one ends it."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"
