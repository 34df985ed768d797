"""The shape of each kind of block: which fields it must have and may have."""

from __future__ import annotations

import re
from typing import Any

from local.claude_stand_in.dialect import PLAIN, Dialect
from local.claude_stand_in.errors import invalid

_CACHE = "cache_control"
_ID = re.compile(r"[a-zA-Z0-9_-]+")
# Required and optional fields by type: the union ContentBlockParam of anthropic 2.12.0.
_FIELDS: dict[str, tuple[set[str], set[str]]] = {
    "text": ({"text"}, {_CACHE, "citations"}),
    "image": ({"source"}, {_CACHE, "transformations"}),
    "document": ({"source"}, {_CACHE, "citations", "context", "title"}),
    "search_result": ({"content", "source", "title"}, {_CACHE, "citations"}),
    "thinking": ({"thinking", "signature"}, set()),
    "redacted_thinking": ({"data"}, set()),
    "tool_use": ({"id", "input", "name"}, {_CACHE, "caller", "toolset_name"}),
    "tool_result": ({"tool_use_id"}, {_CACHE, "content", "is_error", "toolset_name"}),
    "server_tool_use": ({"id", "input", "name"}, {_CACHE, "caller"}),
    "web_search_tool_result": ({"content", "tool_use_id"}, {_CACHE, "caller"}),
    "web_fetch_tool_result": ({"content", "tool_use_id"}, {_CACHE, "caller"}),
    "code_execution_tool_result": ({"content", "tool_use_id"}, {_CACHE}),
    "bash_code_execution_tool_result": ({"content", "tool_use_id"}, {_CACHE}),
    "text_editor_code_execution_tool_result": ({"content", "tool_use_id"}, {_CACHE}),
    "tool_search_tool_result": ({"content", "tool_use_id"}, {_CACHE}),
    "container_upload": ({"file_id"}, {_CACHE}),
    "tool_reference": ({"tool_name"}, {_CACHE}),
    "tool_addition": ({"tool"}, {_CACHE}),
    "tool_removal": ({"tool"}, {_CACHE}),
}
_RESULT_KINDS = ("text", "image", "search_result", "document", "tool_reference")
_NO_RESULT = _FIELDS.keys() - set(_RESULT_KINDS)
_TEXTS = {"text": "text", "thinking": "thinking", "redacted_thinking": "data", "container_upload": "file_id"}
_TEXTS |= {"tool_reference": "tool_name"}
_BY_USER = {"image", "document", "search_result", "tool_result", "container_upload"}
_EITHER = {"text"}
_BY_SYSTEM = {"tool_addition", "tool_removal"}  # in beta
_REFERENCES = ("tool_reference", "mcp_tool_reference")  # what such a change names
_IN_RESULTS_ALONE = "tool_reference"


def check_block(path: str, block: object, role: str, dialect: Dialect = PLAIN) -> None:
    """Raises ApiError for a block that is none, or that is not for this role, or in no beta of this dialect."""
    if not isinstance(block, dict) or not isinstance(block.get("type"), str):
        raise invalid(f"{path}.type: Field required")
    kind = block["type"]
    if kind not in _FIELDS or kind == _IN_RESULTS_ALONE or (kind in _BY_SYSTEM and not dialect.has(kind)):
        raise invalid(f"{path}: Input tag '{kind}' found using 'type' does not match any of the expected tags")
    _check_fields(f"{path}.{kind}", block)
    if kind == "text":
        check_text(path, block["text"])
    if role == "system" and kind != "text" and kind not in _BY_SYSTEM:
        raise invalid(f"{path}: Input should be a text block")
    if kind in _BY_SYSTEM:
        _check_tool_change(f"{path}.{kind}", block["tool"], role)
    elif kind not in _EITHER and (kind in _BY_USER) != (role == "user"):
        message = path.rpartition(".content.")[0]
        raise invalid(
            f"{message}: `{kind}` blocks can only be in `{'user' if kind in _BY_USER else 'assistant'}` messages"
        )
    if kind in ("tool_use", "server_tool_use"):
        _check_call(f"{path}.{kind}", block)
    if kind.endswith("tool_result"):
        _check_answered_call(f"{path}.{kind}", block)
    if kind == "tool_result":
        _check_result(f"{path}.tool_result", block)


def check_text(path: str, text: object) -> None:
    """Raises ApiError for a text that is empty or blank."""
    if not isinstance(text, str):
        raise invalid(f"{path}.text.text: Input should be a valid string")
    if not text:
        raise invalid(f"{path}: text content blocks must be non-empty")
    if not text.strip():
        raise invalid(f"{path}: text content blocks must contain non-whitespace text")


def _check_fields(path: str, block: dict[str, Any]) -> None:
    required, optional = _FIELDS[block["type"]]
    for field in sorted(required - block.keys()):
        raise invalid(f"{path}.{field}: Field required")
    for field in block.keys() - required - optional - {"type"}:
        raise invalid(f"{path}.{field}: Extra inputs are not permitted")
    field = _TEXTS.get(block["type"], "type")
    if not isinstance(block[field], str):
        raise invalid(f"{path}.{field}: Input should be a valid string")


def _check_tool_change(path: str, tool: object, role: str) -> None:
    if role != "system":
        raise invalid(f"{path}: Input should be in a message of role 'system'")
    if not isinstance(tool, dict) or tool.get("type") not in _REFERENCES or not isinstance(tool.get("name"), str):
        raise invalid(f"{path}.tool: Input should be one of {', '.join(_REFERENCES)}, with a name")


def _check_call(path: str, block: dict[str, Any]) -> None:
    if not isinstance(block["id"], str) or not _ID.fullmatch(block["id"]):
        raise invalid(f"{path}.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
    if not isinstance(block["name"], str) or not block["name"]:
        raise invalid(f"{path}.name: String should have at least 1 character")
    if not isinstance(block["input"], dict):
        raise invalid(f"{path}.input: Input should be a valid dictionary")


def _check_answered_call(path: str, block: dict[str, Any]) -> None:
    if not isinstance(block["tool_use_id"], str) or not _ID.fullmatch(block["tool_use_id"]):
        raise invalid(f"{path}.tool_use_id: String should match pattern '^[a-zA-Z0-9_-]+$'")


def _check_result(path: str, block: dict[str, Any]) -> None:
    if not isinstance(block.get("is_error", False), bool):
        raise invalid(f"{path}.is_error: Input should be a valid boolean")
    content = block.get("content", "")
    if isinstance(content, str):
        return
    if not isinstance(content, list):
        raise invalid(f"{path}.content: Input should be a valid string or list")
    for number, each in enumerate(content):
        if isinstance(each, dict) and str(each.get("type")) in _NO_RESULT:
            raise invalid(f"{path}.content.{number}: Input tag '{each['type']}' is not allowed in a tool_result")
        if isinstance(each, dict) and each.get("type") == _IN_RESULTS_ALONE:
            _check_fields(f"{path}.content.{number}.{_IN_RESULTS_ALONE}", each)
        else:
            check_block(f"{path}.content.{number}", each, "user")
        if block.get("is_error") and each["type"] != "text":
            raise invalid(f'{path}: when is_error is true, all content must be type "text"')
