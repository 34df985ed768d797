"""Schemas and typed answers on their way through the adapter: the stand-in takes them, and its objects fit."""

from __future__ import annotations

from typing import Any

import pytest

from local.claude_stand_in import StandIn
from tests.fakes import HeldClock
from turnlog.adapters.claude import Claude
from turnlog.domain.messages import Message, ModelRequest, ModelSettings
from turnlog.domain.output.replies import output_in
from turnlog.domain.output.schemas import read_output_schema
from turnlog.errors import OutputInvalid
from turnlog.usecases.document_tasks import ANALYZE, SUMMARIZE, DocumentTask
from turnlog.usecases.long_documents import DocumentAnswer, NoPurse, answer_document

MODEL = "claude-haiku-4-5"
LINE = "Herons nest in colonies near the water in spring, and they fish there at dawn.\n"


@pytest.fixture
def model(claude: StandIn) -> Claude:
    return Claude(claude.url, lambda *, renewed=False: "a-secret-key", allows_stand_in=True)


def answered(model: Claude, task: DocumentTask, text: str, max_tokens: int = 1000) -> DocumentAnswer:
    return answer_document(
        task,
        Message.of_text(text),
        ModelSettings(MODEL, max_tokens),
        model=model,
        purse=NoPurse(),
        seconds=lambda: 20,
        clock=HeldClock(),
    )


def test_a_summary_and_an_analysis_are_answered_with_objects(model: Claude) -> None:
    summary = answered(model, SUMMARIZE, LINE)
    assert summary.output.keys() == {"title", "summary", "key_points", "language"}
    assert summary.text.startswith(summary.output["title"])
    analysis = answered(model, ANALYZE, "print(\n'hi'\n")
    assert [finding["line"] for finding in analysis.output["findings"]] == [1]


def test_a_document_of_1_mb_is_read_in_parts_by_a_small_model(model: Claude, claude: StandIn) -> None:
    text = LINE * (1_000_000 // len(LINE))
    assert answered(model, SUMMARIZE, text).output["language"] == "en"
    assert len(claude.requests) == 4
    found = answered(model, ANALYZE, text).output["findings"]
    assert len(found) == 3
    assert found[0]["line"] == 1
    assert [text.split("\n")[finding["line"] - 1] for finding in found] == [LINE.strip()] * 3


def test_a_reply_that_is_cut_off_is_no_answer(model: Claude) -> None:
    with pytest.raises(OutputInvalid) as invalid:
        answered(model, SUMMARIZE, LINE, max_tokens=5)
    assert invalid.value.stop_reason == "max_tokens"


SCHEMAS: list[dict[str, Any]] = [
    {"type": "object", "properties": {"legs": {"type": ["integer", "null"], "minimum": 1, "maximum": 4}}},
    {"type": "object", "properties": {"a": {"oneOf": [{"const": "heron"}, {"type": "number"}]}}, "required": ["a"]},
    {
        "type": "object",
        "properties": {"birds": {"type": "array", "items": {"$ref": "#/definitions/bird"}, "minItems": 1}},
        "required": ["birds"],
        "definitions": {"bird": {"allOf": [{"$ref": "#/definitions/named"}]}, "named": {
            "type": "object", "properties": {"name": {"type": "string", "pattern": "."}}, "required": ["name"]}},
    },
]  # fmt: skip


@pytest.mark.parametrize("schema", SCHEMAS, ids=["bounds", "one of", "definitions"])
def test_a_schema_that_is_accepted_is_taken_and_answered(model: Claude, schema: dict[str, Any]) -> None:
    form = read_output_schema(schema)
    asked = ModelRequest(ModelSettings(MODEL, 500, output_schema=form), (Message.of_text("A heron has 2 legs."),))
    assert output_in(model.reply(asked, 20), form)
