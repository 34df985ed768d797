"""One client's connection: HTTP in, the Messages API out, faults and the control paths included."""

from __future__ import annotations

import json
import re
import secrets
import socket
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from local.claude_stand_in.cache import PromptCache
from local.claude_stand_in.diagnosis import Diagnoses
from local.claude_stand_in.errors import ApiError, invalid
from local.claude_stand_in.faults import Fault, Faults
from local.claude_stand_in.prompt import digest, input_tokens
from local.claude_stand_in.record import KEPT_HEADERS, Record, Request
from local.claude_stand_in.replies import Reply, reply_to
from local.claude_stand_in.rules import check_count_request, check_message_request, parsed
from local.claude_stand_in.turns import last_user_text
from local.loopback import GuardedHandler

MOST_BYTES = 32 * 1024 * 1024  # the API's limit of a request
_MOST_DISCARDED = 4 * MOST_BYTES  # what is read of a larger one, so that its sender gets to read the answer
_EVENTS_BEFORE_CUT = 4
_GARBAGE = b"<html><body>This is not JSON.</body></html>"


class Connection(GuardedHandler):
    """Serves the requests of one client, one after the other."""

    server_version = "claude-stand-in"
    record: Record
    faults: Faults
    clock: Callable[[], float]
    cache: PromptCache
    diagnoses: Diagnoses
    request_id = ""

    @classmethod
    def serving(cls, record: Record, faults: Faults, clock: Callable[[], float]) -> type[Connection]:
        """The handler class for one server. `clock` returns seconds since 1970."""
        served = {"record": record, "faults": faults, "clock": staticmethod(clock)}
        return type("Connection", (cls,), served | {"cache": PromptCache(), "diagnoses": Diagnoses()})

    def refuse(self, reason: str) -> None:
        self.request_id = _new_request_id()
        self._send_refusal(ApiError("permission_error", reason))

    def answer(self) -> None:
        self.request_id = _new_request_id()
        try:
            self._route(self._read_body())
        except ApiError as error:
            self._send_refusal(error)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """Sends a refusal of the base class, such as of a malformed request line, in the API's envelope."""
        self.request_id = _new_request_id()
        self.close_connection = True
        envelope = invalid("The request is no HTTP that this server knows.").envelope(self.request_id)
        self._send_json(code, envelope)

    def _read_body(self) -> bytes:
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

    def _route(self, body: bytes) -> None:
        path = urlsplit(self.path).path
        match (self.command, path):
            case ("POST", "/v1/messages"):
                self._answer_messages(body)
            case ("POST", "/v1/messages/count_tokens"):
                self._send_json(200, {"input_tokens": input_tokens(self._counted(body))})
            case ("GET", "/_stand_in/requests"):
                self._send_json(200, [each.to_json() for each in self.record.requests])
            case ("DELETE", "/_stand_in/requests"):
                self.record.forget_requests()
                self._send_json(200, [])
            case ("POST", "/_stand_in/faults"):
                self._send_json(200, {"added": self._add_faults(body)})
            case ("DELETE", "/_stand_in/faults"):
                self.faults.clear()
                self._send_json(200, [])
            case ("GET", "/_stand_in/stats"):
                self._send_json(200, asdict(self.record.stats))
            case _:
                raise ApiError("not_found_error", "Not found")

    def _add_faults(self, body: bytes) -> int:
        """Adds all faults of the list or none, and returns their number."""
        try:
            listed = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise invalid("The request body is not valid JSON.") from error
        if not isinstance(listed, list):
            raise invalid("faults: should be a list")
        faults = [Fault.of_json(each) for each in listed]
        self.faults.add(*faults)
        return len(faults)

    def _counted(self, raw: bytes) -> dict[str, Any]:
        body = self._received(raw)
        check_count_request(body, self._now())
        return body

    def _received(self, raw: bytes) -> dict[str, Any]:
        """The request's body. Raises ApiError when its headers are wrong; the request is recorded either way."""
        headers = {name: value for name in KEPT_HEADERS if (value := self.headers.get(name)) is not None}
        body = None
        try:
            self._check_headers()
            body = parsed(raw)
        finally:
            self.record.keep(Request(urlsplit(self.path).path, headers, self._is_authorised(), body))
        return body

    def _is_authorised(self) -> bool:
        bearer = self.headers.get("authorization", "").lower().startswith("bearer ")
        return bearer or bool(self.headers.get("x-api-key"))

    def _check_headers(self) -> None:
        if not self._is_authorised():
            raise ApiError("authentication_error", "x-api-key header is required")
        if not self.headers.get("anthropic-version"):
            raise invalid("anthropic-version: header is required")

    def _answer_messages(self, raw: bytes) -> None:
        # The last bytes go out after the count went down: who has read the answer sees the call as ended.
        with self.record.one_call():
            last_bytes = self._begin_answer(raw)
        self.wfile.write(last_bytes)

    def _begin_answer(self, raw: bytes) -> bytes:
        began_s = self.clock()
        body = self._received(raw)
        model = check_message_request(body, self._now())
        streamed = body.get("stream", False)
        fault = self.faults.take(last_user_text(body))
        if fault and fault.error:
            raise fault.error
        kind = fault.kind if fault else ""
        if fault and kind in ("silence", "slow") and not (self._client_waits(fault.wait_s) and kind == "slow"):
            self.close_connection = True
            return b""
        if kind == "garbage":
            return self._begin_garbage(streamed=streamed)
        account = self._account()
        reply = reply_to(body, model, self.cache.use(account, model, body, began_s))
        reply = replace(reply, diagnostics=self.diagnoses.diagnosis(account, body, reply.id))
        return self._begin_stream(reply, kind) if streamed else self._begin_plain(reply, kind)

    def _account(self) -> str:
        """A name for whoever has this key, which does not tell the key."""
        bearer = self.headers.get("authorization", "").partition(" ")[2]
        return digest(self.headers.get("x-api-key") or bearer)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.clock(), UTC)

    def _begin_plain(self, reply: Reply, fault: str) -> bytes:
        body = _json(replace(reply, stop_reason=None).message() if fault == "early_end" else reply.message())
        self._send_head(200, "application/json", {"content-length": str(len(body))})
        if fault != "cut":
            return body
        self.close_connection = True
        return body[: len(body) // 2]

    def _begin_stream(self, reply: Reply, fault: str) -> bytes:
        events = reply.events()[:-2] if fault == "early_end" else reply.events()
        self._send_head(200, "text/event-stream; charset=utf-8", {"transfer-encoding": "chunked"})
        for event in events[:_EVENTS_BEFORE_CUT] if fault == "cut" else events[:-1]:
            self.wfile.write(_chunk(_server_sent(event)))
        if fault != "cut":
            return _chunk(_server_sent(events[-1])) + _chunk(b"")
        self.close_connection = True
        return b""

    def _begin_garbage(self, *, streamed: bool) -> bytes:
        body = b"event: message_start\ndata: " + _GARBAGE + b"\n\n" if streamed else _GARBAGE
        kind = "text/event-stream; charset=utf-8" if streamed else "application/json"
        self._send_head(200, kind, {"content-length": str(len(body))})
        return body

    def _client_waits(self, seconds: float) -> bool:
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

    def _send_refusal(self, error: ApiError) -> None:
        self._send_json(error.status, error.envelope(self.request_id), error.headers)

    def _send_json(self, status: int, value: object, headers: Mapping[str, str] | None = None) -> None:
        body = _json(value)
        self._send_head(status, "application/json", {"content-length": str(len(body)), **(headers or {})})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _send_head(self, status: int, content_type: str, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        ours = {"content-type": content_type, "request-id": self.request_id, "x-turnlog-stand-in": "1"}
        for name, value in {**ours, **headers}.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("connection", "close")
        self.end_headers()


def _new_request_id() -> str:
    return f"req_{secrets.token_hex(12)}"


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _server_sent(event: dict[str, Any]) -> bytes:
    return f"event: {event['type']}\n".encode() + b"data: " + _json(event) + b"\n\n"


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"
