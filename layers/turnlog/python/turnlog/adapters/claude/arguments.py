"""The arguments of a call of the SDK, made from a ModelRequest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import anthropic

from turnlog.domain.messages import Message, ModelRequest, ModelSettings
from turnlog.domain.tools import results_in

_MARKABLE = frozenset(("text", "image", "document", "search_result", "tool_result"))  # blocks that take a breakpoint


def arguments_of(request: ModelRequest) -> dict[str, Any]:
    """The API's fields of a call. Cache breakpoints are set here alone."""
    sent: list[dict[str, Any]] = [{"role": message.role, "content": message.blocks} for message in request.messages]
    settings = request.settings
    arguments: dict[str, Any] = {"model": settings.model, "max_tokens": settings.max_tokens, "messages": sent}
    if settings.system:
        arguments["system"] = [{"type": "text", "text": settings.system}]
    if settings.stop_sequences:
        arguments["stop_sequences"] = list(settings.stop_sequences)
    if settings.thinking:
        arguments["thinking"] = _thinking(settings.thinking, request.messages)
    if settings.tools:
        arguments["tools"] = json.loads(settings.tools)
        if settings.tool_choice:
            arguments["tool_choice"] = {"type": settings.tool_choice}
    if output := _output_config(settings):
        arguments["output_config"] = output
    if request.cached:
        _place_breakpoints(arguments, request)
    return arguments


def _thinking(asked: str, sent: Sequence[Message]) -> dict[str, Any]:
    """The thinking to ask for: none within calls of tools that did not begin with it.

    With a budget the provider takes results only after thinking, and a cut may have left that out.
    """
    thinking: dict[str, Any] = json.loads(asked)
    if thinking["type"] != "enabled":
        return thinking
    is_answer = False
    for role, said in groupby(reversed(sent), key=lambda message: message.role):
        if role == "user":
            if not any(map(results_in, said)):
                break
            is_answer = True
        elif role == "assistant" and any("thinking" in block["type"] for message in said for block in message.blocks):
            return thinking
    return {"type": "disabled"} if is_answer else thinking


def _output_config(settings: ModelSettings) -> dict[str, Any]:
    config: dict[str, Any] = {"effort": settings.effort} if settings.effort else {}
    if settings.output_schema:
        # Closed objects, and bounds of values as words in the descriptions: the API's grammar has none.
        schema = anthropic.transform_schema(json.loads(settings.output_schema))
        config["format"] = {"type": "json_schema", "schema": schema}
    return config


def _place_breakpoints(arguments: dict[str, Any], request: ModelRequest) -> None:
    """Sets at most three of the four breakpoints that the API takes.

    At send time only, never stored: what is stored must stay the same whatever is cached.
    """
    sent: list[dict[str, Any]] = arguments["messages"]
    own = arguments.get("system") or arguments.get("tools") or [{}]
    ttl = {} if request.cached == "5m" else {"ttl": request.cached}
    for block in (own[-1], _last_markable(sent[: request.cached_messages]), _last_markable(sent)):
        block["cache_control"] = {"type": "ephemeral", **ttl}


def _last_markable(sent: list[dict[str, Any]]) -> dict[str, Any]:
    """The last block that can end a cached prefix; a new one, of which nothing is sent, if there is none.

    Replies have none: they may end with thinking, and one that the model goes on with must be sent as it is.
    """
    for message in reversed(sent):
        for block in reversed(message["content"] if message["role"] != "assistant" else []):
            if block["type"] in _MARKABLE:
                found: dict[str, Any] = block
                return found
    return {}
