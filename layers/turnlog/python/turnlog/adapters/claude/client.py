"""ChatModel on the anthropic SDK: the Anthropic API, or whatever speaks it at a base URL.

The SDK's own retries are off: they ignore how much time is left, and each of them may be billed. This module tries
again only after failures that cannot have been billed, and only inside the time it was given.
"""

from __future__ import annotations

import json
import math
import random
import re
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, NoReturn, Protocol

import anthropic
import httpx2

from turnlog.domain.blocks.reading import TOOL_USE_ID_PATTERN
from turnlog.domain.messages import Message, ModelRequest, ModelSettings, Reply, Usage, to_json
from turnlog.domain.models import successor_of
from turnlog.domain.reply_events import OnEvent, events_of
from turnlog.domain.tools import results_in
from turnlog.domain.window import without_thinking, without_unknown_blocks
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

_CONNECT_S = 5.0
_BETWEEN_BYTES_S = 3.0  # of a body that has begun: the most by which a reply can outlast its time
_LEAST_USEFUL_S = 1.0  # with less time left than this another try is not begun
_RETRY_AFTER_S = 5  # for callers when the provider gave none
_LONGEST_RETRY_AFTER_S = 3600.0  # a longer one of the provider is cut to this
_OVERLOADED = 529
_TOO_LONG = ("prompt is too long", "exceed context limit")  # the only marks of it: the API has no code for it
_NO_CREDIT = "credit balance is too low"
_NO_MODEL = "model"  # of a 404: one of a wrong base URL is another server's, or says nothing of a model
# Likewise of thinking blocks that are not taken back, since what was sent before them has changed.
_THINKING_REFUSED = ("bound to a different conversation", "in `thinking` block", "`redacted_thinking` blocks")
_BLOCK_REFUSED = "does not match any of the expected tags"  # and of a block of a kind that came in a reply
_STAND_IN = "x-turnlog-stand-in"
_REQUEST_ID = "request-id"
_LIMITS = {
    "requests_left": "anthropic-ratelimit-requests-remaining",
    "input_tokens_left": "anthropic-ratelimit-input-tokens-remaining",
    "output_tokens_left": "anthropic-ratelimit-output-tokens-remaining",
}
_MARKABLE = frozenset(("text", "image", "document", "search_result", "tool_result"))  # blocks that take a breakpoint
_COUNTS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")
_MOST_TOKENS = 10**9  # of one call; far more than any model takes, and what every reader of a number can hold
_LONGEST_NAME = 200  # of a model, a stop reason or an id
_LONGEST_STOP = 4_000  # characters of what the provider says about a stop; longer ones are not kept
_UNTIL = "turnlog_until"  # the extension of a request with the time at which its reply must be here
# Nothing was sent that could be billed.
_NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.UnsupportedProtocol, httpx2.LocalProtocolError)


class ApiKey(Protocol):
    """Returns the key, from wherever it is kept; with `renewed` not from a cache."""

    def __call__(self, *, renewed: bool = False) -> str: ...


class NoteCall(Protocol):
    """Notes one HTTP call of the provider, also one that failed, for the log.

    `provider_request_id` is what the provider's support asks for, `status` that of HTTP, and `code` that of the error.
    The rest is how much the provider says is left of its rate limits. Fields that are not known are empty.
    """

    def __call__(
        self,
        *,
        model: str,
        ms: int,
        provider_request_id: str,
        status: int | None = None,
        code: str = "",
        requests_left: int | None = None,
        input_tokens_left: int | None = None,
        output_tokens_left: int | None = None,
    ) -> None: ...


def _note_nothing(**_: object) -> None:
    pass


class Claude:
    """Asks Claude.

    `api_key` is called for each request, so that a rotated key is taken up, and once more when the provider refuses a
    cached one. With `allows_stand_in` false a reply that says it is a stand-in's is refused, as production must.
    `clock` returns seconds, and `note_call` is told of each HTTP call.
    """

    def __init__(
        self,
        base_url: str,
        api_key: ApiKey,
        *,
        allows_stand_in: bool = False,
        note_call: NoteCall = _note_nothing,
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
        self._note_call = note_call
        self._clock = clock
        self._sleep = sleep

    def reply(
        self, request: ModelRequest, seconds: float, on_event: OnEvent | None = None, *, retry_s: float | None = None
    ) -> Reply:
        """Does ChatModel.reply. The reply is read at once, so all events come when it is there."""
        reply = self._reply_in_time(request, seconds, seconds if retry_s is None else min(seconds, retry_s))
        if on_event:
            all(map(on_event, events_of(reply)))
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
                meaning = _meaning(error, request.settings.model)
                meaning.provider_request_id = _request_id(error)
                self._note(request, began, error, meaning)
                if (mended := _mended(error, request)).messages != request.messages:
                    request = mended  # or each further turn would be refused; what is refused is not billed
                    continue
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
                self._note(request, began, None, failed := ModelFailed())
                raise failed from error
            self._sleep(pause_s)
            wait_s *= 2

    def _reply_once(
        self, client: anthropic.Anthropic, request: ModelRequest, seconds: float, connect_s: float
    ) -> Reply:
        began = self._clock()
        raw = client.messages.with_raw_response.create(
            **_arguments(request), timeout=httpx2.Timeout(seconds, connect=connect_s)
        )
        if _STAND_IN in raw.headers and not self._allows_stand_in:
            raise ModelRejected
        request_id = _short(raw.headers.get(_REQUEST_ID))
        self._note_call(
            model=request.settings.model,
            ms=self._ms_since(began),
            provider_request_id=request_id,
            status=raw.http_response.status_code,
            **_limits_left(raw.headers),
        )
        try:
            return _reply(raw.http_response.content, request_id)
        except ModelProtocolError as error:
            error.provider_request_id = request_id
            raise

    def _note(self, request: ModelRequest, began: float, error: anthropic.APIError | None, meaning: ModelError) -> None:
        response = error.response if isinstance(error, anthropic.APIStatusError) else None
        self._note_call(
            model=request.settings.model,
            ms=self._ms_since(began),
            provider_request_id=meaning.provider_request_id,
            status=response.status_code if response else None,
            code=meaning.code,
            **(_limits_left(response.headers) if response else {}),
        )

    def _ms_since(self, began: float) -> int:
        return round((self._clock() - began) * 1000)


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
    if settings.system:
        arguments["system"] = [{"type": "text", "text": settings.system}]
    if settings.stop_sequences:
        arguments["stop_sequences"] = list(settings.stop_sequences)
    if settings.thinking:
        arguments["thinking"] = _thinking(settings.thinking, request.messages)
    if settings.tools:
        arguments["tools"] = json.loads(settings.tools)
        if settings.tool_choice:
            arguments["tool_choice"] = {"type": settings.tool_choice}
    if output := _output_config(settings):
        arguments["output_config"] = output
    if request.cached:
        _place_breakpoints(arguments, request)
    return arguments


def _thinking(asked: str, sent: Sequence[Message]) -> dict[str, Any]:
    """The thinking to ask for: none within calls of tools that did not begin with it.

    With a budget the provider takes results only after thinking, and a cut may have left that out.
    """
    thinking: dict[str, Any] = json.loads(asked)
    if thinking["type"] != "enabled":
        return thinking
    is_answer = False
    for role, said in groupby(reversed(sent), key=lambda message: message.role):
        if role == "user":
            if not any(map(results_in, said)):
                break
            is_answer = True
        elif role == "assistant" and any("thinking" in block["type"] for message in said for block in message.blocks):
            return thinking
    return {"type": "disabled"} if is_answer else thinking


def _output_config(settings: ModelSettings) -> dict[str, Any]:
    config: dict[str, Any] = {"effort": settings.effort} if settings.effort else {}
    if settings.output_schema:
        # Closed objects, and bounds of values as words in the descriptions: the API's grammar has none.
        schema = anthropic.transform_schema(json.loads(settings.output_schema))
        config["format"] = {"type": "json_schema", "schema": schema}
    return config


def _place_breakpoints(arguments: dict[str, Any], request: ModelRequest) -> None:
    """Sets at most three of the four breakpoints that the API takes.

    At send time only, never stored: what is stored must stay the same whatever is cached.
    """
    sent: list[dict[str, Any]] = arguments["messages"]
    own = arguments.get("system") or arguments.get("tools") or [{}]
    ttl = {} if request.cached == "5m" else {"ttl": request.cached}
    for block in (own[-1], _last_markable(sent[: request.cached_messages]), _last_markable(sent)):
        block["cache_control"] = {"type": "ephemeral", **ttl}


def _last_markable(sent: list[dict[str, Any]]) -> dict[str, Any]:
    """The last block that can end a cached prefix; a new one, of which nothing is sent, if there is none.

    Replies have none: they may end with thinking, and one that the model goes on with must be sent as it is.
    """
    for message in reversed(sent):
        for block in reversed(message["content"] if message["role"] != "assistant" else []):
            if block["type"] in _MARKABLE:
                found: dict[str, Any] = block
                return found
    return {}


def _mended(error: anthropic.APIError, request: ModelRequest) -> ModelRequest:
    """The request without what the provider does not take back of replies, of which no beginning is cached."""
    if not (isinstance(error, anthropic.APIStatusError) and error.status_code == 400):
        return request
    said = _provider_message(error)
    if any(mark in said for mark in _THINKING_REFUSED):
        return replace(request, messages=without_thinking(request.messages), cached_messages=0)
    if _BLOCK_REFUSED in said:
        return replace(request, messages=without_unknown_blocks(request.messages), cached_messages=0)
    return request


def _reply(body: bytes, request_id: str = "") -> Reply:
    """The reply as it came. Raises ModelProtocolError unless every part that is read later has its right form."""
    try:
        received = json.loads(body, parse_constant=_no_constant)
        _require_whole(received)
        kept = [to_json(received[name]) for name in ("model", "content", "stop_reason", "usage")]
        details = received.get("stop_details")
        stopped_by, said = _text(received.get("stop_sequence")), to_json(details) if isinstance(details, dict) else ""
        "".join([*kept, stopped_by, said]).encode()  # a lone surrogate cannot be stored or sent on
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelProtocolError from error
    return Reply(
        received["model"],
        kept[1],
        received["stop_reason"],
        Usage(kept[3]),
        id=_short(received.get("id")),
        request_id=request_id,
        stop_sequence=stopped_by if len(stopped_by) <= _LONGEST_STOP else "",
        stop_details=said if len(said) <= _LONGEST_STOP else "",
    )


def _require_whole(received: Any) -> None:
    content, stop_reason, usage = received["content"], received["stop_reason"], received["usage"]
    for name in (received["model"], stop_reason):
        if not (isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME):
            raise ValueError(name)
    # It may be empty: a model that has nothing to say has nothing in its reply, and is paid all the same.
    if not isinstance(content, list) or not all(map(_is_block, content)):
        raise ValueError("content")
    counts = [usage.get(name) for name in _COUNTS]
    by_age = usage.get("cache_creation")
    counts += [] if by_age is None else [by_age.get("ephemeral_1h_input_tokens")]
    if not all(count is None or (type(count) is int and 0 <= count <= _MOST_TOKENS) for count in counts):
        raise ValueError("usage")


def _is_block(block: Any) -> bool:
    if not (isinstance(block, dict) and isinstance(block.get("type"), str)):
        return False
    if block["type"] == "tool_use":
        return _is_call(block.get("id"), block.get("name"), block.get("input"))
    return block["type"] != "text" or isinstance(block.get("text"), str)


def _is_call(call_id: Any, name: Any, given: Any) -> bool:
    """True for a call that can be run, and whose result a message can bring: by an id of the API's form."""
    if not isinstance(call_id, str) or not re.fullmatch(TOOL_USE_ID_PATTERN, call_id):
        return False
    return isinstance(name, str) and isinstance(given, dict)


def _short(name: object) -> str:
    """A name that the provider gave, for logs; empty if it is none that can be written into one line."""
    is_name = isinstance(name, str) and len(name) <= _LONGEST_NAME and name.isascii() and name.isprintable()
    return str(name) if is_name else ""


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _no_constant(name: str) -> NoReturn:
    """Raises ValueError: NaN and Infinity are no JSON."""
    raise ValueError(name)


def _meaning(error: anthropic.APIError, model: str) -> ModelError:
    if isinstance(error, anthropic.APITimeoutError):
        return ModelUnavailable(_RETRY_AFTER_S) if isinstance(error.__cause__, _NOT_SENT) else ModelTimeout()
    if isinstance(error, anthropic.APIConnectionError):
        return ModelUnavailable(_RETRY_AFTER_S) if isinstance(error.__cause__, _NOT_SENT) else ModelFailed()
    if not isinstance(error, anthropic.APIStatusError):
        return ModelProtocolError()
    status = error.status_code
    if status in (429, _OVERLOADED):
        return ModelUnavailable(max(1, round(_retry_after_s(error))) if _retry_after_s(error) else _RETRY_AFTER_S)
    if status == 402 or (status == 400 and _NO_CREDIT in _provider_message(error)):
        return ModelCreditUsedUp()
    if status in (401, 403):
        return ModelAccessDenied()
    if status in (408, 409):
        return ModelUnavailable(_RETRY_AFTER_S)
    if status == 413 or (status == 400 and any(mark in _provider_message(error) for mark in _TOO_LONG)):
        return ContextTooLong()
    if status == 404 and _NO_MODEL in _provider_message(error):
        return ModelNotServed(successor_of(model))
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


def _request_id(error: anthropic.APIError) -> str:
    return _short(error.response.headers.get(_REQUEST_ID)) if isinstance(error, anthropic.APIStatusError) else ""


def _limits_left(headers: Mapping[str, str]) -> dict[str, Any]:
    """The rest of the rate limits, as far as the provider says it."""
    said = {field: headers.get(name, "") for field, name in _LIMITS.items()}
    return {field: int(text) for field, text in said.items() if text.isascii() and text.isdigit() and len(text) < 19}
