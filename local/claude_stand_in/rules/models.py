"""Rules that depend on the model: that it exists, how much it reads and writes, and what it cannot be told to do."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from local.claude_stand_in.errors import ApiError, invalid
from local.claude_stand_in.models import Model, model_of
from local.claude_stand_in.prompt import Prompt


def served_model(name: str, now: datetime) -> Model:
    """The model with this id. Raises ApiError when there is none, or when it is retired by then."""
    model = model_of(name)
    if model is None or model.is_retired(now):
        raise ApiError("not_found_error", f"model: {name}")
    return model


def check_output_length(body: dict[str, Any], model: Model) -> None:
    """Raises ApiError for more than the model can write."""
    if body["max_tokens"] > model.most_output:
        raise invalid(
            f"max_tokens: {body['max_tokens']} > {model.most_output}, which is the maximum allowed number of output"
            f" tokens for {body['model']}"
        )


def check_abilities(body: dict[str, Any], model: Model) -> None:
    """Raises ApiError for a forced tool or a message of the system where the model takes none."""
    choice = (body.get("tool_choice") or {}).get("type")
    if choice in ("any", "tool") and not model.forces_tools:
        raise invalid(f'"tool_choice.type.{choice}" is not supported for this model. Use "tool_choice.type.auto".')
    if not model.takes_system_messages and any(each["role"] == "system" for each in body["messages"]):
        raise invalid("role 'system' is not supported on this model")


def check_context(prompt: Prompt) -> None:
    """Raises ApiError for a prompt that is longer than the model's context."""
    if prompt.tokens > prompt.model.context:
        raise invalid(f"prompt is too long: {prompt.tokens} tokens > {prompt.model.context} maximum")
