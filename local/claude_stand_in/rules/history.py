"""The order of a conversation: whose turn it is, and which result answers which call of a tool."""

from __future__ import annotations

from typing import Any

from local.claude_stand_in.dialect import Dialect
from local.claude_stand_in.errors import invalid
from local.claude_stand_in.models import ALL_EFFORTS
from local.claude_stand_in.rules.blocks import check_block, check_text
from local.claude_stand_in.turns import Turn, turns_of

MESSAGE_FIELDS = frozenset({"role", "content"})
MOST_MESSAGES = 100_000


def check_history(body: dict[str, Any], dialect: Dialect) -> None:
    """Raises ApiError for a system prompt or messages that Claude refuses."""
    _check_system(body.get("system", ""))
    _check_messages(body["messages"], dialect)
    turns = turns_of(body["messages"])
    for before, turn, after in zip([None, *turns[:-1]], turns, [*turns[1:], None], strict=True):
        _check_results(before, turn)
        _check_answered(turn, after)
        _check_server_calls(turn, is_last=after is None)
    _check_ids(turns)


def is_paused(turn: Turn) -> bool:
    """True for a turn of the assistant that `pause_turn` may have ended: Claude goes on with it."""
    last = turn.blocks[-1]["type"]
    return turn.role == "assistant" and (last == "server_tool_use" or (last.endswith("_tool_result")))


def _check_system(system: object) -> None:
    if isinstance(system, str):
        return
    if not isinstance(system, list):
        raise invalid("system: Input should be a valid string or list")
    for number, block in enumerate(system):
        if not isinstance(block, dict) or block.get("type") != "text":
            raise invalid(f"system.{number}: Input should be a text block")
        check_block(f"system.{number}", block, "user")


def _check_messages(messages: object, dialect: Dialect) -> None:
    if not isinstance(messages, list):
        raise invalid("messages: Input should be a valid list")
    if not messages:
        raise invalid("messages: at least one message is required")
    if len(messages) > MOST_MESSAGES:
        raise invalid(f"messages: at most {MOST_MESSAGES} messages are allowed")
    for number, message in enumerate(messages):
        _check_message(f"messages.{number}", message, dialect)
    if messages[0]["role"] != "user":
        raise invalid('messages: first message must use the "user" role')
    turns = turns_of(messages)
    _check_system_messages(turns)
    if turns[-1].role == "assistant" and not is_paused(turns[-1]):
        raise invalid(
            "This model does not support assistant message prefill. The conversation must end with a user message."
        )


def _check_system_messages(turns: list[Turn]) -> None:
    """Raises ApiError unless each message of the system follows one of the user and ends the conversation so far."""
    for before, turn, after in zip(turns, turns[1:], [*turns[2:], None], strict=False):
        if turn.role == "system" and (before.role != "user" or (after and after.role != "assistant")):
            raise invalid(
                f"messages.{turn.number}: a message of role 'system' must directly follow a message of role 'user',"
                " and be the last message or be followed by one of role 'assistant'"
            )


def _check_message(path: str, message: object, dialect: Dialect) -> None:
    if not isinstance(message, dict):
        raise invalid(f"{path}: Input should be an object")
    for field in MESSAGE_FIELDS - message.keys():
        raise invalid(f"{path}.{field}: Field required")
    role = message["role"]
    for field in message.keys() - MESSAGE_FIELDS - (_system_fields(dialect) if role == "system" else set()):
        raise invalid(f"{path}.{field}: Extra inputs are not permitted")
    if role not in ("user", "assistant", "system"):
        raise invalid(f"{path}.role: Input should be 'user', 'assistant' or 'system'")
    _check_system_fields(path, message)
    _check_content(path, message["content"], role, dialect)


def _system_fields(dialect: Dialect) -> set[str]:
    """The fields that a message of the system may have besides."""
    settings = {"output_config"} if dialect.has("output_config of a message") else set()
    return settings | dialect.allowed("clear_at")


def _check_system_fields(path: str, message: dict[str, Any]) -> None:
    config = message.get("output_config")
    if config is not None and not (isinstance(config, dict) and config.keys() <= {"effort"}):
        raise invalid(f"{path}.output_config: Input should be an object with effort")
    if config and config.get("effort") not in (None, *ALL_EFFORTS):
        raise invalid(f"{path}.output_config.effort: Input should be one of {', '.join(ALL_EFFORTS)}")
    if message.get("clear_at") not in (None, "never", "next_user_message"):
        raise invalid(f"{path}.clear_at: Input should be 'next_user_message' or 'never'")


def _check_content(path: str, content: object, role: str, dialect: Dialect) -> None:
    if not content:
        raise invalid(f"{path}: messages must have non-empty content")
    if isinstance(content, str):
        check_text(path, content)
        return
    if not isinstance(content, list):
        raise invalid(f"{path}.content: Input should be a valid string or list")
    for number, block in enumerate(content):
        check_block(f"{path}.content.{number}", block, role, dialect)


def _calls(turn: Turn | None) -> list[str]:
    return [block["id"] for block in turn.of_type("tool_use")] if turn else []


def _check_results(before: Turn | None, turn: Turn) -> None:
    """Raises ApiError for a result without a call in the turn before, and for a second one of the same call."""
    if turn.role != "user":
        return
    called, answered = set(_calls(before)), set()
    for path, block in zip(turn.paths, turn.blocks, strict=True):
        if block["type"] != "tool_result":
            continue
        call = block["tool_use_id"]
        if call not in called:
            raise invalid(
                f"{path}: unexpected `tool_use_id` found in `tool_result` blocks: {call}. Each `tool_result` block"
                " must have a corresponding `tool_use` block in the previous message."
            )
        if call in answered:
            raise invalid(
                f"{path}: each tool_use must have a single result. Found multiple `tool_result` blocks with id: {call}"
            )
        answered.add(call)


def _check_answered(turn: Turn, after: Turn | None) -> None:
    """Raises ApiError unless every call of a tool has its result at the very start of the next turn."""
    first = set()
    for block in after.blocks if after and after.role == "user" else []:
        if block["type"] != "tool_result":
            break
        first.add(block["tool_use_id"])
    if missing := [call for call in _calls(turn) if call not in first]:
        raise invalid(
            f"messages.{turn.number}: `tool_use` ids were found without `tool_result` blocks immediately after:"
            f" {', '.join(missing)}. Each `tool_use` block must have a corresponding `tool_result` block in the next"
            " message."
        )


def _check_server_calls(turn: Turn, *, is_last: bool) -> None:
    """Raises ApiError for a call of a server tool whose result is not in the same turn, unless the turn is paused."""
    answered = {block.get("tool_use_id") for block in turn.blocks}
    for path, block in zip(turn.paths, turn.blocks, strict=True):
        if block["type"] == "server_tool_use" and block["id"] not in answered and not is_last:
            raise invalid(
                f"{path.partition('.content.')[0]}: `{block['name']}` tool use with id `{block['id']}` was found"
                f" without a corresponding `{block['name']}_tool_result` block"
            )


def _check_ids(turns: list[Turn]) -> None:
    seen = set()
    for turn in turns:
        for path, block in zip(turn.paths, turn.blocks, strict=True):
            if block["type"] in ("tool_use", "server_tool_use"):
                if block["id"] in seen:
                    raise invalid(f"{path}: `tool_use` ids must be unique")
                seen.add(block["id"])
