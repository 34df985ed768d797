"""The bodies of /models: a model in the form of the Models API, and what this service adds to it under one key."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from turnlog.domain import models, prices
from turnlog.domain.models import EFFORTS
from turnlog.entrypoints.http.bodies import LONGEST_REPLY
from turnlog.entrypoints.http.fields import count, described
from turnlog.entrypoints.http.replies import ResponseBody

MOST_MODELS = 1000
"""The most of a page, as in the Models API."""

_THINKING = ("adaptive", "between_tools", "disabled", "enabled")
_UNKNOWN_DAY = date(1970, 1, 1)  # by the Models API, for a model whose day of release is not known
_DAY = "2026-09-28T00:00:00Z"
_MILLION = "dollars per million tokens, as an exact decimal"


def _size(meaning: str, example: int) -> Any:
    return described(f"{meaning}; null when it is not known.", example, minimum=1)


def _can(what: str) -> Any:
    return described(f"True if the model {what}; null when it is not known.", True)


def _dollars(meaning: str, example: str) -> Any:
    return described(meaning, example, pattern=r"^[0-9]+(\.[0-9]+)?$")


class ModelPrice(ResponseBody):
    """The prices of today for prompts of more than so many tokens."""

    above_prompt_tokens: Annotated[int, count("The prompt has more tokens than this.", 0)]
    input: Annotated[str, _dollars(f"Fresh input, in {_MILLION}.", "2")]
    output: Annotated[str, _dollars(f"Output, thinking included, in {_MILLION}.", "10")]
    cache_write_5m: Annotated[str, _dollars(f"Input written to the cache for 5 minutes, in {_MILLION}.", "2.5")]
    cache_write_1h: Annotated[str, _dollars(f"Input written to the cache for an hour, in {_MILLION}.", "4")]
    cache_read: Annotated[str, _dollars(f"Input read from the cache, in {_MILLION}.", "0.1")]


class ModelAbilities(ResponseBody):
    """The abilities of a model; null is one that is not known."""

    images: Annotated[bool | None, _can("reads pictures")]
    pdf: Annotated[bool | None, _can("reads PDF")]
    citations: Annotated[bool | None, _can("cites documents")]
    web_search: Annotated[bool | None, _can("can search the web")]
    structured_output: Annotated[bool | None, _can("answers by a JSON schema")]
    forced_tool_choice: Annotated[bool | None, _can("can be made to call a tool")]
    thinking: Annotated[
        list[str] | None, described("The values of `thinking.type` that it takes; null when not known.", ["adaptive"])
    ]
    effort: Annotated[
        list[str] | None, described("The levels of effort, the least first; null when not known.", list(EFFORTS))
    ]


class OfferedModel(ResponseBody):
    """The model as this service offers it."""

    context_tokens: Annotated[int | None, _size("The most tokens of prompt and reply", 1_000_000)]
    max_tokens: Annotated[
        int, count("The most that `max_tokens` may be, where the answer is a stream.", LONGEST_REPLY, minimum=1)
    ]
    smallest_cached_prefix: Annotated[int | None, _size("The fewest tokens of a prompt that are cached", 512)]
    prices: Annotated[list[ModelPrice], described("The prices, by the prompt's size; empty when they are not known.")]
    web_search_usd: Annotated[str, _dollars("Dollars of one web search, as an exact decimal.", "0.01")]
    can: Annotated[ModelAbilities, described("The abilities of the model.")]
    retires_at: Annotated[
        str | None, described("The time from which the provider refuses it; null when none is known.", None)
    ]
    successor: Annotated[str | None, described("The model to take instead; null when none is known.", None)]


class Model(ResponseBody):
    """A model in the form of the Models API, and beside it what this service adds."""

    type: Annotated[Literal["model"], described("Always `model`.")]
    id: Annotated[str, described("The model's name.", "claude-sonnet-5-5")]
    display_name: Annotated[str, described("The model's name for people.", "Claude Sonnet 5.5")]
    created_at: Annotated[
        str, described("The day of its release; of an unknown one 1970-01-01.", _DAY, format="date-time")
    ]
    lifecycle: Annotated[Literal["active", "deprecated", "retired"], described("The stage of its life.", "active")]
    line: Annotated[str | None, described("The line of models; null when it is not known.", "sonnet")]
    max_input_tokens: Annotated[int | None, _size("The most tokens of a prompt", 1_000_000)]
    max_tokens: Annotated[int | None, _size("The most that `max_tokens` may be with the provider", 128_000)]
    deprecated_at: Annotated[str | None, described("The day of its deprecation; null before or when not known.", None)]
    retires_at: Annotated[str | None, described("The day of its retirement; null when none is known.", None)]
    capabilities: Annotated[
        dict[str, Any] | None,
        described(
            "The abilities in the form of the Models API; null when not known.", {"image_input": {"supported": True}}
        ),
    ]
    turnlog: Annotated[OfferedModel, described("What this service adds.")]

    @classmethod
    def of(cls, name: str, on: date) -> Self:
        """The model of this name, as of the day. One that the table does not know has a name and little else."""
        known = models.model_of(name)
        model = known or models.Model(name, name)
        offered = OfferedModel(
            context_tokens=model.context_tokens,
            max_tokens=min(LONGEST_REPLY, model.max_output_tokens or LONGEST_REPLY),
            smallest_cached_prefix=model.smallest_cached_prefix,
            prices=[_price(each) for each in prices.prices_of(name, on)],
            web_search_usd=_text(prices.WEB_SEARCH_USD),
            can=_abilities(model),
            retires_at=_time(model.retires),
            successor=model.successor,
        )
        return cls(
            type="model",
            id=name,
            display_name=model.display_name,
            created_at=f"{model.released or _UNKNOWN_DAY}T00:00:00Z",
            lifecycle=model.lifecycle(on),
            line=model.line if known else None,
            max_input_tokens=model.context_tokens,
            max_tokens=model.max_output_tokens,
            deprecated_at=_time(model.deprecated),
            retires_at=_time(model.retires),
            capabilities=_capabilities(model),
            turnlog=offered,
        )


class Models(ResponseBody):
    """Models that a request may name, in the form of the Models API. The first of all answers when none is named."""

    data: Annotated[list[Model], described("The page.")]
    has_more: Annotated[bool, described("True if there are more in the direction of the page.", False)]
    first_id: Annotated[
        str | None, described("The first model of the page; null for an empty one.", "claude-sonnet-5-5")
    ]
    last_id: Annotated[str | None, described("The last model of the page; null for an empty one.", "claude-sonnet-5-5")]


def _price(price: prices.Price) -> ModelPrice:
    return ModelPrice(
        above_prompt_tokens=price.above,
        input=_text(price.input),
        output=_text(price.output),
        cache_write_5m=_text(price.cache_write_5m),
        cache_write_1h=_text(price.cache_write_1h),
        cache_read=_text(price.cache_read),
    )


def _abilities(model: models.Model) -> ModelAbilities:
    return ModelAbilities(
        images=model.images,
        pdf=model.pdf,
        citations=model.citations,
        web_search=model.web_search,
        structured_output=model.structured_output,
        forced_tool_choice=model.forced_tool_choice,
        thinking=None if model.thinking is None else list(model.thinking),
        effort=None if model.effort is None else list(model.effort),
    )


def _capabilities(model: models.Model) -> dict[str, Any] | None:
    """Returns the abilities in the provider's own form. What this service never asks a model for is not supported."""
    thinking, effort = model.thinking, model.effort
    if thinking is None or effort is None:
        return None
    return {
        "batch": _supported(False),
        "citations": _supported(model.citations),
        "code_execution": _supported(False),
        "context_management": _supported(False),
        "effort": _supported(effort) | {level: _supported(level in effort) for level in EFFORTS},
        "image_input": _supported(model.images),
        "pdf_input": _supported(model.pdf),
        "server_tools": _supported(model.web_search)
        | {"code_execution": _supported(False), "web_search": _supported(model.web_search)},
        "structured_outputs": _supported(model.structured_output),
        "thinking": _supported(thinking) | {"types": {kind: _supported(kind in thinking) for kind in _THINKING}},
    }


def _supported(value: object) -> dict[str, Any]:
    return {"supported": bool(value)}


def _time(day: date | None) -> str | None:
    return None if day is None else f"{day}T00:00:00Z"


def _text(amount: Decimal) -> str:
    """Returns the dollars without zeros at the end: a string, since many readers would round a JSON number."""
    return f"{amount.normalize():f}"
