"""RemoteTools on Lambda: a tool that reaches AWS runs in a function of its own, under a role of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from turnlog.domain.messages import to_json
from turnlog.domain.tool_functions import Tool
from turnlog.domain.tools import ToolCall, ToolResult
from turnlog.ports.tool_context import ToolContext


class ToolFunctionFailed(Exception):
    """The function of a tool failed, or answered with no result. There is no message: it might hold what was said."""


class LambdaTools:
    """Tools in functions of this deployment. Needs lambda:InvokeFunction on them.

    `functions` has the name of each function by the name that its tools give it. `client` is made when it is needed.
    """

    def __init__(self, client: Callable[[], Any], functions: Mapping[str, str]) -> None:
        self._client = client
        self._functions = functions

    def run(self, tool: Tool, call: ToolCall, context: ToolContext) -> ToolResult:
        """Does RemoteTools.run. The input was checked; the owner is the caller's, whatever stands in the input."""
        asked = {
            "tool": tool.name,
            "input": json.loads(call.input),
            "call_id": call.id,
            "owner": context.owner,
            "seconds": context.seconds_left(),
        }
        answer = self._client().invoke(FunctionName=self._functions[tool.runs_in], Payload=to_json(asked).encode())
        if answer.get("FunctionError"):
            raise ToolFunctionFailed
        match json.load(answer["Payload"]):
            case {"content": str(content), "is_error": bool(is_error)}:
                json.loads(content)
                return ToolResult(call.id, content, is_error)
        raise ToolFunctionFailed
