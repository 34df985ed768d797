"""A prompt as its parts in the order in which Claude reads them: tools, system, messages.

Each part has a digest of what it says. Marks of the cache are not part of it, nor are fields that are null, nor whether
a text stands as a string or as a block: nothing of that changes what Claude reads. Nor does a tool with defer_loading,
which it reads only when a search has found it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from local.claude_stand_in.dialect import PLAIN, Dialect
from local.claude_stand_in.models import Model
from local.claude_stand_in.tokens import TOKENS_PER_MESSAGE, tokens_of_block, tokens_of_json
from local.claude_stand_in.turns import Block, blocks_of

START = "start"
_NO_SETTINGS = ("tools", "system", "messages", "stream")
THINKING = ("thinking", "redacted_thinking")


@dataclass(frozen=True)
class Part:
    """A tool, a block of the system prompt, or a block of a message. `path` says where it stands in the request."""

    kind: str  # "tools", "system", or the role of the message
    path: str
    block: Block
    tokens: int

    @property
    def type(self) -> str:
        return str(self.block.get("type", ""))

    @cached_property
    def digest(self) -> str:
        """A digest of what this part says. It is taken once, since a picture is long."""
        return digest(f"{self.kind}\n{_canonical(self.block)}")


@dataclass(frozen=True, slots=True)
class Prompt:
    """A valid request, the model that it asks, its parts, and the dialect that it is said in."""

    body: dict[str, Any]
    model: Model
    parts: list[Part]
    dialect: Dialect = PLAIN

    @classmethod
    def of(cls, body: dict[str, Any], model: Model, dialect: Dialect = PLAIN) -> Prompt:
        return cls(body, model, list(_parts(body)), dialect)

    @property
    def tokens(self) -> int:
        """Tokens of tools, system and messages."""
        return sum(part.tokens for part in self.parts)

    def digest(self) -> str:
        """A digest of the whole request, which is the same streamed or not."""
        settings = {name: value for name, value in self.body.items() if name not in _NO_SETTINGS}
        return digest("\n".join([_canonical(settings), *(part.digest for part in self.parts)]))


def _parts(body: dict[str, Any]) -> Iterator[Part]:
    for number, tool in enumerate(body.get("tools", [])):
        if tool.get("defer_loading") is True:
            continue
        yield Part("tools", f"tools.{number}", tool, tokens_of_json(tool))
    system = body.get("system") or []
    for number, block in enumerate(blocks_of(system)):
        yield Part("system", f"system.{number}", block, tokens_of_block(block))
    for number, message in enumerate(body["messages"]):
        for index, block in enumerate(blocks_of(message["content"])):
            tokens = tokens_of_block(block) + (0 if index else TOKENS_PER_MESSAGE)
            yield Part(message["role"], f"messages.{number}.content.{index}", block, tokens)


def after(before: str, part: Part) -> str:
    """The digest of a prefix that ends with this part. `before` is that of the prefix before it; START begins."""
    return digest(f"{before}\n{part.digest}")


def digest(text: str) -> str:
    """24 characters that stand for a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _canonical(value: Any) -> str:
    return json.dumps(_said(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _said(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _said(each) for name, each in value.items() if name != "cache_control" and each is not None}
    return [_said(each) for each in value] if isinstance(value, list) else value
