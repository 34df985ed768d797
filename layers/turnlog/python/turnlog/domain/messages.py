"""Message, Usage and Reply: the texts that go to Claude and come back, frozen and kept as received."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from turnlog.errors import ModelProtocolError

_SENT = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
_FOREIGN_CONTROLS = re.compile("[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f-\x9f]")
"""All controls but those that texts really hold: tabs, line ends, the form feeds of source files, and the escapes of
terminal logs.
"""


def has_foreign_controls(text: str) -> bool:
    """True if the text holds a control character that is no data: in messages, documents and code alike."""
    return _FOREIGN_CONTROLS.search(text) is not None


def to_json(value: object) -> str:
    """Compact JSON. A value that was parsed from JSON stays equal to it, unknown fields included."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation.

    `content` is the JSON text of a list of content blocks. It stays text because signatures of thinking blocks, tool
    ids and block types that this version does not know must go back to Claude just as they came.
    """

    role: Literal["user", "assistant"]
    content: str

    @classmethod
    def of_text(cls, text: str) -> Message:
        """A user's message of one text block."""
        return cls("user", to_json([{"type": "text", "text": text}]))

    @property
    def blocks(self) -> list[dict[str, Any]]:
        """The content blocks, parsed anew at each call: changing them changes nothing here."""
        blocks: list[dict[str, Any]] = json.loads(self.content)
        return blocks


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens of one call, in the API's own fields. `received` is their JSON text."""

    received: str

    @property
    def fields(self) -> dict[str, Any]:
        """The API's fields, parsed anew at each call."""
        fields: dict[str, Any] = json.loads(self.received)
        return fields

    def count(self, field: str) -> int:
        """A number of tokens; 0 when the API left the field out or sent null."""
        return self._sum(field)

    @property
    def prompt_tokens(self) -> int:
        """All tokens that were sent: fresh, written to the cache and read from it."""
        return self._sum(*_SENT)

    @property
    def tokens(self) -> int:
        """All tokens that were sent and received."""
        return self._sum(*_SENT, "output_tokens")

    def _sum(self, *names: str) -> int:
        fields = self.fields
        return sum(int(fields.get(name) or 0) for name in names)


def total_usage(usages: Sequence[Usage]) -> Usage:
    """The usage of several calls as one, in the API's fields; that of a single call stays as it was received.

    Counts are summed, also those in nested objects, and null adds nothing. Of other values the last call's is taken.
    """
    if len(usages) == 1:
        return usages[0]
    total: dict[str, Any] = {}
    for usage in usages:
        total = _summed(total, usage.fields)
    return Usage(to_json(total))


def _summed(total: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    summed = dict(total)
    for name, value in fields.items():
        before = summed.get(name)
        if value is None:
            summed.setdefault(name, None)
        elif isinstance(value, dict):
            summed[name] = _summed(before if isinstance(before, dict) else {}, value)
        else:
            summed[name] = before + value if type(before) is type(value) is int else value
    return summed


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of the model, up to its stop reason. `content` is JSON text as in Message."""

    model: str
    content: str
    stop_reason: str
    usage: Usage

    def __post_init__(self) -> None:
        """Raises ModelProtocolError without a stop reason: such a reply is a piece of one, and is never stored."""
        if not self.stop_reason:
            raise ModelProtocolError

    @property
    def text(self) -> str:
        """The text blocks joined; empty when the reply has none, as a refusal or a tool call may."""
        return "".join(block["text"] for block in json.loads(self.content) if block.get("type") == "text")

    @property
    def message(self) -> Message:
        """The reply as the next turn sends it back."""
        return Message("assistant", self.content)


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """The settings and messages of one call: user and assistant messages in order, the last one the user's.

    `cached` asks for cache breakpoints, which pay when the same prefix comes again within minutes, as in a session.
    """

    model: str
    messages: tuple[Message, ...]
    max_tokens: int
    system: str = ""
    stop_sequences: tuple[str, ...] = ()
    cached: bool = False
