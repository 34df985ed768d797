"""Tools that a request names or brings: what is sent to the model, and what is refused before anything is paid."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnlog.domain.chosen_tools import (
    MOST_TOOLS,
    WEB_USE_TOKENS,
    ChosenTools,
    OfferedTools,
    resolve_tools,
    web_uses,
)
from turnlog.domain.json_schemas import MAX_SCHEMA_BYTES
from turnlog.errors import InvalidRequest, ValueRefused

CLOCK = '{"name":"clock","input_schema":{"type":"object"},"strict":true}'
OFFERED = OfferedTools({"clock": CLOCK, "notes": '{"name":"notes"}'})
WEB = OfferedTools({"clock": CLOCK}, web=True)
OBJECT: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def client(**more: Any) -> dict[str, Any]:
    return {"name": "weather", "description": "The weather.", "input_schema": OBJECT} | more


def schema(**more: Any) -> dict[str, Any]:
    return client(input_schema={"type": "object", **more})


def sent(*asked: object, offered: OfferedTools = OFFERED) -> Any:
    return json.loads(resolve_tools(asked, offered).definitions)


def refused(*asked: object, offered: OfferedTools = OFFERED) -> tuple[str, str | None]:
    with pytest.raises(InvalidRequest) as refusal:
        resolve_tools(asked, offered)
    return refusal.value.code, refusal.value.pointer


def test_without_tools_nothing_is_sent() -> None:
    assert resolve_tools([], OFFERED) == ChosenTools("[]")


def test_a_name_stands_for_the_deployments_definition_to_the_byte() -> None:
    chosen = resolve_tools(["clock"], OFFERED)
    assert (chosen.definitions, chosen.own) == (f"[{CLOCK}]", ("clock",))


def test_the_order_is_that_of_the_request() -> None:
    chosen = resolve_tools(["notes", client(), "clock"], OFFERED)
    assert [each["name"] for each in json.loads(chosen.definitions)] == ["notes", "weather", "clock"]
    assert chosen.own == ("notes", "clock")


def test_what_was_asked_is_kept_as_it_was_asked() -> None:
    assert json.loads(resolve_tools(["clock", client()], OFFERED).asked) == ["clock", client()]


def test_a_tool_of_the_callers_is_sent_with_its_schema_as_it_came() -> None:
    assert sent(client(type="custom", strict=False)) == [client(strict=False)]
    assert sent({"name": "n", "input_schema": {"type": "object"}, "description": ""}) == [
        {"name": "n", "input_schema": {"type": "object"}}
    ]


@pytest.mark.parametrize("entry", ["web_search", {"type": "web_search"}])
def test_a_search_has_bounds_and_runs_no_code(entry: object) -> None:
    assert sent(entry, offered=WEB) == [
        {"type": "web_search_20260318", "name": "web_search", "max_uses": 5, "allowed_callers": ["direct"]}
    ]


def test_a_web_tool_can_be_bound_to_domains() -> None:
    (fetch,) = sent({"type": "web_fetch", "max_uses": 10, "allowed_domains": ["example.com"]}, offered=WEB)
    assert (fetch["type"], fetch["max_uses"]) == ("web_fetch_20260318", 10)
    assert (fetch["allowed_domains"], fetch["max_content_tokens"]) == (["example.com"], WEB_USE_TOKENS)


def test_the_most_uses_of_the_web_in_a_call_are_known() -> None:
    both = ["clock", {"type": "web_search", "max_uses": 3}, "web_fetch", client(description="web_search")]
    assert web_uses(resolve_tools(both, WEB).definitions) == (3, 5)
    assert web_uses(resolve_tools([client(description="web_search")], WEB).definitions) == (0, 0)
    assert web_uses("") == (0, 0)


REFUSED: list[tuple[str, object, str, str]] = [
    ("an unknown name", "radio", "tool_unknown", "/tools/0"),
    ("an empty name", "", "tool_unknown", "/tools/0"),
    ("a search where there is none", "web_search", "tool_unknown", "/tools/0"),
    ("a fetch where there is none", {"type": "web_fetch"}, "tool_unknown", "/tools/0"),
    ("a type of the API's", {"type": "bash_20250124", "name": "bash"}, "unknown_field", "/tools/0"),
    ("another type", {"type": "computer"}, "tool_unknown", "/tools/0"),
    ("a type that is no text", {"type": 5}, "wrong_type", "/tools/0/type"),
    ("a number", 5, "wrong_type", "/tools/0"),
    ("null", None, "wrong_type", "/tools/0"),
    ("a list", ["clock"], "wrong_type", "/tools/0"),
    ("nothing", {}, "field_missing", "/tools/0/name"),
    ("no schema", {"name": "a"}, "field_missing", "/tools/0/input_schema"),
    ("no name", {"input_schema": OBJECT}, "field_missing", "/tools/0/name"),
    ("another field", client(cache_control={}), "unknown_field", "/tools/0"),
    ("a name that is none", client(name="a b"), "tool_name_range", "/tools/0/name"),
    ("a long name", client(name="a" * 65), "tool_name_range", "/tools/0/name"),
    ("the name of an own tool", client(name="clock"), "tool_name_taken", "/tools/0/name"),
    ("the name of a web tool", client(name="web_search"), "tool_name_taken", "/tools/0/name"),
    ("a name of another type", client(name=5), "wrong_type", "/tools/0/name"),
    ("a description of another type", client(description=5), "wrong_type", "/tools/0/description"),
    ("strict of another type", client(strict=1), "wrong_type", "/tools/0/strict"),
    ("a long description", client(description="a" * 10_001), "tool_description_range", "/tools/0/description"),
    ("a control character", client(description="a\0"), "control_character", "/tools/0/description"),
    ("one in the schema", schema(description="a\0"), "control_character", "/tools/0/input_schema"),
    ("a schema of another type", client(input_schema=True), "wrong_type", "/tools/0/input_schema"),
]
NO_SCHEMA: list[tuple[str, dict[str, Any], str]] = [
    ("no type", {}, "schema_invalid"),
    ("a text", {"type": "string"}, "schema_invalid"),
    ("two types", {"type": ["object", "null"]}, "schema_invalid"),
    ("a choice at the top", {"type": "object", "anyOf": [OBJECT]}, "schema_invalid"),
    ("a type that is none", {"type": "object", "properties": {"a": {"type": "text"}}}, "schema_invalid"),
    ("properties in a list", {"type": "object", "properties": []}, "schema_invalid"),
    ("a property that is no schema", {"type": "object", "properties": {"a": 5}}, "schema_invalid"),
    ("a name that the API refuses", {"type": "object", "properties": {"a b": {}}}, "schema_invalid"),
    ("required of another type", {"type": "object", "required": "a"}, "schema_invalid"),
    ("required twice", {"type": "object", "required": ["a", "a"]}, "schema_invalid"),
    ("an empty choice", {"type": "object", "properties": {"a": {"anyOf": []}}}, "schema_invalid"),
    ("an empty list of values", {"type": "object", "properties": {"a": {"enum": []}}}, "schema_invalid"),
    ("itself", {"type": "object", "properties": {"a": {"$ref": "#"}}}, "schema_refers"),
    ("elsewhere", {"type": "object", "properties": {"a": {"$ref": "https://example.com/"}}}, "schema_refers"),
    ("nowhere", {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}}, "schema_refers"),
    ("an anchor", {"type": "object", "properties": {"a": {"$anchor": "a"}}}, "schema_refers"),
    (
        "a definition that refers to itself",
        {
            "type": "object",
            "properties": {"a": {"$ref": "#/$defs/a"}},
            "$defs": {"a": {"items": {"$ref": "#/$defs/a"}}},
        },
        "schema_refers",
    ),
    (
        "two that refer to each other",
        {
            "type": "object",
            "properties": {"a": {"$ref": "#/$defs/a"}},
            "$defs": {"a": {"items": {"$ref": "#/$defs/b"}}, "b": {"items": {"$ref": "#/$defs/a"}}},
        },
        "schema_refers",
    ),
    ("100 KB", {"type": "object", "description": "a" * 100_000}, "schema_too_large"),
    ("one byte too much", {"type": "object", "description": "a" * (MAX_SCHEMA_BYTES - 33)}, "schema_too_large"),
]


@pytest.mark.parametrize(("entry", "code", "pointer"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_an_entry_that_is_no_tool_is_refused(entry: object, code: str, pointer: str) -> None:
    assert refused(entry) == (code, pointer)


@pytest.mark.parametrize(("given_", "code"), [row[1:] for row in NO_SCHEMA], ids=[row[0] for row in NO_SCHEMA])
def test_a_schema_that_the_model_could_not_be_given_is_refused(given_: dict[str, Any], code: str) -> None:
    assert refused(client(input_schema=given_)) == (code, "/tools/0/input_schema")


def test_a_schema_nested_too_deep_is_refused() -> None:
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(40):
        deep = {"type": "array", "items": deep}
    assert refused(schema(properties={"a": deep})) == ("schema_too_large", "/tools/0/input_schema")


def test_a_definition_may_be_used_often_and_is_looked_at_once() -> None:
    twice = {
        f"d{n}": {"items": {"$ref": f"#/$defs/d{n + 1}"}, "contains": {"$ref": f"#/$defs/d{n + 1}"}} for n in range(99)
    }
    assert sent(schema(properties={"a": {"$ref": "#/$defs/d0"}}, **{"$defs": twice | {"d99": {}}}))


STRICT = {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}


def test_a_strict_schema_of_closed_objects_is_sent() -> None:
    assert sent(client(strict=True, input_schema=STRICT))[0]["strict"] is True


@pytest.mark.parametrize(
    "more",
    [
        {"additionalProperties": True},
        {"properties": {"a": {"type": "object"}}},
        {"properties": {"a": {"type": "string", "maxLength": 5}}},
        {"properties": {"a": {"type": "integer", "minimum": 1}}},
        {"properties": {"a": {"type": "array", "items": {}, "minItems": 2}}},
        {"properties": {"a": {"oneOf": [{"type": "string"}]}}},
        {"properties": {"a": True}},
    ],
)
def test_a_strict_schema_with_what_the_api_cannot_hold_to_is_refused(more: dict[str, Any]) -> None:
    assert refused(client(strict=True, input_schema=STRICT | more)) == ("schema_not_strict", "/tools/0/input_schema")


@pytest.mark.parametrize(
    ("more", "code", "where"),
    [
        ({"max_uses": 0}, "max_uses_range", "/max_uses"),
        ({"max_uses": 11}, "max_uses_range", "/max_uses"),
        ({"max_uses": True}, "wrong_type", "/max_uses"),
        ({"max_uses": "5"}, "wrong_type", "/max_uses"),
        ({"allowed_domains": "example.com"}, "wrong_type", "/allowed_domains"),
        ({"allowed_domains": []}, "tool_domains_range", "/allowed_domains"),
        ({"allowed_domains": ["https://example.com"]}, "tool_domains_range", "/allowed_domains"),
        ({"allowed_domains": ["a.ch"], "blocked_domains": ["b.ch"]}, "tool_domains_range", ""),
        ({"user_location": {}}, "unknown_field", ""),
    ],
)
def test_a_web_tool_out_of_its_bounds_is_refused(more: dict[str, Any], code: str, where: str) -> None:
    assert refused({"type": "web_search", **more}, offered=WEB) == (code, f"/tools/0{where}")


@pytest.mark.parametrize("pair", [["clock", "clock"], [client(), client()], ["web_search", {"type": "web_search"}]])
def test_two_tools_of_one_name_are_refused(pair: list[object]) -> None:
    assert refused(*pair, offered=WEB) == ("tool_name_taken", "/tools/1")


def test_too_many_tools_are_refused() -> None:
    assert refused(*(client(name=f"t{number}") for number in range(MOST_TOOLS + 1))) == ("tools_range", "/tools")
    assert len(sent(*(client(name=f"t{number}") for number in range(MOST_TOOLS)))) == MOST_TOOLS


def test_tools_that_are_too_large_together_are_refused() -> None:
    large = [client(name=f"t{number}", input_schema={"type": "object", "title": "a" * 26_000}) for number in range(4)]
    assert refused(*large) == ("tools_too_large", "/tools")
    strict = [client(name=f"t{number}", strict=True, input_schema=STRICT) for number in range(21)]
    assert refused(*strict) == ("tools_too_large", "/tools")
    assert len(sent(*strict[:19], "clock")) == 20
    assert refused(*strict[:20], "clock") == ("tools_too_large", "/tools")  # the deployment's own are strict


def test_an_unknown_name_is_told_which_there_are() -> None:
    with pytest.raises(ValueRefused) as refusal:
        resolve_tools(["radio"], WEB)
    assert refusal.value.details == {"allowed": ["clock", "web_search", "web_fetch"]}


_WORDS = ("type", "name", "input_schema", "properties", "items", "$ref", "$defs", "required", "strict", "anyOf")
_LEAVES = (
    st.none() | st.booleans() | st.integers() | st.sampled_from(["object", "web_search", "custom", "#/$defs/a", ""])
)
JSON = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_WORDS), inner, max_size=4),
    max_leaves=20,
)


@given(st.lists(JSON, max_size=3))
def test_whatever_is_asked_is_sent_or_refused(asked: list[object]) -> None:
    try:
        chosen = resolve_tools(asked, WEB)
    except InvalidRequest:
        return
    assert json.loads(chosen.definitions or "[]") or not asked
