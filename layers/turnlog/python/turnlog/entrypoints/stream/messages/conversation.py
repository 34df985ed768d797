"""The `messages` of a request that is a turn of a session: the new message, and what comes before it, if it is sent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from turnlog.domain.blocks.fields import Path, kind_of, list_of, malformed, pointer, refuse, require_fields, text_of
from turnlog.domain.blocks.reading import read_message
from turnlog.domain.messages import Message
from turnlog.domain.shown_turns import Said, plain_blocks
from turnlog.errors import InvalidRequest

_ROLES = ("user", "assistant", "system")
Contents = list[tuple[Any, Path]]
"""Contents of messages of one role, each with its place."""

_BETWEEN = "\n\n"  # texts of instructions that come apart


@dataclass(frozen=True, slots=True)
class Conversation:
    """The caller's new message, the instructions that hold from it on, and all messages before it.

    `earlier` ends with a reply of the model; it is empty when only what is new was sent.
    """

    message: Message
    system: str = ""
    earlier: tuple[Said, ...] = ()


def read_conversation(value: Any, at: Path = ("messages",)) -> Conversation:
    """Reads `messages`. Raises InvalidRequest.

    The new messages of the user are one, as the Messages API has it, and so are new instructions, before or after it.
    Earlier messages are not checked, since they are not sent: they are compared with the session's own.
    """
    said = [_role_and_content(each, (*at, index)) for index, each in enumerate(list_of(value, at))]
    replies = [index for index, (role, _) in enumerate(said) if role == "assistant"]
    first = replies[-1] + 1 if replies else 0
    new: dict[str, Contents] = {role: [] for role in _ROLES}
    for index, (role, content) in enumerate(said[first:], start=first):
        new[role].append((content, (*at, index, "content")))
    if not new["user"]:
        malformed("message_missing", at)
    return Conversation(_message(new["user"], at), _instructions(new["system"]), _exchanges(said[:first], at))


def instructions_of(value: Any, at: Path) -> str:
    """Reads instructions: a text, or a list of text blocks, which become one text."""
    if isinstance(value, str):
        return text_of(value, at, may_be_blank=True).strip() and value
    texts = []
    for index, block in enumerate(plain_blocks(list_of(value, at))):
        kind_of(block, (*at, index), ("text",), "block_type_unknown")
        require_fields(block, (*at, index), ("type", "text"))
        texts.append(text_of(block["text"], (*at, index, "text")))
    return _BETWEEN.join(texts)


def _role_and_content(value: Any, at: Path) -> tuple[str, Any]:
    if not isinstance(value, dict):
        malformed("wrong_type", at)
    require_fields(value, at, ("role", "content"))
    if not isinstance(value["role"], str):
        malformed("wrong_type", (*at, "role"))
    if value["role"] not in _ROLES:
        refuse("role_unknown", (*at, "role"), allowed=list(_ROLES))
    return value["role"], value["content"]


def _message(contents: Contents, at: Path) -> Message:
    if len(contents) == 1:
        content, at = contents[0]
        return read_message(plain_blocks(content) if isinstance(content, list) else content, at)
    try:
        return read_message(_plain(contents), at)
    except InvalidRequest as error:  # its index is that of no block in the request
        raise type(error)(error.code, pointer(at), error.details) from error


def _blocks(content: Any, at: Path) -> list[Any]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list_of(content, at)


def _exchanges(said: list[tuple[str, Any]], at: Path) -> tuple[Said, ...]:
    """The messages in the form that a session has: between two replies one of the user, then maybe instructions."""
    runs = groupby(enumerate(said), key=lambda each: each[1][0] == "assistant")
    return tuple(exchange for _, run in runs for exchange in _by_role(list(run), at))


def _by_role(run: list[tuple[int, tuple[str, Any]]], at: Path) -> Iterator[Said]:
    for role in _ROLES:
        if contents := [(content, (*at, index, "content")) for index, (its, content) in run if its == role]:
            yield role, _system_block(contents) if role == "system" else _plain(contents)


def _plain(contents: Contents) -> list[Any]:
    return plain_blocks(block for content, at in contents for block in _blocks(content, at))


def _system_block(contents: Contents) -> list[Any]:
    return [{"type": "text", "text": _instructions(contents)}]


def _instructions(contents: Contents) -> str:
    return _BETWEEN.join(filter(None, (instructions_of(content, at) for content, at in contents)))
