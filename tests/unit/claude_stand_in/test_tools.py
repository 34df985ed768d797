"""Tools: their definitions, which result answers which call, and calls that are asked for in plain words.

An id or a docstring names the source of its rule: the SDK's types, a page of the provider's docs, or reports of users.
"""

from __future__ import annotations

import json
from typing import Any

import anthropic
import pytest
from anthropic.types import Message, ToolUseBlock

from local.claude_stand_in import StandIn
from tests.unit.claude_stand_in.asking import ASSISTANT, MARK, MODEL, TEXT, USER, WELL_FORMED, posted, with_messages

ZONE = {"type": "object", "properties": {"zone": {"type": "string"}}, "required": ["zone"]}
CLOCK: dict[str, Any] = {"name": "clock", "description": "The current time in a time zone.", "input_schema": ZONE}
NOTES: dict[str, Any] = {"name": "notes", "description": "Reads notes.", "input_schema": {"type": "object"}}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "clock", "input": {"zone": "UTC"}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "noon"}


def asked(*blocks: dict[str, Any]) -> dict[str, Any]:
    """A message of the user."""
    return {"role": "user", "content": list(blocks)}


def said(*blocks: dict[str, Any]) -> dict[str, Any]:
    """A message of the assistant."""
    return {"role": "assistant", "content": list(blocks)}


def with_tools(*tools: object, **more: Any) -> dict[str, Any]:
    return WELL_FORMED | {"tools": list(tools)} | more


def with_schema(schema: object) -> dict[str, Any]:
    return with_tools(CLOCK | {"input_schema": schema})


SEARCH = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
SECOND = CALL | {"id": "toolu_2"}
REFUSED = [
    pytest.param("without `tool_result` blocks immediately after: toolu_1", with_messages(USER, said(CALL), USER),
                 id="page Handle tool calls: a call has its result"),
    pytest.param("without `tool_result` blocks immediately after: toolu_2",
                 with_messages(USER, said(CALL, SECOND), asked(RESULT)), id="page Parallel tool use: all have one"),
    pytest.param("without `tool_result` blocks immediately after: toolu_1",
                 with_messages(USER, said(CALL), asked(TEXT, RESULT)), id="page Handle tool calls: results come first"),
    pytest.param("without `tool_result` blocks immediately after: toolu_1",
                 with_messages(USER, said(CALL), USER, ASSISTANT, asked(RESULT)),
                 id="page Handle tool calls: the result is in the next message"),
    pytest.param("unexpected `tool_use_id` found in `tool_result` blocks: toolu_1", with_messages(asked(RESULT)),
                 id="reports: no result without a call"),
    pytest.param("unexpected `tool_use_id` found in `tool_result` blocks: toolu_2",
                 with_messages(USER, said(CALL), asked(RESULT, RESULT | {"tool_use_id": "toolu_2"})),
                 id="reports: no result of a call that was not made"),
    pytest.param("Found multiple `tool_result` blocks with id: toolu_1",
                 with_messages(USER, said(CALL), asked(RESULT, RESULT)), id="reports: one result for a call"),
    pytest.param("`tool_use` ids must be unique", with_messages(USER, said(CALL, CALL), asked(RESULT)),
                 id="reports: ids are unique"),
    pytest.param("`tool_use` blocks can only be in `assistant` messages", with_messages(asked(CALL)),
                 id="reports: the assistant calls"),
    pytest.param("`tool_result` blocks can only be in `user` messages", with_messages(USER, said(CALL, RESULT), USER),
                 id="page Handle tool calls: the user answers"),
    pytest.param("tool_use.input: Input should be a valid dictionary",
                 with_messages(USER, said(CALL | {"input": "{}"}), asked(RESULT)), id="types ToolUseBlockParam: input"),
    pytest.param("tool_use.input: Field required",
                 with_messages(USER, said({"type": "tool_use", "id": "t", "name": "n"}), USER),
                 id="types ToolUseBlockParam: fields"),
    pytest.param("name: String should have at least 1 character",
                 with_messages(USER, said(CALL | {"name": ""}), asked(RESULT)), id="types ToolUseBlockParam: name"),
    pytest.param("tool_use.id: String should match pattern", with_messages(USER, said(CALL | {"id": "a b"}), USER),
                 id="reports: form of an id"),
    pytest.param("is not allowed in a tool_result",
                 with_messages(USER, said(CALL), asked(RESULT | {"content": [RESULT]})),
                 id="types ToolResultBlockParam: content"),
    pytest.param('when is_error is true, all content must be type "text"',
                 with_messages(USER, said(CALL), asked(RESULT | {"is_error": True, "content": [
                     {"type": "search_result", "source": "s", "title": "t", "content": [TEXT]}]})),
                 id="reports: an error is text"),
    pytest.param("name: Field required", with_tools({"input_schema": ZONE}), id="types ToolParam: name"),
    pytest.param("input_schema: Field required", with_tools({"name": "clock"}), id="types ToolParam: input_schema"),
    pytest.param("custom.colour: Extra inputs", with_tools(CLOCK | {"colour": "red"}), id="types ToolParam: fields"),
    pytest.param("name: String should match pattern", with_tools(CLOCK | {"name": "the clock"}),
                 id="page Define tools: form of a name"),
    pytest.param("name: String should match pattern", with_tools(CLOCK | {"name": "c" * 65}),
                 id="page Define tools: length of a name"),
    pytest.param("Tool names must be unique", with_tools(CLOCK, CLOCK), id="reports: names are unique"),
    pytest.param("type: Field required", with_schema({}), id="types InputSchemaTyped: a schema has a type"),
    pytest.param("type: Input should be 'object'", with_schema({"type": "string"}),
                 id="types InputSchemaTyped: a schema is of an object"),
    pytest.param("does not support oneOf, allOf, or anyOf", with_schema({"type": "object", "anyOf": [ZONE]}),
                 id="reports: no choice at the top of a schema"),
    pytest.param("JSON schema is invalid", with_schema({"type": "object", "properties": {"a": {"type": "colour"}}}),
                 id="page Define tools: valid JSON Schema"),
    pytest.param("JSON schema is invalid", with_schema({"type": "object", "properties": []}),
                 id="page Define tools: properties are named"),
    pytest.param("Property keys should match pattern", with_schema({"type": "object", "properties": {"a b": {}}}),
                 id="reports: form of a property"),
    pytest.param("does not match any of the expected tags", with_tools({"type": "radio_20260101", "name": "radio"}),
                 id="types ToolUnionParam: kinds of tools"),
    pytest.param("name: Input should be 'web_search'", with_tools({"type": "web_search_20250305", "name": "search"}),
                 id="types WebSearchTool20250305Param: its name is fixed"),
    pytest.param("may only be specified while providing tools", WELL_FORMED | {"tool_choice": {"type": "auto"}},
                 id="reports: no choice without tools"),
    pytest.param("expected tags", with_tools(CLOCK, tool_choice={"type": "required"}), id="types ToolChoiceParam"),
    pytest.param("not found in provided tools", with_tools(CLOCK, tool_choice={"type": "tool", "name": "notes"}),
                 id="reports: the chosen tool exists"),
    pytest.param("was found without a corresponding `web_search_tool_result` block",
                 with_messages(USER, said(SEARCH), USER),
                 id="reports: a call of a server tool has its result in its own message"),
]  # fmt: skip


class TestRules:
    @pytest.mark.parametrize(("complaint", "body"), REFUSED)
    def test_wrong_tools_calls_and_results_are_refused(
        self, claude: StandIn, complaint: str, body: dict[str, Any]
    ) -> None:
        status, answer = posted(claude, body)
        assert (status, answer["error"]["type"]) == (400, "invalid_request_error")
        assert complaint in answer["error"]["message"]

    @pytest.mark.parametrize(
        "messages",
        [
            [USER, said(CALL), asked(RESULT, TEXT)],
            [USER, said(CALL, SECOND), asked(RESULT | {"tool_use_id": "toolu_2"}, RESULT)],
            [USER, said(CALL, SECOND), asked(RESULT), asked(RESULT | {"tool_use_id": "toolu_2"})],
            [USER, said(TEXT), said(CALL), asked(RESULT | {"content": [TEXT], "is_error": True})],
            [USER, said(CALL), asked({"type": "tool_result", "tool_use_id": "toolu_1"})],
        ],
    )
    def test_results_in_any_order_and_split_over_messages_are_accepted(
        self, claude: StandIn, messages: list[dict[str, Any]]
    ) -> None:
        """Types: the API merges consecutive messages of one role."""
        assert posted(claude, with_messages(*messages))[0] == 200


def reply_to(sdk: anthropic.Anthropic, text: str, **more: Any) -> Message:
    """The reply to one text, with both tools at hand."""
    body: dict[str, Any] = {"model": MODEL, "max_tokens": 1000, "tools": [CLOCK, NOTES]}
    answer = sdk.messages.create(**body | {"messages": [{"role": "user", "content": text}]} | more)
    assert isinstance(answer, Message)
    return answer


def calls_in(reply: Message) -> list[tuple[str, object]]:
    return [(block.name, block.input) for block in reply.content if isinstance(block, ToolUseBlock)]


def run(sdk: anthropic.Anthropic, text: str, most_steps: int = 20, **more: Any) -> tuple[list[list[str]], Message]:
    """Goes on until no tool is called: the names called in each step, and the last reply."""
    messages: list[Any] = [{"role": "user", "content": text}]
    steps: list[list[str]] = []
    while True:
        reply = reply_to(sdk, text, messages=messages, **more)
        called = [block for block in reply.content if block.type == "tool_use"]
        if not called or len(steps) == most_steps:
            return steps, reply
        steps.append([each.name for each in called])
        results = [{"type": "tool_result", "tool_use_id": each.id, "content": f"{each.name} works"} for each in called]
        messages += [{"role": "assistant", "content": reply.to_dict()["content"]}, {"role": "user", "content": results}]


class TestCalls:
    @pytest.mark.parametrize(
        ("text", "calls"),
        [
            ('Call the tool clock with {"zone": "Asia/Tokyo"}.', [("clock", {"zone": "Asia/Tokyo"})]),
            ('Please call the clock tool with {"zone": "UTC"} twice', [("clock", {"zone": "UTC"})] * 2),
            ("Call clock 3 times", [("clock", {"zone": "UTC"})] * 3),
            ('Call clock with {"zone": "UTC"} and call `notes`', [("clock", {"zone": "UTC"}), ("notes", {})]),
            ("Call the clock for Europe/Paris", [("clock", {"zone": "Europe/Paris"})]),
            ("Call notes with [1]", [("notes", {})]),
            ("Call the undeclared tool radio", [("radio", {})]),
            ("What time is it in Asia/Tokyo?", [("clock", {"zone": "Asia/Tokyo"})]),
            ("What is the current time?", [("clock", {"zone": "UTC"})]),
        ],
    )
    def test_a_tool_is_called_when_asked_for(
        self, sdk: anthropic.Anthropic, text: str, calls: list[tuple[str, object]]
    ) -> None:
        reply = reply_to(sdk, text)
        assert calls_in(reply) == calls
        assert reply.stop_reason == "tool_use"

    @pytest.mark.parametrize(
        "text", ["Call me Ada.", "Who am I?", "What is a heron?", "Use a clocktower", "Time flies."]
    )
    def test_no_tool_is_called_unasked(self, sdk: anthropic.Anthropic, text: str) -> None:
        reply = reply_to(sdk, text)
        assert (calls_in(reply), reply.stop_reason) == ([], "end_turn")

    def test_tools_are_not_called_when_the_choice_is_none(self, sdk: anthropic.Anthropic) -> None:
        assert calls_in(reply_to(sdk, "Call clock", tool_choice={"type": "none"})) == []

    @pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "clock"}])
    def test_a_forced_choice_calls_a_tool_unasked(self, sdk: anthropic.Anthropic, choice: dict[str, str]) -> None:
        assert calls_in(reply_to(sdk, "Hello", tool_choice=choice)) == [("clock", {"zone": "UTC"})]

    def test_a_call_can_be_one_at_a_time(self, sdk: anthropic.Anthropic) -> None:
        steps, _ = run(sdk, "Call clock twice", tool_choice={"type": "auto", "disable_parallel_tool_use": True})
        assert steps == [["clock"], ["clock"]]

    @pytest.mark.parametrize(
        ("text", "steps"),
        [
            ("Call clock twice and call notes", [["clock", "clock", "notes"]]),
            ("Call clock, then call notes.", [["clock"], ["notes"]]),
            ("Call clock 3 times in a row", [["clock"]] * 3),
            ("Call clock 2 times, one after the other, and after that call notes", [["clock"], ["clock"], ["notes"]]),
        ],
    )
    def test_steps_follow_each_other_as_asked(
        self, sdk: anthropic.Anthropic, text: str, steps: list[list[str]]
    ) -> None:
        called, last = run(sdk, text)
        assert called == steps
        assert last.stop_reason == "end_turn"

    def test_a_tool_can_be_called_forever(self, sdk: anthropic.Anthropic) -> None:
        steps, last = run(sdk, "Call clock forever", most_steps=7)
        assert steps == [["clock"]] * 7
        assert last.stop_reason == "tool_use"

    def test_the_answer_after_the_results_has_their_text(self, sdk: anthropic.Anthropic) -> None:
        _, last = run(sdk, "Call clock and call notes")
        assert last.to_dict()["content"] == [
            {
                "type": "text",
                "text": f"{MARK}The tool clock answered: clock works\nThe tool notes answered: notes works",
            }
        ]

    def test_the_answer_says_which_tool_failed(self, claude: StandIn) -> None:
        body = with_messages(USER, said(CALL), asked(RESULT | {"content": "no such zone", "is_error": True}))
        assert "The tool clock failed: no such zone" in posted(claude, body)[1]["content"][0]["text"]

    def test_a_new_question_after_the_results_is_answered_itself(self, sdk: anthropic.Anthropic) -> None:
        messages = [{"role": "user", "content": "Call clock"}, said(CALL), asked(RESULT, TEXT | {"text": "Call notes"})]
        assert calls_in(reply_to(sdk, "", messages=messages)) == [("notes", {})]

    def test_ids_of_calls_are_unique_in_a_conversation(self, sdk: anthropic.Anthropic) -> None:
        steps, last = run(sdk, "Call clock twice, then call clock twice, then call clock twice")
        assert (len(steps), last.stop_reason) == (3, "end_turn")

    def test_a_call_that_max_tokens_cuts_is_left_out(self, sdk: anthropic.Anthropic) -> None:
        reply = reply_to(sdk, "Call clock").stop_reason, reply_to(sdk, "Call clock", max_tokens=15)
        assert reply[0] == "tool_use"
        assert (calls_in(reply[1]), reply[1].stop_reason) == ([], "max_tokens")

    def test_a_streamed_call_comes_as_pieces_of_json(self, sdk: anthropic.Anthropic) -> None:
        asked: dict[str, Any] = {"model": MODEL, "max_tokens": 500, "tools": [CLOCK]}
        asked["messages"] = [{"role": "user", "content": 'Call clock with {"zone": "America/Argentina/Ushuaia"}'}]
        with sdk.messages.stream(**asked) as stream:
            deltas = [event.delta for event in stream if event.type == "content_block_delta"]
            streamed = stream.get_final_message()
        pieces = [delta.partial_json for delta in deltas if delta.type == "input_json_delta"]
        assert len(pieces) > 2
        assert json.loads("".join(pieces)) == {"zone": "America/Argentina/Ushuaia"}
        assert streamed.model_dump() == sdk.messages.create(**asked).model_dump()
