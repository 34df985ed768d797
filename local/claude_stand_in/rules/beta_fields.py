"""The fields that a beta allows: that each has the form which the API asks for."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from local.claude_stand_in.errors import invalid
from local.claude_stand_in.rules.models import served_model

EDITS = ("clear_thinking_20251015", "clear_tool_uses_20250919", "compact_20260112")
_FALLBACK_FIELDS = {"model", "max_tokens", "output_config", "speed", "thinking"}


def check_beta_fields(body: dict[str, Any], now: datetime) -> None:
    """Raises ApiError for a field of the wrong form. All that are there are allowed."""
    _check_edits(body.get("context_management"))
    _check_fallbacks(body.get("fallbacks"), now)
    for field in ("mcp_servers", "safeguards"):
        for number, each in enumerate(_listed(field, body.get(field))):
            if not isinstance(each.get("type"), str):
                raise invalid(f"{field}.{number}.type: Field required")
    if not isinstance(body.get("fallback_credit_token"), str | dict | None):
        raise invalid("fallback_credit_token: Input should be a valid string")


def _check_edits(config: object) -> None:
    if config is None:
        return
    if not isinstance(config, dict):
        raise invalid("context_management: Input should be a valid dictionary")
    for field in config.keys() - {"edits"}:
        raise invalid(f"context_management.{field}: Extra inputs are not permitted")
    for number, edit in enumerate(_listed("context_management.edits", config.get("edits"))):
        if edit.get("type") not in EDITS:
            raise invalid(
                f"context_management.edits.{number}: Input tag does not match any of the expected tags:"
                f" {', '.join(EDITS)}"
            )


def _check_fallbacks(fallbacks: object, now: datetime) -> None:
    if fallbacks == "default":
        return
    for number, each in enumerate(_listed("fallbacks", fallbacks)):
        for field in each.keys() - _FALLBACK_FIELDS:
            raise invalid(f"fallbacks.{number}.{field}: Extra inputs are not permitted")
        if not isinstance(each.get("model"), str):
            raise invalid(f"fallbacks.{number}.model: Field required")
        served_model(each["model"], now)


def _listed(path: str, value: object) -> list[dict[str, Any]]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise invalid(f"{path}: Input should be a valid list of objects")
    return value
