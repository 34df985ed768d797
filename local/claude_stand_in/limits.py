"""What ends a reply before it is complete: its greatest length, and the caller's stop sequences."""

from __future__ import annotations

from local.claude_stand_in.tokens import tokens_of_block
from local.claude_stand_in.turns import Block


def limited(
    blocks: list[Block], max_tokens: int, stop_sequences: list[str]
) -> tuple[list[Block], str | None, str | None]:
    """The blocks up to where they stop, why they stop there, and the stop sequence when it is that.

    The reason is None when nothing stops them. A call of a tool that does not fit is left out; a text is cut.
    """
    kept: list[Block] = []
    left = max_tokens
    for block in blocks:
        if block["type"] == "text":
            text, sequence = _until(block["text"].encode()[: left * 4].decode(errors="ignore"), stop_sequences)
            if text or not block["text"]:
                kept.append(block | {"text": text})
            if sequence is not None:
                return kept, "stop_sequence", sequence
            if text != block["text"]:
                return kept, "max_tokens", None
        elif tokens_of_block(block) > left:
            return kept, "max_tokens", None
        else:
            kept.append(block)
        left -= tokens_of_block(kept[-1])
    return kept, None, None


def _until(text: str, stop_sequences: list[str]) -> tuple[str, str | None]:
    found = [(text.find(each), each) for each in stop_sequences if each in text]
    if not found:
        return text, None
    at, sequence = min(found)
    return text[:at], sequence
