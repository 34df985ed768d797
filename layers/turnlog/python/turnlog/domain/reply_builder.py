"""ReplyBuilder: puts a reply together from the events of the API's stream, equal to the answer that comes whole.

Neither of the SDK's two habits can be had where replies are stored: it drops what it does not know, and it takes a
stream that ends early for a reply.
"""

from __future__ import annotations

import re
from typing import Any

from turnlog.domain.growing_block import GrowingBlock
from turnlog.domain.messages import Reply, Usage, to_json
from turnlog.domain.received_reply import UNREADABLE, parsed, reply_of
from turnlog.domain.reply_events import ReplyEvent
from turnlog.domain.turns import MAX_CONTENT_BYTES, STOPPED
from turnlog.errors import ModelProtocolError

_MOST_EVENTS = 500_000  # of one reply; the longest has 128,000 tokens, of which an event brings one or more
_MOST_BLOCKS = 10_000
_EVENT_TYPE = re.compile(r"[A-Za-z0-9_.-]{1,100}", re.ASCII)  # it is sent on as a line of its own
_CUT_SHORT = ("max_tokens", "model_context_window_exceeded", "refusal")  # stop reasons that come anywhere in a block


class ReplyBuilder:
    """Takes the events of one reply, in their order.

    An event of an unknown type changes nothing, as the API promises. A delta of an unknown kind does, in a way that
    nobody can know, so its reply could not be kept as it came: it is refused when it comes, while it still costs least.
    Unknown fields of a known delta, such as estimates of what is to come, are no part of a reply.
    """

    def __init__(self) -> None:
        self._events = 0
        self._size = 0
        self._message: dict[str, Any] | None = None
        self._usage: dict[str, Any] = {}
        self._blocks: list[dict[str, Any]] = []
        self._open: GrowingBlock | None = None
        self._ends_in_half_a_call = False
        self.is_whole = False
        """True after `message_stop`."""

    @property
    def is_begun(self) -> bool:
        """True after `message_start`, from which on the provider may charge."""
        return self._message is not None

    def add(self, data: str) -> ReplyEvent:
        """Takes the data of one event, and returns the event. One of the type `error` is left to the caller.

        Raises ModelProtocolError for what no reply can have at this place, and for a reply that is too large to keep.
        """
        self._events += 1
        try:
            fields = parsed(data)
            event = ReplyEvent(_type_of(fields), data)
            if "\\u" in data:
                to_json(fields).encode()  # a lone surrogate could be neither stored nor sent on
            self._take(event, fields)
        except UNREADABLE as error:
            raise ModelProtocolError from error
        if self._size > MAX_CONTENT_BYTES or self._events > _MOST_EVENTS:
            raise ModelProtocolError
        return event

    def reply(self, request_id: str = "") -> Reply:
        """The whole reply. Raises ModelProtocolError if it is not whole, or not one that can be kept.

        A call whose input ends in the middle, since the reply reached its end there, is left out: it has no JSON.
        """
        if self._message is None or not self.is_whole:
            raise ModelProtocolError
        if self._ends_in_half_a_call and self._message.get("stop_reason") not in _CUT_SHORT:
            raise ModelProtocolError
        return reply_of(self._message | {"content": self._blocks, "usage": self._usage}, request_id)

    def stopped_reply(self, asked_model: str, request_id: str = "") -> Reply:
        """The reply as far as it has come, with the stop reason STOPPED: whole blocks and the text so far.

        Thinking without its signature and half a call are left out, since nobody could take them back. The usage is
        what the provider told at the start, so its output tokens are not those of the reply: nobody knows these. Of a
        reply that has not begun nothing is known.
        """
        if self._message is None:
            return Reply(asked_model, "[]", STOPPED, Usage("{}"), request_id=request_id)
        try:
            partial = self._open.partial() if self._open else None
        except UNREADABLE as error:
            raise ModelProtocolError from error
        blocks = [*self._blocks, *([partial] if partial else [])]
        return reply_of(self._message | {"content": blocks, "usage": self._usage, "stop_reason": STOPPED}, request_id)

    def _take(self, event: ReplyEvent, fields: dict[str, Any]) -> None:
        match event.type:
            case "message_start":
                _require(self._message is None and not fields["message"].get("content"))
                self._message = _over({}, fields["message"])
                self._usage = _over({}, self._message.get("usage") or {})
            case "content_block_start":
                _require(self._goes_on and self._open is None and not self._ends_in_half_a_call)
                _require(_is_number(fields["index"], len(self._blocks)) and fields["index"] < _MOST_BLOCKS)
                self._open = GrowingBlock(fields["content_block"])
                self._size += len(event.data)
            case "content_block_delta":
                self._size += self._opened(fields).add(fields["delta"])
            case "content_block_stop":
                self._close(self._opened(fields))
            case "message_delta":
                _require(self._message is not None and self._open is None and not self.is_whole)
                self._take_end(fields["delta"], fields.get("usage") or {})
            case "message_stop":
                _require(self._message is not None and not self._goes_on and not self.is_whole)
                self.is_whole = True

    @property
    def _goes_on(self) -> bool:
        """True from the start of the message to its stop reason."""
        return self._message is not None and not self._message.get("stop_reason")

    def _opened(self, fields: dict[str, Any]) -> GrowingBlock:
        if self._open is None or not _is_number(fields["index"], len(self._blocks)):
            raise ValueError("no block of this index is open")
        return self._open

    def _close(self, opened: GrowingBlock) -> None:
        self._open = None
        block = opened.whole()
        if block is None:
            self._ends_in_half_a_call = True
        else:
            self._blocks.append(block)

    def _take_end(self, delta: dict[str, Any], usage: dict[str, Any]) -> None:
        self._message = _over(self._message or {}, delta)
        self._usage = _over(self._usage, usage)


def _over(before: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    """The fields of both. Those that came later count, but for null, which says nothing that is not said already."""
    merged = dict(before)
    for name, value in later.items():
        old = merged.get(name)
        if isinstance(old, dict) and isinstance(value, dict):
            merged[name] = _over(old, value)
        elif value is not None or old is None:
            merged[name] = value
    return merged


def _type_of(fields: dict[str, Any]) -> str:
    kind: str = fields["type"]
    _require(_EVENT_TYPE.fullmatch(kind) is not None)
    return kind


def _is_number(value: Any, number: int) -> bool:
    return type(value) is int and value == number


def _require(is_right: bool) -> None:
    if not is_right:
        raise ValueError("no event that a reply can have at this place")
