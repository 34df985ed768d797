"""Bodies with something wrong anywhere: each is answered, and none brings the stand-in down."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from local.claude_stand_in.cache import CacheUse
from local.claude_stand_in.errors import ApiError
from local.claude_stand_in.replies import reply_to
from local.claude_stand_in.rules import check_count_request, check_message_request
from tests.unit.claude_stand_in.asking import MODEL
from tests.unit.claude_stand_in.files import pdf, png

NOW = datetime(2026, 11, 1, tzinfo=UTC)
JUNK: list[Any] = [None, True, 0, -1, 1.5, 10**30, "", " ", "x", "auto", [], [[]], [{}], {}, {"type": "text"}, {"a": 1}]
SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": ["string", "null"]}, "b": {"type": "array", "items": {"$ref": "#/$defs/c"}}},
    "required": ["a", "b"],
    "additionalProperties": False,
    "$defs": {"c": {"anyOf": [{"enum": ["x", 1]}, {"type": "string", "format": "date"}]}},
}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": png(3, 2)}}
PDF = {"type": "base64", "media_type": "application/pdf", "data": pdf(1)}
WHOLE: dict[str, Any] = {
    "model": MODEL,
    "max_tokens": 300,
    "stop_sequences": ["END"],
    "metadata": {"user_id": "u"},
    "thinking": {"type": "adaptive", "display": "summarized"},
    "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    "diagnostics": {"previous_message_id": None},
    "output_config": {"effort": "high", "format": {"type": "json_schema", "schema": SCHEMA}},
    "tools": [
        {"name": "clock", "description": "Time.", "input_schema": SCHEMA, "strict": True},
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 2, "allowed_domains": ["example.com"]},
    ],
    "system": [{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
    "messages": [
        {"role": "user", "content": [
            IMAGE,
            {"type": "document", "title": "T", "source": PDF},
            {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "a"}, IMAGE]}},
            {"type": "search_result", "source": "s", "title": "t", "content": [{"type": "text", "text": "a"}]},
            {"type": "text", "text": "Call clock twice with {} and search the web for herons"},
        ]},
        {"role": "system", "content": "It is Monday."},
        {"role": "assistant", "content": [
            {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "q"}},
            {"type": "web_search_tool_result", "tool_use_id": "s1", "content": []},
            {"type": "tool_use", "id": "t1", "name": "clock", "input": {"a": [1]}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t1", "is_error": False, "cache_control": {"type": "ephemeral"},
             "content": [{"type": "text", "text": "a"}, IMAGE]},
        ]},
    ],
}  # fmt: skip


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container with each of its keys."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    for key in keys:
        yield value, key
        yield from places(value[key])


def answered(body: dict[str, Any]) -> int:
    """The status of the answer. Raises whatever is no answer of the API."""
    try:
        prompt = check_message_request(body, NOW)
        json.dumps(reply_to(prompt, CacheUse()).events())
    except ApiError as error:
        return error.status
    return 200


def test_the_whole_body_is_accepted() -> None:
    assert answered(copy.deepcopy(WHOLE)) == 200


@pytest.mark.parametrize("junk", JUNK, ids=repr)
def test_junk_anywhere_is_answered(junk: Any) -> None:
    count = len(list(places(WHOLE)))
    statuses = set()
    for number in range(count):
        body = copy.deepcopy(WHOLE)
        container, key = list(places(body))[number]
        container[key] = copy.deepcopy(junk)
        statuses.add(answered(body))
    assert statuses <= {200, 400, 404}
    assert 400 in statuses


def test_fields_that_are_missing_or_unknown_are_answered() -> None:
    for number in range(len(list(places(WHOLE)))):
        for change in ("missing", "unknown"):
            body = copy.deepcopy(WHOLE)
            container, key = list(places(body))[number]
            if change == "missing":
                del container[key]
            elif isinstance(container, dict):
                container["colour"] = "red"
            assert answered(body) in (200, 400, 404)


def test_several_wrongs_at_once_are_answered() -> None:
    dice = random.Random(1)
    for _ in range(400):
        body = copy.deepcopy(WHOLE)
        for _ in range(dice.randint(2, 4)):
            container, key = dice.choice(list(places(body)))
            container[key] = copy.deepcopy(dice.choice(JUNK))
        assert answered(body) in (200, 400, 404)
        counted = {name: body[name] for name in body if name in ("model", "messages", "system", "tools", "thinking")}
        try:
            check_count_request(counted, NOW)
        except ApiError as error:
            assert error.status in (400, 404)


LOOSE = {
    "type": "object",
    "properties": {
        "a": {"type": ["string", "null"], "minLength": 2, "maxLength": 9, "description": "d"},
        "b": {"type": "array", "items": {"$ref": "#/$defs/c"}, "minItems": 1, "maxItems": 4},
        "n": {"type": "integer", "minimum": 2, "maximum": 9},
        "o": {"allOf": [{"properties": {"z": {"type": "string"}}, "required": ["z"]}, {"type": "object"}]},
        "r": {"$ref": "#"},
    },
    "required": ["a", "b", "n", "o"],
    "$defs": {"c": {"anyOf": [{"type": "null"}, {"type": "string", "format": "date"}]}},
}
WRONG = [
    *JUNK,
    {"$ref": "#"},
    {"anyOf": []},
    {"allOf": [1]},
    {"type": "array", "items": [1]},
    {"type": []},
    {"enum": 5},
]


@pytest.mark.parametrize("junk", WRONG, ids=repr)
def test_a_tool_of_any_schema_can_be_called(junk: Any) -> None:
    for number in range(len(list(places(LOOSE)))):
        schema = copy.deepcopy(LOOSE)
        container, key = list(places(schema))[number]
        container[key] = copy.deepcopy(junk)
        tool = {"name": "clock", "input_schema": schema}
        asked = [{"role": "user", "content": "Call clock"}]
        assert answered({"model": MODEL, "max_tokens": 900, "tools": [tool], "messages": asked}) in (200, 400)
