"""Conversations of everything that the stand-in can be asked for: what it says itself, it also accepts."""

from __future__ import annotations

import random
from typing import Any

import pytest

from local.claude_stand_in import StandIn
from tests.unit.claude_stand_in.asking import MODEL, posted
from tests.unit.claude_stand_in.files import jpeg, pdf, png

TOOLS: list[dict[str, Any]] = [
    {"name": "clock", "input_schema": {"type": "object", "properties": {"zone": {"type": "string"}}}},
    {"name": "notes", "input_schema": {"type": "object"}},
    {"type": "web_search_20250305", "name": "web_search"},
    {"type": "web_fetch_20250910", "name": "web_fetch"},
]
TEXTS = [
    "Hello",
    "Call clock twice",
    "Call clock, then call notes",
    "Think hard and call clock",
    "Think twice",
    "Think twice and call notes, then call clock",
    "Answer with redacted thinking",
    "Answer with thinking alone",
    "Search the web for herons",
    "Fetch https://example.com/ and think first",
    "Stop with pause_turn twice, think hard",
    "Stop with pause_turn",
    "Reply with nothing",
    "Reply with blank text",
    "Stop with refusal",
    "Reply with a block of type hologram",
]
MEDIA = [
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": png(640, 480)}},
    {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": jpeg(64, 48)}},
    {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": pdf(2)}},
]
SENT_BACK = {"text", "thinking", "redacted_thinking", "tool_use", "server_tool_use"}
SENT_BACK |= {"web_search_tool_result", "web_fetch_tool_result"}


def sendable(content: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The part of a reply that can be sent back: blocks that are known and not blank, and no thinking at the end."""
    kept = [each for each in content if each["type"] in SENT_BACK and (each["type"] != "text" or each["text"].strip())]
    ends_with_thinking = bool(kept) and "thinking" in kept[-1]["type"]
    return [each for each in kept if not (ends_with_thinking and "thinking" in each["type"])]


def marked(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages with a mark on the last block, as a caller would send them."""
    *before, last = messages
    if last["role"] == "assistant":
        return messages
    *blocks, end = last["content"]
    return [*before, last | {"content": [*blocks, end | {"cache_control": {"type": "ephemeral"}}]}]


@pytest.mark.parametrize("seed", range(12))
def test_what_it_says_can_be_sent_back(claude: StandIn, seed: int) -> None:
    dice = random.Random(seed)
    messages: list[dict[str, Any]] = []
    asked: dict[str, Any] = {"model": MODEL, "max_tokens": dice.choice([40, 900, 5000]), "tools": TOOLS}
    for _ in range(12):
        content = [*dice.sample(MEDIA, dice.randrange(2)), {"type": "text", "text": dice.choice(TEXTS)}]
        messages.append({"role": "user", "content": content})
        for _ in range(6):
            status, reply = posted(claude, asked | {"messages": marked(messages), "stream": False})
            assert status == 200, (reply, messages)
            usage = reply["usage"]
            kinds = ("cache_read_input_tokens", "cache_creation_input_tokens", "input_tokens")
            counted = posted(
                claude, {"model": MODEL, "tools": TOOLS, "messages": messages}, "/v1/messages/count_tokens"
            )
            assert sum(usage[kind] for kind in kinds) == counted[1]["input_tokens"]
            kept = sendable(reply["content"])
            if not kept:
                break
            messages.append({"role": "assistant", "content": kept})
            calls = [each for each in kept if each["type"] == "tool_use"]
            if calls:
                results = [{"type": "tool_result", "tool_use_id": each["id"], "content": "done"} for each in calls]
                messages.append({"role": "user", "content": results})
            elif reply["stop_reason"] != "pause_turn":
                break
