"""The JSON Schema of a message, for the API's document; `turnlog.domain.blocks` checks what it says, and more."""

from __future__ import annotations

from typing import Any

from turnlog.domain.blocks.images import IMAGE_TYPES
from turnlog.domain.blocks.media import PDF, TEXT
from turnlog.domain.blocks.reading import MOST_TITLE, TOOL_USE_ID_PATTERN

Schema = dict[str, Any]

_STRING = {"type": "string", "minLength": 1}
_BASE64 = {"type": "string", "minLength": 4, "contentEncoding": "base64"}


def _object(kind: str, required: Schema, **optional: Any) -> Schema:
    """Returns the schema of an object that is known by its `type`; all of `required` must be there."""
    return {
        "type": "object",
        "required": ["type", *required],
        "properties": {"type": {"const": kind}, **required, **optional},
        "additionalProperties": False,
    }


def _blocks(*kinds: Schema, least: int = 1) -> Schema:
    return {"type": "array", "minItems": least, "items": kinds[0] if len(kinds) == 1 else {"oneOf": [*kinds]}}


_CITATIONS = {"type": "object", "properties": {"enabled": {"type": "boolean"}}, "additionalProperties": False}
_TEXT = _object("text", {"text": _STRING})
_IMAGE = _object("image", {"source": _object("base64", {"media_type": {"enum": [*IMAGE_TYPES]}, "data": _BASE64})})
_DOCUMENT_SOURCE = {
    "oneOf": [
        _object("base64", {"media_type": {"enum": [PDF, TEXT]}, "data": _BASE64}),
        _object("text", {"media_type": {"const": TEXT}, "data": _STRING}),
        _object("content", {"content": {"oneOf": [_STRING, _blocks(_TEXT, _IMAGE)]}}),
    ]
}
_DOCUMENT = _object(
    "document",
    {"source": _DOCUMENT_SOURCE},
    title={**_STRING, "maxLength": MOST_TITLE},
    context=_STRING,
    citations=_CITATIONS,
)
_SEARCH_RESULT = _object(
    "search_result", {"source": _STRING, "title": _STRING, "content": _blocks(_TEXT)}, citations=_CITATIONS
)
_RESULT = {"oneOf": [{"type": "string"}, _blocks(_TEXT, _IMAGE, _DOCUMENT, _SEARCH_RESULT, least=0)]}
_TOOL_RESULT = _object(
    "tool_result",
    {"tool_use_id": {"type": "string", "pattern": TOOL_USE_ID_PATTERN}},
    content=_RESULT,
    is_error={"type": "boolean"},
)


def message_schema(*, with_results: bool) -> Schema:
    """Returns the schema of a message; with results of tools only where a model may have called one."""
    kinds = [_TEXT, _IMAGE, _DOCUMENT, _SEARCH_RESULT, *([_TOOL_RESULT] if with_results else [])]
    return {"oneOf": [_STRING, _blocks(*kinds)]}
