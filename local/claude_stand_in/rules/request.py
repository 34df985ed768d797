"""The fields of a request besides its prompt."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from local.claude_stand_in.dialect import OLD_VERSION, Dialect
from local.claude_stand_in.errors import invalid

REQUIRED_FIELDS = ("model", "max_tokens", "messages")
OPTIONAL_FIELDS = frozenset(
    {
        "cache_control",
        "container",
        "diagnostics",
        "inference_geo",
        "metadata",
        "output_config",
        "service_tier",
        "speed",
        "stop_sequences",
        "stream",
        "system",
        "thinking",
        "tool_choice",
        "tools",
    }
)
BETA_FIELDS = ("context_management", "fallback_credit_token", "fallbacks", "mcp_servers", "safeguards")
SAMPLING_FIELDS = frozenset({"temperature", "top_k", "top_p"})  # of the old version of the API alone
COUNT_REQUIRED_FIELDS = ("model", "messages")
COUNT_BETA_FIELDS = ("context_management", "mcp_servers", "safeguards")
COUNT_OPTIONAL_FIELDS = OPTIONAL_FIELDS - {
    "container",
    "diagnostics",
    "inference_geo",
    "metadata",
    "service_tier",
    "stop_sequences",
    "stream",
}


def parsed(raw: bytes) -> dict[str, Any]:
    """The request's JSON object. Raises ApiError when it is none in UTF-8, or has NaN or lone surrogates."""
    try:
        body = json.loads(raw.decode(), parse_constant=_refuse_constant)
        json.dumps(body, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise invalid("The request body is not valid JSON.") from error
    if not isinstance(body, dict):
        raise invalid("The request body must be a JSON object.")
    return body


def message_fields(dialect: Dialect) -> frozenset[str]:
    """The optional fields of POST /v1/messages."""
    sampling = SAMPLING_FIELDS if dialect.version == OLD_VERSION else frozenset()
    return OPTIONAL_FIELDS | dialect.allowed(*BETA_FIELDS) | sampling


def count_fields(dialect: Dialect) -> frozenset[str]:
    """The optional fields of POST /v1/messages/count_tokens."""
    return COUNT_OPTIONAL_FIELDS | dialect.allowed(*COUNT_BETA_FIELDS)


def check_fields(body: dict[str, Any], required: tuple[str, ...], optional: frozenset[str]) -> None:
    """Raises ApiError for a field that is missing or unknown, or a model that has no name."""
    for field in required:
        if field not in body:
            raise invalid(f"{field}: Field required")
    for field in body:
        if field not in required and field not in optional:
            raise invalid(f"{field}: Extra inputs are not permitted")
    if not isinstance(body["model"], str) or not body["model"]:
        raise invalid("model: Input should be a valid string")


def check_sampling(body: dict[str, Any]) -> None:
    """Raises ApiError for wrong settings of the reply: its length, its stop sequences, its stream."""
    _check_max_tokens(body["max_tokens"])
    if not isinstance(body.get("stream", False), bool):
        raise invalid("stream: Input should be a valid boolean")
    _check_stop_sequences(body.get("stop_sequences", []))
    for field in sorted(SAMPLING_FIELDS & body.keys()):
        _check_number(field, body[field])
    _check_diagnostics(body.get("diagnostics"))


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _check_max_tokens(max_tokens: object) -> None:
    if not isinstance(max_tokens, int) or isinstance(max_tokens, bool):
        raise invalid("max_tokens: Input should be a valid integer")
    if max_tokens < 0:
        raise invalid("max_tokens: Input should be greater than or equal to 0")


def _check_number(field: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise invalid(f"{field}: Input should be a valid number")
    if not (isinstance(value, int) if field == "top_k" else value <= 1) or value < 0:
        raise invalid(f"{field}: range: {'0 or more' if field == 'top_k' else '0..1'}")


def _check_diagnostics(diagnostics: object) -> None:
    if diagnostics is None:
        return
    if not isinstance(diagnostics, dict) or diagnostics.keys() - {"previous_message_id"}:
        raise invalid("diagnostics: Input should be an object with previous_message_id")
    if not isinstance(diagnostics.get("previous_message_id"), str | None):
        raise invalid("diagnostics.previous_message_id: Input should be a valid string")


def _check_stop_sequences(sequences: object) -> None:
    if not isinstance(sequences, list) or not all(isinstance(each, str) for each in sequences):
        raise invalid("stop_sequences: Input should be a valid list of strings")
    if not all(each.strip() for each in sequences):
        raise invalid("stop_sequences: each stop sequence must contain non-whitespace")
