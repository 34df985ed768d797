"""The front of the local stack: MiniStack behind a guard, with the API under /v1 and its streams beside it."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Any, Protocol

from local.guard import refusal, without_contexts, without_sources
from local.request_line import MOST_READ_BYTES, Answered, problem_code, spent
from local.stream_function import Streaming
from local.stream_outcome import KIND, StreamOutcome
from local.stream_relay import Message, NoAnswer, Receive, Send

STAGE = "/v1"

App = Callable[[Message, Receive, Send], Awaitable[None]]
Failure = Callable[[str, str], tuple[int, dict[str, str], bytes]]
Tell = Callable[[dict[str, Any]], None]


class Streams(Protocol):
    """The routes that stream, and who answers them."""

    streaming: Streaming

    async def pass_on(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers one request. Raises NoAnswer, or AnswerCut once a part of the answer was sent."""


class Front:
    """Stands before `ministack` on `port`, and lets pages of the origin `page` to the API too.

    `failure` makes the answer for a function that failed, by API and stage; `tell` takes a fact of each answer.
    """

    def __init__(self, ministack: App, streams: Streams, failure: Failure, tell: Tell, port: int, page: str) -> None:
        self.api_id = ""
        self._ministack = ministack
        self._streams = streams
        self._failure = failure
        self._tell = tell
        self._page = page
        self._port = port
        self._closed = False

    def close(self) -> None:
        """Refuses every request from now on."""
        self._closed = True

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                await self._http(scope, receive, send)
            case "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1008})
            case "lifespan":
                for _ in range(2):
                    step = (await receive())["type"]
                    await send({"type": f"{step}.complete"})

    async def _http(self, scope: Message, receive: Receive, send: Send) -> None:
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        is_api = scope["path"] == STAGE or scope["path"].startswith(f"{STAGE}/")
        if reason := refusal(headers, self._port, self._page if is_api else ""):
            await _refuse(send, 403, "Forbidden", reason)
            self._tell({"answered": asdict(Answered(scope["method"], scope["path"], 403, 0, code="page_refused"))})
        elif self._closed:
            await _refuse(send, 503, "Stopping", "This server is being stopped.")
        elif not is_api:
            await self._ministack(scope, receive, send)
        elif not self.api_id:
            await _refuse(send, 503, "Starting", "The API is not deployed yet.")
        else:
            await self._api(scope, receive, send)

    async def _api(self, scope: Message, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        answer = _Answer()

        async def note_and_send(message: Message) -> None:
            answer.note(message)
            await send(message)

        streams = self._streams.streaming.takes(scope["method"], scope["path"])
        try:
            await (self._stream if streams else self._ask_ministack)(scope, receive, note_and_send)
        finally:
            if answer.has_begun:
                ms = round((time.perf_counter() - began) * 1000)
                self._tell({"answered": asdict(answer.answered(scope["method"], scope["path"], ms))})

    async def _ask_ministack(self, scope: Message, receive: Receive, send: Send) -> None:
        prefix = f"/_aws/execute-api/{self.api_id}"
        inner = {
            **scope,
            "headers": without_sources(scope["headers"]),
            "path": prefix + scope["path"],
            "raw_path": prefix.encode() + (scope.get("raw_path") or scope["path"].encode()),
        }
        await self._ministack(inner, receive, send)

    async def _stream(self, scope: Message, receive: Receive, send: Send) -> None:
        headers = without_contexts(without_sources(scope["headers"]))
        try:
            await self._streams.pass_on({**scope, "headers": headers}, receive, send)
        except NoAnswer:
            await _send(send, *self._failure(self.api_id, STAGE.strip("/")))


class _Answer:
    """The part of an answer that is kept for its line."""

    def __init__(self) -> None:
        self._head: Message = {}
        self._body = bytearray()
        self._events = StreamOutcome()

    @property
    def has_begun(self) -> bool:
        return bool(self._head)

    def note(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._head.update(message)
        elif self._streams:
            self._events.feed(message.get("body", b""))
        elif len(self._body) <= MOST_READ_BYTES:
            self._body.extend(message.get("body", b""))

    def answered(self, method: str, path: str, ms: int) -> Answered:
        kind, body = self._header(b"content-type"), bytes(self._body)
        tokens, cost_usd = (self._events.tokens, self._events.cost_usd) if self._streams else spent(kind, body)
        code = self._events.code if self._streams else problem_code(kind, body)
        if method != "POST" or self._header(b"idempotent-replayed") or self._events.is_replayed:
            tokens, cost_usd = None, None  # nothing was paid for it
        return Answered(method, path, self._head["status"], ms, tokens, cost_usd, code)

    @property
    def _streams(self) -> bool:
        return self._header(b"content-type").startswith(KIND)

    def _header(self, wanted: bytes) -> str:
        return next((str(value, "latin-1") for name, value in self._head["headers"] if name.lower() == wanted), "")


async def _refuse(send: Send, status: int, title: str, detail: str) -> None:
    body = json.dumps({"title": title, "status": status, "detail": detail}).encode()
    await _send(send, status, {"content-type": "application/problem+json"}, body)


async def _send(send: Send, status: int, headers: Mapping[str, str], body: bytes) -> None:
    sent = {**headers, "content-length": str(len(body))}
    raw = [(name.lower().encode(), value.encode()) for name, value in sent.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
