"""Usage becomes dollars, exactly, at the price of the day."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from turnlog.domain.messages import Usage, to_json
from turnlog.domain.prices import PRICES, cost_usd

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
