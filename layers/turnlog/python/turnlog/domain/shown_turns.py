"""A turn as the Messages API shows it: one message of the caller's and one of the model's, however many calls it took.

A client that keeps the conversation itself sends it all each time. Only if it has the same turns as the session does
its next message go on after them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from turnlog.domain.messages import Message
from turnlog.domain.turns import Turn

Blocks = list[dict[str, Any]]
Said = tuple[str, Blocks]
"""The role of a message and its blocks, without the fields that change nothing."""

_HOLDS_BLOCKS = ("content", "source")


def plain_blocks(blocks: Iterable[Any]) -> list[Any]:
    """The blocks without cache marks, which Turnlog sets itself, and without fields that are null."""
    return [_plain(block) for block in blocks]


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        # Other values are data, such as the input of a tool, and stay as they are.
        name: _plain(each) if name in _HOLDS_BLOCKS else each
        for name, each in value.items()
        if name != "cache_control" and each is not None
    }


def shown_blocks(turn: Turn, own_tools: Collection[str]) -> Blocks:
    """The blocks of all replies of a turn but for its calls of `own_tools`, which the service has answered itself."""
    return [
        block
        for message in turn.messages
        if message.role == "assistant"
        for block in message.blocks
        if not (block["type"] == "tool_use" and block["name"] in own_tools)
    ]


def goes_on_after(earlier: Sequence[Said], turns: Sequence[Turn], own_tools: Collection[str]) -> bool:
    """True if a conversation of these `earlier` messages is the session's, whose newest turns are `turns`.

    It may begin later than the session does, or before the first of `turns` whose content is there: so far back nothing
    is compared. It may also lack the turns that the model refused, which clients leave out, as Turnlog does.
    """
    read = [turn for turn in turns if turn.is_read]
    has_older = bool(turns) and (len(read) < len(turns) or turns[0].number > 1)
    answered = [turn for turn in read if turn.stop_reason != "refusal"]
    replies = sum(role == "assistant" for role, _ in earlier)  # one of each turn: no more of them need to be parsed
    return any(_ends_like(earlier, _said(kept[-replies:], own_tools), has_older=has_older) for kept in (read, answered))


def _ends_like(earlier: Sequence[Said], said: Sequence[Said], *, has_older: bool) -> bool:
    compared = min(len(earlier), len(said))
    if not compared or (len(earlier) > len(said) and not has_older):
        return False
    return list(earlier[-compared:]) == list(said[-compared:])


def _said(turns: Iterable[Turn], own_tools: Collection[str]) -> list[Said]:
    said: list[Said] = []
    for turn in turns:
        said += [(each.role, plain_blocks(each.blocks)) for each in _asked(turn)]
        said.append(("assistant", plain_blocks(shown_blocks(turn, own_tools))))
    return said


def _asked(turn: Turn) -> Iterable[Message]:
    """The caller's message, and the instructions that came with it."""
    return (turn.message, *(message for message in turn.messages if message.role == "system"))
