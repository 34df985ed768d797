"""Prices of models by date; usage to dollars, exact to the last digit.

Source: the provider's price list (platform.claude.com/docs, "Pricing"), read on 2026-11-24. A new price is a new line
with its first day; old lines stay, so that the cost of a past turn does not change.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from turnlog.domain.messages import Usage

_MILLION = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens, from the day `since`, for prompts of more than `above` tokens."""

    since: date
    input: Decimal
    output: Decimal
    cache_write_5m: Decimal
    cache_write_1h: Decimal
    cache_read: Decimal
    above: int = 0


def _price(since: str, dollars: str, above: int = 0) -> Price:
    given = [Decimal(amount) for amount in dollars.split()]
    return Price(date.fromisoformat(since), given[0], given[1], given[2], given[3], given[4], above)


PRICES: dict[str, tuple[Price, ...]] = {
    "claude-opus-5-5": (_price("2026-09-22", "4 20 5 8 0.20"),),
    "claude-sonnet-5-5": (
        _price("2026-01-01", "2 10 2.50 4 0.20"),
        _price("2026-10-07", "2 10 2.50 4 0.10"),
    ),
    "claude-haiku-5-5": (
        _price("2026-10-07", "0.10 0.50 0.125 0.20 0.01"),
        _price("2026-10-07", "0.50 2.50 0.625 1.00 0.05", above=100_000),
    ),
    "claude-opus-5": (_price("2026-07-24", "5 25 6.25 10 0.50"),),
}


def cost_usd(model: str, usage: Usage, on: date) -> Decimal | None:
    """The exact price of one call in US dollars; None for a model or a day without a known price."""
    prompt = usage.prompt_tokens
    price = _price_of(model, prompt, on)
    if price is None:
        return None
    written = usage.count("cache_creation_input_tokens")
    written_1h = int((usage.fields.get("cache_creation") or {}).get("ephemeral_1h_input_tokens") or 0)
    total = (
        usage.count("input_tokens") * price.input
        + usage.count("output_tokens") * price.output
        + (written - written_1h) * price.cache_write_5m
        + written_1h * price.cache_write_1h
        + usage.count("cache_read_input_tokens") * price.cache_read
    )
    return (total / _MILLION).normalize()


def most_usd(model: str, prompt_tokens: int, output_tokens: int, on: date) -> Decimal | None:
    """The most that a call of this size can cost, however its prompt is cached; None without a known price."""
    price = _price_of(model, prompt_tokens, on)
    if price is None:
        return None
    dearest = max(price.input, price.cache_write_5m, price.cache_write_1h, price.cache_read)
    return (prompt_tokens * dearest + output_tokens * price.output) / _MILLION


def _price_of(model: str, prompt_tokens: int, on: date) -> Price | None:
    known = [
        price
        for price in PRICES.get(model, ())
        if price.since <= on and (not price.above or prompt_tokens > price.above)
    ]
    return max(known, key=lambda price: (price.above, price.since), default=None)
