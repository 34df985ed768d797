"""Calls of tools that have a function of their own: what the function that asks the model sends, and the result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, validate_call

from turnlog import runtime
from turnlog.adapters import telemetry
from turnlog.domain import tool_results
from turnlog.domain.messages import to_json
from turnlog.domain.tool_functions import Tool
from turnlog.domain.tool_results import failed, result_of
from turnlog.domain.tools import ToolCall, ToolResult
from turnlog.ports.tool_context import DocumentContext

ToolHandler = Callable[[Mapping[str, Any], Any], dict[str, Any]]


class _Asked(BaseModel):
    """A call. The owner is the caller whom the sender has verified; only functions of this stack may send."""

    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)

    tool: str
    input: dict[str, Any]
    call_id: str
    owner: str
    seconds: float


def run_document_tools(tools: Iterable[Tool]) -> ToolHandler:
    """Returns the Lambda handler of these tools, which may read the caller's uploaded documents.

    It never fails: an event that is none, and whatever a tool raises, has an error for a result, without its text.
    """
    named = {each.name: each for each in tools}

    def handle(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        result = _result(event, named, context)
        return {"content": result.content, "is_error": result.is_error}

    return handle


def _result(event: Mapping[str, Any], named: Mapping[str, Tool], context: Any) -> ToolResult:
    try:
        asked = _Asked.model_validate(event)
        tool = named[asked.tool]
    except (ValidationError, KeyError):
        telemetry.note("unknown event", request_id=context.aws_request_id)
        return failed(ToolCall("", "", "{}"))
    call = ToolCall(asked.call_id, tool.name, to_json(asked.input))
    try:
        arguments = validate_call(tool.arguments)(**asked.input)
    except (ValidationError, TypeError):
        return failed(call, tool_results.INPUT_INVALID)
    run = DocumentContext(
        call.id,
        asked.owner,
        runtime.now_ms(),
        lambda: min(asked.seconds, context.get_remaining_time_in_millis() / 1000),
        runtime.inbox(),
    )
    try:
        result = result_of(call, tool, tool.function(run, **arguments))
    except Exception as error:  # noqa: BLE001 (whatever a tool raises, its call has a result)
        telemetry.note(
            "tool failed", request_id=context.aws_request_id, code=tool.name, where=runtime.source_line(error)
        )
        return failed(call)
    telemetry.note("tool run", request_id=context.aws_request_id, code=tool.name)
    return result
