"""The one way to DynamoDB Local: a relay on the loopback interface that records every call, of whichever client.

At the wire nothing can be missed: hooks inside botocore would not see aiobotocore, a client of another language, or a
request that a library retries by itself. Clients are told apart by their access keys.

DynamoDB Local of 2020 refuses empty texts and bytes in attributes that are no keys, which AWS has accepted since May
2020; so the relay hands it a mark in their place and takes it out of every answer. What is recorded is what the client
sent and got.
"""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from local.guard import HOST
from local.loopback import GuardedHandler, LoopbackServer
from tests.bench.peers.gate import Gate
from tests.bench.peers.ledger import WRITES, Json, Ledger

_MARKS = {b"S": b'"~empty~"', b"B": b'"fmVtcHR5fg=="'}
"""What stands for an empty text and for empty bytes."""
_TIMEOUT_S = 60


class Wire:
    """The relay's address, what went over it, and a gate at which the writes of chosen clients can be held."""

    def __init__(self, dynamodb_port: int) -> None:
        self._port = dynamodb_port
        self.ledger = Ledger(self._ask)
        self.gate = Gate()
        self.url = ""

    @contextmanager
    def relayed(self) -> Iterator[Wire]:
        """Serves until the end."""
        with LoopbackServer(0, type("Relay", (_Relay,), {"wire": self}), "recording relay") as server:
            self.url = server.url
            yield self

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(HOST, self._port, timeout=_TIMEOUT_S)

    def _ask(self, operation: str, request: Json) -> Json:
        target = {"X-Amz-Target": f"DynamoDB_20120810.{operation}", "Content-Type": "application/x-amz-json-1.0"}
        signed = {"Authorization": "AWS4-HMAC-SHA256 Credential=recorder/20260101/us-east-1/dynamodb/aws4_request"}
        asking = self.connection()
        try:
            asking.request("POST", "/", _marked(json.dumps(request).encode()), target | signed)
            answered = asking.getresponse()
            answer: dict[str, Any] = json.loads(_unmarked(answered.read()))
        finally:
            asking.close()
        if answered.status != 200:
            raise RuntimeError(f"{operation}: {answer}")
        return answer


class _Relay(GuardedHandler):
    wire: Wire
    _upstream: http.client.HTTPConnection | None = None

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        operation = self.headers.get("X-Amz-Target", "").partition(".")[2]
        client = _access_key(self.headers.get("Authorization", ""))
        if operation in WRITES:
            self.wire.gate.pass_through(client)
        status, kind, answer = self._forward(body)
        parsed = json.loads(answer or b"{}")
        refused = "" if status == 200 else str(parsed.get("__type", status)).rpartition("#")[2]
        self.wire.ledger.record(client, operation, json.loads(body), parsed, refused)
        head = [f"HTTP/1.1 {status} ", f"Content-Type: {kind}", f"Content-Length: {len(answer)}", "", ""]
        self.wfile.write("\r\n".join(head).encode() + answer)

    def _forward(self, body: bytes) -> tuple[int, str, bytes]:
        if self._upstream is None:
            self._upstream = self.wire.connection()
        sent = {name: self.headers[name] for name in ("X-Amz-Target", "Content-Type", "Authorization")}
        self._upstream.request("POST", "/", _marked(body), sent)
        answered = self._upstream.getresponse()
        # The checksum of the body is not passed on, since taking the mark out changes it.
        return answered.status, answered.getheader("Content-Type", ""), _unmarked(answered.read())

    def finish(self) -> None:
        if self._upstream is not None:
            self._upstream.close()
        super().finish()


def _access_key(authorization: str) -> str:
    found = re.search(r"Credential=([^/]+)/", authorization)
    return found[1] if found else ""


def _marked(body: bytes) -> bytes:
    return re.sub(rb'"([SB])"(\s*:\s*)""', lambda found: b'"' + found[1] + b'"' + found[2] + _MARKS[found[1]], body)


def _unmarked(body: bytes) -> bytes:
    for mark in _MARKS.values():
        body = body.replace(mark, b'""')
    return body
