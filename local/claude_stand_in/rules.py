"""The rules of the Messages API for the shape of a request, as strict as Claude's own.

The wording follows the API's own where it is known. Nothing here looks into images, documents, tools or thinking.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NoReturn

from local.claude_stand_in.errors import invalid

REQUIRED_FIELDS = ("model", "max_tokens", "messages")
OPTIONAL_FIELDS = frozenset(
    {
        "cache_control",
        "container",
        "context_management",
        "inference_geo",
        "mcp_servers",
        "metadata",
        "output_config",
        "service_tier",
        "speed",
        "stop_sequences",
        "stream",
        "system",
        "thinking",
        "tool_choice",
        "tools",
    }
)
COUNT_REQUIRED_FIELDS = ("model", "messages")
COUNT_OPTIONAL_FIELDS = OPTIONAL_FIELDS - {
    "container",
    "inference_geo",
    "metadata",
    "service_tier",
    "stop_sequences",
    "stream",
}
MESSAGE_FIELDS = frozenset({"role", "content"})
TEXT_BLOCK_FIELDS = frozenset({"type", "text", "cache_control", "citations"})
BLOCK_TYPES = frozenset(  # the union ContentBlockParam of anthropic 2.12.0
    {
        "text",
        "image",
        "document",
        "search_result",
        "thinking",
        "redacted_thinking",
        "tool_use",
        "tool_result",
        "server_tool_use",
        "web_search_tool_result",
        "web_fetch_tool_result",
        "code_execution_tool_result",
        "bash_code_execution_tool_result",
        "text_editor_code_execution_tool_result",
        "tool_search_tool_result",
        "container_upload",
    }
)
MOST_BREAKPOINTS = 4


def parsed(raw: bytes) -> dict[str, Any]:
    """The request's JSON object. Raises ApiError when it is none in UTF-8, or has NaN or lone surrogates."""
    try:
        body = json.loads(raw.decode(), parse_constant=_refuse_constant)
        json.dumps(body, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise invalid("The request body is not valid JSON.") from error
    if not isinstance(body, dict):
        raise invalid("The request body must be a JSON object.")
    return body


def check_message_request(body: dict[str, Any]) -> None:
    """Raises ApiError for a body that POST /v1/messages refuses."""
    _check_fields(body, REQUIRED_FIELDS, OPTIONAL_FIELDS)
    _check_max_tokens(body["max_tokens"])
    if not isinstance(body.get("stream", False), bool):
        raise invalid("stream: Input should be a valid boolean")
    _check_stop_sequences(body.get("stop_sequences", []))
    _check_prompt(body)


def check_count_request(body: dict[str, Any]) -> None:
    """Raises ApiError for a body that POST /v1/messages/count_tokens refuses."""
    _check_fields(body, COUNT_REQUIRED_FIELDS, COUNT_OPTIONAL_FIELDS)
    _check_prompt(body)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _check_fields(body: dict[str, Any], required: tuple[str, ...], optional: frozenset[str]) -> None:
    for field in required:
        if field not in body:
            raise invalid(f"{field}: Field required")
    for field in body:
        if field not in required and field not in optional:
            raise invalid(f"{field}: Extra inputs are not permitted")


def _check_max_tokens(max_tokens: object) -> None:
    if not isinstance(max_tokens, int) or isinstance(max_tokens, bool):
        raise invalid("max_tokens: Input should be a valid integer")
    if max_tokens < 1:
        raise invalid("max_tokens: Input should be greater than or equal to 1")


def _check_stop_sequences(sequences: object) -> None:
    if not isinstance(sequences, list) or not all(isinstance(each, str) for each in sequences):
        raise invalid("stop_sequences: Input should be a valid list of strings")
    if not all(each.strip() for each in sequences):
        raise invalid("stop_sequences: each stop sequence must contain non-whitespace")


def _check_prompt(body: dict[str, Any]) -> None:
    if not isinstance(body["model"], str) or not body["model"]:
        raise invalid("model: Input should be a valid string")
    if not isinstance(body.get("tools", []), list):
        raise invalid("tools: Input should be a valid list")
    _check_system(body.get("system", ""))
    _check_messages(body["messages"])
    _check_breakpoints(body)


def _check_system(system: object) -> None:
    if isinstance(system, str):
        return
    if not isinstance(system, list):
        raise invalid("system: Input should be a valid string or list")
    for number, block in enumerate(system):
        if not isinstance(block, dict) or block.get("type") != "text":
            raise invalid(f"system.{number}: Input should be a text block")
        _check_text_block(f"system.{number}", block)


def _check_messages(messages: object) -> None:
    if not isinstance(messages, list):
        raise invalid("messages: Input should be a valid list")
    if not messages:
        raise invalid("messages: at least one message is required")
    for number, message in enumerate(messages):
        _check_message(f"messages.{number}", message)
    if messages[0]["role"] != "user":
        raise invalid('messages: first message must use the "user" role')
    if messages[-1]["role"] != "user":
        raise invalid(
            "This model does not support assistant message prefill. The conversation must end with a user message."
        )


def _check_message(path: str, message: object) -> None:
    if not isinstance(message, dict):
        raise invalid(f"{path}: Input should be an object")
    for field in MESSAGE_FIELDS - message.keys():
        raise invalid(f"{path}.{field}: Field required")
    for field in message.keys() - MESSAGE_FIELDS:
        raise invalid(f"{path}.{field}: Extra inputs are not permitted")
    if message["role"] not in ("user", "assistant"):
        raise invalid(f"{path}.role: Input should be 'user' or 'assistant'")
    _check_content(path, message["content"])


def _check_content(path: str, content: object) -> None:
    if not content:
        raise invalid(f"{path}: messages must have non-empty content")
    if isinstance(content, str):
        _check_text(path, content)
        return
    if not isinstance(content, list):
        raise invalid(f"{path}.content: Input should be a valid string or list")
    for number, block in enumerate(content):
        _check_block(f"{path}.content.{number}", block)


def _check_block(path: str, block: object) -> None:
    if not isinstance(block, dict) or not isinstance(block.get("type"), str):
        raise invalid(f"{path}.type: Field required")
    if block["type"] not in BLOCK_TYPES:
        raise invalid(f"{path}: Input tag found using 'type' does not match any of the expected tags")
    if block["type"] == "text":
        _check_text_block(path, block)


def _check_text_block(path: str, block: dict[str, Any]) -> None:
    for field in block.keys() - TEXT_BLOCK_FIELDS:
        raise invalid(f"{path}.text.{field}: Extra inputs are not permitted")
    if not isinstance(block.get("text"), str):
        raise invalid(f"{path}.text.text: Field required")
    _check_text(path, block["text"])


def _check_text(path: str, text: str) -> None:
    if not text:
        raise invalid(f"{path}: text content blocks must be non-empty")
    if not text.strip():
        raise invalid(f"{path}: text content blocks must contain non-whitespace text")


def _check_breakpoints(body: dict[str, Any]) -> None:
    breakpoints = list(_breakpoints(body))
    for each in breakpoints:
        known = isinstance(each, dict) and each.keys() <= {"type", "ttl"} and each.get("type") == "ephemeral"
        if not known or each.get("ttl", "5m") not in ("5m", "1h"):
            raise invalid("cache_control: Input should be of type 'ephemeral' with a ttl of '5m' or '1h'")
    if len(breakpoints) > MOST_BREAKPOINTS:
        raise invalid(
            f"A maximum of {MOST_BREAKPOINTS} blocks with cache_control may be provided. Found {len(breakpoints)}."
        )


def _breakpoints(body: dict[str, Any]) -> Iterator[Any]:
    """Every cache_control that is not null: on tools, system, messages, and the one at top level."""
    contents = [body.get("tools"), body.get("system"), *(message["content"] for message in body["messages"])]
    blocks = [block for content in contents if isinstance(content, list) for block in content]
    for holder in [*blocks, body]:
        if isinstance(holder, dict) and holder.get("cache_control") is not None:
            yield holder["cache_control"]
