"""Tools in a session: those of the service run within a turn, those of the caller between two turns."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.fakes import ScriptedModel, called
from tests.handlers.conftest import Answered, Backstage, Call
from tests.handlers.test_session import create, get, take
from turnlog.domain import tool_results
from turnlog.domain.sessions import Session
from turnlog.domain.tools import results_in
from turnlog.domain.turns import Lease, Slot

CLIENT = {"name": "weather", "input_schema": {"type": "object"}}
LARGE = {"type": "object", "title": "a" * 26_000}
TURN = "/sessions/{id}/turns/{n}"
TIME = ("current_time", {"zone": "UTC"})
TEXT = [{"type": "text", "text": "It is late."}]


def begin(call: Call, *tools: Any, **more: Any) -> str:
    made = create(call, {"tools": list(tools) or ["current_time"], **more})
    assert made.status == 201
    return str(made.body["session_id"])


def result(*ids: str, content: str = "Rain.") -> list[dict[str, Any]]:
    return [{"type": "tool_result", "tool_use_id": each, "content": content} for each in ids]


def turn(call: Call, session_id: str, message: object, key: str) -> Answered:
    named = {"Idempotency-Key": key}
    return call(
        "session",
        "POST",
        "/sessions/{id}/turns",
        {"message": message},
        parameters={"id": session_id},
        headers=named,
    )


@pytest.fixture
def model(backstage: Backstage) -> ScriptedModel:
    scripted = ScriptedModel()
    backstage.model = scripted
    return scripted


def test_a_turn_runs_the_service_s_tool_and_shows_its_steps(call: Call, model: ScriptedModel) -> None:
    session_id = begin(call)
    model.script = [(called(TIME), "tool_use"), (TEXT, "end_turn")]
    taken = take(call, session_id, "What time is it?")
    assert (taken.status, taken.body["text"], taken.body["stop_reason"]) == (200, "It is late.", "end_turn")
    (step,) = taken.body["steps"]
    assert step["content"] == called(TIME)
    assert json.loads(step["results"][0]["content"])["time"] == "2026-09-21T14:13:20+00:00"
    assert taken.body["usage"] == {"input_tokens": 20, "output_tokens": 10}
    (stored,) = get(call, session_id, "/turns").body["items"]
    assert stored["steps"] == taken.body["steps"]


def test_a_tool_that_the_deployment_no_longer_has_is_not_available(
    call: Call, backstage: Backstage, model: ScriptedModel
) -> None:
    session_id = begin(call)
    backstage.tools = []
    model.script = [(called(TIME), "tool_use"), (TEXT, "end_turn")]
    (step,) = take(call, session_id, "What time is it?").body["steps"]
    assert (step["results"][0]["content"], step["results"][0]["is_error"]) == (tool_results.NOT_AVAILABLE, True)
    assert len({request.settings.tools for request in model.requests}) == 1


def test_a_call_of_the_callers_tool_ends_the_turn_and_the_next_one_brings_its_result(
    call: Call, model: ScriptedModel
) -> None:
    session_id = begin(call, CLIENT)
    model.script = [(called(("weather", {}), ("weather", {})), "tool_use"), (TEXT, "end_turn")]
    assert turn(call, session_id, "And the weather?", "1").body["stop_reason"] == "tool_use"
    refused = turn(call, session_id, result("toolu_2"), "2")
    assert (refused.status, refused.body["code"], refused.body["missing"]) == (
        409,
        "tool_results_expected",
        ["toolu_1"],
    )
    assert len(model.requests) == 1
    taken = turn(call, session_id, result("toolu_2", "toolu_1"), "2")
    assert (taken.status, taken.body["turn"]) == (200, 2)
    assert results_in(model.requests[1].messages[-1]) == ("toolu_2", "toolu_1")
    late = turn(call, session_id, result("toolu_1"), "3")
    assert (late.status, late.body["code"]) == (422, "tool_result_unexpected")
    assert turn(call, session_id, result("toolu_2", "toolu_1"), "2").body == taken.body


def test_of_mixed_calls_the_service_s_are_run_and_the_callers_are_waited_for(call: Call, model: ScriptedModel) -> None:
    session_id = begin(call, "current_time", CLIENT)
    model.script = [(called(TIME, ("weather", {})), "tool_use"), (TEXT, "end_turn")]
    first = turn(call, session_id, "Time and weather?", "1")
    assert (first.body["stop_reason"], "steps" in first.body) == ("tool_use", False)
    assert [each["tool_use_id"] for each in first.body["results"]] == ["toolu_1"]
    assert turn(call, session_id, "Never mind.", "2").body["missing"] == ["toolu_2"]
    assert turn(call, session_id, result("toolu_2"), "2").status == 200


def test_a_result_of_another_session_is_refused(call: Call, model: ScriptedModel) -> None:
    one, other = begin(call, CLIENT), begin(call, CLIENT)
    model.script = [(called(("weather", {})), "tool_use")]
    turn(call, one, "And the weather?", "1")
    refused = turn(call, other, result("toolu_1"), "1")
    assert (refused.status, refused.body["code"], "toolu_1" in refused.raw) == (422, "tool_result_unexpected", False)


def test_a_session_goes_on_from_a_question_with_tools(call: Call, model: ScriptedModel) -> None:
    model.script = [(called(TIME), "tool_use"), (TEXT, "end_turn"), (TEXT, "end_turn")]
    body = {"message": "What time is it?", "tools": ["current_time"], "continuable": True}
    asked = call("query", "POST", "/query", body).body
    made = create(call, {"continuation": asked["continuation"]})
    assert made.status == 201
    (first,) = get(call, str(made.body["session_id"]), "/turns").body["items"]
    assert (first["steps"], first["usage"]) == (asked["steps"], asked["usage"])
    taken = take(call, str(made.body["session_id"]), "Really?")
    assert taken.status == 200
    assert [message.role for message in model.requests[-1].messages] == [
        "user",
        "assistant",
        "user",
        "assistant",
        "user",
    ]
    assert model.requests[-1].settings.own_tools == ("current_time",)


def test_a_turn_without_time_for_its_tools_goes_on_with_the_same_key(
    call: Call, backstage: Backstage, model: ScriptedModel
) -> None:
    session_id = begin(call)
    model.script = [(called(TIME), "tool_use"), (TEXT, "end_turn")]
    model.during = lambda: backstage.clock.tick(seconds=53)
    late = take(call, session_id, "What time is it?", key="k")
    assert (late.status, late.body["code"], late.body["retry"]) == (504, "turn_unfinished", "same-key")
    model.during = None
    taken = take(call, session_id, "What time is it?", key="k")
    assert (taken.status, taken.body["text"], len(model.requests)) == (200, "It is late.", 2)


def test_a_turn_that_is_stopped_before_anything_is_there_leaves_nothing(
    call: Call, backstage: Backstage, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = begin(call)
    acquire = backstage.store.acquire

    def acquire_and_stop(session: Session, lease: Lease, over: Lease | None) -> Slot | None:
        found = acquire(session, lease, over)
        stopping = call("session", "POST", f"{TURN}/cancel", parameters={"id": session_id, "n": "1"})
        assert (stopping.status, stopping.body["status"]) == (202, "stopping")
        backstage.clock.tick(seconds=56)
        return found

    monkeypatch.setattr(backstage.store, "acquire", acquire_and_stop)
    stopped = take(call, session_id, "What time is it?", key="k")
    assert (stopped.status, stopped.body["code"], stopped.body["stored"]) == (409, "turn_stopped", False)
    assert (model.requests, get(call, session_id).body["turn_in_progress"]) == ([], False)


@pytest.mark.parametrize(("function", "route"), [("query", "/query"), ("session", "/sessions")])
@pytest.mark.parametrize(
    ("tools", "code"),
    [
        ([{"type": "web_search", "max_uses": 11}], "max_uses_range"),
        ([{"type": "web_search", "allowed_domains": []}], "tool_domains_range"),
        ([CLIENT | {"name": f"t{n}", "input_schema": LARGE} for n in range(4)], "tools_too_large"),
    ],
    ids=["uses", "domains", "size"],
)
def test_tools_out_of_their_bounds_are_refused_unpaid(
    call: Call, backstage: Backstage, model: ScriptedModel, function: str, route: str, tools: list[Any], code: str
) -> None:
    backstage.web = True
    message = {"message": "Hello"} if function == "query" else {}
    refused = call(function, "POST", route, {"tools": tools, **message})
    assert (refused.status, refused.body["code"], model.requests) == (422, code, [])


def test_web_tools_that_are_no_longer_allowed_are_not_sent(
    call: Call, backstage: Backstage, model: ScriptedModel
) -> None:
    backstage.web = True
    session_id = begin(call, "current_time", "web_search")
    assert take(call, session_id, "one").status == 200
    backstage.web = False
    assert take(call, session_id, "two").status == 200
    names = [[tool["name"] for tool in json.loads(each.settings.tools)] for each in model.requests]
    assert names == [["current_time", "web_search"], ["current_time"]]
