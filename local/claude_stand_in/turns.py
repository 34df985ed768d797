"""The messages of a request as turns: messages of one role that follow each other are one turn of blocks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

# What Claude Code puts into the user's messages without the user: nobody said it.
_ADDED = re.compile(r"<system-reminder>.*?(?:</system-reminder>|\Z)|^Tool loaded\.$", re.DOTALL | re.MULTILINE)

Block = dict[str, Any]
Content = str | list[Block]


@dataclass(frozen=True, slots=True)
class Turn:
    """The blocks of one role. `paths` says for each where it stands in the request; `number` is its last message's."""

    role: str
    number: int
    blocks: list[Block]
    paths: list[str]

    def of_type(self, *kinds: str) -> list[Block]:
        return [block for block in self.blocks if block["type"] in kinds]

    @property
    def text(self) -> str:
        """The text blocks, joined by line breaks, without what Claude Code adds."""
        return said(self.blocks)


def blocks_of(content: Content) -> list[Block]:
    """The blocks of a content: a string is one block of text."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def text_of(content: Content) -> str:
    """The text blocks of a content, joined by line breaks; "" when it has none."""
    return "\n".join(block["text"] for block in blocks_of(content) if block["type"] == "text")


def said(content: Content) -> str:
    """The text of a content without what Claude Code adds to it."""
    text = text_of(content)
    return _ADDED.sub("", text).strip() if _ADDED.search(text) else text


def turns_of(messages: list[dict[str, Any]]) -> list[Turn]:
    """The turns of valid messages, in order."""
    turns: list[Turn] = []
    for number, message in enumerate(messages):
        blocks = blocks_of(message["content"])
        paths = [f"messages.{number}.content.{index}" for index in range(len(blocks))]
        if turns and turns[-1].role == message["role"]:
            last = turns.pop()
            blocks, paths = last.blocks + blocks, last.paths + paths
        turns.append(Turn(message["role"], number, blocks, paths))
    return turns


def asking(messages: list[dict[str, Any]]) -> tuple[str, list[Turn]]:
    """The text of the user's last turn that has any, and the turns after it: what was done about it until now."""
    turns = turns_of(messages)
    for index in range(len(turns) - 1, -1, -1):
        if turns[index].role == "user" and turns[index].text:
            return turns[index].text, turns[index + 1 :]
    return "", []


def last_user_text(body: dict[str, Any]) -> str:
    """The text of the last message of the user; "" when it is a result of tools or a picture alone."""
    return next((said(each["content"]) for each in reversed(body["messages"]) if each["role"] == "user"), "")
