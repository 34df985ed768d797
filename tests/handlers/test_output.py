"""Queries with a schema of the reply: an object that fits beside the text, or a clear answer that says why not."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tests.fakes import OWNER, ScriptedModel
from tests.handlers.conftest import Backstage, Call
from tests.handlers.test_session import create, get, take
from tests.media import text_document
from turnlog import runtime
from turnlog.domain.limits import OwnerLimits
from turnlog.domain.messages import to_json

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"bird": {"type": "string"}, "legs": {"type": "integer", "minimum": 1}},
    "required": ["bird", "legs"],
}
HERON = {"bird": "heron", "legs": 2}


def answers(stage: Backstage, text: str, stop_reason: str = "end_turn") -> None:
    """Lets the model answer this text."""
    stage.model = ScriptedModel(script=[([{"type": "text", "text": text}], stop_reason)])


def test_a_query_with_a_schema_answers_an_object_that_fits(call: Call, backstage: Backstage) -> None:
    answers(backstage, to_json(HERON))
    answer = call("query", "POST", "/query", {"message": "A heron?", "output": SCHEMA})
    assert (answer.status, answer.body["output"], answer.body["text"]) == (200, HERON, to_json(HERON))
    assert '"additionalProperties":false' in backstage.model.requests[0].settings.output_schema


def test_an_answer_without_a_schema_has_no_output(call: Call) -> None:
    assert "output" not in call("query", "POST", "/query", {"message": "A heron?"}).body


@pytest.mark.parametrize(
    ("text", "stop_reason"),
    [
        ('{"bird":"heron"}', "end_turn"),
        ('{"bird":"heron","legs":0}', "end_turn"),
        ("A heron.", "end_turn"),
        ('{"bird":"her', "max_tokens"),
        ("", "max_tokens"),
        (to_json(HERON), "refusal"),
        ("I would rather not.", "refusal"),
        (to_json(HERON), "model_context_window_exceeded"),
    ],
)
def test_a_reply_that_does_not_fit_is_502_with_its_stop_reason(
    call: Call, backstage: Backstage, text: str, stop_reason: str
) -> None:
    answers(backstage, text, stop_reason)
    answer = call("query", "POST", "/query", {"message": "A heron?", "output": SCHEMA})
    assert (answer.status, answer.body["code"]) == (502, "output_invalid")
    assert (answer.body["stop_reason"], answer.body["stored"]) == (stop_reason, False)
    assert "retry" not in answer.body
    assert "heron" not in answer.raw


def test_a_reply_that_does_not_fit_is_paid_all_the_same(
    call: Call, backstage: Backstage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "owner_limits", lambda: OwnerLimits(budget_a_day=Decimal(100_000)))
    answers(backstage, "A heron.")
    assert call("query", "POST", "/query", {"message": "A heron?", "output": SCHEMA}).status == 502
    [(used, _)] = backstage.store._kept.counters(OWNER).used.values()
    assert used == 15


def test_a_reply_that_calls_the_callers_tool_has_no_output_yet(call: Call, backstage: Backstage) -> None:
    use = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
    backstage.model = ScriptedModel(script=[([use], "tool_use")])
    tools = [{"name": "look", "input_schema": {"type": "object"}}]
    answer = call("query", "POST", "/query", {"message": "A heron?", "output": SCHEMA, "tools": tools})
    assert (answer.status, answer.body["stop_reason"]) == (200, "tool_use")
    assert "output" not in answer.body


def test_the_last_reply_after_tools_is_the_object(call: Call, backstage: Backstage) -> None:
    use = {"type": "tool_use", "id": "toolu_1", "name": "current_time", "input": {"zone": "UTC"}}
    said = [{"type": "text", "text": to_json(HERON)}]
    backstage.model = ScriptedModel(script=[([use], "tool_use"), (said, "end_turn")])
    asked = {"message": "A heron?", "output": SCHEMA, "tools": ["current_time"]}
    answer = call("query", "POST", "/query", asked)
    assert (answer.body["output"], len(answer.body["steps"])) == (HERON, 1)
    assert all(request.settings.output_schema for request in backstage.model.requests)


def test_a_query_with_a_schema_takes_no_citations(call: Call, backstage: Backstage) -> None:
    cited = text_document("Herons.", citations={"enabled": True})
    answer = call("query", "POST", "/query", {"message": [cited], "output": SCHEMA})
    assert (answer.status, answer.body["code"]) == (422, "citations_with_output")
    assert answer.body["errors"][0]["pointer"] == "/message/0"
    assert backstage.model.requests == []


@pytest.mark.parametrize(
    ("schema", "status", "code"),
    [
        ("text", 400, "wrong_type"),
        (None, 400, "wrong_type"),
        ({"type": "array"}, 422, "schema_invalid"),
        ({**SCHEMA, "required": ["wings"]}, 422, "schema_unsatisfiable"),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}}, 422, "schema_refers"),
        ({**SCHEMA, "description": "x" * 100_000}, 422, "schema_too_large"),
    ],
    ids=["a text", "null", "no object", "cannot be met", "refers to itself", "100 KB"],
)
def test_a_bad_schema_is_refused_before_anything_is_paid(
    call: Call, backstage: Backstage, schema: object, status: int, code: str
) -> None:
    answer = call("query", "POST", "/query", {"message": "A heron?", "output": schema})
    assert (answer.status, answer.body["code"]) == (status, code)
    assert answer.body["errors"][0]["pointer"].startswith("/output")
    assert backstage.model.requests == []


class TestSessions:
    """A session has one schema for all its turns: another one would make the provider's cache of it worthless."""

    def begun(self, call: Call, **more: Any) -> str:
        answer = create(call, {"output": SCHEMA, **more})
        assert answer.status == 201
        return str(answer.body["session_id"])

    def test_each_turn_answers_an_object_and_a_replay_the_same(self, call: Call, backstage: Backstage) -> None:
        session_id = self.begun(call)
        answers(backstage, to_json(HERON))
        taken = take(call, session_id, "A heron?", "k1")
        assert (taken.status, taken.body["output"]) == (200, HERON)
        assert take(call, session_id, "A heron?", "k1").body["output"] == HERON
        assert len(backstage.model.requests) == 1
        assert backstage.model.requests[0].settings.output_schema

    def test_the_session_shows_its_schema(self, call: Call) -> None:
        session_id = self.begun(call)
        assert get(call, session_id).body["output"] == {**SCHEMA, "additionalProperties": False}

    @pytest.mark.parametrize(("text", "stop_reason"), [("A heron.", "end_turn"), ("", "refusal"), ("{", "max_tokens")])
    def test_a_reply_that_does_not_fit_is_not_stored_and_its_slot_is_free(
        self, call: Call, backstage: Backstage, text: str, stop_reason: str
    ) -> None:
        session_id = self.begun(call)
        answers(backstage, text, stop_reason)
        answer = take(call, session_id, "A heron?", "k1")
        assert (answer.status, answer.body["code"]) == (502, "output_invalid")
        assert answer.body["stop_reason"] == stop_reason
        answers(backstage, to_json(HERON))
        assert take(call, session_id, "A heron?", "k2").body["turn"] == 1

    def test_a_turn_takes_no_citations(self, call: Call, backstage: Backstage) -> None:
        cited = text_document("Herons.", citations={"enabled": True})
        answer = take(call, self.begun(call), [cited], "k1")
        assert (answer.status, answer.body["code"]) == (422, "citations_with_output")
        assert backstage.model.requests == []

    def test_a_query_with_a_schema_goes_on_as_a_session_with_it(self, call: Call, backstage: Backstage) -> None:
        answers(backstage, to_json(HERON))
        asked = {"message": "A heron?", "output": SCHEMA, "continuable": True}
        continuation = call("query", "POST", "/query", asked).body["continuation"]
        session_id = create(call, {"continuation": continuation}).body["session_id"]
        answers(backstage, to_json({**HERON, "bird": "stork"}))
        assert take(call, session_id, "And a stork?", "k1").body["output"]["bird"] == "stork"

    def test_a_repeat_under_the_key_is_known_by_its_schema(self, call: Call) -> None:
        key = {"Idempotency-Key": "k"}
        first = create(call, {"output": SCHEMA}, headers=key)
        assert create(call, {"output": SCHEMA}, headers=key).body["session_id"] == first.body["session_id"]
        assert (
            create(call, {"output": {**SCHEMA, "title": "Bird"}}, headers=key).body["code"] == "idempotency_key_reused"
        )
