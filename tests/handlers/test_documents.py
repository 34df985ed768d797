"""/analyze and /summarize: typed answers beside the text, and documents that are longer than a model's context."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes import ScriptedModel
from tests.handlers.conftest import Answered, Backstage, Call
from tests.media import text_document
from turnlog import runtime
from turnlog.domain.messages import to_json
from turnlog.errors import ContextTooLong

FINDING = {
    "line": 2,
    "severity": "error",
    "rule": "unclosed",
    "message": "It ends too early.",
    "suggestion": "Close it.",
}
SUMMARY = {"title": "Herons", "summary": "About herons.", "key_points": ["They nest.", "They fish."], "language": "en"}


def answers(stage: Backstage, said: Any, stop_reason: str = "end_turn") -> None:
    """Lets the model answer this object, or this text."""
    text = said if isinstance(said, str) else to_json(said)
    stage.model = ScriptedModel(script=[([{"type": "text", "text": text}], stop_reason)])


def analyze(call: Call, message: Any = "print(\n'hi'", **more: Any) -> Answered:
    return call("analyze_code", "POST", "/analyze", {"message": message, **more})


def summarize(call: Call, message: Any = "Herons nest.", **more: Any) -> Answered:
    return call("summarize", "POST", "/summarize", {"message": message, **more})


def test_an_analysis_has_findings_and_the_same_as_text(call: Call, backstage: Backstage) -> None:
    whole = {**FINDING, "line": None, "severity": "info", "suggestion": None}
    said = {"overview": "Python that prints.", "findings": [FINDING, whole]}
    answers(backstage, said)
    answer = analyze(call)
    assert (answer.status, answer.body["findings"]) == (200, [FINDING, whole])
    assert answer.body["content"] == [{"type": "text", "text": to_json(said)}]
    assert answer.body["text"] == (
        "Python that prints.\n\n1. Line 2, error (unclosed): It ends too early.\n   Close it.\n\n"
        "2. info (unclosed): It ends too early."
    )


def test_an_analysis_that_finds_nothing_says_so(call: Call, backstage: Backstage) -> None:
    answers(backstage, {"overview": "Python that prints.", "findings": []})
    answer = analyze(call)
    assert (answer.body["findings"], answer.body["text"]) == ([], "Python that prints.\n\nNothing was found.")


def test_a_summary_is_typed_and_the_same_as_text(call: Call, backstage: Backstage) -> None:
    answers(backstage, SUMMARY)
    answer = summarize(call)
    assert (answer.status, answer.body["summary"]) == (200, SUMMARY)
    assert answer.body["text"] == "Herons\n\nAbout herons.\n\n- They nest.\n- They fish."


@pytest.mark.parametrize("ask", [analyze, summarize])
@pytest.mark.parametrize(
    ("said", "stop_reason"),
    [("Herons.", "end_turn"), ({"title": "Herons"}, "end_turn"), ('{"title":"He', "max_tokens"), ("No.", "refusal")],
)
def test_a_reply_that_is_no_such_object_is_502(
    call: Call, backstage: Backstage, ask: Any, said: Any, stop_reason: str
) -> None:
    answers(backstage, said, stop_reason)
    answer = ask(call)
    assert (answer.status, answer.body["code"]) == (502, "output_invalid")
    assert answer.body["stop_reason"] == stop_reason
    assert "Herons" not in answer.raw


@pytest.mark.parametrize("ask", [analyze, summarize])
def test_a_typed_answer_takes_no_citations(call: Call, backstage: Backstage, ask: Any) -> None:
    answer = ask(call, [text_document("Herons.", citations={"enabled": True})])
    assert (answer.status, answer.body["code"]) == (422, "citations_with_output")
    assert backstage.model.requests == []


def test_a_message_longer_than_the_context_is_asked_in_parts(
    call: Call, backstage: Backstage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dense enough that the provider refuses it whole, which is not paid."""
    monkeypatch.setattr(runtime, "models", lambda: ("claude-haiku-4-5",))
    backstage.model.fail_with = [ContextTooLong()]
    answer = summarize(call, "0123456789\n" * 20_000)
    assert answer.status == 200
    assert [len(request.messages[0].text) > 190_000 for request in backstage.model.requests] == [
        True,
        True,
        False,
        False,
    ]
    assert answer.body["usage"] == {"input_tokens": 30, "output_tokens": 15}
    assert answer.body["cost_usd"] == "0.000105"


def test_a_document_that_cannot_be_cut_is_too_long(call: Call, backstage: Backstage) -> None:
    backstage.model.fail_with = [ContextTooLong()]
    answer = summarize(call)
    assert (answer.status, answer.body["code"]) == (422, "context_too_long")
    assert len(backstage.model.requests) == 1
