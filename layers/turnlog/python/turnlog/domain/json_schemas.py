"""JSON Schemas that callers bring: what the Messages API would refuse, or could not end with, is refused first."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from turnlog.domain.messages import to_json
from turnlog.errors import ValueRefused

MAX_SCHEMA_BYTES = 32_768
"""The most bytes of a schema as JSON. Each call sends it, so it is paid each time: about 8,000 tokens."""

MOST_DEPTH = 32
_TYPES = {"object", "array", "string", "integer", "number", "boolean", "null"}
_PROPERTY = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
_MAPS = ("properties", "patternProperties", "dependentSchemas", "$defs", "definitions")
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_SINGLE = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames")
_NOT_STRICT = {
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength"),
    *("maxItems", "uniqueItems", "minProperties", "maxProperties", "patternProperties", "propertyNames"),
    *("dependentSchemas", "not", "if", "then", "else", "contains", "oneOf", "prefixItems"),
}
"""Keywords that the API's strict schemas do not have ("Structured outputs", JSON Schema limitations)."""

_FAR_REFERENCES = {"$dynamicRef", "$recursiveRef", "$id", "$anchor", "$dynamicAnchor"}


def require_object_schema(schema: object, pointer: str, *, strict: bool = False) -> None:
    """Raises ValueRefused, which names `pointer`, unless it is the schema of an object, as the API takes it.

    A `strict` schema has closed objects and no bounds of values, since the API makes a grammar of it.
    """
    if not isinstance(schema, dict) or schema.get("type") != "object" or schema.keys() & {"oneOf", "allOf", "anyOf"}:
        raise ValueRefused("schema_invalid", pointer)
    if depth_of(schema) > MOST_DEPTH or len(to_json(schema).encode()) > MAX_SCHEMA_BYTES:
        raise ValueRefused("schema_too_large", pointer, {"maximum": MAX_SCHEMA_BYTES})
    for each in _parts(schema):
        _require_form(each, pointer)
        if strict:
            _require_strict(each, pointer)
    if not all(map(_PROPERTY.fullmatch, schema.get("properties", {}))):
        raise ValueRefused("schema_invalid", pointer)
    _require_end(schema, schema, pointer, {})


def _parts(schema: object) -> Iterator[Any]:
    """The schema and all within it, whatever they are."""
    yield schema
    if isinstance(schema, dict):
        for each in _within(schema):
            yield from _parts(each)


def _within(schema: dict[str, Any]) -> Iterator[Any]:
    for name in _MAPS:
        if isinstance(schema.get(name), dict):
            yield from schema[name].values()
    for name in _LISTS:
        if isinstance(schema.get(name), list):
            yield from schema[name]
    yield from (schema[name] for name in _SINGLE if name in schema)


def _require_form(schema: object, pointer: str) -> None:
    """Raises ValueRefused unless the keywords have the forms of JSON Schema, draft 2020-12."""
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        raise ValueRefused("schema_invalid", pointer)
    kinds = schema.get("type", [])
    names = [kinds] if isinstance(kinds, str) else kinds
    forms = [
        isinstance(names, list) and all(isinstance(each, str) and each in _TYPES for each in names),
        all(isinstance(schema[name], dict) for name in _MAPS if name in schema),
        all(isinstance(schema[name], list) and schema[name] for name in _LISTS if name in schema),
        _is_names(schema.get("required", [])),
        isinstance(schema.get("enum", [None]), list) and bool(schema.get("enum", [None])),
        isinstance(schema.get("description", ""), str),
        isinstance(schema.get("$ref", ""), str),
    ]
    if not all(forms):
        raise ValueRefused("schema_invalid", pointer)


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value) and len(set(value)) == len(value)


def _require_strict(schema: object, pointer: str) -> None:
    if schema is False:  # as of what additionalProperties must be
        return
    if not isinstance(schema, dict) or schema.keys() & _NOT_STRICT or schema.get("minItems", 0) not in (0, 1):
        raise ValueRefused("schema_not_strict", pointer)
    is_object = "properties" in schema or "object" in ([schema["type"]] if isinstance(schema.get("type"), str) else [])
    if is_object and schema.get("additionalProperties") is not False:
        raise ValueRefused("schema_not_strict", pointer)


def _require_end(schema: object, root: dict[str, Any], pointer: str, ends: dict[str, bool]) -> None:
    """Raises ValueRefused when a reference leads outside, nowhere, or to what it is a part of.

    `ends` has each reference that was met, and whether all within it was looked at: each is, once.
    """
    if not isinstance(schema, dict):
        return
    if schema.keys() & _FAR_REFERENCES:
        raise ValueRefused("schema_refers", pointer)
    if "$ref" in schema and not ends.get(name := schema["$ref"]):
        found = _referred(name, root)
        if name in ends or found is None:
            raise ValueRefused("schema_refers", pointer)
        ends[name] = False
        _require_end(found, root, pointer, ends)
        ends[name] = True
    for each in _used(schema):
        _require_end(each, root, pointer, ends)


def _used(schema: dict[str, Any]) -> Iterator[Any]:
    """The schemas within one, without definitions, which matter only where something refers to them."""
    return _within({name: each for name, each in schema.items() if name not in ("$defs", "definitions")})


def _referred(reference: str, root: dict[str, Any]) -> Any:
    """The definition to which a reference leads; None when it leads anywhere else."""
    parts = reference.split("/")
    if len(parts) != 3 or parts[0] != "#" or parts[1] not in ("$defs", "definitions"):
        return None
    return root.get(parts[1], {}).get(parts[2])


def depth_of(value: object) -> int:
    """The depth of nesting; beyond the most it is not counted further."""
    deepest, left = 0, [(value, 1)]
    while left and deepest <= MOST_DEPTH:
        each, depth = left.pop()
        deepest = max(deepest, depth)
        children = each.values() if isinstance(each, dict) else each if isinstance(each, list) else ()
        left += [(child, depth + 1) for child in children]
    return deepest
