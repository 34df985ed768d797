"""The rules of the Messages API, one idea a module, each as strict as Claude's own.

The wording follows the API's own where it is known. A rule's source stands in the name or the docstring of its test.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from local.claude_stand_in.dialect import PLAIN, Dialect
from local.claude_stand_in.models import Model
from local.claude_stand_in.prompt import Prompt
from local.claude_stand_in.rules.beta_fields import check_beta_fields
from local.claude_stand_in.rules.history import check_history
from local.claude_stand_in.rules.marks import check_marks
from local.claude_stand_in.rules.media import check_media
from local.claude_stand_in.rules.models import check_abilities, check_context, check_output_length, served_model
from local.claude_stand_in.rules.request import (
    COUNT_REQUIRED_FIELDS,
    REQUIRED_FIELDS,
    check_fields,
    check_sampling,
    count_fields,
    message_fields,
    parsed,
)
from local.claude_stand_in.rules.schemas import check_output
from local.claude_stand_in.rules.thinking import check_thinking
from local.claude_stand_in.rules.tools import check_tools

__all__ = ["check_count_request", "check_message_request", "parsed"]


def check_message_request(body: dict[str, Any], now: datetime, dialect: Dialect = PLAIN) -> Prompt:
    """The valid prompt. Raises ApiError for a body that POST /v1/messages refuses at this time."""
    check_fields(body, REQUIRED_FIELDS, message_fields(dialect))
    check_sampling(body)
    model = served_model(body["model"], now)
    check_output_length(body, model)
    prompt = _checked_prompt(body, model, now, dialect)
    check_context(prompt)
    return prompt


def check_count_request(body: dict[str, Any], now: datetime, dialect: Dialect = PLAIN) -> Prompt:
    """The valid prompt. Raises ApiError for a body that POST /v1/messages/count_tokens refuses at this time."""
    check_fields(body, COUNT_REQUIRED_FIELDS, count_fields(dialect))
    return _checked_prompt(body, served_model(body["model"], now), now, dialect)


def _checked_prompt(body: dict[str, Any], model: Model, now: datetime, dialect: Dialect) -> Prompt:
    check_beta_fields(body, now)
    check_tools(body, dialect)
    check_output(body, dialect)
    check_history(body, dialect)
    check_marks(body)
    check_abilities(body, model)
    check_media(body, model)
    prompt = Prompt.of(body, model, dialect)
    check_thinking(prompt)
    return prompt
