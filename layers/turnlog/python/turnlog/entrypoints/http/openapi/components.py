"""The schemas of bodies, generated from their models, and an example of each answer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, models_json_schema
from pydantic_core import core_schema

Schema = dict[str, Any]

_TEMPLATE = "#/components/schemas/{model}"

EVENT: Schema = {
    "type": "object",
    "description": "One event of a stream; `data` is JSON in one line.",
    "required": ["event", "data"],
    "properties": {
        "event": {"type": "string", "description": "The event's name."},
        "data": {"type": "string", "description": "What it says.", "contentMediaType": "application/json"},
    },
}
"""The form of each server-sent event, as readers of OpenAPI take it for what stands in a stream."""


class _Generator(GenerateJsonSchema):
    """JSON Schema as pydantic says it, without titles, which repeat the names.

    A field whose default is None may be left out and is never null.
    """

    def field_title_should_be_set(self, schema: Any) -> bool:
        del schema
        return False

    def model_schema(self, schema: core_schema.ModelSchema) -> Schema:
        written = super().model_schema(schema)
        del written["title"]
        return written

    def nullable_schema(self, schema: core_schema.NullableSchema) -> Schema:
        written = self.generate_inner(schema["schema"])
        return {**written, "type": [written["type"], "null"]}

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> Schema:
        if schema.get("default", ...) is not None:
            return super().default_schema(schema)
        inner: Any = schema["schema"]
        while inner["type"] != "nullable":  # a validator may stand around it
            inner = inner["schema"]
        return self.generate_inner(inner["schema"])


def schemas(requests: Iterable[type[BaseModel]], answers: Iterable[type[BaseModel]]) -> dict[str, Schema]:
    """Returns a schema for each model and for each that it refers to, by name."""
    models = [*((each, "validation") for each in requests), *((each, "serialization") for each in answers)]
    _, written = models_json_schema(models, ref_template=_TEMPLATE, schema_generator=_Generator)  # type: ignore[arg-type]
    return dict(written["$defs"])


def schema_of(kind: Any) -> Schema:
    """Returns the schema of one model or type that refers to no other."""
    return TypeAdapter(kind).json_schema(schema_generator=_Generator)


def ref(model: type[BaseModel]) -> Schema:
    return {"$ref": _TEMPLATE.format(model=model.__name__)}


def example_of(schema: Schema, components: dict[str, Schema]) -> Any:
    """Returns one value of the schema, made of the examples of its parts; without what is not always there."""
    if "$ref" in schema:
        return example_of(components[schema["$ref"].rpartition("/")[2]], components)
    if "examples" in schema:
        return schema["examples"][0]
    if "const" in schema:
        return schema["const"]
    if schema["type"] == "array":
        return [example_of(schema["items"], components)]
    return {name: example_of(schema["properties"][name], components) for name in schema["required"]}
