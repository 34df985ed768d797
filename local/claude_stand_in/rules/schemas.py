"""Schemas that a reply or a strict tool must fit: the part of JSON Schema that Claude takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from local.claude_stand_in.dialect import PLAIN, Dialect
from local.claude_stand_in.errors import ApiError, invalid
from local.claude_stand_in.objects import FORMATS

MOST_OPTIONAL = 24  # of all strict schemas of a request, as the next two
MOST_UNIONS = 16
MOST_STRICT_TOOLS = 20
_DEEPEST = 100

_TYPES = {"object", "array", "string", "integer", "number", "boolean", "null"}
_ANYWHERE = {"type", "title", "description", "default", "examples", "enum", "const", "anyOf", "allOf"}
_ANYWHERE |= {"$ref", "$defs", "definitions", "$schema", "$id", "$comment"}
_BY_TYPE = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "minItems"},
    "string": {"format", "pattern"},
}


def check_output(body: dict[str, Any], dialect: Dialect = PLAIN) -> None:
    """Raises ApiError for an output_config with unknown parts, or with a schema that no reply can be held to."""
    config = body.get("output_config") or {}
    if not isinstance(config, dict):
        raise invalid("output_config: Input should be a valid dictionary")
    for field in config.keys() - {"effort", "format"} - dialect.allowed("task_budget"):
        raise invalid(f"output_config.{field}: Extra inputs are not permitted")
    schemas = [
        (f"tools.{number}.custom.input_schema", tool["input_schema"])
        for number, tool in enumerate(body.get("tools", []))
        if tool.get("strict") and "input_schema" in tool
    ]
    if len(schemas) > MOST_STRICT_TOOLS:
        raise invalid(f"tools: at most {MOST_STRICT_TOOLS} strict tools are supported, found {len(schemas)}")
    if config.get("format") is not None:
        schemas.append(("output_config.format.schema", _schema_of(config["format"])))
        if _cites(body.get("messages")):
            raise invalid("output_config.format: Citations are not supported with structured outputs")
    for path, schema in schemas:
        _Checker(path, schema).check(schema, (), 0)
    _check_sizes([schema for _, schema in schemas])


def _cites(value: object) -> bool:
    """True if a message, or a block or a result in it, has citations enabled."""
    if isinstance(value, list):
        return any(map(_cites, value))
    if not isinstance(value, dict):
        return False
    citations = value.get("citations")
    return (isinstance(citations, dict) and citations.get("enabled") is True) or _cites(value.get("content"))


def _schema_of(form: object) -> dict[str, Any]:
    if not isinstance(form, dict) or form.get("type") != "json_schema":
        raise invalid("output_config.format.type: Input should be 'json_schema'")
    for field in form.keys() - {"type", "schema"}:
        raise invalid(f"output_config.format.{field}: Extra inputs are not permitted")
    if not isinstance(form.get("schema"), dict):
        raise invalid("output_config.format.schema: Field required")
    schema: dict[str, Any] = form["schema"]
    return schema


class _Checker:
    """Walks through one schema and the definitions that it refers to."""

    def __init__(self, path: str, root: dict[str, Any]) -> None:
        self._path = path
        self._root = root

    def check(self, schema: Any, within: tuple[str, ...], depth: int) -> None:
        """Raises ApiError at the first part that is not supported. `within` are the references being followed."""
        if not isinstance(schema, dict) or depth > _DEEPEST:
            raise self._error("Schema is too deep" if depth > _DEEPEST else "each schema must be an object")
        if "$ref" in schema:
            self._check_reference(schema["$ref"], within, depth)
        for kind in self._kinds(schema):
            self._check_kind(schema, kind)
        for each in _children(schema):
            self.check(each, within, depth + 1)

    def _check_reference(self, ref: object, within: tuple[str, ...], depth: int) -> None:
        if not isinstance(ref, str) or not ref.startswith("#"):
            raise self._error("External '$ref' is not supported")
        if ref == "#" or ref in within:
            raise self._error("Recursive schemas are not supported")
        found: Any = self._root
        for key in ref.removeprefix("#/").split("/"):
            found = found.get(key) if isinstance(found, dict) else None
        if found is None:
            raise self._error(f"'$ref' {ref} cannot be resolved")
        self.check(found, (*within, ref), depth + 1)

    def _kinds(self, schema: dict[str, Any]) -> list[str]:
        kinds = schema.get("type", [])
        kinds = kinds if isinstance(kinds, list) else [kinds]
        if not all(isinstance(kind, str) and kind in _TYPES for kind in kinds):
            raise self._error(f"'type' should be among {', '.join(sorted(_TYPES))}")
        enum = schema.get("enum", [""])
        if not isinstance(enum, list) or not enum or any(isinstance(each, dict | list) for each in enum):
            raise self._error("'enum' should be a list of texts, numbers, booleans or nulls")
        known = _ANYWHERE.union(*(_BY_TYPE.get(kind, set()) for kind in kinds))
        if unknown := sorted(schema.keys() - known):
            named = f"For '{kinds[0]}' type, properties" if kinds else "properties"
            raise self._error(f"{named} {', '.join(unknown)} are not supported")
        return kinds

    def _check_kind(self, schema: dict[str, Any], kind: str) -> None:
        if kind == "object":
            if schema.get("additionalProperties") is not False:
                raise self._error("For 'object' type, 'additionalProperties' must be explicitly set to false")
            properties, required = schema.get("properties", {}), schema.get("required", [])
            if not isinstance(properties, dict) or not isinstance(required, list):
                raise self._error("'properties' should be an object and 'required' a list")
            if missing := [name for name in required if not isinstance(name, str) or name not in properties]:
                raise self._error(f"required property {missing[0]!r} is not in 'properties'")
        if kind == "array" and schema.get("minItems", 0) not in (0, 1):
            raise self._error("For 'array' type, 'minItems' values other than 0 or 1 are not supported")
        if kind == "string" and str(schema.get("format", "date")) not in FORMATS:
            raise self._error(f"String format '{schema['format']}' is not supported")

    def _error(self, what: str) -> ApiError:
        return invalid(f"{self._path}: {what}")


def _children(schema: dict[str, Any]) -> Iterator[Any]:
    for name in ("properties", "$defs", "definitions"):
        yield from schema.get(name, {}).values() if isinstance(schema.get(name, {}), dict) else [None]
    for name in ("anyOf", "allOf"):
        yield from schema.get(name, []) if isinstance(schema.get(name, []), list) else [None]
    if "items" in schema:
        yield schema["items"]


def _check_sizes(schemas: list[dict[str, Any]]) -> None:
    every = [each for schema in schemas for each in _all_of(schema)]
    optional = sum(len(each.get("properties", {}).keys() - set(each.get("required", []))) for each in every)
    unions = sum(1 for each in every if "anyOf" in each or isinstance(each.get("type"), list))
    for count, most, what in ((optional, MOST_OPTIONAL, "optional parameters"), (unions, MOST_UNIONS, "union types")):
        if count > most:
            raise invalid(
                f"Schemas contains too many {what} ({count}), which would make grammar compilation inefficient."
                f" Reduce the number of {what} in your schemas (limit: {most})."
            )


def _all_of(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield schema
    for each in _children(schema):
        yield from _all_of(each)
