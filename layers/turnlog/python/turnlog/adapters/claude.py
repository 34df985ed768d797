"""ChatModel on the anthropic SDK: the Anthropic API, or whatever speaks it at a base URL.

The SDK's own retries are off: they ignore how much time is left, and each of them may be billed. This module tries
again only after failures that cannot have been billed, and only inside the time it was given.
"""

from __future__ import annotations

import json
import math
import random
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn, Protocol

import anthropic
import httpx2

from turnlog.domain.messages import ModelRequest, Reply, Usage, to_json
from turnlog.domain.reply_events import OnEvent, events_of
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

_CONNECT_S = 5.0
_BETWEEN_BYTES_S = 3.0  # of a body that has begun: the most by which a reply can outlast its time
_LEAST_USEFUL_S = 1.0  # with less time left than this another try is not begun
_RETRY_AFTER_S = 5  # for callers when the provider gave none
_LONGEST_RETRY_AFTER_S = 3600.0  # a longer one of the provider is cut to this
_OVERLOADED = 529
_TOO_LONG = ("prompt is too long", "exceed context limit")  # the only marks of it: the API has no code for it
_STAND_IN = "x-turnlog-stand-in"
_BREAKPOINT = {"type": "ephemeral"}
_COUNTS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")
_MOST_TOKENS = 10**9  # of one call; far more than any model takes, and what every reader of a number can hold
_LONGEST_NAME = 200  # of a model or a stop reason
_UNTIL = "turnlog_until"  # the extension of a request with the time at which its reply must be here
# Nothing was sent that could be billed.
_NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.UnsupportedProtocol, httpx2.LocalProtocolError)


class ApiKey(Protocol):
    """Returns the key, from wherever it is kept; with `renewed` not from a cache."""

    def __call__(self, *, renewed: bool = False) -> str: ...


class Claude:
    """Asks Claude.

    `api_key` is called for each request, so that a rotated key is taken up, and once more when the provider refuses a
    cached one. With `allows_stand_in` false a reply that says it is a stand-in's is refused, as production must.
    `clock` returns seconds.
    """

    def __init__(
        self,
        base_url: str,
        api_key: ApiKey,
        *,
        allows_stand_in: bool = False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        time_of = _TotalTime(clock)
        http = anthropic.DefaultHttpxClient(
            follow_redirects=False,  # a conversation goes nowhere else
            event_hooks={"request": [time_of.begin], "response": [time_of.bound]},
        )
        weakref.finalize(self, http.close)  # the SDK closes only what it made itself
        self._sdk = anthropic.Anthropic(
            base_url=base_url, api_key="given with each request", max_retries=0, http_client=http
        )
        self._api_key = api_key
        self._allows_stand_in = allows_stand_in
        self._clock = clock
        self._sleep = sleep

    def reply(
        self, request: ModelRequest, seconds: float, on_event: OnEvent | None = None, *, retry_s: float | None = None
    ) -> Reply:
        """Does ChatModel.reply. The reply is read at once, so all events come when it is there."""
        reply = self._reply_in_time(request, seconds, seconds if retry_s is None else min(seconds, retry_s))
        if on_event:
            for event in events_of(reply):
                on_event(event)
        return reply

    def _reply_in_time(self, request: ModelRequest, seconds: float, retry_s: float) -> Reply:
        now = self._clock()
        deadline, retry_until = now + seconds, now + retry_s
        client = self._sdk.with_options(api_key=self._api_key())
        renewed = False
        wait_s = 0.5
        while True:
            began = self._clock()
            if deadline - began < _LEAST_USEFUL_S:
                raise ModelUnavailable(_RETRY_AFTER_S)
            try:
                return self._reply_once(client, request, deadline - began, _connect_s(retry_until - began))
            except anthropic.APIError as error:
                meaning = _meaning(error)
                if isinstance(meaning, ModelAccessDenied) and not renewed:
                    client, renewed = self._sdk.with_options(api_key=self._api_key(renewed=True)), True
                    continue
                if not isinstance(meaning, ModelUnavailable):
                    raise meaning from error
                pause_s = max(_retry_after_s(error), wait_s * random.uniform(0.5, 1.5))  # noqa: S311 (jitter)
                now = self._clock()
                next_s = max(_LEAST_USEFUL_S, now - began)  # it may take as long as this one to be refused
                if now + pause_s + next_s > retry_until:
                    raise meaning from error
            except httpx2.HTTPError as error:  # the body broke off: the SDK lets this one through
                raise ModelFailed from error
            self._sleep(pause_s)
            wait_s *= 2

    def _reply_once(
        self, client: anthropic.Anthropic, request: ModelRequest, seconds: float, connect_s: float
    ) -> Reply:
        raw = client.messages.with_raw_response.create(
            **_arguments(request), timeout=httpx2.Timeout(seconds, connect=connect_s)
        )
        if _STAND_IN in raw.headers and not self._allows_stand_in:
            raise ModelRejected
        return _reply(raw.http_response.content)


def _connect_s(retry_s: float) -> float:
    """The timeout of TCP and of TLS, which may each take it."""
    return max(_LEAST_USEFUL_S, min(_CONNECT_S, retry_s / 2))


class _TotalTime:
    """Hooks of an HTTP client that stop a body at its request's time.

    The client's own timeouts cannot do that: they start anew with each byte that comes.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock

    def begin(self, request: httpx2.Request) -> None:
        request.extensions[_UNTIL] = self._clock() + request.extensions["timeout"]["read"]

    def bound(self, response: httpx2.Response) -> None:
        extensions = response.request.extensions
        extensions["timeout"]["read"] = min(extensions["timeout"]["read"], _BETWEEN_BYTES_S)
        response.stream = _Bounded(response.stream, extensions[_UNTIL], self._clock)


class _Bounded(httpx2.SyncByteStream):
    """The bytes of `stream`. Raises ReadTimeout when one comes after the time `until`."""

    def __init__(self, stream: Any, until: float, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._until = until
        self._clock = clock

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._stream:
            if self._clock() > self._until:
                raise httpx2.ReadTimeout("too late")
            yield chunk

    def close(self) -> None:
        self._stream.close()


def _arguments(request: ModelRequest) -> dict[str, Any]:
    sent: list[dict[str, Any]] = [{"role": message.role, "content": message.blocks} for message in request.messages]
    settings = request.settings
    arguments: dict[str, Any] = {"model": settings.model, "max_tokens": settings.max_tokens, "messages": sent}
    if request.cached:
        # At send time only, never stored: what is stored must stay the same whatever is cached.
        sent[-1]["content"][-1]["cache_control"] = _BREAKPOINT
    if settings.system:
        system = {"type": "text", "text": settings.system}
        arguments["system"] = [system | {"cache_control": _BREAKPOINT} if request.cached else system]
    if settings.stop_sequences:
        arguments["stop_sequences"] = list(settings.stop_sequences)
    return arguments


def _reply(body: bytes) -> Reply:
    """The reply as it came. Raises ModelProtocolError unless every part that is read later has its right form."""
    try:
        received = json.loads(body, parse_constant=_no_constant)
        _require_whole(received)
        kept = [to_json(received[name]) for name in ("model", "content", "stop_reason", "usage")]
        "".join(kept).encode()  # a lone surrogate cannot be stored or sent on
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelProtocolError from error
    return Reply(received["model"], kept[1], received["stop_reason"], Usage(kept[3]))


def _require_whole(received: Any) -> None:
    content, stop_reason, usage = received["content"], received["stop_reason"], received["usage"]
    for name in (received["model"], stop_reason):
        if not (isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME):
            raise ValueError(name)
    if not isinstance(content, list) or not all(map(_is_block, content)):
        raise ValueError("content")
    # A refusal may say nothing; any other reply has something in it.
    if stop_reason != "refusal" and not any(block["type"] != "text" or block["text"].strip() for block in content):
        raise ValueError("content")
    counts = [usage.get(name) for name in _COUNTS]
    by_age = usage.get("cache_creation")
    counts += [] if by_age is None else [by_age.get("ephemeral_1h_input_tokens")]
    if not all(count is None or (type(count) is int and 0 <= count <= _MOST_TOKENS) for count in counts):
        raise ValueError("usage")


def _is_block(block: Any) -> bool:
    if not (isinstance(block, dict) and isinstance(block.get("type"), str)):
        return False
    return block["type"] != "text" or isinstance(block.get("text"), str)


def _no_constant(name: str) -> NoReturn:
    """Raises ValueError: NaN and Infinity are no JSON."""
    raise ValueError(name)


def _meaning(error: anthropic.APIError) -> ModelError:
    if isinstance(error, anthropic.APITimeoutError):
        return ModelUnavailable(_RETRY_AFTER_S) if isinstance(error.__cause__, _NOT_SENT) else ModelTimeout()
    if isinstance(error, anthropic.APIConnectionError):
        return ModelUnavailable(_RETRY_AFTER_S) if isinstance(error.__cause__, _NOT_SENT) else ModelFailed()
    if not isinstance(error, anthropic.APIStatusError):
        return ModelProtocolError()
    status = error.status_code
    if status in (429, _OVERLOADED):
        return ModelUnavailable(max(1, round(_retry_after_s(error))) if _retry_after_s(error) else _RETRY_AFTER_S)
    if status in (401, 402, 403):
        return ModelAccessDenied()
    if status in (408, 409):
        return ModelUnavailable(_RETRY_AFTER_S)
    if status == 413 or (status == 400 and any(mark in _provider_message(error) for mark in _TOO_LONG)):
        return ContextTooLong()
    return ModelRejected() if status < 500 else ModelFailed()


def _retry_after_s(error: anthropic.APIError) -> float:
    """The provider's retry-after in seconds; 0 when it gave none or a date."""
    if not isinstance(error, anthropic.APIStatusError):
        return 0.0
    try:
        seconds = float(error.response.headers.get("retry-after", "0"))
    except ValueError:
        return 0.0
    return min(max(0.0, seconds), _LONGEST_RETRY_AFTER_S) if math.isfinite(seconds) else 0.0


def _provider_message(error: anthropic.APIStatusError) -> str:
    body = error.body
    details = body.get("error") if isinstance(body, Mapping) else None
    return str(details.get("message", "")) if isinstance(details, Mapping) else ""
