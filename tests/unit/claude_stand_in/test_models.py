"""The models that the stand-in plays: which there are, how much each reads and writes, and what came with the newer.

An id or a docstring names the source: a page of the provider's docs, the SDK's types, or reports of users.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, get_args

import pytest
from anthropic.types import ModelParam

from local.claude_stand_in import StandIn
from local.claude_stand_in.models import MODELS, model_of
from tests.unit.claude_stand_in.asking import ASSISTANT, USER, WELL_FORMED, posted, with_messages

NOTE = {"role": "system", "content": "It is Monday."}


def test_the_models_are_those_that_the_sdk_lists() -> None:
    """Types ModelParam. The preview is nobody's to use."""
    listed = set(get_args(get_args(ModelParam)[0])) - {"claude-mythos-preview"}
    assert {name for name in listed if model_of(name) is None} == set()
    assert MODELS.keys() <= listed


@pytest.mark.parametrize("name", ["claude-unheard-of", "claude-3-opus-20240229", "gpt-5", "us.anthropic.claude-opus-5"])
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_a_model_that_there_is_not_is_not_found(claude: StandIn, name: str, path: str) -> None:
    """Page Errors: 404."""
    body = {"model": name, "messages": [USER]} | ({"max_tokens": 5} if path == "/v1/messages" else {})
    status, answer = posted(claude, body, path)
    assert (status, answer["error"]) == (404, {"type": "not_found_error", "message": f"model: {name}"})


@pytest.mark.parametrize(
    ("day", "status"), [(datetime(2026, 11, 29, tzinfo=UTC), 200), (datetime(2026, 11, 30, tzinfo=UTC), 404)]
)
def test_a_model_is_there_until_it_retires(day: datetime, status: int) -> None:
    """Page Model deprecations."""
    with StandIn(clock=day.timestamp) as claude:
        assert posted(claude, WELL_FORMED | {"model": "claude-sonnet-4-5"})[0] == status
        assert posted(claude, WELL_FORMED | {"model": "claude-sonnet-4-5-20250929"})[0] == status


@pytest.mark.parametrize(("name", "context"), [("claude-sonnet-5-5", 1_000_000), ("claude-haiku-4-5", 200_000)])
def test_a_prompt_may_fill_the_context_and_no_more(claude: StandIn, name: str, context: int) -> None:
    """Page Context windows."""
    fitting = WELL_FORMED | {"model": name, "messages": [{"role": "user", "content": "x" * 4 * (context - 4)}]}
    assert posted(claude, fitting)[0] == 200
    status, answer = posted(claude, fitting | {"system": "x"})
    assert (status, answer["error"]["message"]) == (
        400,
        f"prompt is too long: {context + 1} tokens > {context} maximum",
    )


def test_a_reply_that_outgrows_the_context_stops_there(claude: StandIn) -> None:
    """Page Stop reasons and fallback: model_context_window_exceeded."""
    text = "Write 5000 words. " + "x" * 4 * 199_980
    body = WELL_FORMED | {"model": "claude-haiku-4-5", "max_tokens": 20_000}
    answer = posted(claude, body | {"messages": [{"role": "user", "content": text}]})[1]
    assert answer["stop_reason"] == "model_context_window_exceeded"
    assert sum(answer["usage"][name] for name in ("input_tokens", "output_tokens")) == 200_000


def test_no_more_may_be_asked_for_than_a_model_writes(claude: StandIn) -> None:
    """Page Models overview: max output."""
    status, answer = posted(claude, WELL_FORMED | {"max_tokens": 128_001})
    assert (status, "128001 > 128000" in answer["error"]["message"]) == (400, True)


class TestSystemMessages:
    """Page Mid-conversation system messages."""

    @pytest.mark.parametrize(
        "messages", [[USER, NOTE], [USER, NOTE, ASSISTANT, USER], [USER, ASSISTANT, USER, NOTE], [USER, NOTE, NOTE]]
    )
    def test_they_stand_after_a_message_of_the_user(self, claude: StandIn, messages: list[dict[str, Any]]) -> None:
        status, answer = posted(claude, with_messages(*messages))
        assert status == 200, answer
        assert "You said “Hello”" in answer["content"][0]["text"]

    @pytest.mark.parametrize("messages", [[NOTE, USER], [USER, ASSISTANT, NOTE], [USER, NOTE, USER]])
    def test_they_stand_nowhere_else(self, claude: StandIn, messages: list[dict[str, Any]]) -> None:
        assert posted(claude, with_messages(*messages))[0] == 400

    def test_older_models_take_none(self, claude: StandIn) -> None:
        status, answer = posted(claude, with_messages(USER, NOTE) | {"model": "claude-opus-4-6"})
        assert (status, answer["error"]["message"]) == (400, "role 'system' is not supported on this model")

    def test_they_have_text_alone(self, claude: StandIn) -> None:
        """Types SystemMessageParam."""
        result = {"type": "tool_result", "tool_use_id": "t"}
        assert posted(claude, with_messages(USER, NOTE | {"content": [result]}))[0] == 400


def test_no_output_is_asked_for_to_warm_the_cache(claude: StandIn) -> None:
    """Page Prompt caching: pre-warming the cache."""
    status, answer = posted(claude, WELL_FORMED | {"max_tokens": 0})
    assert (status, answer["content"], answer["stop_reason"]) == (200, [], "max_tokens")
    assert answer["usage"]["output_tokens"] == 0


@pytest.mark.parametrize(("diagnostics", "status"), [
    ({"previous_message_id": None}, 200), ({}, 200), (None, 200),
    ({"previous_message_id": 5}, 400), ({"colour": "red"}, 400), ("on", 400),
])  # fmt: skip
def test_diagnostics_name_the_message_before(claude: StandIn, diagnostics: object, status: int) -> None:
    """Types DiagnosticsParam."""
    assert posted(claude, WELL_FORMED | {"diagnostics": diagnostics})[0] == status
