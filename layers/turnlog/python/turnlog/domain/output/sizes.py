"""The size of a schema in its form: what a provider, or a check of a reply, can take of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from turnlog.domain.json_schemas import MAX_SCHEMA_BYTES, MOST_DEPTH
from turnlog.domain.messages import to_json
from turnlog.domain.output.paths import At, name_in, refuse

MOST_FORM_BYTES = 2 * MAX_SCHEMA_BYTES
"""The most bytes of a schema in its form, which repeats what stands in `allOf`."""

MOST_OPTIONAL = 24
MOST_UNIONS = 16
"""Optional properties and unions of a request's schemas ("Structured outputs", limits of complexity)."""

MOST_PARTS = 5_000
"""The most parts of a schema where each reference counts as all that it leads to, which bounds the work of a check."""

MOST_PATTERNS = 8
"""Patterns of a schema, each of which is some work, again for the reply."""

Schema = dict[str, Any]


def require_simple(schema: Schema, at: At) -> None:
    """Raises ValueRefused for more optional properties, unions or parts than the provider, or a check, can take."""
    if len(to_json(schema).encode()) > MOST_FORM_BYTES:
        refuse("schema_too_large", at, maximum=MAX_SCHEMA_BYTES)
    parts = list(parts_of(schema))
    optional = sum(len(each["properties"]) - len(each["required"]) for each in parts if each.get("type") == "object")
    unions = sum(1 for each in parts if each.keys() & {"anyOf", "oneOf"})
    for count, most in ((optional, MOST_OPTIONAL), (unions, MOST_UNIONS)):
        if count > most:
            refuse("schema_too_complex", at, maximum=most)
    sizes: dict[str, tuple[int, int]] = {}
    for name, each in schema.get("$defs", {}).items():  # those that one refers to come before it
        sizes[name] = _size(each, sizes)
    count, depth = _size(schema, sizes)
    if depth > MOST_DEPTH:
        refuse("schema_too_large", at, maximum=MAX_SCHEMA_BYTES)
    if count > MOST_PARTS:
        refuse("schema_too_complex", at, maximum=MOST_PARTS)


def parts_of(schema: Schema) -> Iterator[Schema]:
    """Yields the schema and all within it, but not what references lead to."""
    yield schema
    for each in [*_children(schema), *schema.get("$defs", {}).values()]:
        yield from parts_of(each)


def _children(schema: Schema) -> list[Schema]:
    items = [schema["items"]] if "items" in schema else []
    return [*schema.get("properties", {}).values(), *items, *schema.get("anyOf", []), *schema.get("oneOf", [])]


def _size(schema: Schema, sizes: dict[str, tuple[int, int]]) -> tuple[int, int]:
    """Returns the number of parts and the levels, of what a reference leads to as well."""
    if "$ref" in schema:
        return sizes[name_in(schema["$ref"])]
    within = [_size(each, sizes) for each in _children(schema)]
    return 1 + sum(count for count, _ in within), 1 + max((depth for _, depth in within), default=0)
