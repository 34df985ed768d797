"""The models that the stand-in plays: which there are, how much each reads and writes, and what came with the newer.

An id or a docstring names the source: a page of the provider's docs, the SDK's types, or reports of users.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, get_args

import anthropic
import pytest
from anthropic.types import ModelCapabilities, ModelInfo, ModelParam

from local.claude_stand_in import StandIn
from local.claude_stand_in.models import MODELS, model_of
from tests.unit.claude_stand_in.asking import ASSISTANT, USER, WELL_FORMED, http_answer, posted, with_messages
from tests.unit.claude_stand_in.files import png

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
        source = {"type": "base64", "media_type": "image/png", "data": png(5, 5)}
        for block in ({"type": "image", "source": source}, {"type": "tool_result", "tool_use_id": "t"}):
            status, answer = posted(claude, with_messages(USER, NOTE | {"content": [block]}))
            assert (status, "should be a text block" in answer["error"]["message"]) == (400, True)


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


class TestCatalogue:
    """Page Models API; types ModelInfo."""

    def test_all_models_come_in_pages(self, sdk: anthropic.Anthropic) -> None:
        assert [model.id for model in sdk.models.list(limit=7)] == list(MODELS)

    def test_a_page_has_its_ends(self, sdk: anthropic.Anthropic) -> None:
        first = sdk.models.list(limit=2)
        assert (first.first_id, first.last_id, first.has_more) == (*list(MODELS)[:2], True)
        after = sdk.models.list(limit=2, after_id=first.last_id or "")
        assert [model.id for model in after.data] == list(MODELS)[2:4]
        before = sdk.models.list(limit=2, before_id=list(MODELS)[4])
        assert [model.id for model in before.data] == list(MODELS)[2:4]

    def test_a_model_has_the_fields_of_the_sdk(self, sdk: anthropic.Anthropic) -> None:
        raw = json.loads(sdk.models.with_raw_response.retrieve("claude-opus-5-5").http_response.content)
        assert raw.keys() == ModelInfo.model_fields.keys()
        assert raw["capabilities"].keys() == ModelCapabilities.model_fields.keys()
        model = sdk.models.retrieve("claude-opus-5-5")
        assert (model.display_name, model.line, model.lifecycle) == ("Claude Opus 5.5", "opus", "active")
        assert model.capabilities is not None
        assert not model.capabilities.thinking.types.disabled.supported

    def test_a_retired_model_stays_in_the_catalogue(self) -> None:
        day = datetime(2027, 1, 22, tzinfo=UTC)
        with StandIn(clock=day.timestamp) as claude:
            headers = {"x-api-key": "k", "anthropic-version": "2026-10-21"}
            answer = http_answer(claude, "GET", "/v1/models/claude-opus-4-5-20251101", headers=headers)[1]
        assert (answer["lifecycle"], answer["retires_at"]) == ("retired", "2027-01-22T00:00:00Z")

    def test_an_unknown_model_is_not_found(self, sdk: anthropic.Anthropic) -> None:
        with pytest.raises(anthropic.NotFoundError):
            sdk.models.retrieve("claude-unheard-of")

    @pytest.mark.parametrize("query", ["limit=0", "limit=x", "colour=red", "after_id=none"])
    def test_a_wrong_query_is_refused(self, claude: StandIn, query: str) -> None:
        headers = {"x-api-key": "k", "anthropic-version": "2026-10-21"}
        assert http_answer(claude, "GET", f"/v1/models?{query}", headers=headers)[0] == 400

    def test_it_needs_a_key(self, claude: StandIn) -> None:
        assert http_answer(claude, "GET", "/v1/models")[0] == 401
