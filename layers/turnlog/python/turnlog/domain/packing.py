"""A turn's content as bytes: one JSON text, deflated when that is shorter."""

from __future__ import annotations

import json
import zlib
from typing import Any

from turnlog.domain.messages import Message, Reply, Usage, to_json
from turnlog.domain.turns import MAX_TURN_BYTES, Turn
from turnlog.errors import TurnTooLarge


def pack(text: str) -> bytes:
    """UTF-8 after a byte that says how: "z" deflated, which about halves a turn, or "j" as it is if that is shorter."""
    plain = text.encode()
    deflated = zlib.compress(plain)
    return b"z" + deflated if len(deflated) < len(plain) else b"j" + plain


def unpack(packed: bytes) -> Any:
    """The parsed JSON. Raises ValueError or zlib.error when it was not packed by this module."""
    if packed[:1] not in (b"z", b"j"):
        raise ValueError("neither deflated nor plain")
    return json.loads(zlib.decompress(packed[1:]) if packed[:1] == b"z" else packed[1:])


def pack_turn(turn: Turn) -> bytes:
    """Message and reply, just as received. Raises TurnTooLarge above MAX_TURN_BYTES."""
    reply = turn.reply
    packed = pack(
        f'{{"message":{turn.message.content},"reply":{reply.content},"usage":{reply.usage.received},'
        f'"model":{to_json(reply.model)}}}'
    )
    if len(packed) > MAX_TURN_BYTES:
        raise TurnTooLarge
    return packed


def unpack_turn(packed: bytes, stop_reason: str) -> tuple[Message, Reply]:
    """What `pack_turn` packed. Raises ValueError, KeyError, TypeError or zlib.error when it is damaged."""
    body = unpack(packed)
    usage = Usage(to_json(body["usage"]))
    return Message("user", to_json(body["message"])), Reply(body["model"], to_json(body["reply"]), stop_reason, usage)
