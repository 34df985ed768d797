"""A turn's content as bytes: one JSON text, deflated when that is shorter."""

from __future__ import annotations

import json
import zlib
from decimal import Decimal
from typing import Any

from turnlog.domain.messages import Message, Usage, to_json
from turnlog.domain.turns import MAX_TURN_BYTES, ModelCall, Turn
from turnlog.errors import TurnFormUnsupported, TurnTooLarge


def pack(text: str) -> bytes:
    """The text in UTF-8 after one byte: "z" when deflated, which about halves a turn, "j" when plain is shorter."""
    plain = text.encode()
    deflated = zlib.compress(plain)
    return b"z" + deflated if len(deflated) < len(plain) else b"j" + plain


def unpack(packed: bytes) -> Any:
    """The parsed JSON. Raises ValueError or zlib.error when it was not packed by this module."""
    if packed[:1] not in (b"z", b"j"):
        raise ValueError("neither deflated nor plain")
    return json.loads(zlib.decompress(packed[1:]) if packed[:1] == b"z" else packed[1:])


def require_packable(turn: Turn) -> None:
    """Raises TurnFormUnsupported unless the turn is one message of the caller and one reply, all that is stored yet."""
    if len(turn.messages) != 2:
        raise TurnFormUnsupported


def pack_turn(turn: Turn) -> bytes:
    """Message and reply, just as received.

    Raises TurnTooLarge above MAX_TURN_BYTES, and TurnFormUnsupported as `require_packable`.
    """
    require_packable(turn)
    message, reply = turn.messages
    (call,) = turn.calls
    packed = pack(
        f'{{"message":{message.content},"reply":{reply.content},"usage":{call.usage.received},'
        f'"model":{to_json(call.model)}}}'
    )
    if len(packed) > MAX_TURN_BYTES:
        raise TurnTooLarge
    return packed


def unpack_turn(packed: bytes, cost_usd: Decimal | None) -> tuple[tuple[Message, ...], tuple[ModelCall, ...]]:
    """The messages and calls that `pack_turn` packed, and the cost that was stored beside them.

    Raises ValueError, KeyError, TypeError or zlib.error when they are damaged.
    """
    body = unpack(packed)
    _require_blocks(body["message"])
    _require_blocks(body["reply"])
    usage = Usage(to_json(body["usage"]))
    if not isinstance(body["usage"], dict) or not isinstance(body["model"], str) or usage.tokens < 0:
        raise ValueError("no usage of a call")
    messages = Message("user", to_json(body["message"])), Message("assistant", to_json(body["reply"]))
    return messages, (ModelCall(body["model"], usage, cost_usd),)


def _require_blocks(blocks: Any) -> None:
    """Raises ValueError or KeyError unless these are the content blocks of a message."""
    if not isinstance(blocks, list) or not all(
        isinstance(block, dict) and isinstance(block["type"], str) for block in blocks
    ):
        raise ValueError("no list of blocks")
    if not all(isinstance(block["text"], str) for block in blocks if block["type"] == "text"):
        raise ValueError("a text that is none")
