"""Tokens, counted by rules that never change."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest
from anthropic.types import MessageParam, ToolResultBlockParam, ToolUseBlockParam

from tests.unit.claude_stand_in.asking import (
    MODEL,
    WELL_FORMED,
    conversation,
    text_of,
)


def with_result(result: ToolResultBlockParam) -> list[MessageParam]:
    """A conversation that ends with the result of a tool's call."""
    call: ToolUseBlockParam = {"type": "tool_use", "id": "t", "name": "clock", "input": {}}
    return [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result]},
    ]


class TestUsage:
    def test_tokens_are_a_quarter_of_the_bytes_rounded_up_and_four_a_message(self, sdk: anthropic.Anthropic) -> None:
        reply = sdk.messages.create(
            model=MODEL, max_tokens=50, system="12345", messages=conversation("éé", "1", "123456789")
        )
        assert reply.usage.input_tokens == 2 + (4 + 1) + (4 + 1) + (4 + 3)
        assert reply.usage.output_tokens == -(-len(text_of(reply).encode()) // 4)
        assert (reply.usage.cache_creation_input_tokens, reply.usage.cache_read_input_tokens) == (0, 0)

    @pytest.mark.parametrize(
        "asked",
        [
            {},
            {"system": "Be brief."},
            {"system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]},
            {"tools": [{"name": "clock", "input_schema": {"type": "object"}}]},
            {"messages": with_result({"type": "tool_result", "tool_use_id": "t", "content": "é"})},
            {"messages": conversation("Hello", "Hello to you", "And again")},
        ],
    )
    def test_count_tokens_agrees_with_the_usage_of_the_same_request(
        self, sdk: anthropic.Anthropic, asked: dict[str, Any]
    ) -> None:
        prompt = {"model": MODEL, "messages": WELL_FORMED["messages"]} | asked
        counted = sdk.messages.count_tokens(**prompt).input_tokens
        assert counted == sdk.messages.create(**prompt, max_tokens=50).usage.input_tokens

    def test_a_cache_breakpoint_changes_no_count(self, sdk: anthropic.Anthropic) -> None:
        block: ToolResultBlockParam = {"type": "tool_result", "tool_use_id": "t", "content": "noon"}
        cached: ToolResultBlockParam = {**block, "cache_control": {"type": "ephemeral"}}
        counts = {
            sdk.messages.count_tokens(model=MODEL, messages=with_result(each)).input_tokens for each in (block, cached)
        }
        assert len(counts) == 1
