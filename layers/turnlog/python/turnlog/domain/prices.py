"""Prices of models by date; usage to dollars, exact to the last digit.

Source: the provider's price list (platform.claude.com/docs, "Pricing"), as of 2026-11-29. A new price is a new line
with its first day; old lines stay, so that the cost of a past turn does not change. A test holds them against the
package genai-prices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Any

from turnlog.domain.messages import Usage
from turnlog.domain.models import base_name, is_regional

_MILLION = Decimal(1_000_000)
_REGIONAL = Decimal("1.1")  # of a global price: what Amazon Bedrock takes for computing in one area, since Claude 4.5

WEB_SEARCH_USD = Decimal("0.01")
"""Dollars of one web search, whatever the model; one that fails costs nothing. A web fetch costs its tokens alone."""

_STANDARD: Mapping[str, tuple[object, ...]] = {
    "speed": (None, "standard"),
    "inference_geo": (None, "", "global", "not_available"),
    "service_tier": (None, "standard"),
}
"""The fields of a usage that change a price, and their values for which the list is right."""

_COUNTED_TOOLS = {"web_search_requests", "web_fetch_requests"}


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
    """Returns the price of `input output cache_read`; a cache write costs 1.25 times the input, twice for an hour."""
    input_usd, output, read = (Decimal(amount) for amount in dollars.split())
    return Price(date.fromisoformat(since), input_usd, output, input_usd * Decimal("1.25"), input_usd * 2, read, above)


PRICES: dict[str, tuple[Price, ...]] = {
    "claude-fable-5-2": (_price("2026-11-09", "8 40 0.20"),),
    "claude-mythos-5-2": (_price("2026-11-09", "8 40 0.20"),),
    "claude-haiku-5-5": (
        _price("2026-10-07", "0.10 0.50 0.01"),
        _price("2026-10-07", "0.50 2.50 0.05", above=100_000),
    ),
    "claude-sonnet-5-5": (
        _price("2026-01-01", "2 10 0.20"),
        _price("2026-10-07", "2 10 0.10"),
    ),
    "claude-opus-5-5": (_price("2026-09-22", "4 20 0.20"),),
    "claude-fable-5-1": (_price("2026-09-01", "10 50 0.25"),),
    "claude-mythos-5-1": (_price("2026-09-01", "10 50 0.25"),),
    "claude-opus-5": (_price("2026-07-24", "5 25 0.50"),),
    "claude-sonnet-5": (_price("2026-06-30", "2 10 0.20"),),
    "claude-fable-5": (_price("2026-06-09", "10 50 1"),),
    "claude-mythos-5": (_price("2026-06-09", "10 50 1"),),
    "claude-opus-4-8": (_price("2026-05-28", "5 25 0.50"),),
    "claude-opus-4-7": (_price("2026-04-16", "5 25 0.50"),),
    "claude-sonnet-4-6": (_price("2026-03-13", "3 15 0.30"),),  # before, long prompts cost more
    "claude-opus-4-6": (_price("2026-03-13", "5 25 0.50"),),
    "claude-opus-4-5": (_price("2025-11-24", "5 25 0.50"),),
    "claude-haiku-4-5": (_price("2025-10-15", "1 5 0.10"),),
    "claude-sonnet-4-5": (
        _price("2025-09-29", "3 15 0.30"),
        _price("2025-09-29", "6 22.50 0.60", above=200_000),
    ),
}
"""By the model's base name, the newest first."""


def prices_of(model: str, on: date) -> tuple[Price, ...]:
    """The prices of the day, that of the shortest prompts first; () for a model or a day without a known price."""
    latest: dict[int, Price] = {}
    for price in PRICES.get(base_name(model), ()):
        if price.since <= on and (price.above not in latest or latest[price.above].since <= price.since):
            latest[price.above] = price
    factor = _REGIONAL if is_regional(model) else Decimal(1)
    return tuple(_times(latest[above], factor) for above in sorted(latest))


def cost_usd(model: str, usage: Usage, on: date, asked: str = "") -> Decimal | None:
    """The exact price of one call in US dollars; None without a known price.

    That is so for a model or a day that is not in the list, and for a call that was priced in another way: at another
    speed, in one area, in another tier, or with a tool that costs by its use. `model` replied; `asked` is the name
    under which it was asked, which alone says where Amazon Bedrock computes.
    """
    fields = usage.fields
    name = asked if base_name(asked) == base_name(model) else model
    price, searches = _price_of(name, usage.prompt_tokens, on), _web_searches(fields)
    if price is None or searches is None or any(fields.get(name) not in _STANDARD[name] for name in _STANDARD):
        return None
    written = usage.count("cache_creation_input_tokens")
    written_1h = int((fields.get("cache_creation") or {}).get("ephemeral_1h_input_tokens") or 0)
    total = (
        usage.count("input_tokens") * price.input
        + usage.count("output_tokens") * price.output
        + (written - written_1h) * price.cache_write_5m
        + written_1h * price.cache_write_1h
        + usage.count("cache_read_input_tokens") * price.cache_read
    )
    return (total / _MILLION + searches * WEB_SEARCH_USD).normalize()


def most_usd(model: str, prompt_tokens: int, output_tokens: int, on: date, web_searches: int = 0) -> Decimal | None:
    """The most that a call of this size can cost, however its prompt is cached; None without a known price.

    `web_searches` is the number of searches that the call may make.
    """
    price = _price_of(model, prompt_tokens, on)
    if price is None:
        return None
    dearest = max(price.input, price.cache_write_5m, price.cache_write_1h, price.cache_read)
    return (prompt_tokens * dearest + output_tokens * price.output) / _MILLION + web_searches * WEB_SEARCH_USD


def _web_searches(fields: Mapping[str, Any]) -> int | None:
    """The number of web searches; None when the usage counts something whose price is not known."""
    uses: Any = fields.get("server_tool_use") or {}
    if not isinstance(uses, dict) or any(uses[name] for name in uses.keys() - _COUNTED_TOOLS):
        return None
    searches = uses.get("web_search_requests") or 0
    return searches if type(searches) is int and searches >= 0 else None


def _price_of(model: str, prompt_tokens: int, on: date) -> Price | None:
    fitting = [price for price in prices_of(model, on) if not price.above or prompt_tokens > price.above]
    return fitting[-1] if fitting else None


def _times(price: Price, factor: Decimal) -> Price:
    amounts = ("input", "output", "cache_write_5m", "cache_write_1h", "cache_read")
    return replace(price, **{name: getattr(price, name) * factor for name in amounts})
