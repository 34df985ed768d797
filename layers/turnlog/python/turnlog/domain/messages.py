"""Message, Usage and Reply: what goes to Claude and what comes back, frozen and kept as received."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from turnlog.errors import ModelProtocolError


def to_json(value: object) -> str:
    """Compact JSON. What was parsed from JSON and goes through here stays equal to it, unknown fields included."""
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
    """What one call used, in the API's own fields. `received` is their JSON text."""

    received: str

    @property
    def fields(self) -> dict[str, Any]:
        """The API's fields, parsed anew at each call."""
        fields: dict[str, Any] = json.loads(self.received)
        return fields

    def count(self, field: str) -> int:
        """A number of tokens; 0 when the API left the field out or sent null."""
        return int(self.fields.get(field) or 0)

    @property
    def prompt_tokens(self) -> int:
        """All that was sent: fresh, written to the cache and read from it."""
        return (
            self.count("input_tokens")
            + self.count("cache_creation_input_tokens")
            + self.count("cache_read_input_tokens")
        )

    @property
    def tokens(self) -> int:
        """All that was sent and received."""
        return self.prompt_tokens + self.count("output_tokens")


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model answered, up to the stop reason. `content` is JSON text as in Message."""

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
    """What the model is shown: user and assistant messages in order, the last one the user's.

    `cached` asks for cache breakpoints, which pay when the same prefix comes again within minutes, as in a session.
    """

    model: str
    messages: tuple[Message, ...]
    max_tokens: int
    system: str = ""
    stop_sequences: tuple[str, ...] = ()
    cached: bool = False
