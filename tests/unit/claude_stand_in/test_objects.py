"""Structured output: which schemas are refused, and that every reply fits an accepted one.

The ids name the sources: the page Structured outputs of the provider's docs, the SDK's types, or reports of users.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any

import anthropic
import jsonschema
import pytest
from pydantic import BaseModel

from local.claude_stand_in import StandIn
from tests.unit.claude_stand_in.asking import MARK, MODEL, WELL_FORMED, posted


def closed(**properties: Any) -> dict[str, Any]:
    """The schema of an object with these properties, all required."""
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


TEXT = {"type": "string"}


def asking_for(schema: object, text: str = "Herons eat 3 fish. It rained.", **more: Any) -> dict[str, Any]:
    asked = {"messages": [{"role": "user", "content": text}]}
    return WELL_FORMED | asked | {"output_config": {"format": {"type": "json_schema", "schema": schema}}} | more


def object_in(answer: dict[str, Any]) -> Any:
    return json.loads(answer["content"][0]["text"])


REFUSED = [
    pytest.param("'additionalProperties' must be explicitly set to false", {"type": "object", "properties": {}},
                 id="page Structured outputs: closed objects"),
    pytest.param("'additionalProperties' must be explicitly set to false",
                 closed(a={"type": "array", "items": {"type": "object", "additionalProperties": True}}),
                 id="page Structured outputs: closed objects inside"),
    pytest.param("For 'integer' type, properties maximum, minimum are not supported",
                 closed(a={"type": "integer", "minimum": 1, "maximum": 2}), id="page Structured outputs: no bounds"),
    pytest.param("minLength are not supported", closed(a={"type": "string", "minLength": 1}),
                 id="page Structured outputs: no length of texts"),
    pytest.param("'minItems' values other than 0 or 1", closed(a={"type": "array", "items": TEXT, "minItems": 2}),
                 id="page Structured outputs: minItems"),
    pytest.param("maxItems are not supported", closed(a={"type": "array", "items": TEXT, "maxItems": 2}),
                 id="page Structured outputs: no length of lists"),
    pytest.param("properties not are not supported", closed(a={"not": TEXT}), id="page Structured outputs: keywords"),
    pytest.param("format 'iban' is not supported", closed(a={"type": "string", "format": "iban"}),
                 id="page Structured outputs: formats"),
    pytest.param("'enum' should be", closed(a={"enum": [{}]}), id="page Structured outputs: plain enums"),
    pytest.param("'enum' should be", closed(a={"enum": []}), id="reports: an enum has values"),
    pytest.param("'type' should be among", closed(a={"type": "colour"}), id="page Structured outputs: types"),
    pytest.param("External '$ref'", closed(a={"$ref": "https://example.com/a.json"}),
                 id="page Structured outputs: no external references"),
    pytest.param("cannot be resolved", closed(a={"$ref": "#/$defs/none"}), id="reports: references lead somewhere"),
    pytest.param("Recursive schemas", closed(a={"$ref": "#"}), id="page Structured outputs: no recursion"),
    pytest.param("Recursive schemas",
                 closed(a={"$ref": "#/$defs/b"}) | {"$defs": {"b": closed(c={"anyOf": [{"$ref": "#/$defs/b"}, TEXT]})}},
                 id="page Structured outputs: no recursion on the way"),
    pytest.param("is not in 'properties'", closed(a=TEXT) | {"required": ["b"]}, id="ours: no object could fit"),
    pytest.param("too many optional parameters (25)",
                 closed(**{f"a{number}": TEXT for number in range(25)}) | {"required": []},
                 id="page Structured outputs: 24 optional fields"),
    pytest.param("too many union types (17)",
                 closed(**{f"a{number}": {"type": ["string", "null"]} for number in range(17)}),
                 id="page Structured outputs: 16 unions"),
    pytest.param("schema: Field required", None, id="types JSONOutputFormatParam"),
    pytest.param("each schema must be an object", closed(a=5), id="types JSONOutputFormatParam: a part"),
]  # fmt: skip


class TestRules:
    @pytest.mark.parametrize(("complaint", "schema"), REFUSED)
    def test_a_schema_that_claude_does_not_take_is_refused(
        self, claude: StandIn, complaint: str, schema: object
    ) -> None:
        status, answer = posted(claude, asking_for(schema))
        assert (status, answer["error"]["type"]) == (400, "invalid_request_error")
        assert complaint in answer["error"]["message"]

    @pytest.mark.parametrize(("complaint", "schema"), REFUSED[:4])
    def test_a_strict_tool_follows_the_same_rules(self, claude: StandIn, complaint: str, schema: object) -> None:
        """Page Strict tool use."""
        tool = {"name": "clock", "input_schema": schema}
        assert posted(claude, WELL_FORMED | {"tools": [tool]})[0] == 200
        status, answer = posted(claude, WELL_FORMED | {"tools": [tool | {"strict": True}]})
        assert status == 400
        assert complaint in answer["error"]["message"]

    def test_twenty_tools_may_be_strict(self, claude: StandIn) -> None:
        """Page Strict tool use: limits."""
        tools = [{"name": f"clock{number}", "input_schema": closed(), "strict": True} for number in range(21)]
        assert [posted(claude, WELL_FORMED | {"tools": some})[0] for some in (tools[:20], tools)] == [200, 400]

    @pytest.mark.parametrize(
        "config",
        [
            5,
            {"format": {"type": "json_schema", "schema": closed(), "name": "a"}},
            {"colour": "red"},
            {"format": {"type": "xml"}},
            {"format": "json"},
        ],
    )
    def test_an_output_config_has_known_parts(self, claude: StandIn, config: object) -> None:
        """Types OutputConfigParam."""
        assert posted(claude, WELL_FORMED | {"output_config": config})[0] == 400

    def test_documents_are_not_cited_in_an_object(self, claude: StandIn) -> None:
        """Page Structured outputs: not compatible with citations."""
        source = {"type": "text", "media_type": "text/plain", "data": "Herons nest."}
        cited = {"type": "document", "source": source, "citations": {"enabled": True}}
        for block, status in ((cited, 400), ({**cited, "citations": {"enabled": False}}, 200)):
            messages = [{"role": "user", "content": [block, {"type": "text", "text": "What?"}]}]
            assert posted(claude, asking_for(closed(a=TEXT), messages=messages))[0] == status


SCHEMAS = [
    closed(title=TEXT, summary=TEXT, key_points={"type": "array", "items": TEXT}, language=TEXT),
    closed(
        findings={
            "type": "array",
            "items": closed(
                line={"type": "integer"}, severity={"enum": ["low", "high"]}, rule=TEXT, message=TEXT, suggestion=TEXT
            ),
        }
    ),
    closed(a={"anyOf": [{"type": "null"}, {"type": "number"}]}, b={"type": ["null", "boolean"]}, c={"const": 7}),
    closed(a={"$ref": "#/$defs/b"}) | {"$defs": {"b": closed(c={"type": "string", "format": "date-time"})}},
    closed(a={"allOf": [closed(b=TEXT)]}, c={"type": "null"}, d=closed(e=closed(f={"type": "integer"}))),
    {"type": "array", "items": {"enum": [1, 2]}},
    closed(**{name: {"type": "string", "format": name} for name in ("date", "time", "email", "uri", "ipv4", "uuid")}),
]


class Severity(StrEnum):
    LOW = "low"
    HIGH = "high"


class Finding(BaseModel):
    """One finding; its bounds go into descriptions, as the SDK does it."""

    line: int
    severity: Severity
    message: str


class Findings(BaseModel):
    findings: list[Finding]
    note: str | None


class TestObjects:
    @pytest.mark.parametrize("schema", SCHEMAS)
    @pytest.mark.parametrize("text", ["Herons eat 3 fish. It rained.", "?", "x" * 5000])
    def test_the_reply_fits_the_schema(self, claude: StandIn, schema: dict[str, Any], text: str) -> None:
        status, answer = posted(claude, asking_for(schema, text, max_tokens=5000))
        assert (status, answer["stop_reason"]) == (200, "end_turn")
        jsonschema.validate(object_in(answer), schema)

    def test_it_is_made_of_what_was_said(self, claude: StandIn) -> None:
        schema = closed(
            title=TEXT,
            summary=TEXT,
            points={"type": "array", "items": TEXT},
            mood={"enum": ["glad", "angry"]},
            count={"type": "integer"},
            when={"type": "string", "format": "date"},
        )
        text = "Herons eat 3 fish on 2026-11-29. Nobody is angry."
        assert object_in(posted(claude, asking_for(schema, text))[1]) == {
            "title": f"{MARK}Herons eat 3 fish on 2026-11-29.",
            "summary": "Herons eat 3 fish on 2026-11-29.",
            "points": ["Herons eat 3 fish on 2026-11-29.", "Nobody is angry."],
            "mood": "angry",
            "count": 3,
            "when": "2026-11-29",
        }

    def test_the_value_can_be_dictated_even_a_wrong_one(self, claude: StandIn) -> None:
        answer = posted(claude, asking_for(closed(a=TEXT), 'Please answer with {"b": [1]}.'))[1]
        assert object_in(answer) == {"b": [1]}

    def test_max_tokens_cuts_the_json(self, claude: StandIn) -> None:
        """Page Structured outputs: a reply that is cut need not fit."""
        answer = posted(claude, asking_for(SCHEMAS[0], max_tokens=5))[1]
        assert answer["stop_reason"] == "max_tokens"
        with pytest.raises(json.JSONDecodeError):
            object_in(answer)

    def test_a_refusal_is_no_object(self, claude: StandIn) -> None:
        """Page Structured outputs: a refusal need not fit."""
        answer = posted(claude, asking_for(SCHEMAS[0], "Stop with refusal."))[1]
        assert (answer["content"], answer["stop_reason"]) == ([], "refusal")

    def test_the_object_comes_after_the_tools(self, claude: StandIn) -> None:
        tool = {"name": "clock", "input_schema": {"type": "object"}}
        body = asking_for(closed(a=TEXT), "Call clock", tools=[tool])
        first = posted(claude, body)[1]
        assert first["stop_reason"] == "tool_use"
        result = {"type": "tool_result", "tool_use_id": first["content"][-1]["id"], "content": "noon"}
        more = [{"role": "assistant", "content": first["content"]}, {"role": "user", "content": [result]}]
        assert object_in(posted(claude, body | {"messages": body["messages"] + more})[1]).keys() == {"a"}

    def test_the_sdk_parses_it_into_a_model(self, sdk: anthropic.Anthropic) -> None:
        reply = sdk.messages.parse(
            model=MODEL,
            max_tokens=500,
            messages=[{"role": "user", "content": "Review this: x = 1"}],
            output_format=Findings,
        )
        assert reply.parsed_output is not None
        assert reply.parsed_output.findings[0].severity is Severity.LOW
