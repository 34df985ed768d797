"""Calls of tools that the user asks for in plain words: which to make now, by what was called already.

"Call clock with {"zone": "UTC"}", "call clock twice and call notes", "call clock, then call notes", "call clock 5 times
in a row", "call clock forever", "call the undeclared tool radio". Calls of one step are parallel, steps follow each
other. A question whose words are those of a tool calls it too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, repeat
from typing import Any

from local.claude_stand_in.facts import words_of
from local.claude_stand_in.objects import found_in, object_for
from local.claude_stand_in.rules.tools import is_own
from local.claude_stand_in.turns import asking, turns_of

LONGEST_QUESTION = 300  # characters: what is longer is a document that happens to ask
_FOREVER = 10_000

_NOT_FORBIDDEN = r"(?<!not )(?<!n't )(?<!never )"
_CALL = _NOT_FORBIDDEN + (
    r"\b(?:call|use|run)(?:ing)?\s+(?:the\s+|your\s+)?(?P<undeclared>undeclared\s+)?(?:tool\s+)?[`'\"“]?(?P<name>{})"
)
_AFTER_NAME = re.compile(r"[`'\"”]?(?:\s+tool\b)?")
_MORE = re.compile(
    r"[\s,]*(?:(?P<times>(?P<number>\d{1,4}|two|three|four|five)\s+times|once|twice|forever|again and again)\b"
    r"|(?P<row>in a row|one after (?:the |an)other)\b|in parallel\b|with\s+(?P<input>(?=\{)))"
)
_COUNTS = {"once": 1, "twice": 2, "two": 2, "three": 3, "four": 4, "five": 5}
_NEXT_STEP = re.compile(r"\b(?:then|after that|afterwards|next)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Call:
    """One asked-for call: of what, with which input (None: made from the text), how often, and in steps or at once."""

    name: str
    input: Any
    times: int
    in_steps: bool
    begins_step: bool


def calls_now(body: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Names and inputs of the tools to call in this reply; [] when all asked for are called, or none is."""
    tools = _offered(body)
    choice = body.get("tool_choice") or {}
    text, since = asking(body["messages"])
    if choice.get("type") == "none" or not text:
        return []
    step = sum(1 for turn in since if turn.of_type("tool_use"))
    steps = _steps(text, tools)
    if choice.get("disable_parallel_tool_use"):
        steps = ([call] for calls in steps for call in calls)
    if asked := next(islice(steps, step, None), []):
        return asked
    if step == 0 and tools and (name := _unasked(choice, text, tools)):
        return [(name, _input_of(tools[name], text))]
    return []


def _offered(body: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The caller's tools by name, but for those that a message of the system has removed and none has added since."""
    declared = {tool["name"]: tool for tool in body.get("tools") or [] if is_own(tool)}
    offered = dict(declared)
    changes = (turn.of_type("tool_addition", "tool_removal") for turn in turns_of(body["messages"]))
    for change in (each for changes_of_turn in changes for each in changes_of_turn):
        name = change["tool"]["name"]
        if change["type"] == "tool_removal":
            offered.pop(name, None)
        elif name in declared:
            offered[name] = declared[name]
    return offered


def _steps(text: str, tools: dict[str, Any]) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """The calls that a text asks for, step by step."""
    parallel: list[tuple[str, dict[str, Any]]] = []
    for call in _calls_in(text, tools):
        given = call.input if isinstance(call.input, dict) else _input_of(tools.get(call.name, {}), text)
        if parallel and call.begins_step:
            yield parallel
            parallel = []
        if call.in_steps:
            yield from ([each] for each in repeat((call.name, given), call.times))
        else:
            parallel += [(call.name, given)] * call.times
    if parallel:
        yield parallel


def _calls_in(text: str, tools: dict[str, Any]) -> Iterator[_Call]:
    names = "|".join(re.escape(name) for name in sorted(tools, key=len, reverse=True))
    pattern = re.compile(_CALL.format(rf"(?(undeclared)[\w-]+|(?:{names or '(?!)'})(?![\w-]))"), re.IGNORECASE)
    by_lower = {name.lower(): name for name in tools}
    at = end = 0
    while found := pattern.search(text, at):
        name = found["name"] if found["undeclared"] else by_lower[found["name"].lower()]
        given, times, in_steps, at = _details(text, found.end())
        begins_step = in_steps or bool(_NEXT_STEP.search(text, end, found.start()))
        yield _Call(name, given, times, in_steps, begins_step)
        end = at


def _details(text: str, at: int) -> tuple[Any, int, bool, int]:
    """The input, the number of times, whether one after the other, and the end of what says so, from `at` on."""
    given, times, in_steps = None, 1, False
    named = _AFTER_NAME.match(text, at)
    at = named.end() if named else at
    while more := _MORE.match(text, at):
        at = more.end()
        if more["times"]:
            times, in_steps = _times(more), in_steps or more["times"] in ("forever", "again and again")
        elif more["row"]:
            in_steps = True
        elif more["input"] is not None:
            try:
                given, at = json.JSONDecoder().raw_decode(text, at)
            except ValueError:
                break
    return given, times, in_steps, at


def _times(more: re.Match[str]) -> int:
    said = more["number"] or more["times"]
    return int(said) if said.isdigit() else _COUNTS.get(said, _FOREVER)


def _unasked(choice: dict[str, Any], text: str, tools: dict[str, Any]) -> str | None:
    """The tool that the choice forces, else the one that a question is about."""
    if choice.get("type") == "tool":
        return str(choice["name"]) if choice["name"] in tools else None
    if choice.get("type") == "any":
        return next(iter(tools))
    if len(text) > LONGEST_QUESTION or not text.rstrip().endswith("?"):
        return None
    ranked = sorted(tools, key=lambda name: -_closeness(text, tools[name]))
    return ranked[0] if _closeness(text, tools[ranked[0]]) >= 2 else None


def _closeness(text: str, tool: dict[str, Any]) -> int:
    """Words that a question shares with a tool, those of its name twice; 1 more when it has a value for an input."""
    asked = words_of(text)
    name, description = words_of(tool["name"].replace("_", " ")), words_of(tool.get("description", ""))
    shared = 2 * len(asked & name) + len(asked & (description - name))
    return shared + (1 if shared and any(found_in(text, each) for each in _properties(tool)) else 0)


def _properties(tool: dict[str, Any]) -> list[str]:
    """The names of a tool's inputs, each with its description."""
    properties = tool["input_schema"].get("properties") or {}
    return [f"{name} {each.get('description', '')}" for name, each in properties.items() if isinstance(each, dict)]


def _input_of(tool: dict[str, Any], text: str) -> dict[str, Any]:
    made = object_for(tool.get("input_schema", {"type": "object"}), text, optional=False)
    return made if isinstance(made, dict) else {}
