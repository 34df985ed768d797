"""The real SDK against the stand-in: content goes and comes as it is, and every failure has one meaning."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from types import MappingProxyType
from typing import Any, Literal

import pytest

from local.claude_stand_in import StandIn
from local.loopback import GuardedHandler, LoopbackServer
from turnlog.adapters.claude import Claude, time_bounds
from turnlog.adapters.claude.arguments import arguments_of
from turnlog.adapters.claude.attempt import Attempt
from turnlog.domain.messages import CacheLifetime, Message, ModelRequest, ModelSettings, to_json
from turnlog.domain.received_reply import reply_in
from turnlog.errors import (
    ContextTooLong,
    ModelAccessDenied,
    ModelCreditUsedUp,
    ModelError,
    ModelFailed,
    ModelNotServed,
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


CALLED: dict[str, Any] = {"type": "tool_use", "id": "toolu_1", "name": "clock", "input": {}}
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


def asked(
    *messages: Message, cached: CacheLifetime | Literal[""] = "", cached_messages: int = 0, **settings: Any
) -> ModelRequest:
    chosen = ModelSettings("claude-sonnet-5-5", 1000, **settings)
    return ModelRequest(chosen, messages or (Message.of_text("hello"),), cached, cached_messages)


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


MARK = {"cache_control": {"type": "ephemeral"}}
PICTURE = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": "c2lnbmVk"}
TOOL = {"name": "look_up", "input_schema": {"type": "object"}}


def marked(request: ModelRequest) -> list[tuple[int, int]]:
    """The places of the breakpoints, as numbers of a message and of its block."""
    sent = arguments_of(request)["messages"]
    places = ((m, b) for m, message in enumerate(sent) for b in range(len(message["content"])))
    return [(m, b) for m, b in places if "cache_control" in sent[m]["content"][b]]


def test_a_second_breakpoint_ends_what_the_last_call_sent() -> None:
    assert marked(asked(*HISTORY, cached="5m", cached_messages=1)) == [(0, 0), (2, 0)]
    assert marked(asked(*HISTORY, cached="5m")) == [(2, 0)]
    assert marked(asked(*HISTORY, cached="5m", cached_messages=3)) == [(2, 0)]


def test_a_reply_bears_no_breakpoint() -> None:
    """It may end with thinking, and one that the model goes on with is sent as it is."""
    replied = Message("assistant", to_json([{"type": "text", "text": "Hello."}, THOUGHT]))
    assert marked(asked(HISTORY[0], replied, HISTORY[2], replied, cached="5m", cached_messages=2)) == [(0, 0), (2, 0)]


def test_a_breakpoint_stands_on_a_block_that_takes_one() -> None:
    odd = Message("user", to_json([PICTURE, {"type": "from_the_future"}]))
    assert marked(asked(odd, cached="5m")) == [(0, 0)]
    assert marked(asked(Message("user", to_json([{"type": "from_the_future"}])), cached="5m")) == []


def test_tools_without_a_system_prompt_bear_a_breakpoint() -> None:
    tools = to_json([TOOL, TOOL | {"name": "later"}])
    assert arguments_of(asked(tools=tools, cached="5m"))["tools"] == [TOOL, TOOL | {"name": "later"} | MARK]
    both = arguments_of(asked(tools=tools, system="Be kind.", cached="5m"))
    assert (both["tools"], both["system"]) == (json.loads(tools), [{"type": "text", "text": "Be kind."} | MARK])


def test_the_second_breakpoint_is_read_where_the_look_back_ends(model: Claude) -> None:
    """A turn of 30 blocks puts the end of the last prompt out of reach of the last breakpoint."""
    first = Message.of_text("A heron is a bird. " * 400)
    many = Message("user", to_json([{"type": "text", "text": f"Note {number}."} for number in range(30)]))
    reply = model.reply(asked(first, cached="5m"), seconds=5)
    later = (first, reply.message, many)
    assert model.reply(asked(*later, cached="5m"), seconds=5).usage.count("cache_read_input_tokens") == 0
    more = (*later[:2], many, reply.message, many)  # nothing of which was written by the call before
    again = model.reply(asked(*more, cached="5m", cached_messages=1), seconds=5)
    assert again.usage.count("cache_read_input_tokens") == reply.usage.count("cache_creation_input_tokens") > 1000


def test_a_lifetime_of_an_hour_is_sent_and_the_usual_one_is_not() -> None:
    long = to_json(arguments_of(asked(*HISTORY, system="Be kind.", cached="1h", cached_messages=1)))
    assert long.count('"cache_control":{"type":"ephemeral","ttl":"1h"}') == long.count("cache_control") == 3
    assert "ttl" not in to_json(arguments_of(asked(*HISTORY, system="Be kind.", cached="5m", cached_messages=1)))


def test_all_settings_are_sent() -> None:
    thinking = {"type": "adaptive", "display": "omitted"}
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    chosen: dict[str, Any] = {
        "thinking": to_json(thinking),
        "effort": "xhigh",
        "tools": to_json([TOOL]),
        "tool_choice": "none",
        "output_schema": to_json(schema),
    }
    sent_settings = arguments_of(asked(**chosen))
    assert sent_settings["thinking"] == thinking
    assert sent_settings["output_config"] == {"effort": "xhigh", "format": {"type": "json_schema", "schema": schema}}
    assert (sent_settings["tools"], sent_settings["tool_choice"]) == ([TOOL], {"type": "none"})


def test_bounds_of_values_are_sent_as_words() -> None:
    """The grammar of the API has none; replies are held to them all the same."""
    legs = {"type": "integer", "minimum": 0, "description": "Legs."}
    schema = {"type": "object", "properties": {"legs": legs}, "required": ["legs"], "additionalProperties": False}
    sent_schema = arguments_of(asked(output_schema=to_json(schema)))["output_config"]["format"]["schema"]
    assert sent_schema["properties"]["legs"] == {"type": "integer", "description": "Legs.\n\n{minimum: 0}"}


def test_settings_that_nobody_made_are_not_sent() -> None:
    assert arguments_of(asked(tool_choice="auto")).keys() == {"model", "max_tokens", "messages"}


CALLS = Message("assistant", to_json([CALLED]))
RESULT = Message("user", to_json([{"type": "tool_result", "tool_use_id": "toolu_1", "content": "noon"}]))
BUDGET: dict[str, Any] = {"type": "enabled", "budget_tokens": 1024}


@pytest.mark.parametrize("after", [(), (Message.of_text("And?"),)], ids=["results", "results and a question"])
def test_results_of_calls_without_their_thinking_are_taken(model: Claude, after: tuple[Message, ...]) -> None:
    request = asked(HISTORY[0], CALLS, RESULT, *after, thinking=to_json(BUDGET), tools=to_json([TOOL]))
    request = replace(request, settings=replace(request.settings, model="claude-sonnet-4-6", max_tokens=2000))
    assert model.reply(request, seconds=5).stop_reason == "end_turn"


def test_a_loop_that_began_with_thinking_goes_on_with_it() -> None:
    thought = Message("assistant", to_json([THOUGHT, CALLED]))
    for sent_messages, thinking in (
        ((HISTORY[0], thought, RESULT, CALLS, RESULT), BUDGET),
        ((HISTORY[0], CALLS, RESULT, HISTORY[1], HISTORY[2]), BUDGET),
        ((HISTORY[0], thought, RESULT, HISTORY[1], HISTORY[2], CALLS, RESULT), {"type": "disabled"}),
    ):
        assert arguments_of(asked(*sent_messages, thinking=to_json(BUDGET)))["thinking"] == thinking


STUCK = [
    "messages.1.content.0: Invalid `signature` in `thinking` block. The block is bound to a different conversation.",
    "messages.1.content.0: Invalid `signature` in `thinking` block",
    "messages.1: `thinking` or `redacted_thinking` blocks in the latest assistant message cannot be modified.",
]


@contextmanager
def refusing_thinking(message: str, *, always: bool = False) -> Iterator[tuple[str, list[Any]]]:
    """A provider that takes no thinking, and the messages of each request."""
    seen: list[Any] = []

    class Refusing(GuardedHandler):
        def answer(self) -> None:
            seen.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"])
            refused = always or "thinking" in json.dumps(seen[-1])
            error = {"type": "error", "error": {"type": "invalid_request_error", "message": message}}
            body = json.dumps(error if refused else GOOD).encode()
            self.send_response(400 if refused else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with LoopbackServer(0, Refusing, "provider") as server:
        yield server.url, seen


def thoughtful() -> ModelRequest:
    replies = [[THOUGHT, {"type": "text", "text": "Hello."}], [{"type": "redacted_thinking", "data": "b3BhcXVl"}]]
    answers = [Message("assistant", to_json(blocks)) for blocks in replies]
    return asked(HISTORY[0], answers[0], HISTORY[0], answers[1], HISTORY[2], cached="5m", cached_messages=3)


@pytest.mark.parametrize("message", STUCK, ids=["bound", "signature", "modified"])
def test_thinking_that_is_not_taken_back_is_left_out(message: str) -> None:
    with refusing_thinking(message) as (url, seen):
        assert Claude(url, the_key, allows_stand_in=True).reply(thoughtful(), seconds=10).text == "x"
    assert [each["role"] for each in seen[1]] == ["user", "assistant", "user", "user"]
    assert seen[1][1]["content"] == [{"type": "text", "text": "Hello."}]
    assert len(seen) == 2


def test_a_conversation_whose_beginning_changed_goes_on(model: Claude, stand_in: StandIn) -> None:
    question, thinking = Message.of_text("What is 7 times 6?"), to_json({"type": "adaptive", "display": "summarized"})
    first = model.reply(asked(question, system="Be kind.", thinking=thinking, effort="high"), seconds=5)
    assert "thinking" in first.content
    changed = asked(question, first.message, question, system="Be brief.", thinking=thinking)
    assert model.reply(changed, seconds=5).stop_reason == "end_turn"
    assert [len(sent(stand_in, index)["messages"][1]["content"]) for index in (-2, -1)] == [2, 1]


def test_an_unknown_block_that_is_not_taken_back_is_left_out(model: Claude, stand_in: StandIn) -> None:
    odd = {"type": "hologram", "hologram": "A heron."}
    replies = [[odd], [{"type": "text", "text": "Hello Ada."}, odd], [THOUGHT, odd]]
    answers = [Message("assistant", to_json(blocks)) for blocks in replies]
    request = asked(HISTORY[0], answers[0], HISTORY[0], answers[1], HISTORY[0], answers[2], HISTORY[2])
    assert "Ada" in model.reply(request, seconds=5).text
    assert [each["role"] for each in sent(stand_in)["messages"]] == ["user", "user", "assistant", "user", "user"]
    assert sent(stand_in)["messages"][2]["content"] == [{"type": "text", "text": "Hello Ada."}]


def test_what_is_refused_without_thinking_too_is_not_asked_again() -> None:
    with refusing_thinking(STUCK[0], always=True) as (url, seen), pytest.raises(ModelRejected) as refused:
        Claude(url, the_key, allows_stand_in=True).reply(thoughtful(), seconds=10)
    assert len(seen) == 2
    assert not refused.value.billed


def test_a_request_without_thinking_is_not_asked_again() -> None:
    with refusing_thinking(STUCK[0], always=True) as (url, seen), pytest.raises(ModelRejected):
        Claude(url, the_key, allows_stand_in=True).reply(asked(*HISTORY, cached="5m", cached_messages=1), seconds=10)
    assert len(seen) == 1


def test_another_refusal_keeps_the_thinking() -> None:
    with refusing_thinking("messages.0: no") as (url, seen), pytest.raises(ModelRejected):
        Claude(url, the_key, allows_stand_in=True).reply(thoughtful(), seconds=10)
    assert len(seen) == 1


def noting(url: str) -> tuple[Claude, list[dict[str, Any]]]:
    """A client, and what it notes of its calls."""
    noted: list[dict[str, Any]] = []
    return Claude(url, the_key, allows_stand_in=True, note_call=lambda **fields: noted.append(fields)), noted


def test_a_call_is_noted_with_the_providers_name_and_what_is_left() -> None:
    headers = {
        "request-id": "req_1",
        "anthropic-ratelimit-requests-remaining": "49",
        "anthropic-ratelimit-input-tokens-remaining": "many",
        "anthropic-ratelimit-output-tokens-remaining": "7000",
    }
    with provider(lambda handler: whole(handler, GOOD), headers=headers) as url:
        model, noted = noting(url)
        model.reply(asked(), seconds=5)
    assert [each | {"ms": 0} for each in noted] == [
        {
            "model": "claude-sonnet-5-5",
            "ms": 0,
            "provider_request_id": "req_1",
            "status": 200,
            "requests_left": 49,
            "output_tokens_left": 7000,
        }
    ]


@pytest.mark.parametrize(("status", "code"), [(400, "model_rejected"), (500, "model_failed")])
def test_a_call_that_fails_is_noted_with_the_providers_name(status: int, code: str) -> None:
    with provider(lambda handler: whole(handler, {}), status, {"request-id": "req_2"}) as url:
        model, noted = noting(url)
        with pytest.raises(ModelError) as failed:
            model.reply(asked(), seconds=5)
    assert failed.value.provider_request_id == "req_2"
    assert [(each["status"], each["code"], each["provider_request_id"]) for each in noted] == [(status, code, "req_2")]


def test_a_reply_that_cannot_be_read_has_the_providers_name() -> None:
    with provider(lambda handler: whole(handler, {}), headers={"request-id": "req_3"}) as url:
        model, noted = noting(url)
        with pytest.raises(ModelProtocolError) as failed:
            model.reply(asked(), seconds=5)
    assert failed.value.provider_request_id == "req_3"
    assert [each["status"] for each in noted] == [200]


def test_a_call_without_an_answer_is_noted_too() -> None:
    model, noted = noting("http://127.0.0.1:9")
    with pytest.raises(ModelUnavailable):
        model.reply(asked(), seconds=1.5)
    assert noted[0]["code"] == "model_unavailable"
    assert (noted[0]["status"], noted[0]["provider_request_id"]) == (None, "")


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
def provider(
    send: Callable[[GuardedHandler], None], status: int = 200, headers: Mapping[str, str] = MappingProxyType({})
) -> Iterator[str]:
    """A server that answers with the body that `send` writes, piece by piece."""

    class Provider(GuardedHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            for name, value in headers.items():
                self.send_header(name, value)
            self.close_connection = True
            self.end_headers()
            send(self)

    with LoopbackServer(0, Provider, "provider") as server:
        yield server.url


def whole(handler: GuardedHandler, received: dict[str, Any]) -> None:
    handler.wfile.write(json.dumps(received).encode())


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
    assert next(ticks) < 27 + 8  # one tick a look, and a look a byte


def test_a_silent_body_ends_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_bounds, "_BETWEEN_BYTES_S", 0.05)
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
                {"content": [{"type": "odd", "value": float("nan")}]},
                {"content": [CALLED | {"id": None}]},
                {"content": [CALLED | {"id": 1}]},
                {"content": [CALLED | {"id": "two words"}]},
                {"content": [CALLED | {"name": ["clock"]}]},
                {"content": [CALLED | {"input": "UTC"}]},
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
                {"stop_sequence": "\ud800"},
                {"stop_details": {"explanation": "\ud800"}},
            )
        ),
        b"[" * 100_000,
    ],
    ids=lambda body: str(body)[:60],
)
def test_an_incomplete_reply_is_refused(body: bytes) -> None:
    with pytest.raises(ModelProtocolError):
        reply_in(body)


@pytest.mark.parametrize("content", [[], [{"type": "text", "text": ""}], [{"type": "text", "text": " \n"}]], ids=str)
@pytest.mark.parametrize(
    "stop_reason",
    ["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal", "model_context_window_exceeded", "later"],
)
def test_an_empty_reply_is_a_reply(content: list[Any], stop_reason: str) -> None:
    reply = reply_in(json.dumps(GOOD | {"content": content, "stop_reason": stop_reason}).encode())
    assert (reply.text.strip(), reply.stop_reason, reply.message.blocks) == ("", stop_reason, content)


def test_the_providers_names_and_the_stop_are_kept() -> None:
    details = {"type": "refusal", "category": None, "later": 1.50}
    received = GOOD | {"id": "msg_1", "stop_sequence": "END", "stop_details": details}
    with provider(lambda handler: whole(handler, received), headers={"request-id": "req_1"}) as url:
        reply = Claude(url, the_key, allows_stand_in=True).reply(asked(), seconds=5)
    assert (reply.id, reply.request_id, reply.stop_sequence) == ("msg_1", "req_1", "END")
    assert json.loads(reply.stop_details) == details


@pytest.mark.parametrize("odd", [None, 5, [], "two\nlines", "x" * 201, "grüß"], ids=str)
def test_a_name_that_no_log_can_hold_is_left_out(odd: Any) -> None:
    assert reply_in(json.dumps(GOOD | {"id": odd}).encode()).id == ""


@pytest.mark.parametrize("details", [None, "said", {"explanation": "x" * 5_000}], ids=["null", "text", "endless"])
def test_details_of_a_stop_that_cannot_be_kept_are_left_out(details: Any) -> None:
    assert reply_in(json.dumps(GOOD | {"stop_details": details}).encode()).stop_details == ""


def test_unknown_blocks_and_usage_fields_are_kept_as_received() -> None:
    content = [{"type": "from_the_future", "data": {"b": 1.50, "a": None}}]
    usage = {"input_tokens": 1, "new": {"deep": [True]}}
    received = {"content": content, "model": "m", "stop_reason": "end_turn", "usage": usage}
    reply = reply_in(json.dumps(received).encode())
    assert reply.message.blocks == content
    assert reply.usage.fields == usage


def test_a_prompt_too_long_is_its_own_error(monkeypatch: pytest.MonkeyPatch, model: Claude) -> None:
    import anthropic
    import httpx2

    def refuse(*_: object) -> None:
        request = httpx2.Request("POST", "http://127.0.0.1")
        error = {"error": {"type": "invalid_request_error", "message": "prompt is too long: 2 tokens > 1 maximum"}}
        raise anthropic.BadRequestError("", response=httpx2.Response(400, request=request), body=error)

    monkeypatch.setattr(Attempt, "reply", refuse)
    with pytest.raises(ContextTooLong):
        model.reply(asked(), seconds=5)


def meaning(status: int, kind: str, message: str, model: str = "claude-opus-4-5") -> ModelError:
    """The meaning of an answer of the provider, in the form of its errors."""
    body = {"type": "error", "error": {"type": kind, "message": message}}
    with provider(lambda handler: whole(handler, body), status) as url, pytest.raises(ModelError) as failed:
        Claude(url, the_key, allows_stand_in=True).reply(replace(asked(), settings=ModelSettings(model, 9)), seconds=5)
    assert not failed.value.billed
    return failed.value


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (400, "invalid_request_error", "Your credit balance is too low to access the Anthropic API."),
        (402, "billing_error", "Pay."),
    ],
)
def test_an_account_without_credit_is_its_own_error(status: int, kind: str, message: str) -> None:
    assert isinstance(meaning(status, kind, message), ModelCreditUsedUp)


@pytest.mark.parametrize(
    ("model", "successor"),
    [("claude-opus-4-5", "claude-opus-5-5"), ("us.anthropic.claude-opus-4-1-v1:0", "claude-opus-5-5"), ("odd", None)],
)
def test_a_model_that_is_not_served_is_its_own_error(model: str, successor: str | None) -> None:
    refused = meaning(404, "not_found_error", f"model: {model}", model)
    assert isinstance(refused, ModelNotServed)
    assert refused.successor == successor


def test_another_404_says_nothing_of_the_model() -> None:
    assert type(meaning(404, "not_found_error", "Not Found")) is ModelRejected


@pytest.mark.parametrize(
    ("status", "message"), [(413, "Request too large"), (400, "input length exceed context limit")]
)
def test_a_prompt_that_cannot_fit_is_a_context_too_long(status: int, message: str) -> None:
    assert isinstance(meaning(status, "invalid_request_error", message), ContextTooLong)


def refusal(status: int, message: str = "", **headers: str) -> Any:
    """A provider that answers the first call with this status, and the next as it is."""
    import anthropic
    import httpx2

    once, answer = [True], Attempt.reply

    def reply(attempt: Attempt, *arguments: Any) -> Any:
        if not once:
            return answer(attempt, *arguments)
        once.clear()
        request = httpx2.Request("POST", "http://127.0.0.1")
        response = httpx2.Response(status, request=request, headers=headers)
        raise anthropic.APIStatusError("", response=response, body={"error": {"message": message}})

    return reply


@pytest.mark.parametrize("status", [401, 403])
def test_a_rotated_key_is_fetched_within_the_call(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    asked_for: list[bool] = []

    def key(*, renewed: bool = False) -> str:
        asked_for.append(renewed)
        return "a key"

    monkeypatch.setattr(Attempt, "reply", refusal(status))
    assert Claude(stand_in.url, key, allows_stand_in=True).reply(asked(), seconds=5).text
    assert asked_for == [False, True]


def test_a_provider_that_refuses_every_key_has_not_billed(model: Claude, monkeypatch: pytest.MonkeyPatch) -> None:
    import anthropic
    import httpx2

    def refuse(*_: object) -> None:
        raise anthropic.AuthenticationError(
            "", response=httpx2.Response(401, request=httpx2.Request("POST", "http://127.0.0.1")), body=None
        )

    monkeypatch.setattr(Attempt, "reply", refuse)
    with pytest.raises(ModelAccessDenied) as denied:
        model.reply(asked(), seconds=5)
    assert (denied.value.billed, denied.value.retry_after_s) == (False, 30)


@pytest.mark.parametrize("said", ["inf", "1e309", "nan", "-5", "soon"])
def test_a_senseless_retry_after_is_ignored(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setattr(Attempt, "reply", refusal(429, **{"retry-after": said}))
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
