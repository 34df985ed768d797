"""ChatModel on the anthropic SDK: the Anthropic API, or whatever speaks it at a base URL.

The SDK's own retries are off: they ignore how much time is left, and each of them may be billed. This module tries
again only after failures that cannot have been billed, and only inside the time it was given.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

import anthropic
import httpx2

from turnlog.errors import (
    ContextTooLong,
    ModelError,
    ModelFailed,
    ModelProtocolError,
    ModelRejected,
    ModelTimeout,
    ModelUnavailable,
)
from turnlog.messages import Message, Reply, Usage, to_json
from turnlog.model import ModelRequest

_CONNECT_S = 5.0
_LEAST_USEFUL_S = 1.0  # with less time left than this another try is not begun
_RETRY_AFTER_S = 5  # what callers are told when the provider did not say
_OVERLOADED = 529
_STAND_IN = "x-turnlog-stand-in"
_BREAKPOINT = {"type": "ephemeral"}


class Claude:
    """Asks Claude. `api_key` is called for each request, so that a rotated key is taken up.

    With `allows_stand_in` false a reply that names itself a stand-in's is refused, as production must.
    """

    def __init__(self, base_url: str, api_key: Callable[[], str], *, allows_stand_in: bool = False) -> None:
        self._sdk = anthropic.Anthropic(base_url=base_url, api_key="given with each request", max_retries=0)
        self._api_key = api_key
        self._allows_stand_in = allows_stand_in

    def reply(self, request: ModelRequest, seconds: float) -> Reply:
        """See ChatModel."""
        deadline = time.monotonic() + seconds
        client = self._sdk.with_options(api_key=self._api_key())
        wait_s = 0.5
        while True:
            left_s = deadline - time.monotonic()
            if left_s < _LEAST_USEFUL_S:
                raise ModelUnavailable(_RETRY_AFTER_S)
            try:
                return self._reply_once(client, request, left_s)
            except anthropic.APIError as error:
                meaning = _meaning(error)
                if not isinstance(meaning, ModelUnavailable):
                    raise meaning from error
                pause_s = max(_retry_after_s(error), wait_s * random.uniform(0.5, 1.5))  # noqa: S311 (jitter)
                if pause_s > deadline - time.monotonic() - _LEAST_USEFUL_S:
                    raise meaning from error
            except httpx2.HTTPError as error:  # the body broke off: the SDK lets this one through
                raise ModelFailed from error
            time.sleep(pause_s)
            wait_s *= 2

    def _reply_once(self, client: anthropic.Anthropic, request: ModelRequest, seconds: float) -> Reply:
        raw = client.messages.with_raw_response.create(
            **_arguments(request), timeout=httpx2.Timeout(seconds, connect=min(seconds, _CONNECT_S))
        )
        if _STAND_IN in raw.headers and not self._allows_stand_in:
            raise ModelRejected
        return _reply(raw.http_response.content)


def _arguments(request: ModelRequest) -> dict[str, Any]:
    sent: list[dict[str, Any]] = [{"role": message.role, "content": message.blocks} for message in request.messages]
    arguments: dict[str, Any] = {"model": request.model, "max_tokens": request.max_tokens, "messages": sent}
    if request.cached:
        # At send time only, never stored: what is stored must stay the same whatever is cached.
        sent[-1]["content"][-1]["cache_control"] = _BREAKPOINT
    if request.system:
        system = {"type": "text", "text": request.system}
        arguments["system"] = [system | {"cache_control": _BREAKPOINT} if request.cached else system]
    if request.stop_sequences:
        arguments["stop_sequences"] = list(request.stop_sequences)
    return arguments


def _reply(body: bytes) -> Reply:
    """The reply as it came. Raises ModelProtocolError if it is not whole."""
    try:
        received = json.loads(body)
        content, stop_reason = received["content"], received["stop_reason"]
        reply = Reply(received["model"], to_json(content), stop_reason, Usage(to_json(received["usage"])))
        reply.content.encode()  # a lone surrogate cannot be stored or sent on
        whole = isinstance(stop_reason, str) and isinstance(reply.model, str) and reply.usage.tokens >= 0
        filled = bool(Message("assistant", reply.content).blocks) or stop_reason == "refusal"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelProtocolError from error
    if not (whole and filled):
        raise ModelProtocolError
    return reply


def _meaning(error: anthropic.APIError) -> ModelError:
    if isinstance(error, anthropic.APITimeoutError):
        return (
            ModelUnavailable(_RETRY_AFTER_S) if isinstance(error.__cause__, httpx2.ConnectTimeout) else ModelTimeout()
        )
    if isinstance(error, anthropic.APIConnectionError):
        return ModelUnavailable(_RETRY_AFTER_S) if isinstance(error.__cause__, httpx2.ConnectError) else ModelFailed()
    if not isinstance(error, anthropic.APIStatusError):
        return ModelProtocolError()
    status = error.status_code
    if status in (429, _OVERLOADED):
        return ModelUnavailable(max(1, round(_retry_after_s(error))) if _retry_after_s(error) else _RETRY_AFTER_S)
    if status in (401, 403, 404):
        return ModelRejected()
    if status == 413 or (status == 400 and "prompt is too long" in _provider_message(error)):
        return ContextTooLong()
    return ModelRejected() if status < 500 else ModelFailed()


def _retry_after_s(error: anthropic.APIError) -> float:
    """The provider's retry-after in seconds; 0 when it gave none or a date."""
    if not isinstance(error, anthropic.APIStatusError):
        return 0.0
    try:
        return max(0.0, float(error.response.headers.get("retry-after", "0")))
    except ValueError:
        return 0.0


def _provider_message(error: anthropic.APIStatusError) -> str:
    body = error.body
    details = body.get("error") if isinstance(body, Mapping) else None
    return str(details.get("message", "")) if isinstance(details, Mapping) else ""
