"""Claude Code as the client: bodies as version 2.1.332 sends them, cut short."""

from __future__ import annotations

from typing import Any

import pytest

from local.claude_stand_in import StandIn
from tests.unit.claude_stand_in.asking import MARK, http_answer

BETAS = (
    "claude-code-20250219,interleaved-thinking-2025-05-14,context-management-2025-06-27,per-turn-control-2026-07-01,"
    "mid-conversation-tool-changes-2026-07-01,thinking-token-count-2026-05-13,advanced-tool-use-2025-11-20,"
    "effort-2025-11-24,thinking-display-updates-2026-08-18,dangerous-tool-use-2026-09-03,afk-mode-2026-01-31,"
    "fallback-credit-2026-06-01,token-counting-2024-11-01"
)
HEADERS = {"authorization": "Bearer x", "anthropic-version": "2023-06-01", "anthropic-beta": BETAS}
MARKED = {"cache_control": {"type": "ephemeral"}}
REMINDER = {"type": "text", "text": "<system-reminder>\nSum up the code, call Bash, think hard.\n</system-reminder>\n"}
INSTRUCTIONS = "You are an agent. Review code, summarize files, use the tools. " * 100
ENVIRONMENT: dict[str, Any] = {
    "role": "system",
    "content": [{"type": "text", "text": "# Environment\n - Platform: linux"} | MARKED],
    "output_config": {"effort": "medium"},
}


def tool(name: str, *required: str, **properties: Any) -> dict[str, Any]:
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "properties": properties}
    return {
        "name": name,
        "description": "A tool of Claude Code. " * 100,
        "input_schema": schema | {"required": list(required), "additionalProperties": False},
    }


TEXT = {"type": "string", "description": "A text"}
TOOLS = [
    tool("Read", "file_path", file_path=TEXT | {"description": "The absolute path to the file to read"},
         offset={"type": "integer", "minimum": 0, "maximum": 9007199254740991},
         limit={"type": "integer", "exclusiveMinimum": 0, "maximum": 9007199254740991}),
    tool("Bash", "command", command=TEXT, timeout={"type": "number"}),
    tool("mcp__clock__time_in", "zone", zone=TEXT),
    tool("DeferredToolPlaceholder") | {"defer_loading": True},
]  # fmt: skip


def sent(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A request as Claude Code sends it."""
    return {
        "model": "claude-opus-5-5",
        "messages": list(messages),
        "system": [
            {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.332;"},
            {"type": "text", "text": INSTRUCTIONS} | MARKED,
        ],
        "tools": TOOLS,
        "metadata": {"user_id": '{"device_id":"d","session_id":"s"}'},
        "max_tokens": 128_000,
        "thinking": {"type": "adaptive", "display": "omitted"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "output_config": {"effort": "medium"},
        **more,
    }


def asked(text: str) -> dict[str, Any]:
    return {"role": "user", "content": [REMINDER, {"type": "text", "text": text}]}


def result_of(call: dict[str, Any], content: object) -> dict[str, Any]:
    block = {"tool_use_id": call["id"], "type": "tool_result", "content": content}
    return {"role": "user", "content": [block | MARKED, REMINDER]}


def answered(claude: StandIn, body: dict[str, Any], path: str = "/v1/messages") -> dict[str, Any]:
    status, answer, _ = http_answer(claude, "POST", f"{path}?beta=true", body, HEADERS)
    assert status == 200, answer
    assert isinstance(answer, dict)
    return answer


def test_it_is_told_what_the_user_said_and_not_what_it_added(claude: StandIn) -> None:
    answer = answered(claude, sent(asked("Hello there"), ENVIRONMENT))
    assert answer["content"][-1]["text"].startswith(f"{MARK}This is message 1 of this conversation. You said “Hello")
    assert answer["stop_reason"] == "end_turn"


@pytest.mark.parametrize(
    ("said", "name", "given"),
    [
        ('Call Read with {"file_path": "notes.txt"}', "Read", {"file_path": "notes.txt"}),
        ('Use the Bash tool with {"command": "ls"}', "Bash", {"command": "ls"}),
        ("Call mcp__clock__time_in for Asia/Tokyo", "mcp__clock__time_in", {"zone": "Asia/Tokyo"}),
    ],
)
def test_a_round_of_a_tool_keeps_its_thinking(claude: StandIn, said: str, name: str, given: dict[str, Any]) -> None:
    first = answered(claude, sent(asked(said), ENVIRONMENT))
    assert [block["type"] for block in first["content"]] == ["thinking", "text", "tool_use"]
    call = first["content"][-1]
    assert (call["name"], call["input"], first["stop_reason"]) == (name, given, "tool_use")
    reply = {"role": "assistant", "content": first["content"]}
    second = answered(claude, sent(asked(said), ENVIRONMENT, reply, result_of(call, "1\tThe heron is called Ada.")))
    assert second["content"][-1]["text"] == f"{MARK}The tool {name} answered: 1\tThe heron is called Ada."
    assert (second["stop_reason"], second["context_management"]) == ("end_turn", {"applied_edits": []})


def test_a_second_turn_goes_on_after_a_round_of_tools(claude: StandIn) -> None:
    first = answered(claude, sent(asked("Call Bash twice"), ENVIRONMENT))
    calls = [block for block in first["content"] if block["type"] == "tool_use"]
    results = {"role": "user", "content": [result_of(call, "done")["content"][0] for call in calls]}
    past = [asked("Call Bash twice"), ENVIRONMENT, {"role": "assistant", "content": first["content"]}, results]
    second = answered(claude, sent(*past))
    past.append({"role": "assistant", "content": second["content"]})
    third = answered(claude, sent(*past, {"role": "user", "content": "Hello again"}))
    assert "You said “Hello again”" in third["content"][-1]["text"]


@pytest.mark.parametrize(
    "order", ["Do NOT use Read, Bash or any other tool.", "You must never call Read.", "Don't run Bash"]
)
def test_a_tool_that_it_may_not_use_is_not_called(claude: StandIn, order: str) -> None:
    """Ran: `/compact` asks for a summary so."""
    assert answered(claude, sent(asked(order), ENVIRONMENT))["stop_reason"] == "end_turn"


def test_a_message_of_its_own_alone_changes_nothing(claude: StandIn) -> None:
    """Ran: after a stream that ended early."""
    past = [asked("Hello there"), ENVIRONMENT, {"role": "assistant", "content": "This is"}]
    answer = answered(claude, sent(*past, {"role": "user", "content": [REMINDER]}))
    assert "message 1 of this conversation. You said “Hello there”" in answer["content"][-1]["text"]
    assert (
        "You said “<system-reminder>"
        in answered(claude, sent({"role": "user", "content": [REMINDER]}))["content"][-1]["text"]
    )


def test_a_tool_that_was_searched_for_is_called_next(claude: StandIn) -> None:
    """Types ToolReferenceBlockParam: in the result of a tool alone."""
    said = asked('Call ToolSearch with {"query": "select:mcp__notes__list"}, then call mcp__notes__list')
    tools = [*TOOLS, tool("ToolSearch", "query", query=TEXT)]
    first = answered(claude, sent(said, ENVIRONMENT, tools=tools))
    assert [block["name"] for block in first["content"] if block["type"] == "tool_use"] == ["ToolSearch"]
    reference = {"type": "tool_reference", "tool_name": "mcp__notes__list"}
    results = result_of(first["content"][-1], [reference])
    results["content"].append({"type": "text", "text": "Tool loaded."})
    past = [said, ENVIRONMENT, {"role": "assistant", "content": first["content"]}, results]
    second = answered(claude, sent(*past, tools=[*tools, tool("mcp__notes__list") | {"defer_loading": True}]))
    assert [block["name"] for block in second["content"] if block["type"] == "tool_use"] == ["mcp__notes__list"]
    misplaced = sent({"role": "user", "content": [reference]})
    assert http_answer(claude, "POST", "/v1/messages", misplaced, HEADERS)[0] == 400


@pytest.mark.parametrize("more", [{"tools": []}, {"safeguards": [{"type": "dangerous_tool_use"}]}, {"stream": False}])
def test_its_other_fields_are_taken(claude: StandIn, more: dict[str, Any]) -> None:
    assert answered(claude, sent(asked("Hello"), ENVIRONMENT, **more))["stop_reason"] == "end_turn"


def test_it_counts_tokens_with_the_same_fields(claude: StandIn) -> None:
    fields = ("model", "messages", "system", "tools", "thinking", "context_management", "output_config")
    body = {name: each for name, each in sent(asked("Hello"), ENVIRONMENT).items() if name in fields}
    count = answered(claude, body, "/v1/messages/count_tokens")
    usage = answered(claude, sent(asked("Hello"), ENVIRONMENT))["usage"]
    names = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    assert count["input_tokens"] == sum(usage[name] for name in names)
