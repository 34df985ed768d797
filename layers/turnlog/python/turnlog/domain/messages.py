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
    ids and block types that this version does not know must go back to Claude just as they came. A `system` message is
    an instruction from this place of the conversation on, which leaves all that was sent before as it was.
    """

    role: Literal["user", "assistant", "system"]
    content: str

    @classmethod
    def of_text(cls, text: str) -> Message:
        """A user's message of one text block."""
        return cls("user", to_json([{"type": "text", "text": text}]))

    @classmethod
    def of_system(cls, text: str) -> Message:
        """Instructions of one text block."""
        return cls("system", to_json([{"type": "text", "text": text}]))

    @property
    def blocks(self) -> list[dict[str, Any]]:
        """The content blocks, parsed anew at each call: changing them changes nothing here."""
        blocks: list[dict[str, Any]] = json.loads(self.content)
        return blocks

    @property
    def text(self) -> str:
        """The text blocks joined; empty when there are none."""
        return "".join(block["text"] for block in self.blocks if block["type"] == "text")


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
    def thinking_tokens(self) -> int:
        """The tokens of the reply that were thinking; 0 when the API did not say."""
        details = self.fields.get("output_tokens_details")
        count = details.get("thinking_tokens") if isinstance(details, dict) else 0
        return count if isinstance(count, int) else 0

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
    """One answer of the model, up to its stop reason. `content` is JSON text as in Message, and may be an empty list.

    `id` is the provider's name of the message and `request_id` that of the request, by which its support finds them;
    empty where the provider gave none. `stop_sequence` is the text at which the reply stopped, and `stop_details` the
    JSON text of what the provider says about the stop; empty when there is none.
    """

    model: str
    content: str
    stop_reason: str
    usage: Usage
    id: str = ""
    request_id: str = ""
    stop_sequence: str = ""
    stop_details: str = ""

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


Effort = Literal["low", "medium", "high", "xhigh", "max"]
CacheLifetime = Literal["5m", "1h"]


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """The settings of a call, beside its messages; "" or an empty tuple leaves one to the model.

    `thinking` is JSON text of the API's `thinking` object. `tools` is JSON text of the API's list of tools, `own_tools`
    are the names of those that the service runs itself, and `tool_choice` is "auto" or "none". `output_schema` is JSON
    text of the schema of the object that the reply must be.
    """

    model: str
    max_tokens: int
    system: str = ""
    stop_sequences: tuple[str, ...] = ()
    thinking: str = ""
    effort: Effort | Literal[""] = ""
    tools: str = ""
    own_tools: tuple[str, ...] = ()
    tool_choice: Literal["", "auto", "none"] = ""
    output_schema: str = ""


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """The settings and messages of one call. The messages are in order; the last one is the user's.

    After a reply with the stop reason `pause_turn` the last one is that reply, which the model then goes on with.

    `cached` asks for cache breakpoints with this lifetime, which pay when the same prefix comes again within it, as in
    a session. Beside the one at the end there is one at the end of the first `cached_messages` messages, if there are
    any: those that the last call sent, which the provider's look-back of 20 blocks may not reach from the end.
    """

    settings: ModelSettings
    messages: tuple[Message, ...]
    cached: CacheLifetime | Literal[""] = ""
    cached_messages: int = 0
