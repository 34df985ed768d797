"""Calls of tools and their results, as values, and the messages in which they stand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from turnlog.domain.messages import Message, to_json
from turnlog.domain.turns import Turn
from turnlog.errors import ToolResultsExpected, ToolResultUnexpected

UNKNOWN_OUTCOME = "The outcome of this call is unknown: the turn ended before its result was stored."
"""The text of the result that is sent for a call whose own was never stored."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model's request to run a tool. `id` is the same however often the call is run; `input` is JSON text."""

    id: str
    name: str
    input: str


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The result of the call `id`: JSON text of a string or of a list of content blocks."""

    id: str
    content: str
    is_error: bool = False


def calls_in(reply: Message) -> tuple[ToolCall, ...]:
    """The calls in a message of the model, in order. The provider's own tools, which it runs itself, are none."""
    return tuple(
        ToolCall(block["id"], block["name"], to_json(block["input"]))
        for block in reply.blocks
        if block["type"] == "tool_use"
    )


def results_in(message: Message) -> tuple[str, ...]:
    """The ids of the calls whose results are in the message, in order."""
    if '"tool_result"' not in message.content:  # a message of pictures is not parsed for it
        return ()
    return tuple(block["tool_use_id"] for block in message.blocks if block["type"] == "tool_result")


def open_calls(messages: Sequence[Message]) -> tuple[ToolCall, ...]:
    """The calls in the last message of the model that have no result after it, in order."""
    answered: set[str] = set()
    for message in reversed(messages):
        if message.role == "assistant":
            return tuple(call for call in calls_in(message) if call.id not in answered)
        answered.update(results_in(message))
    return ()


def require_results(turns: Sequence[Turn], message: Message) -> None:
    """Raises unless the message has just the results that the last of these turns waits for.

    ToolResultsExpected names the calls whose results are missing; ToolResultUnexpected is for a result without a call,
    or a second one.
    """
    last = turns[-1] if turns else None
    wanted = [call.id for call in open_calls(last.messages)] if last and last.stop_reason == "tool_use" else []
    given = results_in(message)
    if missing := [each for each in wanted if each not in given]:
        raise ToolResultsExpected(missing)
    if len(given) > len(wanted):
        raise ToolResultUnexpected


def message_of_results(results: Iterable[ToolResult]) -> Message:
    """The message that tells the model these results."""
    blocks = ",".join(
        f'{{"type":"tool_result","tool_use_id":{to_json(result.id)},"content":{result.content}'
        + (',"is_error":true}' if result.is_error else "}")
        for result in results
    )
    return Message("user", f"[{blocks}]")


def results_of(message: Message) -> tuple[ToolResult, ...]:
    """The results that a message tells the model, in order."""
    return tuple(
        ToolResult(block["tool_use_id"], to_json(block.get("content", "")), bool(block.get("is_error")))
        for block in message.blocks
        if block["type"] == "tool_result"
    )


def unknown_outcomes(calls: Iterable[ToolCall]) -> Message:
    """The results of calls whose outcome nobody knows."""
    return message_of_results(ToolResult(call.id, to_json(UNKNOWN_OUTCOME), is_error=True) for call in calls)
