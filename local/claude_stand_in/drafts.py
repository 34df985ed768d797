"""Drafts of replies: the blocks that a valid request asks for, before limits and counts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from local.claude_stand_in.answers import MARK, answer
from local.claude_stand_in.citations import cited_blocks
from local.claude_stand_in.media import described
from local.claude_stand_in.objects import object_for
from local.claude_stand_in.prompt import digest
from local.claude_stand_in.server_tools import call_of, pending, result_of, searched
from local.claude_stand_in.thinking import with_thinking
from local.claude_stand_in.tool_calls import calls_now
from local.claude_stand_in.turns import Block, Turn, asking, text_of, turns_of
from local.claude_stand_in.wishes import Wishes, wishes_in

_LONGEST_QUOTE = 2_000  # characters of one result of a tool


@dataclass(frozen=True, slots=True)
class Draft:
    """Blocks, the wishes that they meet, and the reason to stop after them."""

    blocks: list[Block]
    wishes: Wishes
    stop_reason: str = "end_turn"


def draft_of(body: dict[str, Any], request: str) -> Draft:
    """The draft of the reply to a valid request. `request` is its digest, of which ids are made."""
    text, since = asking(body["messages"])
    wishes = wishes_in(text)
    begin = [result_of(call)] if (call := pending(since[-1] if since else None)) else []
    if sum(len(turn.of_type("server_tool_use")) for turn in since) < wishes.pauses:
        search = call_of("web_search", {"query": " ".join(text.split()[:8])}, digest(f"{request} search"))
        return Draft([*begin, _marked("I look further."), search], wishes, "pause_turn")
    if calls := calls_now(body):
        said = _marked(f"I call {_listed([name for name, _ in calls])}.")
        return Draft([*begin, *with_thinking([said, *_tool_uses(calls, request)], body, text)], wishes, "tool_use")
    content = with_thinking(_content(body, wishes, text, since, request), body, text)
    return Draft([*begin, *content], wishes, wishes.stop_reason or "end_turn")


def _content(body: dict[str, Any], wishes: Wishes, text: str, since: list[Turn], request: str) -> list[Block]:
    form = (body.get("output_config") or {}).get("format")
    if wishes.content or (wishes.stop_reason == "refusal" and not wishes.words):
        return [_text(" ")] if wishes.content == "blank" else []
    if wishes.words:
        return [_marked(" ".join(f"word{number}" for number in range(1, wishes.words + 1)))]
    if wishes.block:
        return [_marked(f"A block of type {wishes.block} follows."), {"type": wishes.block, "data": text[:100]}]
    if wishes.value is not None:
        return [_text(json.dumps(wishes.value, ensure_ascii=False))]
    if form:
        return [_text(json.dumps(object_for(form["schema"], text, MARK), ensure_ascii=False))]
    if found := searched(body, text, digest(f"{request} search")):
        return [_marked("I look on the web."), *found]
    said = _results(since) or answer(body)
    shown = described(_last_of_user(body)) if not since else ""
    return [_marked(f"You showed me {shown}. {said}" if shown else said), *cited_blocks(body["messages"])]


def _last_of_user(body: dict[str, Any]) -> list[Block]:
    return next(turn.blocks for turn in reversed(turns_of(body["messages"])) if turn.role == "user")


def _text(text: str) -> Block:
    return {"type": "text", "text": text}


def _marked(text: str) -> Block:
    return _text(MARK + text)


def _tool_uses(calls: list[tuple[str, dict[str, Any]]], request: str) -> list[Block]:
    return [
        {"type": "tool_use", "id": f"toolu_{digest(f'{request} {number}')}", "name": name, "input": given}
        for number, (name, given) in enumerate(calls)
    ]


def _results(since: list[Turn]) -> str:
    """One sentence for each result of a tool that came since the user asked; "" when none came."""
    names = {block["id"]: block["name"] for turn in since for block in turn.of_type("tool_use")}
    said = []
    for block in (block for turn in since for block in turn.of_type("tool_result")):
        text = text_of(block.get("content", ""))[:_LONGEST_QUOTE]
        how = "failed" if block.get("is_error") else "answered"
        content = block.get("content", "")
        shown = described(content) if isinstance(content, list) else ""
        what = " and ".join(each for each in (text, shown) if each) or "nothing"
        said.append(f"The tool {names[block['tool_use_id']]} {how}: {what}")
    return "\n".join(said)


def _listed(names: list[str]) -> str:
    counted = [f"{name} {names.count(name)} times" if names.count(name) > 1 else name for name in dict.fromkeys(names)]
    return " and ".join(counted)
