"""The fields of bodies that say how the model works: thinking, effort, and how long the provider caches."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from turnlog.domain.messages import CacheLifetime, Effort, to_json
from turnlog.entrypoints.http.fields import described

_LEAST_BUDGET = 1024  # of thinking, by the API
_DISPLAYS = ["summarized", "omitted"]
_FIELDS = {
    "adaptive": ("type", "display"),
    "enabled": ("type", "budget_tokens", "display"),
    "disabled": ("type",),
    "between_tools": ("type",),
}
"""The fields of `thinking` by its type, in the API's own form."""


def _thinking(value: object) -> str:
    """Reads the object `thinking` and returns it as JSON text, in one order of its fields."""
    if not isinstance(value, dict):
        raise _wrong("wrong_type")
    if "type" not in value:
        raise _wrong("field_missing", "type")
    if not isinstance(value["type"], str):
        raise _wrong("wrong_type", "type")
    names = _FIELDS.get(value["type"])
    if names is None:
        raise _wrong("value", "type", allowed=list(_FIELDS))
    for number, name in enumerate(value, start=1):
        if name not in names:
            raise _wrong("unknown_field", allowed=list(names), field=number)
    if "budget_tokens" in names:
        _require_budget(value)
    if "display" in value:
        _require_display(value["display"])
    return to_json({name: value[name] for name in names if name in value})


def _require_budget(value: dict[str, Any]) -> None:
    if "budget_tokens" not in value:
        raise _wrong("field_missing", "budget_tokens")
    if type(value["budget_tokens"]) is not int:
        raise _wrong("wrong_type", "budget_tokens")
    if value["budget_tokens"] < _LEAST_BUDGET:
        raise _wrong("value", "budget_tokens", ge=_LEAST_BUDGET)


def _require_display(display: object) -> None:
    if not isinstance(display, str):
        raise _wrong("wrong_type", "display")
    if display not in _DISPLAYS:
        raise _wrong("value", "display", allowed=_DISPLAYS)


def _wrong(kind: str, *within: str, **details: object) -> PydanticCustomError:
    """Returns the error of a field of `thinking`, or of all of it."""
    return PydanticCustomError(kind, "refused", {"within": within, **details})


def _one_of(values: tuple[str, ...]) -> AfterValidator:
    def require(value: str) -> str:
        if value not in values:
            raise PydanticCustomError("value", "refused", {"allowed": list(values)})
        return value

    return AfterValidator(require)


_PROPERTIES = {
    "budget_tokens": {"type": "integer", "minimum": _LEAST_BUDGET},
    "display": {"enum": _DISPLAYS},
}
_ABOUT_THINKING = (
    "How the model thinks, in the API's own form; as the model does by itself when it is left out. Thinking is paid "
    "out of `max_tokens`, and `budget_tokens` must be less. Not every model does every kind."
)
_THINKING = {
    "description": _ABOUT_THINKING,
    "examples": [{"type": "adaptive"}],
    "oneOf": [
        {
            "type": "object",
            "required": [name for name in names if name != "display"],
            "properties": {name: {"const": kind} if name == "type" else _PROPERTIES[name] for name in names},
            "additionalProperties": False,
        }
        for kind, names in _FIELDS.items()
    ],
}
_ABOUT_EFFORT = (
    "How much work the model puts into a reply; as the model does by itself when it is left out. Not every model has "
    "every level."
)
_ABOUT_CACHE = "How long the provider keeps the conversation in its cache after each turn; an hour costs more to write."

Thinking = Annotated[Any, BeforeValidator(_thinking), WithJsonSchema(_THINKING)]
EffortLevel = Annotated[
    str, _one_of(get_args(Effort)), described(_ABOUT_EFFORT, get_args(Effort)[0], enum=list(get_args(Effort)))
]
CacheTime = Annotated[
    str, _one_of(get_args(CacheLifetime)), described(_ABOUT_CACHE, "1h", enum=list(get_args(CacheLifetime)))
]
