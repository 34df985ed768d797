"""The keywords that belong to one type, mostly bounds of its values: which they are, their forms, and what is left."""

from __future__ import annotations

from typing import Any

from turnlog.domain.output.paths import At, refuse
from turnlog.domain.output.values import pattern_of

Schema = dict[str, Any]

_NUMERIC = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
BOUNDS = {
    "object": ("properties", "required", "additionalProperties"),
    "array": ("items", "minItems", "maxItems", "uniqueItems"),
    "string": ("minLength", "maxLength", "pattern", "format"),
    "number": _NUMERIC,
    "integer": _NUMERIC,
    "boolean": (),
    "null": (),
}
"""The keywords of each type."""

_SIZES = ("minItems", "maxItems", "minLength", "maxLength")
_NUMBERS = _NUMERIC[:4]


def require_bound(name: str, value: Any, at: At) -> None:
    """Raises ValueRefused unless the value of this keyword is one that it can have."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    right = {
        **dict.fromkeys(_SIZES, is_number and value >= 0 and value == int(value)),
        **dict.fromkeys(_NUMBERS, is_number),
        "multipleOf": is_number and value > 0,
        "uniqueItems": isinstance(value, bool),
        "format": isinstance(value, str),
        "pattern": isinstance(value, str) and pattern_of(value) is not None,
    }
    if not right.get(name, True):
        refuse("schema_invalid", at)


def is_empty(kind: str, bounds: Schema) -> bool:
    """True if the bounds evidently let no value pass."""
    least = [bounds[name] for name in ("minItems", "minLength", "minimum", "exclusiveMinimum") if name in bounds]
    most = [bounds[name] for name in ("maxItems", "maxLength", "maximum", "exclusiveMaximum") if name in bounds]
    if not least or not most:
        return False
    if max(least) != min(most):
        return bool(max(least) > min(most)) or (kind == "integer" and not _has_integer(bounds))
    return max(least) in (bounds.get("exclusiveMinimum"), bounds.get("exclusiveMaximum"))


def _has_integer(bounds: Schema) -> bool:
    """True if an integer lies between the bounds of numbers."""
    lowest = [-(-bounds["minimum"] // 1)] if "minimum" in bounds else []
    lowest += [bounds["exclusiveMinimum"] // 1 + 1] if "exclusiveMinimum" in bounds else []
    highest = [bounds["maximum"] // 1] if "maximum" in bounds else []
    highest += [-(-bounds["exclusiveMaximum"] // 1) - 1] if "exclusiveMaximum" in bounds else []
    return bool(max(lowest) <= min(highest))
