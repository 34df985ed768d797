"""Streams of the real SDK: events are heard as they come, and a stream becomes the whole reply or an error."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import count
from types import MappingProxyType
from typing import Any

import anthropic
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.claude_stand_in import StandIn
from local.loopback import GuardedHandler, LoopbackServer
from tests.fakes import Heard
from turnlog.adapters.claude import Claude, client, streaming, time_bounds
from turnlog.adapters.claude.streaming import StreamedReply
from turnlog.domain.messages import Message, ModelRequest, ModelSettings, Reply, to_json
from turnlog.domain.received_reply import reply_of
from turnlog.domain.reply_builder import ReplyBuilder
from turnlog.domain.reply_events import OnEvent, ReplyEvent
from turnlog.domain.server_sent_events import rendered
from turnlog.domain.turns import STOPPED
from turnlog.errors import (
    ContextTooLong,
    ModelAccessDenied,
    ModelError,
    ModelFailed,
    ModelProtocolError,
    ModelRejected,
    ModelTimeout,
    ModelUnavailable,
)

MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-5-5",
    "content": [{"type": "text", "text": "Herons eat ☃."}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 5, "output_tokens": 7},
}
PING = {"type": "ping"}
START = {"type": "message_start", "message": MESSAGE | {"content": [], "stop_reason": None}}
BLOCK = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
DELTAS: list[dict[str, Any]] = [
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
    for piece in ("Herons ", "eat ☃.")
]
END: list[dict[str, Any]] = [
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}},
    {"type": "message_stop"},
]
EVENTS: list[dict[str, Any]] = [START, PING, BLOCK, *DELTAS, *END]
OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(rendered(event["type"], to_json(event)) for event in events)


def the_key(*, renewed: bool = False) -> str:
    return "a new key" if renewed else "a key"


def asked(text: str = "Herons eat fish.", **settings: Any) -> ModelRequest:
    chosen: dict[str, Any] = {"model": "claude-sonnet-5-5", "max_tokens": 2000} | settings
    return ModelRequest(ModelSettings(**chosen), (Message.of_text(text),))


def go_on(event: ReplyEvent) -> bool:
    return True


def as_found(reply: Reply) -> Reply:
    """The reply without its blocks, and without the names that each call has of its own."""
    return replace(reply, content="", id="", request_id="")


def put_together(events: list[ReplyEvent]) -> Reply:
    builder = ReplyBuilder()
    for event in events:
        assert builder.add(event.data) == event
    return builder.reply()


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    with StandIn(port=0) as running:
        yield running


@pytest.fixture
def model(stand_in: StandIn) -> Claude:
    return Claude(stand_in.url, the_key, allows_stand_in=True)


@contextmanager
def provider(
    send: Callable[[GuardedHandler], None],
    headers: Mapping[str, str] = MappingProxyType({}),
    *,
    status: int = 200,
    kind: str = "text/event-stream; charset=utf-8",
) -> Iterator[str]:
    """A server that answers with the body that `send` writes, and then hangs up."""

    class Provider(GuardedHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Type", kind)
            for name, value in headers.items():
                self.send_header(name, value)
            self.close_connection = True
            self.end_headers()
            send(self)

    with LoopbackServer(0, Provider, "provider") as server:
        yield server.url


def sending(*events: dict[str, Any]) -> Callable[[GuardedHandler], None]:
    return writing(sse(*events))


def writing(body: bytes) -> Callable[[GuardedHandler], None]:
    def send(handler: GuardedHandler) -> None:
        handler.wfile.write(body)

    return send


def repeating(piece: bytes) -> Callable[[GuardedHandler], None]:
    def send(handler: GuardedHandler) -> None:
        while True:  # until the client hangs up, which is an error here
            handler.wfile.write(piece)

    return send


def streamed(url: str, on_event: OnEvent = go_on, seconds: float = 10) -> Reply:
    return Claude(url, the_key, allows_stand_in=True).reply(asked(), seconds, on_event)


# --- the whole reply

PROMPTS = [
    ("Herons eat fish.", {}),
    ("Think twice. Herons eat fish.", {}),
    (
        'Call the tool look_up with {"word": "ü☃"}',
        {"tools": to_json([{"name": "look_up", "input_schema": {"type": "object"}}])},
    ),
    ("Answer with redacted thinking", {}),
    ("Reply with a block of type hologram", {}),
    ("Reply with nothing", {}),
    ("Stop with refusal", {}),
    ("Stop with the unknown reason moon_rise", {}),
]


@pytest.mark.parametrize(("text", "settings"), PROMPTS, ids=[text for text, _ in PROMPTS])
def test_a_streamed_reply_is_the_one_that_comes_whole(model: Claude, text: str, settings: dict[str, Any]) -> None:
    heard = Heard()
    request = asked(text, **settings)
    reply, whole = model.reply(request, 5, heard.hear), model.reply(request, 5)
    assert reply.message.blocks == whole.message.blocks
    assert as_found(reply) == as_found(whole)
    assert reply.id.startswith("msg_")
    assert reply.request_id.startswith("req_")
    assert put_together(heard) == replace(reply, request_id="")


def test_anthropics_own_reader_finds_the_same_reply(stand_in: StandIn, model: Claude) -> None:
    request = asked("Think twice. Herons eat fish.")
    reply = model.reply(request, 5, go_on)
    sdk = anthropic.Anthropic(base_url=stand_in.url, api_key="a key")
    with sdk.messages.stream(
        model="claude-sonnet-5-5", max_tokens=2000, messages=[{"role": "user", "content": request.messages[0].text}]
    ) as stream:
        theirs = stream.get_final_message()
    assert [block.to_dict() for block in theirs.content] == reply.message.blocks
    assert (theirs.stop_reason, theirs.usage.output_tokens) == (reply.stop_reason, reply.usage.count("output_tokens"))


def test_events_are_heard_while_the_reply_is_made() -> None:
    """The provider sends each event only after the one before it was heard."""
    heard = Heard()
    arrived = threading.Semaphore(0)

    def one_by_one(handler: GuardedHandler) -> None:
        for event in EVENTS:
            handler.wfile.write(sse(event))
            assert arrived.acquire(timeout=10)

    def hear(event: ReplyEvent) -> bool:
        arrived.release()
        return heard.hear(event)

    with provider(one_by_one) as url:
        assert streamed(url, hear).text == "Herons eat ☃."
    assert [json.loads(event.data) for event in heard] == EVENTS


def test_unknown_events_and_pings_are_heard_and_change_nothing() -> None:
    later = {"type": "later.event", "index": 0, "delta": {"type": "text_delta", "text": "no"}}
    heard = Heard()
    with provider(sending(PING, later, START, later, BLOCK, PING, *DELTAS, *END)) as url:
        reply = streamed(url, heard.hear)
    assert reply == reply_of(MESSAGE)
    assert [event.type for event in heard].count("later.event") == 2
    assert [event.type for event in heard].count("ping") == 2


def test_what_is_no_event_is_passed_over() -> None:
    body = b"\xef\xbb\xbf" + b": hello\n\n" + sse(START, BLOCK) + b"data:\n\n" + b":\n\n" + sse(*DELTAS, *END)
    with provider(writing(body)) as url:
        assert streamed(url) == reply_of(MESSAGE)


def test_an_answer_that_is_no_stream_is_heard_at_its_end() -> None:
    """Not every server that speaks this API can stream, and its reply is paid all the same."""
    heard = Heard()
    with provider(writing(json.dumps(MESSAGE).encode()), kind="application/json") as url:
        reply = streamed(url, heard.hear)
    assert reply == reply_of(MESSAGE) == put_together(heard)


def test_a_stream_is_asked_for_with_any_number_of_tokens_and_uncompressed(stand_in: StandIn, model: Claude) -> None:
    settings = ModelSettings("claude-sonnet-5-5", 64_000)
    assert model.reply(ModelRequest(settings, (Message.of_text("Hello."),)), 900, go_on).text
    body = stand_in.requests[-1].body
    assert body is not None
    assert (body["stream"], body["max_tokens"]) == (True, 64_000)


def test_compression_that_would_hold_events_back_is_not_asked_for() -> None:
    seen: list[str | None] = []

    def send(handler: GuardedHandler) -> None:
        seen.append(handler.headers["accept-encoding"])
        handler.wfile.write(sse(*EVENTS))

    with provider(send) as url:
        streamed(url)
    assert seen == ["identity"]


def test_production_refuses_a_stand_ins_stream(stand_in: StandIn) -> None:
    heard = Heard()
    with pytest.raises(ModelRejected):
        Claude(stand_in.url, the_key).reply(asked(), 5, heard.hear)
    assert heard == []


# --- tries


@pytest.mark.parametrize("fault", ["rate_limit", "overloaded"])
def test_a_refused_stream_is_asked_for_again(model: Claude, stand_in: StandIn, fault: str) -> None:
    stand_in.fail(fault, retry_after_s=0)
    heard = Heard()
    reply = model.reply(asked(), 10, heard.hear)
    assert put_together(heard) == replace(reply, request_id="")
    assert len(stand_in.requests) == 2


@contextmanager
def providers(*bodies: bytes) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server that answers each request with the next stream, and the requests that it got."""
    waiting, seen = list(bodies), list[dict[str, Any]]()

    class Provider(GuardedHandler):
        def answer(self) -> None:
            seen.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            seen[-1]["authorization"] = self.headers["authorization"]
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("request-id", f"req_{len(seen)}")
            self.close_connection = True
            self.end_headers()
            self.wfile.write(waiting.pop(0))

    with LoopbackServer(0, Provider, "provider") as server:
        yield server.url, seen


def failing(kind: str, message: str = "No.") -> bytes:
    return sse({"type": "error", "error": {"type": kind, "message": message}})


def test_an_error_before_anything_else_is_one_like_any_other_refusal() -> None:
    heard = Heard()
    with providers(failing("overloaded_error"), failing("authentication_error"), sse(*EVENTS)) as (url, seen):
        assert streamed(url, heard.hear).text == "Herons eat ☃."
    assert [each["authorization"] for each in seen] == ["Bearer a key", "Bearer a key", "Bearer a new key"]
    assert [json.loads(event.data) for event in heard] == EVENTS


def test_a_stream_that_begins_with_a_refusal_of_thinking_is_asked_without_it() -> None:
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "c2lnbmVk"}
    replied = Message("assistant", to_json([thought, {"type": "text", "text": "Hello."}]))
    request = replace(asked(), messages=(Message.of_text("Hi."), replied, Message.of_text("And?")))
    refusal = failing("invalid_request_error", "Invalid `signature` in `thinking` block")
    with providers(refusal, sse(*EVENTS)) as (url, seen):
        assert Claude(url, the_key).reply(request, 10, go_on).text
    assert ["thinking" in to_json(each["messages"]) for each in seen] == [True, False]


@pytest.mark.parametrize(
    ("kind", "error", "billed"),
    [
        ("invalid_request_error", ModelRejected, False),
        ("permission_error", ModelAccessDenied, False),
        ("request_too_large", ContextTooLong, False),
        ("api_error", ModelFailed, True),
        ("later_error", ModelFailed, True),
        ("timeout_error", ModelFailed, True),
    ],
)
def test_an_error_alone_means_what_its_status_means(kind: str, error: type[ModelError], billed: bool) -> None:
    with provider(writing(failing(kind))) as url, pytest.raises(ModelError) as failed:
        streamed(url)
    assert (type(failed.value), failed.value.billed) == (error, billed)


@pytest.mark.parametrize(
    ("before", "kind"),
    [
        *((before, "overloaded_error") for before in range(1, len(EVENTS))),
        *((4, kind) for kind in ("rate_limit_error", "api_error", "invalid_request_error", "later")),
    ],
)
def test_an_error_within_a_reply_may_be_billed_and_is_not_tried_again(before: int, kind: str) -> None:
    heard = Heard()
    with providers(sse(*EVENTS[:before]) + failing(kind)) as (url, seen), pytest.raises(ModelFailed) as failed:
        streamed(url, heard.hear)
    assert (failed.value.billed, len(seen), failed.value.provider_request_id) == (True, 1, "req_1")
    assert [json.loads(event.data) for event in heard] == EVENTS[:before]


def test_a_timeout_within_a_reply_is_a_timeout() -> None:
    with providers(sse(START) + failing("timeout_error")) as (url, _), pytest.raises(ModelTimeout):
        streamed(url)


def test_a_refusal_after_a_ping_is_not_billed_and_not_tried_again() -> None:
    heard = Heard()
    with providers(sse(PING, OVERLOADED)) as (url, seen), pytest.raises(ModelUnavailable) as refused:
        streamed(url, heard.hear)
    assert (refused.value.billed, len(seen), [event.type for event in heard]) == (False, 1, ["ping"])


@pytest.mark.parametrize(
    "error", [{"type": "error"}, {"type": "error", "error": None}, {"type": "error", "error": {"type": []}}], ids=str
)
def test_an_error_that_says_nothing_is_a_failure(error: dict[str, Any]) -> None:
    with provider(sending(START, error)) as url, pytest.raises(ModelFailed):
        streamed(url)


def test_after_the_end_of_a_reply_an_error_changes_nothing() -> None:
    with provider(writing(sse(*EVENTS, OVERLOADED, START) + b"data: [DONE]\n\n\xff\n\n")) as url:
        assert streamed(url) == reply_of(MESSAGE)


# --- cuts


@pytest.mark.parametrize("whole_events", range(len(EVENTS)))
@pytest.mark.parametrize("is_clean", [True, False], ids=["clean end", "cut"])
def test_a_stream_cut_between_two_events_is_no_reply(whole_events: int, is_clean: bool) -> None:
    """In chunks a missing end is seen; without them a cut is a clean end."""
    heard = Heard()
    body = sse(*EVENTS[:whole_events])
    chunked = b"%x\r\n%s\r\n" % (len(body), body) if body else b""
    headers = {} if is_clean else {"Transfer-Encoding": "chunked"}
    error = ModelProtocolError if is_clean else ModelFailed
    with provider(writing(body if is_clean else chunked), headers) as url, pytest.raises(ModelError) as failed:
        streamed(url, heard.hear)
    assert (type(failed.value), failed.value.billed) == (error, True)
    assert [json.loads(event.data) for event in heard] == EVENTS[:whole_events]


def read(*chunks: bytes, then: Exception | None = None) -> Reply:
    """The reply in a stream of these chunks, which ends with that error, if there is one."""

    def pieces() -> Iterator[bytes]:
        yield from chunks
        if then:
            raise then

    response = httpx2.Response(200, content=pieces())
    return StreamedReply(response, "claude-asked", "req_1", go_on).read(10, lambda: None)


SHORT = sse(START, BLOCK, DELTAS[1], *END)


@pytest.mark.parametrize("then", [None, httpx2.ReadError("cut")], ids=["clean end", "cut"])
def test_a_stream_cut_at_any_byte_is_no_reply(then: Exception | None) -> None:
    for kept in range(len(SHORT)):
        with pytest.raises(ModelFailed if then else ModelProtocolError):
            read(SHORT[:kept], then=then)
    assert read(SHORT, then=then).text == "eat ☃."


@given(st.lists(st.integers(0, len(SHORT))))
def test_chunks_may_end_anywhere(cuts: list[int]) -> None:
    ends = sorted(cuts)
    chunks = [SHORT[a:b] for a, b in zip([0, *ends], [*ends, len(SHORT)], strict=True)]
    assert read(*chunks).text == "eat ☃."


@pytest.mark.parametrize(
    "body",
    [
        sse(START, START),
        sse(*EVENTS[:5], START, *EVENTS[1:]),
        sse(*EVENTS[:-2], EVENTS[-1]),
        sse(START, *DELTAS, *END),
        sse(START, BLOCK, *DELTAS, *END).replace("☃".encode(), b"\xff"),
        sse(START).replace(b"5", b"NaN"),
        b"event: message_start\ndata: <html>\n\n",
        b"data: [DONE]\n\n",
        b"<html>A proxy's own page.</html>",
        b"",
    ],
    ids=lambda body: repr(body[-60:]),
)
def test_what_is_no_stream_of_a_reply_is_refused(body: bytes) -> None:
    with provider(writing(body)) as url, pytest.raises(ModelProtocolError) as failed:
        streamed(url)
    assert failed.value.billed


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("cut", ModelFailed),
        ("early_end", ModelProtocolError),
        ("garbage", ModelProtocolError),
        ("server_error", ModelFailed),
        ("error_after_text", ModelFailed),
        ("no_stop_reason", ModelProtocolError),
        ("two_starts", ModelProtocolError),
        ("unknown_event", ModelProtocolError),  # and a delta that nobody knows how to keep
    ],
)
def test_a_stream_that_fails_is_not_asked_for_again(
    model: Claude, stand_in: StandIn, fault: str, error: type[ModelError]
) -> None:
    stand_in.fail(fault)
    with pytest.raises(error) as failed:
        model.reply(asked(), 10, go_on)
    assert failed.value.billed
    assert len(stand_in.requests) == 1


@pytest.mark.parametrize(
    "piece",
    [sse(PING), sse({"type": "later"}), b": x\n\n", b"x" * 100],
    ids=["ping", "later", "comment", "line"],
)
def test_a_stream_that_never_ends_is_refused(monkeypatch: pytest.MonkeyPatch, piece: bytes) -> None:
    monkeypatch.setattr(time_bounds, "MOST_BYTES", 100_000)
    monkeypatch.setattr(streaming, "_MOST_EVENT_BYTES", 10_000)

    with provider(repeating(piece)) as url, pytest.raises(ModelProtocolError):
        streamed(url)


@pytest.mark.parametrize("on_event", [None, go_on], ids=["whole", "streamed"])
def test_an_answer_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch, on_event: OnEvent | None) -> None:
    monkeypatch.setattr(time_bounds, "MOST_BYTES", 100_000)
    with provider(repeating(b" " * 100), kind="application/json") as url, pytest.raises(ModelProtocolError):
        Claude(url, the_key, allows_stand_in=True).reply(asked(), 10, on_event)


# --- time


def test_a_trickling_stream_ends_with_the_time_budget() -> None:
    ticks = count()

    def trickle(handler: GuardedHandler) -> None:
        for _ in range(100_000):
            handler.wfile.write(b": \n")

    with provider(trickle) as url, pytest.raises(ModelTimeout) as late:
        Claude(url, the_key, allows_stand_in=True, clock=lambda: next(ticks)).reply(asked(), 27, go_on)
    assert late.value.billed
    assert next(ticks) < 27 + 10


@contextmanager
def held_open(before: bytes = b"", headers: Mapping[str, str] = MappingProxyType({})) -> Iterator[str]:
    """A provider that sends this and then says nothing."""
    over = threading.Event()

    def fall_silent(handler: GuardedHandler) -> None:
        handler.wfile.write(before)
        over.wait(60)

    with provider(fall_silent, headers) as url:
        try:
            yield url
        finally:
            over.set()


def test_a_silent_stream_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_bounds, "_SILENCE_S", 0.05)
    with held_open(sse(START, BLOCK)) as url, pytest.raises(ModelTimeout):
        streamed(url, seconds=900)


def test_a_stream_may_be_silent_for_longer_than_a_whole_body(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_bounds, "_BETWEEN_BYTES_S", 0.01)

    def pause(handler: GuardedHandler) -> None:
        handler.wfile.write(sse(START))
        threading.Event().wait(0.05)
        handler.wfile.write(sse(*EVENTS[1:]))

    with provider(pause) as url:
        assert streamed(url).text == "Herons eat ☃."


@pytest.mark.parametrize("is_chunked", [False, True], ids=["plain", "chunked"])
def test_a_stream_that_falls_silent_late_ends_in_its_time(monkeypatch: pytest.MonkeyPatch, is_chunked: bool) -> None:
    """The client's own timeout begins anew with the last byte."""
    monkeypatch.setattr(client, "_LEAST_USEFUL_S", 0.0)
    cuts, over = list[bool](), threading.Event()
    plain_cut = time_bounds.Cutter._cut

    def cut(cutter: time_bounds.Cutter) -> None:
        cuts.append(not over.is_set())
        plain_cut(cutter)

    def fall_silent(handler: GuardedHandler) -> None:
        for event in (START, BLOCK):
            body = sse(event)
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(body), body) if is_chunked else body)
            over.wait(0.2)
        over.wait(60)

    monkeypatch.setattr(time_bounds.Cutter, "_cut", cut)
    with provider(fall_silent, {"Transfer-Encoding": "chunked"} if is_chunked else {}) as url:
        with pytest.raises(ModelTimeout) as late:
            streamed(url, seconds=0.3)
        over.set()
    assert cuts == [True]
    assert late.value.billed


def test_a_stream_without_an_answer_ends_in_its_time(model: Claude, stand_in: StandIn) -> None:
    stand_in.fail("silence", seconds=30)
    with pytest.raises(ModelTimeout):
        model.reply(asked(), 1.2, go_on)


@pytest.mark.parametrize("body", [b"", b"{"], ids=["nothing", "a piece"])
def test_a_refusal_that_does_not_come_to_its_end_is_a_failure(monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    monkeypatch.setattr(time_bounds, "_BETWEEN_BYTES_S", 0.05)
    headers = {"Content-Length": "100"}
    with provider(writing(body), headers, status=529, kind="application/json") as url, pytest.raises(ModelFailed):
        streamed(url)


def test_the_end_of_the_answer_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "_END_WITHIN_S", 0.05)
    hung_up: list[bytes] = []

    def stay(handler: GuardedHandler) -> None:
        handler.wfile.write(sse(*EVENTS))
        handler.connection.settimeout(5)
        hung_up.append(handler.connection.recv(1))

    with provider(stay) as url:
        assert streamed(url, seconds=900) == reply_of(MESSAGE)
    assert hung_up == [b""]


# --- connections, and the listener who says no


def open_connections(model: Claude) -> int:
    return len(model._sdk._client._transport._pool.connections)  # type: ignore[attr-defined]


@contextmanager
def counting() -> Iterator[tuple[str, list[int], threading.Event]]:
    """A provider of endless text that keeps its connections, how many it got, and the end of one of them."""
    ports: list[int] = []
    hung_up = threading.Event()

    class Provider(GuardedHandler):
        def answer(self) -> None:
            ports.append(self.client_address[1])
            asked_for = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            if "endless" not in to_json(asked_for):
                self.send(sse(*EVENTS))
                self.wfile.write(b"0\r\n\r\n")
                return
            self.send(sse(START, PING, BLOCK, *DELTAS))
            self.connection.settimeout(10)
            if self.connection.recv(1) == b"":
                hung_up.set()
            self.close_connection = True

        def send(self, body: bytes) -> None:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(body), body))

    with LoopbackServer(0, Provider, "provider") as server:
        yield server.url, ports, hung_up


def test_a_stopped_stream_is_closed_at_once_and_keeps_what_came() -> None:
    heard = Heard()

    def hear(event: ReplyEvent) -> bool:
        heard.append(event)
        return event.type != "content_block_delta"

    before = threading.active_count()
    with counting() as (url, _, hung_up):
        model = Claude(url, the_key)
        reply = model.reply(asked("endless"), 900, hear)
        assert hung_up.wait(5)
        assert open_connections(model) == 0
    assert json.loads(heard[-1].data) == DELTAS[0]
    assert (reply.text, reply.stop_reason, reply.usage.fields) == ("Herons ", STOPPED, MESSAGE["usage"])
    assert (reply.id, reply.model) == ("msg_1", "claude-sonnet-5-5")
    assert threading.active_count() == before


@pytest.mark.parametrize("heard", range(len(EVENTS)))
def test_a_stream_can_be_stopped_at_any_event(heard: int) -> None:
    numbers = iter(range(len(EVENTS)))
    with provider(sending(*EVENTS), {"request-id": "req_1"}) as url:
        reply = streamed(url, lambda _: next(numbers) < heard)
    is_whole = heard == len(EVENTS) - 1
    assert (reply.stop_reason, reply.request_id) == ("end_turn" if is_whole else STOPPED, "req_1")
    assert next(numbers, None) == (None if is_whole else heard + 1)


def test_a_stream_that_is_stopped_before_its_start_has_the_model_that_was_asked() -> None:
    with provider(sending(PING, *EVENTS)) as url:
        reply = streamed(url, lambda _: False)
    assert (reply.model, reply.content, reply.stop_reason) == ("claude-sonnet-5-5", "[]", STOPPED)


def test_a_connection_is_used_again_after_a_whole_stream() -> None:
    before = threading.active_count()
    with counting() as (url, ports, _):
        model = Claude(url, the_key)
        for _ in range(3):
            model.reply(asked(), 900, go_on)
        assert open_connections(model) == 1
        assert len(set(ports)) == 1
        assert threading.active_count() == before + 2  # the server's own
        del model


@pytest.mark.parametrize("body", [sse(START, OVERLOADED), sse(START, START), sse(START)], ids=["error", "order", "end"])
def test_a_failed_stream_leaves_no_connection_and_no_thread(body: bytes) -> None:
    before = threading.active_count()
    with provider(writing(body)) as url:
        model = Claude(url, the_key)
        with pytest.raises(ModelError):
            model.reply(asked(), 900, go_on)
        assert open_connections(model) == 0
    assert threading.active_count() == before


def test_a_listener_that_fails_leaves_no_connection_and_no_thread() -> None:
    before = threading.active_count()

    def fail(event: ReplyEvent) -> bool:
        raise RuntimeError

    with counting() as (url, _, hung_up):
        model = Claude(url, the_key)
        with pytest.raises(RuntimeError):
            model.reply(asked("endless"), 900, fail)
        assert hung_up.wait(5)
        assert open_connections(model) == 0
    assert threading.active_count() == before


def test_a_cut_ends_the_wait_for_a_byte() -> None:
    ours, theirs = socket.socketpair()

    class Network:
        def get_extra_info(self, _: str) -> socket.socket:
            return ours

    response = httpx2.Response(200, extensions={"network_stream": Network()})
    with ours, theirs, time_bounds.cut_within(response, 0.02) as cutter:
        assert ours.recv(1) == b""
        assert cutter.has_cut


def test_a_cut_of_what_is_closed_already_is_nothing() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    ours.close()
    cutter = time_bounds.Cutter(ours)
    cutter._cut()
    assert cutter.has_cut


# --- the log


def noted(url: str, seconds: float = 10) -> list[dict[str, Any]]:
    """The notes of a streamed call, with 0 for each time."""
    notes: list[dict[str, Any]] = []
    model = Claude(url, the_key, allows_stand_in=True, note_call=lambda **fields: notes.append(fields))
    with suppress(ModelError):
        model.reply(asked(), seconds, go_on)
    return [{name: 0 if name.endswith("ms") else value for name, value in each.items()} for each in notes]


HEADERS = {"request-id": "req_1", "anthropic-ratelimit-requests-remaining": "49"}
NOTED = {"model": "claude-sonnet-5-5", "ms": 0, "provider_request_id": "req_1", "status": 200, "requests_left": 49}


@pytest.mark.parametrize(
    ("body", "more"),
    [
        (sse(*EVENTS), {"first_event_ms": 0}),
        (sse(START, OVERLOADED), {"first_event_ms": 0, "code": "model_failed"}),
        (sse(START), {"first_event_ms": 0, "code": "model_protocol_error"}),
        (b"", {"code": "model_protocol_error"}),
        (failing("api_error"), {"first_event_ms": 0, "code": "model_failed"}),
    ],
    ids=["whole", "error", "end", "nothing", "error alone"],
)
def test_a_stream_is_noted_once(body: bytes, more: dict[str, Any]) -> None:
    with provider(writing(body), HEADERS) as url:
        assert noted(url) == [NOTED | more]


def test_the_first_event_is_timed() -> None:
    clock_s = [0.0]
    notes: list[dict[str, Any]] = []

    def think(handler: GuardedHandler) -> None:
        clock_s[0] += 2
        handler.wfile.write(sse(*EVENTS))

    def hear(event: ReplyEvent) -> bool:
        clock_s[0] += 1
        return True

    with provider(think) as url:
        model = Claude(url, the_key, clock=lambda: clock_s[0], note_call=lambda **fields: notes.append(fields))
        model.reply(asked(), 100, hear)
    assert [(each["first_event_ms"], each["ms"]) for each in notes] == [(2000, 2000 + 1000 * len(EVENTS))]
