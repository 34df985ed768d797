"""Schemas of replies: what is refused and where, and that replies are held to the rest as JSON Schema says."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.claude_stand_in.errors import ApiError
from local.claude_stand_in.objects import object_for
from local.claude_stand_in.rules.schemas import check_output
from turnlog.domain.messages import Message, Reply, Usage, to_json
from turnlog.domain.output.replies import output_in, output_of, require_uncited
from turnlog.domain.output.schemas import read_output_schema
from turnlog.errors import InvalidRequest, OutputInvalid, ValueRefused

TEXT = {"type": "string"}


def of(**properties: Any) -> dict[str, Any]:
    """The schema of an object with these properties, all required."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def chain(length: int, **part: Any) -> dict[str, Any]:
    """A schema whose definitions lead from one to the next."""
    links = {f"d{n}": of(**{name: {"$ref": f"#/$defs/d{n + 1}"} for name in part or ("a",)}) for n in range(length)}
    return {**of(x={"$ref": "#/$defs/d0"}), "$defs": {**links, f"d{length}": TEXT}}


RECURSIVE = {**of(x={"$ref": "#/$defs/n"}), "$defs": {"n": of(next={"anyOf": [{"$ref": "#/$defs/n"}, TEXT]})}}
REFUSED = [
    ("a list at the top", {"type": "array", "items": TEXT}, "schema_invalid", "/output"),
    ("a union at the top", {"anyOf": [of(a=TEXT), of(b=TEXT)]}, "schema_invalid", "/output"),
    ("no type", {"properties": {}}, "schema_invalid", "/output"),
    ("an unknown type", {"type": "colour"}, "schema_invalid", "/output/type"),
    ("a number as a type", {"type": 5}, "schema_invalid", "/output/type"),
    ("one type twice", of(a={"type": ["null", "null"]}), "schema_invalid", "/output/properties"),
    ("an unknown keyword", {**of(), "not": TEXT}, "schema_invalid", "/output"),
    ("a schema that is none", of(a=5), "schema_invalid", "/output/properties"),
    ("a schema that is true", of(a=True), "schema_invalid", "/output/properties"),
    ("properties in a list", {"type": "object", "properties": []}, "schema_invalid", "/output/properties"),
    ("an open object", {**of(), "additionalProperties": TEXT}, "schema_invalid", "/output/additionalProperties"),
    ("required that is no list", {"type": "object", "required": "a"}, "schema_invalid", "/output/required"),
    ("definitions in a list", {**of(), "$defs": []}, "schema_invalid", "/output/$defs"),
    ("a definition without a name", {**of(), "$defs": {"": TEXT}}, "schema_invalid", "/output/$defs"),
    ("a list without items", of(a={"type": "array"}), "schema_invalid", "/output/properties"),
    ("a negative length", of(a={**TEXT, "minLength": -1}), "schema_invalid", "/output/properties"),
    ("a bound that is a text", of(a={"type": "number", "minimum": "1"}), "schema_invalid", "/output/properties"),
    ("a bound without end", of(a={"type": "number", "minimum": 1e999}), "schema_invalid", "/output"),
    ("a step of nothing", of(a={"type": "number", "multipleOf": 0}), "schema_invalid", "/output/properties"),
    ("a pattern that looks ahead", of(a={**TEXT, "pattern": "(?=a)"}), "schema_invalid", "/output/properties"),
    ("a pattern of much work", of(a={**TEXT, "pattern": "\\w{999}"}), "schema_invalid", "/output/properties"),
    ("a pattern of more work", of(a={**TEXT, "pattern": "(\\w{9}){9}"}), "schema_invalid", "/output/properties"),
    ("a pattern with much and nothing", of(a={**TEXT, "pattern": "(a){0}\\w{999}"}), "schema_invalid", None),
    ("a pattern without an end", of(a={**TEXT, "pattern": "\\w{999,}"}), "schema_invalid", "/output/properties"),
    ("a pattern that is read otherwise", of(a={**TEXT, "pattern": "(?x)\\w{ 999 }"}), "schema_invalid", None),
    ("a long pattern", of(a={**TEXT, "pattern": "a" * 201}), "schema_invalid", "/output/properties"),
    ("nine patterns", of(**{f"a{n}": {**TEXT, "pattern": f"a{n}"} for n in range(9)}), "schema_too_complex",
     "/output"),
    ("a title that is a number", {**of(), "title": 5}, "schema_invalid", "/output/title"),
    ("an object in an enum", of(a={"enum": [{}]}), "schema_invalid", "/output/properties"),
    ("no union", of(a={"anyOf": []}), "schema_invalid", "/output/properties"),
    ("a union and a type", of(a={"anyOf": [TEXT], "type": "string"}), "schema_invalid", "/output/properties"),
    ("all of two texts", of(a={"allOf": [TEXT, TEXT]}), "schema_invalid", "/output/properties"),
    ("one property twice", {"allOf": [of(a=TEXT), of(a=TEXT)]}, "schema_invalid", "/output/allOf/1"),
    ("itself", of(a={"$ref": "#"}), "schema_refers", "/output/properties"),
    ("itself by a definition", RECURSIVE, "schema_refers", "/output/$defs"),
    ("another document", of(a={"$ref": "https://example.com/a"}), "schema_refers", "/output/properties"),
    ("no definition", of(a={"$ref": "#/$defs/none"}), "schema_refers", "/output/properties"),
    ("a reference that is a number", of(a={"$ref": 5}), "schema_refers", "/output/properties"),
    ("a required stranger", {**of(), "required": ["a"]}, "schema_unsatisfiable", "/output/required"),
    ("an empty enum", of(a={"enum": []}), "schema_unsatisfiable", "/output/properties"),
    ("an enum of another type", of(a={**TEXT, "enum": [1]}), "schema_unsatisfiable", "/output/properties"),
    ("a const outside its enum", of(a={"enum": [1], "const": 2}), "schema_unsatisfiable", "/output/properties"),
    ("a const out of bounds", of(a={**TEXT, "const": "a", "minLength": 2}), "schema_unsatisfiable", None),
    ("a minimum over a maximum", of(a={"type": "number", "minimum": 2, "maximum": 1}), "schema_unsatisfiable", None),
    ("a bound that excludes the other", of(a={"type": "number", "minimum": 1, "exclusiveMaximum": 1}),
     "schema_unsatisfiable", None),
    ("no integer between", of(a={"type": "integer", "minimum": 1.2, "exclusiveMaximum": 2}), "schema_unsatisfiable",
     None),
    ("more items than the most", of(a={"type": "array", "items": TEXT, "minItems": 3, "maxItems": 2}),
     "schema_unsatisfiable", None),
    ("two objects closed to each other", {"allOf": [of(a=TEXT), {**of(b=TEXT), "additionalProperties": False}]},
     "schema_unsatisfiable", "/output/allOf/1"),
    ("100 KB", {**of(), "description": "x" * 100_000}, "schema_too_large", "/output"),
    ("100 levels", json.loads('{"items":' * 100 + "{}" + "}" * 100), "schema_too_large", "/output"),
    ("a long chain", chain(300), "schema_too_large", None),
    ("a chain that doubles", chain(20, a=1, b=1), "schema_too_complex", "/output"),
    ("all of the same many times", {**of(**{f"a{n}": {"allOf": [{"$ref": "#/$defs/d"}]} for n in range(80)}),
     "$defs": {"d": {**of(), "description": "x" * 2000}}}, "schema_too_large", "/output"),
    ("25 optional properties", {**of(**{f"a{n}": TEXT for n in range(25)}), "required": []}, "schema_too_complex",
     "/output"),
    ("17 unions", of(**{f"a{n}": {"type": ["string", "null"]} for n in range(17)}), "schema_too_complex", "/output"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("schema", "code", "pointer"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_a_schema_is_refused(schema: object, code: str, pointer: str | None) -> None:
    with pytest.raises(ValueRefused) as refused:
        read_output_schema(schema)
    assert refused.value.code == code
    assert pointer in (None, refused.value.pointer)


def test_a_schema_that_is_no_object_has_the_wrong_type() -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_output_schema(["string"])
    assert (refused.value.code, refused.value.pointer) == ("wrong_type", "/output")


@pytest.mark.parametrize("schema", [of(**{"a\x00": TEXT}), {**of(), "description": "a\x9b"}], ids=["name", "text"])
def test_a_schema_has_no_control_characters(schema: object) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_output_schema(schema)
    assert refused.value.code == "control_character"


def test_a_refusal_names_no_property_but_its_number() -> None:
    with pytest.raises(ValueRefused) as refused:
        read_output_schema(of(good=TEXT, secret=of(deeper={"type": "string", "enum": []})))
    assert (refused.value.pointer, refused.value.details) == ("/output/properties", {"field": 2})


def test_the_form_of_a_schema_is_closed_and_has_one_type_in_each_part() -> None:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$ref": "#/definitions/Bird",
        "definitions": {
            "Bird": {
                **of(legs={"type": ["integer", "null"], "minimum": 0}, kind={**TEXT, "enum": ["heron", 5]}),
                "title": "Bird",
            },
            "Unused": TEXT,
        },
    }
    assert json.loads(read_output_schema(schema)) == {
        "type": "object",
        "title": "Bird",
        "properties": {
            "legs": {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}]},
            "kind": {"enum": ["heron"]},
        },
        "required": ["legs", "kind"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    "pattern", [r"^\d{4}-\d{2}-\d{2}$", "^[0-9a-f]{8}(-[0-9a-f]{4}){3}$", r"^\+?[0-9]{7,15}$", "^(a|b)*$"]
)
def test_usual_patterns_are_taken(pattern: str) -> None:
    assert read_output_schema(of(a={**TEXT, "pattern": pattern}))


def test_objects_in_all_of_become_one() -> None:
    schema = {"allOf": [{"$ref": "#/$defs/a"}, of(b=TEXT)], "type": "object", "properties": {"c": TEXT}}
    form = read_output_schema({**schema, "$defs": {"a": of(a=TEXT)}})
    assert output_of('{"a":"1","b":"2"}', form) == {"a": "1", "b": "2"}
    assert output_of('{"a":"1","b":"2","c":"3"}', form)
    assert output_of('{"a":"1","c":"3"}', form) is None


# --- replies ---

NO_OBJECTS = ["", "a", "[]", "null", '{"a":1', '{"a":NaN}', '{"a":1e999}', '{"a":"\\ud800"}', "[" * 100_000]


@pytest.mark.parametrize("text", NO_OBJECTS, ids=lambda text: text[:20])
def test_a_text_that_is_no_json_object_is_no_output(text: str) -> None:
    anything = {"type": ["number", "string"]}
    assert output_of(text, read_output_schema({"type": "object", "properties": {"a": anything}})) is None


def replied(*texts: str, stop_reason: str = "end_turn") -> Reply:
    return Reply("claude", to_json([{"type": "text", "text": each} for each in texts]), stop_reason, Usage("{}"))


SCHEMA = read_output_schema(of(a=TEXT))


@pytest.mark.parametrize("reason", ["max_tokens", "refusal", "model_context_window_exceeded", "paused", "new_one"])
def test_a_reply_that_did_not_end_is_no_output_even_if_it_fits(reason: str) -> None:
    with pytest.raises(OutputInvalid) as invalid:
        output_in(replied('{"a":"b"}', stop_reason=reason), SCHEMA)
    assert invalid.value.stop_reason == reason


def test_an_output_may_come_in_pieces_or_after_other_texts() -> None:
    assert output_in(replied('{"a":', '"b"}'), SCHEMA) == {"a": "b"}
    assert output_in(replied("I look it up.", '{"a":"b"}'), SCHEMA) == {"a": "b"}


def test_a_reply_that_calls_the_callers_tools_has_no_output_yet() -> None:
    assert output_in(replied("I call.", stop_reason="tool_use"), SCHEMA) is None


@pytest.mark.parametrize("texts", [(), ("",), ('{"a":1}',), ('{"a":"' + "x" * 500_000 + '"}',)], ids=lambda t: t[:1])
def test_a_reply_that_does_not_fit_is_an_error(texts: tuple[str, ...]) -> None:
    with pytest.raises(OutputInvalid) as invalid:
        output_in(replied(*texts), SCHEMA)
    assert invalid.value.stop_reason == "end_turn"


def test_a_message_with_citations_is_refused() -> None:
    source = {"type": "text", "media_type": "text/plain", "data": "Herons."}
    cited = {"type": "document", "source": source, "citations": {"enabled": True}}
    with pytest.raises(ValueRefused) as refused:
        require_uncited(Message("user", to_json([{"type": "text", "text": "Look."}, cited])))
    assert (refused.value.code, refused.value.pointer) == ("citations_with_output", "/message/1")
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [cited]}
    with pytest.raises(ValueRefused):
        require_uncited(Message("user", to_json([result])))
    require_uncited(Message("user", to_json([{**cited, "citations": {"enabled": False}}])))


# --- held against JSON Schema itself ---

_NAMES = st.sampled_from(["a", "b"])
_NUMBERS = st.sampled_from([-1, 0, 1, 1.0, 1.5, 2, 3])
_SIZES = st.integers(0, 2)
_PLAIN = st.sampled_from([None, True, False, 0, 1, 1.0, 2, "", "a", "aa", "b"])


def _optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


def _typed(kind: str, **bounds: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return _optional(**bounds).map(lambda chosen: {"type": kind, **chosen})


_NUMERIC = {
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _NUMBERS),
    "multipleOf": st.sampled_from([1, 2, 0.5]),
}
_LEAVES = st.one_of(
    _typed("string", minLength=_SIZES, maxLength=_SIZES, pattern=st.sampled_from(["a", "^a$", "b|^$"])),
    _typed("number", **_NUMERIC),
    _typed("integer", **_NUMERIC),
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"type": ["string", "null"], "minLength": 1}]),
    st.lists(_PLAIN, min_size=1, max_size=3).map(lambda values: {"enum": values}),
    st.lists(_PLAIN, min_size=1, max_size=3).map(lambda values: {"enum": values, "type": "string"}),
    _PLAIN.map(lambda value: {"const": value}),
    st.just({"$ref": "#/$defs/d"}),
)


def _objects(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    required = st.lists(_NAMES, max_size=2)
    properties = st.dictionaries(_NAMES, parts, max_size=2)
    return st.builds(lambda p, r: {"type": "object", "properties": p, "required": r}, properties, required)


_SCHEMAS = st.recursive(
    _LEAVES,
    lambda parts: st.one_of(
        _objects(parts),
        st.lists(parts, min_size=1, max_size=2).map(lambda options: {"anyOf": options}),
        st.lists(parts, min_size=1, max_size=2).map(lambda options: {"oneOf": options}),
        parts.map(lambda part: {"allOf": [part]}),
        st.builds(lambda items, bounds: {"type": "array", "items": items, **bounds}, parts,
                  _optional(minItems=_SIZES, maxItems=_SIZES, uniqueItems=st.booleans())),
    ),
    max_leaves=5,
)  # fmt: skip
_VALUES = st.recursive(
    _PLAIN, lambda each: st.lists(each, max_size=3) | st.dictionaries(_NAMES, each, max_size=2), max_leaves=6
)
_ROOTS = st.builds(lambda root, d: {**root, "$defs": {"d": d}}, _objects(_SCHEMAS), _LEAVES)


def _closed(schema: Any) -> Any:
    """The schema as it was given, with its objects closed."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(each) for name, each in schema.items()}
    return {**closed, "additionalProperties": False} if "properties" in schema else closed


@given(_ROOTS, st.dictionaries(_NAMES, _VALUES, max_size=2))
def test_a_value_is_allowed_exactly_when_json_schema_allows_it(schema: dict[str, Any], value: dict[str, Any]) -> None:
    try:
        form = read_output_schema(schema)
    except ValueRefused as refused:
        assert refused.code in {"schema_unsatisfiable", "schema_refers"}
        return
    allowed = jsonschema.Draft202012Validator(_closed(schema)).is_valid(value)
    assert (output_of(json.dumps(value), form) is not None) == allowed
    assert jsonschema.Draft202012Validator(json.loads(form)).is_valid(value) == allowed


@given(_ROOTS)
def test_what_is_sent_is_what_the_provider_takes(schema: dict[str, Any]) -> None:
    try:
        form = read_output_schema(schema)
    except ValueRefused:
        return
    sent = anthropic.transform_schema(json.loads(form))
    try:
        check_output({"output_config": {"format": {"type": "json_schema", "schema": sent}}})
    except ApiError as error:
        pytest.fail(f"{error}: {sent}")


def test_an_object_of_the_stand_in_fits_a_schema_of_many_kinds() -> None:
    schema = {
        **of(
            line={"type": ["integer", "null"]},
            kinds={"type": "array", "items": {"$ref": "#/$defs/kind"}, "minItems": 1},
            when={**TEXT, "format": "date"},
        ),
        "$defs": {"kind": {"enum": ["heron", "stork"]}},
    }
    form = read_output_schema(schema)
    made = object_for(anthropic.transform_schema(json.loads(form)), "A heron on 2026-05-01.")
    assert output_of(json.dumps(made), form) == made
