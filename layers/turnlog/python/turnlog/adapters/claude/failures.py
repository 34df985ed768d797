"""The meaning of what goes wrong: each error of the SDK or of a stream becomes the one of ours that says what to do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import anthropic
import httpx2

from turnlog.adapters.claude.time_bounds import TooLong
from turnlog.domain.messages import ModelRequest
from turnlog.domain.models import successor_of
from turnlog.domain.received_reply import UNREADABLE, parsed
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

RETRY_AFTER_S = 5
"""Seconds for callers when the provider gave none."""

NOT_SENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.UnsupportedProtocol,
    httpx2.LocalProtocolError,
)
"""The client's errors after which nothing was sent that could be billed."""

_LONGEST_RETRY_AFTER_S = 3600.0  # a longer one of the provider is cut to this
_OVERLOADED = 529
_TOO_LONG = ("prompt is too long", "exceed context limit")  # the only marks of it: the API has no code for it
_NO_CREDIT = "credit balance is too low"
_NO_MODEL = "model"  # of a 404: one of a wrong base URL is another server's, or says nothing of a model
# Likewise of thinking blocks that are not taken back, since what was sent before them has changed.
_THINKING_REFUSED = ("bound to a different conversation", "in `thinking` block", "`redacted_thinking` blocks")
_BLOCK_REFUSED = "does not match any of the expected tags"  # and of a block of a kind that came in a reply
_STATUS_OF = {  # of the API's error types, which are all that an error in a stream has
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": _OVERLOADED,
}


def meaning(error: anthropic.APIError | httpx2.HTTPError, model: str) -> ModelError:
    """The error of ours; `model` is the one that was asked for. An error of HTTP is of a body that broke off."""
    if isinstance(error, TooLong) or isinstance(error.__cause__, TooLong):
        return ModelProtocolError()
    if isinstance(error, httpx2.HTTPError):
        return ModelTimeout() if isinstance(error, httpx2.TimeoutException) else ModelFailed()
    if isinstance(error, anthropic.APITimeoutError):
        return ModelUnavailable(RETRY_AFTER_S) if isinstance(error.__cause__, NOT_SENT) else ModelTimeout()
    if isinstance(error, anthropic.APIConnectionError):
        return ModelUnavailable(RETRY_AFTER_S) if isinstance(error.__cause__, NOT_SENT) else ModelFailed()
    return _meaning_of_status(error, model) if isinstance(error, anthropic.APIStatusError) else ModelProtocolError()


def _meaning_of_status(error: anthropic.APIStatusError, model: str) -> ModelError:
    status = error.status_code
    if status in (429, _OVERLOADED):
        return ModelUnavailable(max(1, round(retry_after_s(error))) if retry_after_s(error) else RETRY_AFTER_S)
    if status == 402 or (status == 400 and _NO_CREDIT in _provider_message(error)):
        return ModelCreditUsedUp()
    if status in (401, 403):
        return ModelAccessDenied()
    if status in (408, 409):
        return ModelUnavailable(RETRY_AFTER_S)
    if status == 413 or (status == 400 and any(mark in _provider_message(error) for mark in _TOO_LONG)):
        return ContextTooLong()
    if status == 404 and _NO_MODEL in _provider_message(error):
        return ModelNotServed(successor_of(model))
    return ModelRejected() if status < 500 else ModelFailed()


def error_event(data: str, response: httpx2.Response) -> anthropic.APIStatusError:
    """The error that an event of a stream tells, as if it were the answer: so it is one when nothing came before it."""
    try:
        body = parsed(data)
        kind = body["error"]["type"]
        status = _STATUS_OF.get(kind, 500)
    except UNREADABLE:
        body, status = None, 500
    error = anthropic.APIStatusError("", response=response, body=body)
    error.status_code = status
    return error


def meaning_after_events(error: anthropic.APIStatusError) -> ModelError:
    """The meaning of an error within a reply. What it had generated may be billed, whatever the error says."""
    return ModelTimeout() if error.status_code == _STATUS_OF["timeout_error"] else ModelFailed()


def mended(error: Exception, request: ModelRequest) -> ModelRequest:
    """The request without what the provider does not take back of replies, of which no beginning is cached."""
    if not (isinstance(error, anthropic.APIStatusError) and error.status_code == 400):
        return request
    said = _provider_message(error)
    if any(mark in said for mark in _THINKING_REFUSED):
        return replace(request, messages=without_thinking(request.messages), cached_messages=0)
    if _BLOCK_REFUSED in said:
        return replace(request, messages=without_unknown_blocks(request.messages), cached_messages=0)
    return request


def retry_after_s(error: Exception) -> float:
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
