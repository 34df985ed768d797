"""Drafts of replies: the blocks that a valid request asks for, before limits and counts."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from local.claude_stand_in.answers import MARK, answer
from local.claude_stand_in.tool_calls import calls_now
from local.claude_stand_in.turns import Block, Turn, asking, text_of

_LONGEST_QUOTE = 2_000  # characters of one result of a tool


@dataclass(frozen=True, slots=True)
class Draft:
    """Blocks, and the reason to stop after them."""

    blocks: list[Block]
    stop_reason: str = "end_turn"


def draft_of(body: dict[str, Any], digest: str) -> Draft:
    """The draft of the reply to a valid request. `digest` tells requests apart: ids are made of it."""
    if calls := calls_now(body):
        return Draft([_text(f"I call {_listed([name for name, _ in calls])}."), *_tool_uses(calls, digest)], "tool_use")
    _, since = asking(body["messages"])
    if results := _results(since):
        return Draft([_text(results)])
    return Draft([_text(answer(body))])


def _text(text: str) -> Block:
    return {"type": "text", "text": MARK + text}


def _tool_uses(calls: list[tuple[str, dict[str, Any]]], digest: str) -> list[Block]:
    return [
        {"type": "tool_use", "id": f"toolu_{_hash(digest, str(number))}", "name": name, "input": given}
        for number, (name, given) in enumerate(calls)
    ]


def _results(since: list[Turn]) -> str:
    """One sentence for each result of a tool that came since the user asked; "" when none came."""
    names = {block["id"]: block["name"] for turn in since for block in turn.of_type("tool_use")}
    said = []
    for block in (block for turn in since for block in turn.of_type("tool_result")):
        text = text_of(block.get("content", ""))[:_LONGEST_QUOTE]
        how = "failed" if block.get("is_error") else "answered"
        said.append(f"The tool {names[block['tool_use_id']]} {how}: {text}" if text else "A tool answered nothing.")
    return "\n".join(said)


def _listed(names: list[str]) -> str:
    counted = [f"{name} {names.count(name)} times" if names.count(name) > 1 else name for name in dict.fromkeys(names)]
    return " and ".join(counted)


def digest_of(body: dict[str, Any]) -> str:
    """A digest of the whole request except `stream`."""
    asked = {name: value for name, value in body.items() if name != "stream"}
    return _hash(json.dumps(asked, sort_keys=True))


def _hash(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:24]
