"""The fields of bodies that say how the model works: thinking, effort, and how long the provider caches."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from turnlog.domain.blocks.fields import kind_of, malformed, refuse, require_fields
from turnlog.domain.messages import CacheLifetime, Effort, to_json
from turnlog.entrypoints.http.fields import described

_LEAST_BUDGET = 1024  # of thinking, by the API
_DISPLAYS = ["summarized", "omitted"]
_KINDS = ("adaptive", "enabled", "disabled", "between_tools")
_REQUIRED = {"enabled": ("type", "budget_tokens")}
_OPTIONAL = {"adaptive": ("display",), "enabled": ("display",)}


def _fields_of(kind: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The fields that `thinking` of this type must have and may have, in the API's own form."""
    return _REQUIRED.get(kind, ("type",)), _OPTIONAL.get(kind, ())


def _thinking(value: Any) -> str:
    """Reads the object `thinking` and returns it as JSON text, in one order of its fields."""
    at = ("thinking",)
    required, optional = _fields_of(kind_of(value, at, _KINDS, "thinking_range"))
    require_fields(value, at, required, optional)
    budget, display = value.get("budget_tokens", _LEAST_BUDGET), value.get("display", _DISPLAYS[0])
    if type(budget) is not int:
        malformed("wrong_type", (*at, "budget_tokens"))
    if budget < _LEAST_BUDGET:
        refuse("thinking_range", (*at, "budget_tokens"), minimum=_LEAST_BUDGET)
    if not isinstance(display, str):
        malformed("wrong_type", (*at, "display"))
    if display not in _DISPLAYS:
        refuse("thinking_range", (*at, "display"), allowed=_DISPLAYS)
    return to_json({name: value[name] for name in (*required, *optional) if name in value})


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
            "required": list(_fields_of(kind)[0]),
            "properties": {"type": {"const": kind}}
            | {name: _PROPERTIES[name] for fields in _fields_of(kind) for name in fields if name != "type"},
            "additionalProperties": False,
        }
        for kind in _KINDS
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
