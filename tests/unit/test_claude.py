"""The real SDK against the stand-in: content goes and comes as it is, and every failure has one meaning."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal

import pytest

from local.claude_stand_in import StandIn
from local.loopback import GuardedHandler, LoopbackServer
from tests.fakes import put_together
from turnlog.adapters import claude
from turnlog.adapters.claude import Claude
from turnlog.domain.messages import CacheLifetime, Message, ModelRequest, ModelSettings, to_json
from turnlog.domain.reply_events import ReplyEvent
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

HISTORY = (
    Message.of_text("My name is Ada."),
    Message("assistant", to_json([{"type": "text", "text": "Hello Ada."}])),
    Message.of_text("What is my name?"),
)


GOOD: dict[str, Any] = {
    "content": [{"type": "text", "text": "x"}],
    "model": "m",
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 1},
}


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    with StandIn(port=0) as running:
        yield running


def the_key(*, renewed: bool = False) -> str:
    return "a key"


@pytest.fixture
def model(stand_in: StandIn) -> Claude:
    return Claude(stand_in.url, the_key, allows_stand_in=True)


def asked(*messages: Message, cached: CacheLifetime | Literal[""] = "", **settings: Any) -> ModelRequest:
    chosen = ModelSettings("claude-sonnet-5-5", 1000, **settings)
    return ModelRequest(chosen, messages or (Message.of_text("hello"),), cached)


def sent(stand_in: StandIn, index: int = -1) -> dict[str, Any]:
    """The body of the request with that index, the newest by default."""
    body = stand_in.requests[index].body
    assert body is not None
    return body


def test_the_reply_is_computed_from_the_history_that_was_sent(model: Claude) -> None:
    reply = model.reply(asked(*HISTORY), seconds=5)
    assert "Ada" in reply.text
    assert (reply.model, reply.stop_reason) == ("claude-sonnet-5-5", "end_turn")
    assert reply.usage.tokens > 10


def test_a_listener_gets_the_whole_reply_as_events(model: Claude) -> None:
    events: list[ReplyEvent] = []
    reply = model.reply(asked(*HISTORY), 5, events.append)
    assert put_together(events) == reply


def test_a_repeated_call_gives_events_of_one_reply(model: Claude, stand_in: StandIn) -> None:
    stand_in.fail("overloaded", retry_after_s=0)
    events: list[ReplyEvent] = []
    reply = model.reply(asked(), 10, events.append)
    assert put_together(events) == reply
    assert [event.type for event in events].count("message_start") == 1


def test_a_call_that_fails_gives_no_events(model: Claude, stand_in: StandIn) -> None:
    stand_in.fail("early_end")
    events: list[ReplyEvent] = []
    with pytest.raises(ModelError):
        model.reply(asked(), 5, events.append)
    assert events == []


def test_content_reaches_the_provider_json_equal_whatever_blocks_it_has(model: Claude, stand_in: StandIn) -> None:
    first = Message.of_text("Think twice. My name is Ada.")
    thought = model.reply(asked(first), seconds=5).message.blocks
    blocks = [*thought, {"type": "text", "text": "Hello Ada.", "citations": None}]
    history = (first, Message("assistant", to_json(blocks)), HISTORY[2])
    model.reply(asked(*history), seconds=5)
    assert sent(stand_in)["messages"][1] == {"role": "assistant", "content": blocks}


def test_cache_breakpoints_are_sent_when_asked_for(model: Claude, stand_in: StandIn) -> None:
    model.reply(asked(*HISTORY, system="Be kind.", cached="5m"), seconds=5)
    model.reply(asked(*HISTORY, system="Be kind."), seconds=5)
    cached, plain = sent(stand_in, -2), sent(stand_in)
    mark = {"cache_control": {"type": "ephemeral"}}
    assert cached["system"] == [{"type": "text", "text": "Be kind."} | mark]
    assert cached["messages"][-1]["content"] == [{"type": "text", "text": "What is my name?"} | mark]
    assert json.dumps(cached).count("cache_control") == 2
    assert "cache_control" not in json.dumps(plain)


def test_stop_sequences_and_the_most_tokens_are_sent(model: Claude, stand_in: StandIn) -> None:
    model.reply(asked(stop_sequences=("END",)), seconds=5)
    body = sent(stand_in)
    assert (body["stop_sequences"], body["max_tokens"]) == (["END"], 1000)
    assert "system" not in body


@pytest.mark.parametrize("fault", ["rate_limit", "overloaded"])
def test_a_refusal_that_was_not_billed_is_tried_again(model: Claude, stand_in: StandIn, fault: str) -> None:
    stand_in.fail(fault, retry_after_s=0)
    assert model.reply(asked(), seconds=10).stop_reason == "end_turn"
    assert len(stand_in.requests) == 2


@dataclass
class Seconds:
    """A clock in seconds that moves when somebody sleeps."""

    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.mark.parametrize("fault", ["rate_limit", "overloaded"])
def test_a_provider_that_always_refuses_is_given_up_in_time(stand_in: StandIn, fault: str) -> None:
    clock = Seconds()
    stand_in.fail(fault, times=100)
    model = Claude(stand_in.url, the_key, allows_stand_in=True, clock=clock, sleep=clock.sleep)
    with pytest.raises(ModelUnavailable) as refused:
        model.reply(asked(), seconds=55, retry_s=20)
    assert not refused.value.billed
    assert len(stand_in.requests) > 2
    assert clock.now_s < 20


def test_a_provider_that_refuses_slowly_is_given_up_before_it_would_be_too_late() -> None:
    clock, seen = Seconds(), []

    def refuse_slowly(handler: GuardedHandler) -> None:
        clock.now_s += 8
        seen.append(clock.now_s)
        handler.wfile.write(b"{}")

    with provider(refuse_slowly, 529) as url, pytest.raises(ModelUnavailable):
        Claude(url, the_key, allows_stand_in=True, clock=clock, sleep=clock.sleep).reply(asked(), 55, retry_s=20)
    assert len(seen) == 2  # a third refusal would come after 24 s
    assert clock.now_s < 20


@pytest.mark.parametrize(("retry_s", "longest_s"), [(20.0, 5.0), (3.0, 1.5)])
def test_a_provider_that_cannot_be_reached_is_given_up_in_time(
    monkeypatch: pytest.MonkeyPatch, retry_s: float, longest_s: float
) -> None:
    import httpcore2

    clock, timeouts = Seconds(), []

    def never(*_: object, timeout: float, **__: object) -> None:
        timeouts.append(timeout)
        clock.now_s += timeout
        raise httpcore2.ConnectTimeout

    monkeypatch.setattr(httpcore2.SyncBackend, "connect_tcp", never)
    model = Claude("http://127.0.0.1:9", the_key, clock=clock, sleep=clock.sleep)
    with pytest.raises(ModelUnavailable):
        model.reply(asked(), 55, retry_s=retry_s)
    assert max(timeouts) == longest_s
    assert clock.now_s <= retry_s


def test_a_call_that_is_not_refused_goes_on_after_the_time_for_retries() -> None:
    clock = Seconds()

    def take_long(handler: GuardedHandler) -> None:
        clock.now_s += 50
        handler.wfile.write(json.dumps(GOOD).encode())

    with provider(take_long) as url:
        model = Claude(url, the_key, allows_stand_in=True, clock=clock, sleep=clock.sleep)
        assert model.reply(asked(), 55, retry_s=5).text == "x"


def test_without_any_time_for_retries_one_try_is_made(stand_in: StandIn) -> None:
    """Nobody may wait any more, but a turn that is stored is found under its key."""
    model = Claude(stand_in.url, the_key, allows_stand_in=True)
    assert model.reply(asked(), 55, retry_s=-3).stop_reason == "end_turn"


def test_no_wait_is_longer_than_the_time_left(model: Claude, stand_in: StandIn) -> None:
    stand_in.fail("rate_limit", retry_after_s=30)
    with pytest.raises(ModelUnavailable) as refused:
        model.reply(asked(), seconds=5)
    assert refused.value.retry_after_s == 30
    assert len(stand_in.requests) == 1


def test_with_no_time_left_nothing_is_sent(model: Claude, stand_in: StandIn) -> None:
    with pytest.raises(ModelUnavailable):
        model.reply(asked(), seconds=0.5)
    assert stand_in.requests == []


@pytest.mark.parametrize(
    ("fault", "meaning", "billed"),
    [
        ("server_error", ModelFailed, True),
        ("cut", ModelFailed, True),
        ("early_end", ModelProtocolError, True),
        ("garbage", ModelProtocolError, True),
    ],
)
def test_a_possibly_billed_failure_is_not_tried_again(
    model: Claude, stand_in: StandIn, fault: str, meaning: type[ModelError], billed: bool
) -> None:
    stand_in.fail(fault)
    with pytest.raises(meaning) as failed:
        model.reply(asked(), seconds=10)
    assert failed.value.billed is billed
    assert len(stand_in.requests) == 1


def test_silence_ends_with_the_time_budget(model: Claude, stand_in: StandIn) -> None:
    stand_in.fail("silence", seconds=30)
    with pytest.raises(ModelTimeout):
        model.reply(asked(), seconds=1.2)


@contextmanager
def provider(send: Callable[[GuardedHandler], None], status: int = 200) -> Iterator[str]:
    """A server that answers with the body that `send` writes, piece by piece."""

    class Provider(GuardedHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.close_connection = True
            self.end_headers()
            send(self)

    with LoopbackServer(0, Provider, "provider") as server:
        yield server.url


def trickle(handler: GuardedHandler) -> None:
    """White space, which JSON may begin with; far more than any time allows."""
    for _ in range(100_000):
        handler.wfile.write(b" ")


@pytest.mark.parametrize("status", [200, 429, 500])
def test_a_trickling_reply_ends_with_the_time_budget(status: int) -> None:
    ticks = count()
    with provider(trickle, status) as url, pytest.raises(ModelTimeout) as late:
        Claude(url, the_key, allows_stand_in=True, clock=lambda: next(ticks)).reply(asked(), seconds=27)
    assert late.value.billed
    assert next(ticks) < 27 + 5  # one tick a look, and a look a byte


def test_a_silent_body_ends_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claude, "_BETWEEN_BYTES_S", 0.05)
    over = threading.Event()

    def fall_silent(handler: GuardedHandler) -> None:
        handler.wfile.write(b'{"content":')
        over.wait(60)

    with provider(fall_silent) as url:
        with pytest.raises(ModelTimeout):
            Claude(url, the_key, allows_stand_in=True).reply(asked(), seconds=30)
        over.set()


def test_a_reply_in_pieces_is_kept_unchanged() -> None:
    received = GOOD | {"content": [{"type": "text", "text": "Grüße, \u2028 {}"}, {"type": "new", "b": 1.50, "a": None}]}

    def in_pieces(handler: GuardedHandler) -> None:
        for byte in json.dumps(received, ensure_ascii=False).encode():
            handler.wfile.write(bytes([byte]))

    with provider(in_pieces) as url:
        reply = Claude(url, the_key, allows_stand_in=True).reply(asked(), seconds=30)
    assert reply.message.blocks == received["content"]


def unbilled(url: str, key: str = "a key") -> None:
    def its_key(*, renewed: bool = False) -> str:
        return key

    with pytest.raises(ModelUnavailable) as failed:
        Claude(url, its_key, allows_stand_in=True).reply(asked(), seconds=1.5)
    assert not failed.value.billed


def test_a_provider_that_is_not_there_cannot_have_billed() -> None:
    unbilled("http://127.0.0.1:9")


def test_an_unusable_base_url_cannot_have_billed() -> None:
    unbilled("gopher://127.0.0.1:9")


def test_a_key_unfit_for_a_header_is_never_sent(stand_in: StandIn) -> None:
    unbilled(stand_in.url, "a\nkey")
    assert stand_in.requests == []


def test_a_connection_timeout_cannot_have_billed(monkeypatch: pytest.MonkeyPatch) -> None:
    import httpcore2

    def never(*_: object, **__: object) -> None:
        raise httpcore2.ConnectTimeout

    monkeypatch.setattr(httpcore2.SyncBackend, "connect_tcp", never)
    unbilled("http://127.0.0.1:9")


def test_a_client_that_nobody_holds_any_more_is_let_go() -> None:
    import gc
    import weakref

    held = weakref.ref(Claude("http://127.0.0.1:9", the_key))
    gc.collect()
    assert held() is None


def test_a_request_that_the_provider_calls_invalid_is_not_repeated(model: Claude, stand_in: StandIn) -> None:
    assistant_last = HISTORY[:2]
    with pytest.raises(ModelRejected):
        model.reply(asked(*assistant_last), seconds=5)
    assert len(stand_in.requests) <= 1


def test_production_refuses_a_stand_in_by_its_own_header(stand_in: StandIn) -> None:
    with pytest.raises(ModelRejected):
        Claude(stand_in.url, the_key).reply(asked(), seconds=5)


def test_the_key_is_asked_for_with_each_request(stand_in: StandIn) -> None:
    keys = iter(["first", "second"])

    def next_key(*, renewed: bool = False) -> str:
        return next(keys)

    model = Claude(stand_in.url, next_key, allows_stand_in=True)
    model.reply(asked(), seconds=5)
    model.reply(asked(), seconds=5)
    assert next(keys, None) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"content":[],"model":"m","stop_reason":"end_turn","usage":{"input_tokens":1}}',
        b'{"content":[{"type":"text","text":"x"}],"model":"m","stop_reason":null,"usage":{"input_tokens":1}}',
        b'{"content":[{"type":"text","text":"x"}],"model":"m","stop_reason":"end_turn","usage":null}',
        b'{"content":[{"type":"text","text":"\\ud800"}],"model":"m","stop_reason":"end_turn","usage":{"input_tokens":1}}',
        b'{"content":"x","model":"m","stop_reason":"end_turn","usage":{"input_tokens":"many"}}',
        b'{"content":[{"type":"text","text":"x"}],"model":null,"stop_reason":"end_turn","usage":{"input_tokens":1}}',
        b"\xff\xfe",
        *(
            json.dumps(GOOD | wrong).encode()
            for wrong in (
                {"content": "text"},
                {"content": {"type": "text"}},
                {"content": ["text"]},
                {"content": [None]},
                {"content": [{"text": "no type"}]},
                {"content": [{"type": "text"}]},
                {"content": [{"type": "text", "text": 5}]},
                {"content": [{"type": "text", "text": ""}]},
                {"content": [{"type": "text", "text": " \n"}]},
                {"content": [{"type": "odd", "value": float("nan")}]},
                {"model": ""},
                {"model": "\ud800"},
                {"stop_reason": "x" * 500_000},
                {"usage": {"output_tokens": -1}},
                {"usage": {"output_tokens": 1.5}},
                {"usage": {"output_tokens": True}},
                {"usage": {"output_tokens": 10**60}},
                {"usage": {"input_tokens": 1, "cache_creation": "none"}},
                {"usage": {"input_tokens": 1, "cache_creation": {"ephemeral_1h_input_tokens": "1"}}},
                {"usage": {"note": "\udfff"}},
            )
        ),
        b"[" * 100_000,
    ],
    ids=lambda body: str(body)[:60],
)
def test_an_incomplete_reply_is_refused(body: bytes) -> None:
    with pytest.raises(ModelProtocolError):
        claude._reply(body)


def test_an_empty_refusal_is_a_reply() -> None:
    body = b'{"content":[],"model":"m","stop_reason":"refusal","usage":{"input_tokens":1}}'
    assert claude._reply(body).stop_reason == "refusal"


def test_unknown_blocks_and_usage_fields_are_kept_as_received() -> None:
    content = [{"type": "from_the_future", "data": {"b": 1.50, "a": None}}]
    usage = {"input_tokens": 1, "new": {"deep": [True]}}
    received = {"content": content, "model": "m", "stop_reason": "end_turn", "usage": usage}
    reply = claude._reply(json.dumps(received).encode())
    assert reply.message.blocks == content
    assert reply.usage.fields == usage


def test_a_prompt_too_long_is_its_own_error(monkeypatch: pytest.MonkeyPatch, model: Claude) -> None:
    import anthropic
    import httpx2

    def refuse(*_: object) -> None:
        request = httpx2.Request("POST", "http://127.0.0.1")
        error = {"error": {"type": "invalid_request_error", "message": "prompt is too long: 2 tokens > 1 maximum"}}
        raise anthropic.BadRequestError("", response=httpx2.Response(400, request=request), body=error)

    monkeypatch.setattr(model, "_reply_once", refuse)
    with pytest.raises(ContextTooLong):
        model.reply(asked(), seconds=5)


def refusal(status: int, message: str = "", **headers: str) -> Any:
    """A provider that answers the first call with this status, and the next as it is."""
    import anthropic
    import httpx2

    once, answer = [True], Claude._reply_once

    def reply_once(model: Claude, *arguments: Any) -> Any:
        if not once:
            return answer(model, *arguments)
        once.clear()
        request = httpx2.Request("POST", "http://127.0.0.1")
        response = httpx2.Response(status, request=request, headers=headers)
        raise anthropic.APIStatusError("", response=response, body={"error": {"message": message}})

    return reply_once


@pytest.mark.parametrize("status", [401, 403])
def test_a_rotated_key_is_fetched_within_the_call(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    asked_for: list[bool] = []

    def key(*, renewed: bool = False) -> str:
        asked_for.append(renewed)
        return "a key"

    monkeypatch.setattr(Claude, "_reply_once", refusal(status))
    assert Claude(stand_in.url, key, allows_stand_in=True).reply(asked(), seconds=5).text
    assert asked_for == [False, True]


def test_a_provider_that_refuses_every_key_has_not_billed(model: Claude, monkeypatch: pytest.MonkeyPatch) -> None:
    import anthropic
    import httpx2

    def refuse(*_: object) -> None:
        raise anthropic.AuthenticationError(
            "", response=httpx2.Response(401, request=httpx2.Request("POST", "http://127.0.0.1")), body=None
        )

    monkeypatch.setattr(model, "_reply_once", refuse)
    with pytest.raises(ModelAccessDenied) as denied:
        model.reply(asked(), seconds=5)
    assert (denied.value.billed, denied.value.retry_after_s) == (False, 30)


@pytest.mark.parametrize("said", ["inf", "1e309", "nan", "-5", "soon"])
def test_a_senseless_retry_after_is_ignored(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setattr(Claude, "_reply_once", refusal(429, **{"retry-after": said}))
    assert Claude(stand_in.url, the_key, allows_stand_in=True).reply(asked(), seconds=8).text


def test_a_redirect_is_not_followed(stand_in: StandIn) -> None:
    class Redirect(GuardedHandler):
        def answer(self) -> None:
            self.send_response(307)
            self.send_header("Location", f"{stand_in.url}/v1/messages")
            self.send_header("Content-Length", "0")
            self.end_headers()

    with LoopbackServer(0, Redirect, "redirect") as server, pytest.raises(ModelRejected):
        Claude(server.url, the_key, allows_stand_in=True).reply(asked(), seconds=5)
    assert stand_in.requests == []
