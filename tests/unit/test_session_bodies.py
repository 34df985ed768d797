"""The body of a turn of a session at the Messages API's door: each setting as a session has it, or refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.fakes import MODEL
from turnlog import runtime
from turnlog.domain.chosen_tools import OfferedTools
from turnlog.entrypoints.http.request import Request
from turnlog.entrypoints.stream.messages.session_body import SessionTurnBody
from turnlog.errors import InvalidRequest
from turnlog.usecases.known_session import KnownSession
from turnlog.usecases.sessions import NewSession

SCHEMA = {"type": "object", "properties": {"legs": {"type": "integer"}}, "required": ["legs"]}
TOOL = {"name": "look_up", "description": "Finds a name.", "input_schema": {"type": "object", "properties": {}}}
CLOCK = '{"name":"clock","input_schema":{"type":"object"},"strict":true}'
MARK = {"type": "ephemeral", "ttl": "1h"}
HELLO = {"messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(autouse=True)
def _deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "models", lambda: (MODEL,))
    monkeypatch.setattr(runtime, "offered_tools", lambda: OfferedTools({"clock": CLOCK}, web=True))


def body(**fields: Any) -> SessionTurnBody:
    event = {
        "headers": {"content-type": "application/json"},
        "body": json.dumps(HELLO | fields),
        "requestContext": {},
    }
    return Request(event, 0).body(SessionTurnBody)


def known(**fields: Any) -> KnownSession:
    asked = body(**fields)
    return asked.known(asked.conversation)


def settings(**fields: Any) -> NewSession:
    return known(**fields).settings


def test_nothing_is_named_that_is_left_out_or_null() -> None:
    names = [name for name in SessionTurnBody.model_fields if name != "messages"]
    assert settings() == settings(**dict.fromkeys(names)) == NewSession()
    assert known().previous_message_id == ""


def test_each_setting_is_named_as_a_session_has_it() -> None:
    named = settings(
        model=MODEL,
        max_tokens=1000,
        system=[{"type": "text", "text": "Be brief."}],
        tools=[TOOL | {"type": "custom"}, "clock"],
        tool_choice={"type": "none"},
        stop_sequences=["END"],
        thinking={"display": "omitted", "type": "adaptive"},
        output_config={"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
        metadata={"user_id": "7"},
        stream=True,
    )
    assert (named.model, named.max_tokens, named.system) == (MODEL, 1000, "Be brief.")
    assert (named.tool_choice, named.stop_sequences, named.effort) == ("none", ("END",), "low")
    assert named.thinking == '{"type":"adaptive","display":"omitted"}'
    assert named.output
    assert json.loads(named.output.form)["additionalProperties"] is False
    assert named.tools
    assert json.loads(named.tools.definitions) == [TOOL, json.loads(CLOCK)]
    assert named.tools.own == ("clock",)


@pytest.mark.parametrize("effort", [{}, {"effort": "high"}])
def test_parts_of_the_output_that_are_left_out_are_not_named(effort: dict[str, str]) -> None:
    named = settings(output_config=effort | {"format": None})
    assert (named.effort, named.output) == (effort.get("effort"), None)


def test_a_web_tool_is_named_by_the_version_that_is_sent() -> None:
    own = {"type": "web_search_20260318", "name": "web_search", "max_uses": 2, "allowed_callers": ["direct"]}
    ours = settings(tools=[{"type": "web_search", "max_uses": 2}]).tools
    named = settings(tools=[own]).tools
    assert named
    assert ours
    assert named.definitions == ours.definitions


@pytest.mark.parametrize(
    "fields",
    [
        {"cache_control": MARK},
        {"system": [{"type": "text", "text": "a", "cache_control": MARK}]},
        {"tools": [TOOL | {"cache_control": MARK}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a", "cache_control": MARK}]}]},
        {"cache_control": MARK | {"ttl": "5m"}, "tools": [TOOL | {"cache_control": MARK}]},
    ],
    ids=str,
)
def test_a_mark_asks_for_its_lifetime_wherever_it_is(fields: dict[str, Any]) -> None:
    assert settings(**fields).cache == "1h"
    assert "cache_control" not in str(known(**fields))


def test_a_mark_without_a_lifetime_asks_for_none() -> None:
    assert settings(cache_control={"type": "ephemeral"}).cache is None
    assert settings(cache_control=MARK | {"ttl": "5m"}).cache == "5m"


def test_a_thread_that_continues_names_its_message() -> None:
    assert known(thread={"type": "create"}).previous_message_id == ""
    assert known(thread={"type": "continue", "previous_message_id": "msg_1"}).previous_message_id == "msg_1"


@pytest.mark.parametrize(
    ("fields", "code", "pointer"),
    [
        ({"temperature": 1}, "unknown_field", ""),
        ({"container": "c"}, "unknown_field", ""),
        ({"model": "claude-of-another"}, "model_unknown", "/model"),
        ({"model": 7}, "wrong_type", "/model"),
        ({"max_tokens": 0}, "max_tokens_range", "/max_tokens"),
        ({"max_tokens": "9"}, "wrong_type", "/max_tokens"),
        ({"stream": "yes"}, "wrong_type", "/stream"),
        ({"system": 7}, "wrong_type", "/system"),
        ({"system": [{"type": "image"}]}, "block_type_unknown", "/system/0/type"),
        ({"tools": {}}, "wrong_type", "/tools"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "unknown_field", "/tools/0"),
        ({"tools": [TOOL | {"defer_loading": True}]}, "unknown_field", "/tools/0"),
        ({"tools": ["clocks"]}, "tool_unknown", "/tools/0"),
        ({"tool_choice": "auto"}, "wrong_type", "/tool_choice"),
        ({"tool_choice": {"type": "any"}}, "tool_choice_range", "/tool_choice/type"),
        (
            {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
            "tool_choice_range",
            "/tool_choice/disable_parallel_tool_use",
        ),
        ({"thinking": {"type": "often"}}, "thinking_range", "/thinking/type"),
        ({"output_config": []}, "wrong_type", "/output_config"),
        ({"output_config": {"task_budget": {}}}, "unknown_field", "/output_config"),
        ({"output_config": {"effort": "most"}}, "effort_range", "/output_config/effort"),
        ({"output_config": {"effort": 1}}, "wrong_type", "/output_config/effort"),
        ({"output_config": {"format": {"type": "text"}}}, "output_range", "/output_config/format/type"),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": "array"}}}},
            "schema_invalid",
            "/output_config/format/schema",
        ),
        ({"thread": "create"}, "wrong_type", "/thread"),
        ({"thread": {"type": "fork"}}, "thread_unknown", "/thread/type"),
        ({"thread": {"type": "continue"}}, "field_missing", "/thread/previous_message_id"),
        ({"thread": {"type": "continue", "previous_message_id": 7}}, "wrong_type", "/thread/previous_message_id"),
        ({"thread": {"type": "continue", "previous_message_id": ""}}, "thread_unknown", "/thread/previous_message_id"),
        ({"thread": {"type": "create", "id": "t"}}, "unknown_field", "/thread"),
    ],
    ids=str,
)
def test_anything_else_is_refused_with_its_place(fields: dict[str, Any], code: str, pointer: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        known(**fields)
    assert (refused.value.code, refused.value.pointer) == (code, pointer)


def test_pictures_in_messages_do_not_count_as_text() -> None:
    picture = "iVBORw0KGgoA" + "A" * 300_000
    source = {"type": "base64", "media_type": "image/png", "data": picture}
    with pytest.raises(InvalidRequest) as refused:
        known(messages=[{"role": "user", "content": [{"type": "image", "source": source}]}])
    assert refused.value.code == "image_invalid"
    with pytest.raises(InvalidRequest) as refused:
        known(messages=[{"role": "user", "content": "a" * 300_000}])
    assert refused.value.code == "text_too_large"
