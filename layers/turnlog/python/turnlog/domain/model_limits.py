"""Settings that a model, or the API, would refuse: said before anything is paid, as far as it is known."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, TypeVar

from turnlog.domain.messages import ModelSettings
from turnlog.domain.models import model_of
from turnlog.errors import ValueRefused

Settings = TypeVar("Settings", bound=ModelSettings)


def require_possible(settings: ModelSettings) -> None:
    """Raises ValueRefused for a length, thinking or an effort that the model does not do. An unknown model may do
    anything.
    """
    refused = _refused_length(settings) or _refused_thinking(settings) or _refused_effort(settings)
    if refused:
        raise refused


def made_possible(settings: Settings) -> Settings:
    """The settings without what their model does not do, and of its length at most: another model's had them."""
    if _refused_length(settings):
        settings = replace(settings, max_tokens=_longest(settings))
    thinking = "" if _refused_thinking(settings) else settings.thinking
    return replace(settings, thinking=thinking, effort="" if _refused_effort(settings) else settings.effort)


def _refused_length(settings: ModelSettings) -> ValueRefused | None:
    longest = _longest(settings)
    if settings.max_tokens <= longest:
        return None
    return ValueRefused("max_tokens_range", "/max_tokens", {"minimum": 1, "maximum": longest})


def _longest(settings: ModelSettings) -> int:
    model = model_of(settings.model)
    return (model and model.max_output_tokens) or settings.max_tokens


def _refused_thinking(settings: ModelSettings) -> ValueRefused | None:
    if not settings.thinking:
        return None
    thinking: dict[str, Any] = json.loads(settings.thinking)
    if thinking.get("budget_tokens", 0) >= settings.max_tokens:  # of which it is a part
        return ValueRefused("thinking_range", "/thinking/budget_tokens", {"maximum": settings.max_tokens - 1})
    model = model_of(settings.model)
    if model is None or model.thinking is None or thinking["type"] in model.thinking:
        return None
    return ValueRefused("thinking_range", "/thinking/type", {"allowed": list(model.thinking)})


def _refused_effort(settings: ModelSettings) -> ValueRefused | None:
    model = model_of(settings.model)
    if not settings.effort or model is None or model.effort is None or settings.effort in model.effort:
        return None
    return ValueRefused("effort_range", "/effort", {"allowed": list(model.effort)})
