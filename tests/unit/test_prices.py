"""Usage becomes dollars, exactly, at the price of the day."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import genai_prices
import pytest

from turnlog.domain.messages import Usage, to_json
from turnlog.domain.models import MODELS
from turnlog.domain.prices import PRICES, cost_usd, most_usd

TODAY = date(2026, 11, 24)


@pytest.mark.parametrize(
    ("model", "usage", "on", "expected"),
    [
        ("claude-sonnet-5-5", {"input_tokens": 1, "output_tokens": 1}, TODAY, "0.000012"),
        ("claude-opus-5-5", {"input_tokens": 1_000_000, "output_tokens": 1_000_000}, TODAY, "24"),
        ("claude-sonnet-5-5", {"input_tokens": 0, "cache_read_input_tokens": 1000}, TODAY, "0.0001"),
        ("claude-sonnet-5-5", {"input_tokens": 0, "cache_read_input_tokens": 1000}, date(2026, 10, 6), "0.0002"),
        ("claude-opus-5-5", {"input_tokens": 0, "cache_creation_input_tokens": 1000}, TODAY, "0.005"),
        (
            "claude-opus-5-5",
            {
                "input_tokens": 0,
                "cache_creation_input_tokens": 1000,
                "cache_creation": {"ephemeral_5m_input_tokens": 400, "ephemeral_1h_input_tokens": 600},
            },
            TODAY,
            "0.0068",
        ),
        ("claude-haiku-5-5", {"input_tokens": 100_000, "output_tokens": 1}, TODAY, "0.0100005"),
        ("claude-haiku-5-5", {"input_tokens": 100_001, "output_tokens": 1}, TODAY, "0.050003"),
        ("claude-sonnet-5-5", {"input_tokens": 3, "output_tokens": None}, TODAY, "0.000006"),
    ],
)
def test_a_call_costs_what_the_price_list_says(model: str, usage: dict[str, Any], on: date, expected: str) -> None:
    assert cost_usd(model, Usage(to_json(usage)), on) == Decimal(expected)


@pytest.mark.parametrize(("model", "on"), [("claude-next", TODAY), ("claude-opus-5-5", date(2025, 1, 1))])
def test_without_a_known_price_nothing_is_guessed(model: str, on: date) -> None:
    assert cost_usd(model, Usage('{"input_tokens":1}'), on) is None


def test_every_offered_model_has_a_price() -> None:
    assert {"claude-sonnet-5-5", "claude-opus-5-5", "claude-haiku-5-5"} <= set(PRICES)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("claude-haiku-4-5", "6"),
        ("claude-haiku-4-5-20251001", "6"),
        ("global.anthropic.claude-haiku-4-5-20251001-v1:0", "6"),
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", "6.6"),
        ("anthropic.claude-haiku-4-5-20251001-v1:0", "6.6"),
    ],
)
def test_a_model_has_its_price_under_each_of_its_names(name: str, expected: str) -> None:
    usage = Usage('{"input_tokens":1000000,"output_tokens":1000000}')
    assert cost_usd(name, usage, TODAY) == Decimal(expected)
    assert most_usd(name, 0, 1_000_000, TODAY) == Decimal(expected) * 5 / 6


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", "1.1"),
        ("global.anthropic.claude-haiku-4-5-20251001-v1:0", "1"),
        ("claude-haiku-4-5", "1"),
        ("us.anthropic.claude-opus-5", "1"),
        ("", "1"),
    ],
)
def test_the_name_that_was_asked_says_where_the_model_computed(asked: str, expected: str) -> None:
    """Bedrock replies under the provider's own name."""
    usage = Usage('{"input_tokens":1000000}')
    assert cost_usd("claude-haiku-4-5-20251001", usage, TODAY, asked) == Decimal(expected)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"server_tool_use": {"web_search_requests": 3, "web_fetch_requests": 9}}, "0.030002"),
        ({"server_tool_use": {"web_search_requests": 0, "code_execution_requests": 0}}, "0.000002"),
        ({"server_tool_use": None, "speed": "standard", "inference_geo": "global"}, "0.000002"),
        ({"server_tool_use": {}, "speed": None, "inference_geo": "not_available"}, "0.000002"),
        ({"service_tier": "standard"}, "0.000002"),
    ],
)
def test_web_searches_are_priced_and_the_standard_changes_nothing(more: dict[str, Any], expected: str) -> None:
    assert cost_usd("claude-sonnet-5-5", Usage(to_json({"input_tokens": 1, **more})), TODAY) == Decimal(expected)


@pytest.mark.parametrize(
    "more",
    [
        {"speed": "fast"},
        {"inference_geo": "us"},
        {"service_tier": "priority"},
        {"server_tool_use": {"code_execution_requests": 1}},
        {"server_tool_use": {"web_search_requests": "many"}},
        {"server_tool_use": [1]},
        {"speed": ["fast"]},
    ],
)
def test_a_call_that_was_priced_in_another_way_has_no_known_cost(more: dict[str, Any]) -> None:
    assert cost_usd("claude-sonnet-5-5", Usage(to_json({"input_tokens": 1, **more})), TODAY) is None


def test_the_most_that_a_call_can_cost_includes_its_web_searches() -> None:
    without = most_usd("claude-opus-5-5", 1000, 1000, TODAY)
    assert without == Decimal("0.028")
    assert most_usd("claude-opus-5-5", 1000, 1000, TODAY, web_searches=5) == without + Decimal("0.05")
    assert most_usd("claude-next", 1000, 1000, TODAY, web_searches=5) is None


@pytest.mark.parametrize("prompt", [1000, 300_000])
@pytest.mark.parametrize("model", PRICES)
def test_the_list_agrees_with_another_one(model: str, prompt: int) -> None:
    """genai-prices has no entry for some models that are by invitation only; the rest must be equal."""
    theirs = genai_prices.Usage(
        input_tokens=prompt, cache_write_tokens=200, cache_write_1h_tokens=50, cache_read_tokens=300, output_tokens=70
    )
    ours = {
        "input_tokens": prompt - 500,
        "cache_creation_input_tokens": 200,
        "cache_creation": {"ephemeral_1h_input_tokens": 50},
        "cache_read_input_tokens": 300,
        "output_tokens": 70,
    }
    try:
        now = datetime.combine(TODAY, time(), UTC)
        found = genai_prices.calc_price(theirs, model, provider_id="anthropic", genai_request_timestamp=now)
    except LookupError:
        assert model in ("claude-mythos-5", "claude-mythos-5-1")
    else:
        assert cost_usd(model, Usage(to_json(ours)), TODAY) == found.total_price


def test_every_model_that_is_served_has_a_price() -> None:
    served = {model.id for model in MODELS.values() if model.lifecycle(TODAY) != "retired"}
    assert set(PRICES) == served
