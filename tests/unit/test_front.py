"""The front of the local stack: the streams and MiniStack at one address, and one line for each answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from local.front import Front
from local.stream_function import Streaming
from local.stream_relay import AnswerCut, NoAnswer
from tests.asgi import Client, Message, run

HOST = (b"host", b"127.0.0.1:8787")
PAGE = "http://localhost:5173"
ROUTES = (("POST", "/v1/query/stream"), ("POST", "/v1/v1/messages"))
DONE = {"usage": {"input_tokens": 10, "output_tokens": 5}, "cost_usd": "0.0012"}

Send = Callable[[Message], Awaitable[None]]


class Behind:
    """A server behind the front, for the streams and for the rest, which answers with `pieces` of the type `kind`."""

    def __init__(self) -> None:
        self.streaming = Streaming("stream", "authorizer", ROUTES)
        self.asked: list[tuple[str, Message]] = []
        self.status = 200
        self.kind = "application/json"
        self.more: list[tuple[bytes, bytes]] = []
        self.pieces = [b"{}"]
        self.error: Exception | None = None

    async def ministack(self, scope: Message, receive: Any, send: Send) -> None:
        await self._answer("ministack", scope, send)

    async def pass_on(self, scope: Message, receive: Any, send: Send) -> None:
        await self._answer("stream", scope, send)

    async def _answer(self, name: str, scope: Message, send: Send) -> None:
        self.asked.append((name, scope))
        if isinstance(self.error, NoAnswer):
            raise self.error
        headers = [(b"content-type", self.kind.encode()), *self.more]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        for piece in self.pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        if self.error:
            raise self.error
        await send({"type": "http.response.body", "body": b""})


class Fronted:
    """A front, what stands behind it and what it has said."""

    def __init__(self) -> None:
        self.behind = Behind()
        self.said: list[dict[str, Any]] = []
        self.front = Front(self.behind.ministack, self.behind, failure, self.said.append, 8787, PAGE)
        self.front.api_id = "abc"

    def ask(self, path: str, method: str = "POST", *headers: tuple[bytes, bytes], body: bytes = b"{}") -> int:
        """Sends a request and returns the status of its answer."""
        client = Client(body, method=method, path=path, headers=[HOST, *headers])

        async def test() -> None:
            await client.ask(self.front)

        run(test())
        return int(client.answer.get_nowait()["status"])

    @property
    def answered(self) -> dict[str, Any]:
        """The fact of the only answer so far, without its milliseconds."""
        (only,) = self.said
        return {name: value for name, value in only["answered"].items() if name != "ms"}


def failure(api_id: str, stage: str) -> tuple[int, dict[str, str], bytes]:
    return 500, {"Content-Type": "application/problem+json"}, json.dumps({"code": f"{api_id}_{stage}"}).encode()


@pytest.fixture
def fronted() -> Fronted:
    return Fronted()


@pytest.mark.parametrize(
    ("method", "path", "behind", "asked"),
    [
        ("POST", "/v1/query/stream", "stream", "/v1/query/stream"),
        ("POST", "/v1/v1/messages", "stream", "/v1/v1/messages"),
        ("OPTIONS", "/v1/query/stream", "ministack", "/_aws/execute-api/abc/v1/query/stream"),
        ("POST", "/v1/query", "ministack", "/_aws/execute-api/abc/v1/query"),
        ("POST", "/query/stream", "ministack", "/query/stream"),
    ],
)
def test_streams_go_to_their_function_and_all_else_to_ministack(
    fronted: Fronted, method: str, path: str, behind: str, asked: str
) -> None:
    assert fronted.ask(path, method) == 200
    ((name, scope),) = fronted.behind.asked
    assert (name, scope["path"], scope["raw_path"]) == (behind, asked, asked.encode())


def test_a_stream_hears_neither_a_source_nor_a_caller_of_the_clients_choice(fronted: Fronted) -> None:
    chosen = [(b"x-forwarded-for", b"198.51.100.1"), (b"X-Amzn-Request-Context", b"{}")]
    fronted.ask("/v1/query/stream", "POST", *chosen, (b"authorization", b"Bearer t"))
    assert fronted.behind.asked[0][1]["headers"] == [HOST, (b"authorization", b"Bearer t")]


def test_a_page_of_another_origin_reaches_no_stream(fronted: Fronted) -> None:
    assert fronted.ask("/v1/query/stream", "POST", (b"origin", b"https://evil.example")) == 403
    assert fronted.ask("/v1/query/stream", "POST", (b"origin", PAGE.encode())) == 200
    assert len(fronted.behind.asked) == 1


def test_nothing_is_streamed_before_a_deploy_or_during_the_stop(fronted: Fronted) -> None:
    fronted.front.api_id = ""
    assert fronted.ask("/v1/query/stream") == 503
    fronted.front.api_id = "abc"
    fronted.front.close()
    assert fronted.ask("/v1/query/stream") == 503
    assert fronted.behind.asked == []


def test_a_streamed_turn_has_a_line_with_its_tokens_and_its_price(fronted: Fronted) -> None:
    fronted.behind.kind = "text/event-stream; charset=utf-8"
    fronted.behind.pieces = [b"event: turnlog.", b"done\ndata: " + json.dumps(DONE).encode(), b"\n\n"]
    fronted.ask("/v1/query/stream")
    assert fronted.answered["path"] == "/v1/query/stream"
    assert [fronted.answered[name] for name in ("status", "tokens", "cost_usd", "code")] == [200, 15, "0.0012", None]


def test_a_message_has_a_line_with_its_tokens_though_it_was_kept_alive(fronted: Fronted) -> None:
    fronted.behind.pieces = [b"\n", b"\n", json.dumps(DONE).encode()]
    fronted.ask("/v1/v1/messages")
    assert (fronted.answered["tokens"], fronted.answered["cost_usd"]) == (15, "0.0012")


@pytest.mark.parametrize("told_by", ["a header", "an event"])
def test_a_turn_that_was_stored_before_costs_nothing(fronted: Fronted, told_by: str) -> None:
    done = DONE | ({"replayed": True} if told_by == "an event" else {})
    fronted.behind.kind = "text/event-stream"
    fronted.behind.pieces = [b"event: turnlog.done\ndata: " + json.dumps(done).encode() + b"\n\n"]
    fronted.behind.more = [(b"idempotent-replayed", b"true")] if told_by == "a header" else []
    fronted.ask("/v1/query/stream")
    assert (fronted.answered["tokens"], fronted.answered["cost_usd"]) == (None, None)


def test_an_error_has_its_code_in_the_line_wherever_it_stands(fronted: Fronted) -> None:
    error = json.dumps({"type": "error", "error": {"details": {"error_code": "model_failed"}}}).encode()
    fronted.behind.status, fronted.behind.pieces = 502, [error]
    fronted.ask("/v1/v1/messages")
    fronted.behind.status, fronted.behind.kind = 200, "text/event-stream"
    fronted.behind.pieces = [b"event: error\ndata: " + error + b"\n\n"]
    fronted.ask("/v1/query/stream")
    codes = [(each["answered"]["status"], each["answered"]["code"]) for each in fronted.said]
    assert codes == [(502, "model_failed"), (200, "model_failed")]


def test_a_function_that_cannot_answer_is_the_templates_problem(fronted: Fronted) -> None:
    fronted.behind.error = NoAnswer()
    assert fronted.ask("/v1/query/stream") == 500
    assert fronted.answered["code"] == "abc_v1"


def test_a_stream_that_is_cut_has_a_line_and_no_end(fronted: Fronted) -> None:
    fronted.behind.error = AnswerCut()
    client = Client(b"{}", headers=[HOST])
    with pytest.raises(AnswerCut):  # at which the server closes the connection
        asyncio.run(client.ask(fronted.front))
    assert fronted.answered["status"] == 200
    assert client.answer.qsize() == 2
