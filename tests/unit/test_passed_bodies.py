"""Requests and answers of any form: looking at them raises nothing but a refusal, and of what is said most counts."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import date
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from turnlog.domain.passing.bounds import has_other_price, possible_calls
from turnlog.domain.passing.fields import PassedBody
from turnlog.domain.passing.rules import PassingRules, models_in, named_tools, require_passable
from turnlog.domain.passing.usage import SaidUsage
from turnlog.errors import InvalidRequest, ModelNotFound

SONNET, HAIKU = "claude-sonnet-5-5", "claude-haiku-4-5"
RULES = PassingRules((SONNET, HAIKU), True, frozenset({"thread", "file_id"}))
TODAY = date(2026, 11, 29)

NAMES = st.sampled_from(
    [
        "model",
        "models",
        "type",
        "tools",
        "definition",
        "messages",
        "content",
        "source",
        "data",
        "media_type",
        "max_tokens",
        "max_uses",
        "fallbacks",
        "speed",
        "input",
        "schema",
        "caller",
        "from",
        "edits",
        "context_management",
        "compaction",
        "container",
        "thread",
        "file_id",
        "url",
        "inference_geo",
    ]
)
WORDS = st.sampled_from(
    [
        SONNET,
        HAIKU,
        "default",
        "base64",
        "url",
        "image",
        "document",
        "image/png",
        "application/pdf",
        "fallback",
        "advisor_20260301",
        "web_search_20250305",
        "code_execution_20260521",
        "custom",
        "json_schema",
        "x_tool_use",
        "",
    ]
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS | st.text(max_size=3)
VALUES = st.recursive(
    LEAVES, lambda each: st.lists(each, max_size=4) | st.dictionaries(NAMES, each, max_size=4), max_leaves=25
)
COUNTS = st.sampled_from(
    [
        "input_tokens",
        "output_tokens",
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
        "cache_creation",
        "server_tool_use",
        "iterations",
        "model",
        "type",
        "speed",
        "service_tier",
        "web_search_requests",
        "ephemeral_1h_input_tokens",
    ]
)
USAGES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 10**10)
    | st.sampled_from([SONNET, "compaction", "message", "fast", 1.5]),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(COUNTS, each, max_size=5),
    max_leaves=15,
)


@given(st.dictionaries(NAMES, VALUES, max_size=6))
def test_a_body_of_any_form_is_refused_or_has_a_bound(fields: dict[str, Any]) -> None:
    body = PassedBody({"model": SONNET} | fields)
    with suppress(InvalidRequest, ModelNotFound):
        require_passable(body, RULES)
        assert set(models_in(body)) <= {SONNET, HAIKU}
        assert {tool.kind for tool in named_tools(body)} <= {"advisor", "web_search"}
        has_other_price(body)
        for call in possible_calls(body, len(json.dumps(fields))):
            assert 0 <= call.prompt_tokens <= 10**10
            assert 0 <= call.output_tokens <= 1_000_000


@given(st.lists(USAGES, max_size=4))
@example([{"cache_creation": {"iterations": [None]}}] * 2)
@example([{"cache_creation": {"iterations": [{"input_tokens": "x"}]}}] * 2)
def test_a_usage_of_any_form_is_counted_or_is_not_known(said: list[Any]) -> None:
    usage = SaidUsage()
    for each in said:
        usage.take(each)
    usage.is_whole = True
    for call in usage.calls(SONNET, SONNET, TODAY):
        assert call.usage.tokens >= 0
        assert call.cost_usd is None or call.cost_usd >= 0


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), min_size=1, max_size=6))
def test_of_all_that_is_said_the_most_is_taken(said: list[tuple[int, int]]) -> None:
    usage = SaidUsage()
    for tokens, written in said:
        usage.take({"input_tokens": tokens, "output_tokens": written})
    usage.is_whole = True
    (call,) = usage.calls(SONNET, SONNET, TODAY)
    assert call.usage.tokens == max(tokens for tokens, _ in said) + max(written for _, written in said)
