"""Values held to a schema in the form of `read_output_schema`, by the keywords of JSON Schema that are left in it."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from math import prod
from typing import Any

Schema = dict[str, Any]

MOST_WORK = 150
"""The most that a pattern may come to: its characters and the numbers in it, such as 15 in `[0-9]{7,15}`, and that as
often as its groups are repeated. It is 75 ms of CPU where all of it is `\\w`, which is hundreds of ranges.
"""

_REPEATED = re.compile(r"(\)?)\{(\d{1,9})(?:,(\d{0,9}))?\}")
_FLAGS = re.compile(r"\(\?(?!:)")  # which give characters another meaning


def fits(value: Any, schema: Schema, definitions: dict[str, Schema]) -> bool:
    """True if the schema allows the value. `format` is a note: it is not checked, as in JSON Schema by default."""
    while "$ref" in schema:
        schema = definitions[schema["$ref"].removeprefix("#/$defs/").replace("~1", "/").replace("~0", "~")]
    if "enum" in schema:
        return key_of(value) in map(key_of, schema["enum"])
    if "anyOf" in schema:
        return any(fits(value, each, definitions) for each in schema["anyOf"])
    if "oneOf" in schema:
        return sum(fits(value, each, definitions) for each in schema["oneOf"]) == 1
    return _OF_TYPE[schema["type"]](value, schema, definitions)


def _is_object(value: Any, schema: Schema, definitions: dict[str, Schema]) -> bool:
    if not isinstance(value, dict):
        return False
    properties = schema["properties"]
    if not value.keys() <= properties.keys() or not value.keys() >= set(schema["required"]):
        return False
    return all(fits(each, properties[name], definitions) for name, each in value.items())


def _is_array(value: Any, schema: Schema, definitions: dict[str, Schema]) -> bool:
    if not isinstance(value, list) or not _is_between(len(value), schema, "minItems", "maxItems"):
        return False
    if not all(fits(each, schema["items"], definitions) for each in value):
        return False
    return not schema.get("uniqueItems") or len(set(map(key_of, value))) == len(value)


def _is_string(value: Any, schema: Schema, _: object) -> bool:
    if not isinstance(value, str) or not _is_between(len(value), schema, "minLength", "maxLength"):
        return False
    matches = pattern_of(schema["pattern"]) if "pattern" in schema else None
    return matches is None or matches(value)


def _is_number(value: Any, schema: Schema, _: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if not _is_between(value, schema, "minimum", "maximum"):
        return False
    if "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]:
        return False
    if "exclusiveMaximum" in schema and value >= schema["exclusiveMaximum"]:
        return False
    return "multipleOf" not in schema or Fraction(str(value)) % Fraction(str(schema["multipleOf"])) == 0


def _is_integer(value: Any, schema: Schema, definitions: dict[str, Schema]) -> bool:
    """True for an integer; 1.0 is one."""
    return _is_number(value, schema, definitions) and value == int(value)


_OF_TYPE: dict[str, Callable[[Any, Schema, dict[str, Schema]], bool]] = {
    "object": _is_object,
    "array": _is_array,
    "string": _is_string,
    "number": _is_number,
    "integer": _is_integer,
    "boolean": lambda value, *_: isinstance(value, bool),
    "null": lambda value, *_: value is None,
}


def _is_between(value: float, schema: Schema, least: str, most: str) -> bool:
    return bool(schema.get(least, value) <= value <= schema.get(most, value))


def key_of(value: Any) -> Any:
    """Returns what is equal for equal values of JSON: 1 and 1.0 are, 1 and true are not."""
    if isinstance(value, dict):
        return "object", tuple(sorted((name, key_of(each)) for name, each in value.items()))
    if isinstance(value, list):
        return "array", tuple(map(key_of, value))
    return ("boolean", value) if isinstance(value, bool) else (value.__class__ is str, value)


@lru_cache(maxsize=64)
def pattern_of(pattern: str) -> Callable[[str], bool] | None:
    """Returns the test of texts for a pattern anywhere in them; None for what is no pattern, or too much work.

    The engine has no look-around and takes time in proportion to the text, so that no pattern can hold a request up.
    What it makes of a pattern grows with the numbers in it, since a class of letters is large.
    """
    from pydantic_core import SchemaError, SchemaValidator, core_schema

    repeated = [(group, max(1, int(least), int(most or 0))) for group, least, most in _REPEATED.findall(pattern)]
    work = len(pattern) + sum(times for group, times in repeated if not group)
    if _FLAGS.search(pattern) or work * prod(times for group, times in repeated if group) > MOST_WORK:
        return None
    try:
        validator = SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))
    except SchemaError:
        return None
    return validator.isinstance_python
