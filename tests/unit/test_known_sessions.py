"""A client's view of a session must be right where it says anything: the settings, and the newest message."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.fakes import MODEL, new_session, two_call_turn
from turnlog.domain.chosen_tools import ChosenTools, OfferedTools, resolve_tools
from turnlog.domain.output.schemas import OutputSchema, read_output_schema
from turnlog.domain.sessions import SessionSettings, SessionView
from turnlog.domain.shown_turns import plain_blocks, shown_blocks
from turnlog.errors import InvalidRequest
from turnlog.usecases.known_session import KnownSession, require_as_settled
from turnlog.usecases.sessions import NewSession

SCHEMA = {"type": "object", "properties": {"legs": {"type": "integer"}}}
OFFERED = OfferedTools({"clock": '{"name":"clock","input_schema":{"type":"object"}}'}, web=True)
TOOL = {"name": "look_up", "description": "Finds a name.", "input_schema": {"type": "object", "properties": {}}}
OTHER = {"name": "count", "input_schema": {"type": "object"}}


def tools(*asked: Any) -> ChosenTools:
    return resolve_tools(asked, OFFERED)


def settled_with(*asked: Any, **more: Any) -> SessionSettings:
    chosen = tools(*asked)
    return SessionSettings(MODEL, 1000, "Be brief.", tools=chosen.definitions, own_tools=chosen.own, **more)


FULL = settled_with(
    TOOL,
    stop_sequences=("END",),
    thinking='{"type":"adaptive"}',
    effort="low",
    tool_choice="none",
    output_schema=read_output_schema(SCHEMA),
)
AS_SETTLED = NewSession(
    model=MODEL,
    max_tokens=1000,
    system="Be brief.",
    stop_sequences=("END",),
    thinking='{"type":"adaptive"}',
    effort="low",
    output=OutputSchema("asked in another way", read_output_schema(SCHEMA)),
    tools=tools(TOOL),
    tool_choice="none",
)


def test_settings_may_be_named_again_as_they_are_and_left_out() -> None:
    require_as_settled(AS_SETTLED, FULL)
    require_as_settled(NewSession(), FULL)


@pytest.mark.parametrize(
    ("changed", "pointer", "values"),
    [
        ({"model": "claude-haiku-5-5"}, "/model", [MODEL]),
        ({"max_tokens": 999}, "/max_tokens", ["1000"]),
        ({"max_tokens": 1001}, "/max_tokens", ["1000"]),
        ({"system": ""}, "/system", None),
        ({"stop_sequences": ()}, "/stop_sequences", None),
        ({"thinking": '{"type":"disabled"}'}, "/thinking", None),
        ({"effort": "high"}, "/output_config/effort", ["low"]),
        ({"output": OutputSchema("", read_output_schema({"type": "object"}))}, "/output_config/format", None),
        ({"tools": tools()}, "/tools", None),
        ({"tool_choice": "auto"}, "/tool_choice", ["none"]),
    ],
    ids=str,
)
def test_another_value_is_refused(changed: dict[str, Any], pointer: str, values: list[str] | None) -> None:
    with pytest.raises(InvalidRequest) as refused:
        require_as_settled(replace(AS_SETTLED, **changed), FULL)
    assert (refused.value.code, refused.value.pointer) == ("setting_settled", pointer)
    assert refused.value.details.get("allowed") == values


def test_no_text_of_the_owners_is_told() -> None:
    with pytest.raises(InvalidRequest) as refused:
        require_as_settled(NewSession(system="secret"), FULL)
    assert "brief" not in str(vars(refused.value))


@pytest.mark.parametrize(
    ("held", "given"),
    [
        ([], []),
        ([TOOL], [TOOL]),
        ([TOOL, OTHER], [OTHER, TOOL]),
        ([TOOL], [TOOL | {"type": "custom", "strict": False}]),
        ([TOOL, "clock", "web_search"], [TOOL]),
        ([TOOL, "clock", "web_search"], ["clock", TOOL, "web_search"]),
        (["clock"], []),
    ],
    ids=str,
)
def test_a_client_names_the_tools_that_it_runs(held: list[Any], given: list[Any]) -> None:
    require_as_settled(NewSession(tools=tools(*given)), settled_with(*held))


@pytest.mark.parametrize(
    ("held", "given"),
    [
        ([], [TOOL]),
        ([TOOL], []),
        ([TOOL], [OTHER]),
        ([TOOL, OTHER], [TOOL]),
        ([TOOL], [TOOL | {"description": "Finds nothing."}]),
        ([TOOL], [TOOL, "clock"]),
        (["web_search"], [{"type": "web_search", "max_uses": 9}]),
        ([], ["web_search"]),
    ],
    ids=str,
)
def test_other_tools_are_refused(held: list[Any], given: list[Any]) -> None:
    with pytest.raises(InvalidRequest):
        require_as_settled(NewSession(tools=tools(*given)), settled_with(*held))


def view(*turns: int) -> SessionView:
    made = [two_call_turn(number) for number in turns]
    named = [
        replace(turn, calls=tuple(replace(call, id=f"msg_{turn.number}{n}") for n, call in enumerate(turn.calls)))
        for turn in made
    ]
    return SessionView(new_session(), "", len(turns), tuple(named))


@pytest.mark.parametrize("named", ["msg_20", "msg_21", ""])
def test_a_thread_continues_the_newest_message_by_any_of_its_ids(named: str) -> None:
    KnownSession(previous_message_id=named).require(view(1, 2))


@pytest.mark.parametrize(("named", "turns"), [("msg_10", (1, 2)), ("msg_30", (1, 2)), ("msg_10", ())])
def test_a_thread_continues_no_other(named: str, turns: tuple[int, ...]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        KnownSession(previous_message_id=named).require(view(*turns))
    assert (refused.value.code, refused.value.pointer) == ("previous_message_unknown", "/thread/previous_message_id")


def test_a_conversation_must_be_the_sessions() -> None:
    held = view(1)
    asked = ("user", held.turns[0].message.blocks)
    KnownSession(earlier=(asked, ("assistant", plain_blocks(shown_blocks(held.turns[0], []))))).require(held)
    with pytest.raises(InvalidRequest) as refused:
        KnownSession(earlier=(asked, ("assistant", [{"type": "text", "text": "Another."}]))).require(held)
    assert (refused.value.code, refused.value.pointer) == ("history_differs", "/messages")
