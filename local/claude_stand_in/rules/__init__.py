"""The rules of the Messages API, one idea a module, each as strict as Claude's own.

The wording follows the API's own where it is known. A rule's source stands in the name or the docstring of its test.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from local.claude_stand_in.models import Model
from local.claude_stand_in.prompt import Prompt
from local.claude_stand_in.rules.history import check_history
from local.claude_stand_in.rules.marks import check_marks
from local.claude_stand_in.rules.media import check_media
from local.claude_stand_in.rules.models import check_abilities, check_context, check_output_length, served_model
from local.claude_stand_in.rules.request import (
    COUNT_OPTIONAL_FIELDS,
    COUNT_REQUIRED_FIELDS,
    OPTIONAL_FIELDS,
    REQUIRED_FIELDS,
    check_fields,
    check_sampling,
    parsed,
)
from local.claude_stand_in.rules.schemas import check_output
from local.claude_stand_in.rules.thinking import check_thinking
from local.claude_stand_in.rules.tools import check_tools

__all__ = ["check_count_request", "check_message_request", "parsed"]


def check_message_request(body: dict[str, Any], now: datetime) -> Prompt:
    """The valid prompt. Raises ApiError for a body that POST /v1/messages refuses at this time."""
    check_fields(body, REQUIRED_FIELDS, OPTIONAL_FIELDS)
    check_sampling(body)
    model = served_model(body["model"], now)
    check_output_length(body, model)
    prompt = _checked_prompt(body, model)
    check_context(prompt)
    return prompt


def check_count_request(body: dict[str, Any], now: datetime) -> Prompt:
    """The valid prompt. Raises ApiError for a body that POST /v1/messages/count_tokens refuses at this time."""
    check_fields(body, COUNT_REQUIRED_FIELDS, COUNT_OPTIONAL_FIELDS)
    return _checked_prompt(body, served_model(body["model"], now))


def _checked_prompt(body: dict[str, Any], model: Model) -> Prompt:
    check_tools(body)
    check_output(body)
    check_history(body)
    check_marks(body)
    check_abilities(body, model)
    check_media(body, model)
    prompt = Prompt.of(body, model)
    check_thinking(prompt)
    return prompt
