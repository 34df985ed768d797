"""A wire that breaks on demand: a loopback proxy between boto3 and DynamoDB that knows the steps of a turn.

A late request is the reason for a proxy of our own: it is held until its sender has given up, and is then applied at a
moment that the test chooses, not after so many milliseconds.
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from local.loopback import GuardedHandler, LoopbackServer


class Step(StrEnum):
    """The step of a turn to which a request belongs."""

    READ = "read"
    LEASE = "lease"
    RENEWAL = "renewal"
    CHECKPOINT = "checkpoint"
    COMMIT = "commit"
    RELEASE = "release"


class Broken(StrEnum):
    """A fault of a request on its way, or of its answer."""

    THROTTLED = "throttled"
    FAILED = "failed: 500"
    UNAVAILABLE = "unavailable: 503 of something in between"
    CUT_BEFORE = "cut before it was forwarded"
    CUT_AFTER = "cut after it was applied"
    TORN = "its answer torn in the middle"
    LATE_BEFORE_RETRY = "applied late, just before its retry"
    LATE_AFTER_RETRY = "applied late, just after its retry"
    LATE = "applied late, when the test says so"
    CUT_LATE = "cut at once, and applied when the test says so"


_LATE = (Broken.LATE_BEFORE_RETRY, Broken.LATE_AFTER_RETRY, Broken.LATE)
_REFUSALS = {
    Broken.THROTTLED: (400, '{"__type":"com.amazonaws.dynamodb.v20120810#ThrottlingException","message":"slower"}'),
    Broken.FAILED: (500, '{"__type":"com.amazonaws.dynamodb.v20120810#InternalServerError","message":"failed"}'),
    Broken.UNAVAILABLE: (503, "<html>no backend</html>"),
}


@dataclass(frozen=True, slots=True)
class Sent:
    """A request that was sent. The names of the headers are in lower case."""

    headers: Mapping[str, str]
    body: bytes

    @property
    def step(self) -> Step | None:
        """Returns the step; None for a request that no turn sends."""
        operation = self.headers["x-amz-target"].rpartition(".")[2]
        asked = json.loads(self.body)
        if operation == "TransactWriteItems":
            ((operation, asked),) = asked["TransactItems"][0].items()
            if operation == "Put" and _rewrites(asked):
                return Step.CHECKPOINT
        if operation in ("Delete", "DeleteItem"):
            return Step.RELEASE
        if operation in ("Put", "PutItem"):
            state = asked["Item"].get("st", {}).get("S")
            values = asked.get("ExpressionAttributeValues", {})
            is_held = ":token" in values and ":now" not in values
            # A release may keep the item of a lease that is over.
            written = (Step.RENEWAL if _rewrites(asked) else Step.RELEASE) if is_held else Step.LEASE
            return {"done": Step.COMMIT, "running": written}.get(state)
        return Step.READ if operation == "Query" else None


def _rewrites(put: dict[str, Any]) -> bool:
    """True if the request writes a lease that its handler holds again, which gives it another number."""
    item, values = put["Item"], put.get("ExpressionAttributeValues", {})
    return "seq" in item and item["seq"] != values.get(":seq") and ":now" not in values


class FaultProxy(LoopbackServer):
    """Forwards all requests to `upstream`, such as http://127.0.0.1:4566, that `break_next` does not name."""

    def __init__(self, upstream: str) -> None:
        super().__init__(0, _Handler, "fault-proxy")
        self._upstream = upstream.removeprefix("http://")
        self._plan: dict[Step, deque[Broken | None]] = {step: deque() for step in Step}
        self._held: dict[Step, list[tuple[Sent, Broken]]] = {step: [] for step in Step}
        self.fired: list[tuple[Step, Broken]] = []
        self.arrived = threading.Event()
        """Set when a request is held."""

    def __enter__(self) -> FaultProxy:
        self.start()
        return self

    def break_next(self, step: Step, broken: Broken, times: int = 1, *, after: int = 0) -> None:
        """Breaks the next requests of that step, `after` so many of them, and no longer any other."""
        self.mend()
        self.fired.clear()
        self.arrived.clear()
        self._plan[step] = deque([*[None] * after, *[broken] * times])

    def mend(self) -> None:
        """Lets everything arrive from now on; held requests stay held."""
        for waiting in self._plan.values():
            waiting.clear()

    def deliver(self) -> int:
        """Applies all held requests in the order in which they were sent; returns their number."""
        held = [sent for waiting in self._held.values() for sent, _ in waiting]
        for waiting in self._held.values():
            waiting.clear()
        for sent in held:
            self.forward(sent)
        return len(held)

    def forward(self, sent: Sent) -> tuple[int, bytes]:
        upstream = http.client.HTTPConnection(self._upstream, timeout=60)
        try:
            upstream.request("POST", "/", sent.body, {**sent.headers, "host": self._upstream})
            answer = upstream.getresponse()
            return answer.status, answer.read()
        finally:
            upstream.close()

    def next_of(self, sent: Sent) -> Broken | None:
        step = sent.step
        if step is None or not self._plan[step]:
            return None
        broken = self._plan[step].popleft()
        if broken:
            self.fired.append((step, broken))
        return broken

    def hold(self, sent: Sent, broken: Broken) -> None:
        assert sent.step
        self._held[sent.step].append((sent, broken))
        self.arrived.set()

    def deliver_late(self, sent: Sent, when: Broken) -> None:
        """Applies the requests that waited for the retry `sent`."""
        waiting = self._held[sent.step] if sent.step else []
        for each in [each for each in waiting if each[1] is when]:
            waiting.remove(each)
            self.forward(each[0])


class _Handler(GuardedHandler):
    server: FaultProxy

    def answer(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        sent = Sent(headers, self.rfile.read(int(headers["content-length"])))
        broken = self.server.next_of(sent)
        if broken in _LATE:
            self.server.hold(sent, broken)
            self._await_hang_up()
        elif broken in (Broken.CUT_BEFORE, Broken.CUT_LATE):
            if broken is Broken.CUT_LATE:
                self.server.hold(sent, broken)
            self._hang_up()
        elif broken in _REFUSALS:
            self._send(*_REFUSALS[broken])
        else:
            self.server.deliver_late(sent, Broken.LATE_BEFORE_RETRY)
            status, body = self.server.forward(sent)
            self.server.deliver_late(sent, Broken.LATE_AFTER_RETRY)
            if broken is Broken.CUT_AFTER:
                self._hang_up()
            else:
                self._send(status, body.decode(), torn=broken is Broken.TORN)

    def _send(self, status: int, text: str, *, torn: bool = False) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.0")
        self.send_header("Content-Length", str(len(body) + torn))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if torn else body)
        if torn:
            self._hang_up()

    def _await_hang_up(self) -> None:
        """Says nothing until the sender has given up."""
        while self._received():
            pass
        self.close_connection = True

    def _received(self) -> Any:
        try:
            return self.connection.recv(1)
        except OSError:
            return b""

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)
