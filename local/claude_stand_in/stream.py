"""The events of a streamed reply, in the API's order: put together they are the plain reply."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from local.claude_stand_in.turns import Block

_DELTA_CHARACTERS = 16


def events_of(message: dict[str, Any], *, counts_thinking: bool = False) -> list[dict[str, Any]]:
    """All events of a message. With `counts_thinking` each delta of thinking has an estimate of its tokens.

    The estimate is null where the text is shown. Blocks that hide it share the message's tokens of thinking.
    """
    usage = message["usage"]
    start = message | {
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "stop_details": None,
        "usage": usage | {"output_tokens": 1},
    }
    managed = {name: message[name] for name in ("context_management",) if name in message}
    end = {name: message[name] for name in ("stop_reason", "stop_sequence", "stop_details")}
    counted = _estimate(message) if counts_thinking else None
    return [
        {"type": "message_start", "message": start | dict.fromkeys(managed)},
        *(event for index, block in enumerate(message["content"]) for event in _block_events(index, block, counted)),
        {"type": "message_delta", "delta": end, "usage": usage, **managed},
        {"type": "message_stop"},
    ]


def _estimate(message: dict[str, Any]) -> int:
    blocks = sum(1 for block in message["content"] if block["type"] == "thinking")
    tokens = message["usage"].get("output_tokens_details", {}).get("thinking_tokens", 0)
    return int(tokens // max(1, blocks))


def _block_events(index: int, block: Block, counted: int | None) -> Iterator[dict[str, Any]]:
    start, deltas = _taken_apart(block)
    if block["type"] == "thinking" and counted is not None:
        shown = [each | {"estimated_tokens": None} for each in deltas[:-1]]
        hidden = {"type": "thinking_delta", "thinking": "", "estimated_tokens": counted}
        deltas = [*(shown or [hidden]), deltas[-1]]
    yield {"type": "content_block_start", "index": index, "content_block": start}
    if index == 0:
        yield {"type": "ping"}
    for delta in deltas:
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}


def _taken_apart(block: Block) -> tuple[Block, list[dict[str, Any]]]:
    """The block as it starts, and its deltas. A kind without deltas comes whole at the start."""
    kind = block["type"]
    if kind == "text":
        start = block | {"text": ""} | ({"citations": []} if block.get("citations") else {})
        deltas = [{"type": "text_delta", "text": piece} for piece in _pieces(block["text"])]
        return start, deltas + [{"type": "citations_delta", "citation": each} for each in block.get("citations") or []]
    if kind == "thinking":
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in _pieces(block["thinking"])]
        signed = {"type": "signature_delta", "signature": block["signature"]}
        return block | {"thinking": "", "signature": ""}, [*deltas, signed]
    if kind in ("tool_use", "server_tool_use"):
        text = json.dumps(block["input"], ensure_ascii=False)
        return block | {"input": {}}, [
            {"type": "input_json_delta", "partial_json": each} for each in ["", *_pieces(text)]
        ]
    return block, []


def _pieces(text: str) -> list[str]:
    return [text[at : at + _DELTA_CHARACTERS] for at in range(0, len(text), _DELTA_CHARACTERS)]
