"""Ends of a reply before it is complete: its greatest length, and the caller's stop sequences."""

from __future__ import annotations

from local.claude_stand_in.tokens import tokens_of, tokens_of_block
from local.claude_stand_in.turns import Block


def limited(
    blocks: list[Block], max_tokens: int, stop_sequences: list[str]
) -> tuple[list[Block], str | None, str | None]:
    """The blocks up to where they stop, why they stop there, and the stop sequence when it is that.

    The reason is None when nothing stops them. What does not fit is left out, but a text and a thought are cut.
    """
    kept: list[Block] = []
    left = max_tokens
    if not left:  # the prompt is cached, and nothing is written
        return kept, "max_tokens", None
    for block in blocks:
        if block["type"] == "text":
            text, sequence = _until(block["text"].encode()[: left * 4].decode(errors="ignore"), stop_sequences)
            if text or not block["text"]:
                kept.append(block | {"text": text})
            if sequence is not None:
                return kept, "stop_sequence", sequence
            if text != block["text"]:
                return kept, "max_tokens", None
        elif block["type"] == "thinking" and tokens_of(block["thinking"]) > left:
            thought = block["thinking"].encode()[: left * 4].decode(errors="ignore")
            return [*kept, block | {"thinking": thought}], "max_tokens", None
        elif written_tokens(block) > left:
            return kept, "max_tokens", None
        else:
            kept.append(block)
        left -= written_tokens(kept[-1])
    return kept, None, None


def written_tokens(block: Block) -> int:
    """Tokens that the model wrote for a block: of thinking its text, shown or not; none for the result of a tool."""
    if block["type"].endswith("_tool_result"):
        return 0
    return tokens_of(block["thinking"]) if block["type"] == "thinking" else tokens_of_block(block)


def _until(text: str, stop_sequences: list[str]) -> tuple[str, str | None]:
    found = [(text.find(each), each) for each in stop_sequences if each in text]
    if not found:
        return text, None
    at, sequence = min(found)
    return text[:at], sequence
