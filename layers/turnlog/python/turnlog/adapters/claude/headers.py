"""The headers of the provider's answers: its name of the call, and what is left of the rate limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from turnlog.domain.received_reply import short_name

REQUEST_ID = "request-id"
"""The header with the provider's name of a call."""

STAND_IN = "x-turnlog-stand-in"
"""The header by which an answer says that it is a stand-in's."""

_LIMITS = {
    "requests_left": "anthropic-ratelimit-requests-remaining",
    "input_tokens_left": "anthropic-ratelimit-input-tokens-remaining",
    "output_tokens_left": "anthropic-ratelimit-output-tokens-remaining",
}


def request_id_of(headers: Mapping[str, str]) -> str:
    """The provider's name of the call, for its support; empty if it gave none that can be written into one line."""
    return short_name(headers.get(REQUEST_ID))


def limits_left(headers: Mapping[str, str]) -> dict[str, Any]:
    """The rest of the rate limits, as far as the provider says it."""
    said = {field: headers.get(name, "") for field, name in _LIMITS.items()}
    return {field: int(text) for field, text in said.items() if text.isascii() and text.isdigit() and len(text) < 19}
