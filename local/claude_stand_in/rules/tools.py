"""The tools of a request and the choice among them."""

from __future__ import annotations

import re
from typing import Any

from local.claude_stand_in.dialect import Dialect
from local.claude_stand_in.errors import invalid

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_PROPERTY = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
_TYPES = {"object", "array", "string", "integer", "number", "boolean", "null"}
# Required and optional fields: ToolParam of anthropic 2.12.0.
_REQUIRED = ("name", "input_schema")
_OPTIONAL = frozenset(
    {
        "type",
        "description",
        "cache_control",
        "strict",
        "input_examples",
        "allowed_callers",
        "defer_loading",
        "eager_input_streaming",
    }
)
# Tools that Claude's side runs or defines, by the start of their type: ToolUnionParam of anthropic 2.12.0.
_NAMED_BY_TYPE = ("web_search", "web_fetch", "code_execution", "bash", "memory", "tool_search_tool", "text_editor")
_TOOLSETS = ("browser_toolset", "computer_toolset")
_BY_FEATURE = {"advisor": "advisor_", "mcp_servers": "mcp_toolset"}  # the types that a beta allows
_CHOICES = ("auto", "any", "tool", "none")


def check_tools(body: dict[str, Any], dialect: Dialect) -> None:
    """Raises ApiError for a tool that is none, for two of one name, and for a choice that cannot be met."""
    tools = body.get("tools", [])
    if not isinstance(tools, list):
        raise invalid("tools: Input should be a valid list")
    kinds = (*_NAMED_BY_TYPE, *_TOOLSETS, *(_BY_FEATURE[each] for each in dialect.allowed(*_BY_FEATURE)))
    for number, tool in enumerate(tools):
        _check_tool(f"tools.{number}", tool, kinds)
    names = [tool.get("name") for tool in tools if "name" in tool]
    if len(names) != len(set(names)):
        raise invalid("tools: Tool names must be unique.")
    _check_choice(body.get("tool_choice"), names, has_tools=bool(tools))


def is_own(tool: dict[str, Any]) -> bool:
    """True for a tool that the caller defines and runs."""
    return tool.get("type") in (None, "custom")


def _check_tool(path: str, tool: object, kinds: tuple[str, ...]) -> None:
    if not isinstance(tool, dict):
        raise invalid(f"{path}: Input should be an object")
    if is_own(tool):
        _check_own(f"{path}.custom", tool)
    elif not isinstance(tool["type"], str) or not tool["type"].startswith(kinds):
        raise invalid(f"{path}: Input tag '{tool['type']}' found using 'type' does not match any of the expected tags")
    elif tool["type"].startswith(("web_search", "web_fetch")):
        expected = tool["type"].rpartition("_")[0]
        if tool.get("name") != expected:
            raise invalid(f"{path}.{tool['type']}.name: Input should be '{expected}'")
        if tool.get("allowed_domains") and tool.get("blocked_domains"):
            raise invalid(f"{path}.{tool['type']}: Only one of allowed_domains and blocked_domains can be specified")


def _check_own(path: str, tool: dict[str, Any]) -> None:
    for field in _REQUIRED:
        if field not in tool:
            raise invalid(f"{path}.{field}: Field required")
    for field in tool.keys() - set(_REQUIRED) - _OPTIONAL:
        raise invalid(f"{path}.{field}: Extra inputs are not permitted")
    if not isinstance(tool["name"], str) or not _NAME.fullmatch(tool["name"]):
        raise invalid(f"{path}.name: String should match pattern '^[a-zA-Z0-9_-]{{1,64}}$'")
    if not isinstance(tool.get("description", ""), str):
        raise invalid(f"{path}.description: Input should be a valid string")
    _check_input_schema(f"{path}.input_schema", tool["input_schema"])


def _check_input_schema(path: str, schema: object) -> None:
    if not isinstance(schema, dict):
        raise invalid(f"{path}: Input should be a valid dictionary")
    if "type" not in schema:
        raise invalid(f"{path}.type: Field required")
    if schema["type"] != "object":
        raise invalid(f"{path}.type: Input should be 'object'")
    if schema.keys() & {"oneOf", "allOf", "anyOf"}:
        raise invalid(f"{path}: input_schema does not support oneOf, allOf, or anyOf at the top level")
    properties, required = schema.get("properties"), schema.get("required")
    if not isinstance(properties, dict | None) or not isinstance(required, list | None):
        raise _no_schema(path)
    for name, each in (properties or {}).items():
        if not _PROPERTY.fullmatch(name):
            raise invalid(f"{path}.properties: Property keys should match pattern '^[a-zA-Z0-9_.-]{{1,64}}$'")
        kinds = each.get("type", []) if isinstance(each, dict) else None
        kinds = [kinds] if isinstance(kinds, str) else kinds
        known = isinstance(kinds, list) and all(isinstance(kind, str) and kind in _TYPES for kind in kinds)
        if not known and not isinstance(each, bool):
            raise _no_schema(path)


def _no_schema(path: str) -> Exception:
    return invalid(f"{path}: JSON schema is invalid. It must match JSON Schema draft 2020-12")


def _check_choice(choice: object, names: list[Any], *, has_tools: bool) -> None:
    if choice is None:
        return
    if not isinstance(choice, dict) or choice.get("type") not in _CHOICES:
        raise invalid(f"tool_choice: Input tag does not match any of the expected tags: {', '.join(_CHOICES)}")
    if not has_tools:
        raise invalid("tool_choice may only be specified while providing tools")
    if choice["type"] == "tool" and choice.get("name") not in names:
        raise invalid(f"tool_choice: Tool '{choice.get('name')}' not found in provided tools")
