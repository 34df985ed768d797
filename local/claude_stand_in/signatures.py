"""Signatures of thinking blocks: each binds its block to a model and to the very conversation before it.

A block may be left out together with all before it or all after it. One between others, or one of several of a reply,
may not: each signature also names the block before it, its number in its reply and their count there.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass

from local.claude_stand_in.prompt import START, THINKING, Part, Prompt, after
from local.claude_stand_in.turns import Block

_SECRET = b"the stand-in is not Claude"  # no secret at all: it lets a restarted stand-in know its own blocks
_FIELD = {"thinking": "signature", "redacted_thinking": "data"}


@dataclass(frozen=True, slots=True)
class Signed:
    """The content of a signature. `prefix` is the conversation before the block, `before` the thinking before it.

    `number` counts the blocks of thinking in its reply from 0, and `count` is how many there are.
    """

    model: str
    prefix: str
    before: str
    number: int
    count: int
    id: str

    @classmethod
    def read(cls, block: Block) -> Signed | None:
        """The signature of a block; None when it is not ours or the block was changed."""
        try:
            text = base64.b64decode(block[_FIELD[block["type"]]], validate=True).decode()
            model, prefix, before, number, count, made = text.split("|")
        except ValueError:
            return None
        expected = _code(model, prefix, before, number, count, _thought(block))
        return cls(model, prefix, before, int(number), int(count), made) if made == expected else None


def signed(content: list[Block], prompt: Prompt, *, shows: bool) -> list[Block]:
    """The blocks of a reply, in which each thinking block has its signature, and its text only when `shows` says so.

    A block that is marked `redacted` becomes one that nobody can read.
    """
    count = sum(1 for block in content if block["type"] == "thinking")
    if not count:
        return content
    prefix, before = _end_of(prompt.parts)
    done: list[Block] = []
    for block in content:
        if block["type"] != "thinking":
            prefix = after(prefix, Part("assistant", "", block, 0))
            done.append(block)
            continue
        number = sum(1 for each in done if each["type"] in THINKING)
        fields = (prompt.model.id, prefix, before, str(number), str(count))
        thought = block["thinking"] if shows and not block.get("redacted") else ""
        before = _code(*fields, thought)
        signature = base64.b64encode("|".join((*fields, before)).encode()).decode()
        if block.get("redacted"):
            done.append({"type": "redacted_thinking", "data": signature})
        else:
            done.append({"type": "thinking", "thinking": thought, "signature": signature})
    return done


def unbound(prompt: Prompt) -> Iterator[tuple[Part, bool]]:
    """The thinking blocks that may not stand where they do, each with True when it is from another conversation.

    With False its signature is no signature. A block of another model is not read, and so it is never wrong.
    """
    model, parts = prompt.model, prompt.parts
    if not any(part.type in THINKING for part in parts):
        return
    prefix, last = START, None
    for part in parts:
        if part.type not in THINKING:
            prefix = after(prefix, part)
            continue
        found = Signed.read(part.block)
        if not found:
            yield part, False
            continue
        follows = found.before == last[1].id if last else found.number == 0
        if model.binds_thinking and found.model == model.id and not (found.prefix == prefix and follows):
            yield part, True
        last = part, found
    if model.binds_thinking and last and last[1].model == model.id and last[1].number + 1 < last[1].count:
        yield last[0], True


def _end_of(parts: list[Part]) -> tuple[str, str]:
    """The digest of the whole prompt, and the id of the last thinking block in it."""
    prefix, before = START, ""
    for part in parts:
        if part.type in THINKING:
            found = Signed.read(part.block)
            before = found.id if found else before
        else:
            prefix = after(prefix, part)
    return prefix, before


def _thought(block: Block) -> str:
    return str(block.get("thinking", ""))


def _code(*texts: str) -> str:
    return hmac.new(_SECRET, "|".join(texts).encode(), hashlib.sha256).hexdigest()[:24]
