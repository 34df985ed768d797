"""A question and its reply, sealed into a text that the caller keeps, and with which a session can begin.

Nothing is stored. It is good for 15 minutes and for whoever asked, and nobody else can read it.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from decimal import Decimal

from turnlog import runtime
from turnlog.domain.messages import Message, ModelRequest, Reply, Usage, to_json
from turnlog.domain.packing import pack, unpack
from turnlog.domain.server_key import DecryptionFailed
from turnlog.domain.sessions import SessionSettings
from turnlog.domain.turns import Turn
from turnlog.entrypoints.http.schemas import decimal_text
from turnlog.errors import ValueRefused
from turnlog.usecases.take_turn import first_turn

_LASTS_MS = 15 * 60 * 1000
_PURPOSE = "continuation"

MOST_CHARACTERS = 200_000
"""So that it fits into a request of 256 KB beside the other fields."""


@dataclass(frozen=True, slots=True)
class Continuation:
    """What a session begins with that goes on from a question."""

    settings: SessionSettings
    turn: Turn


def sealed(owner: str, question: ModelRequest, reply: Reply, cost_usd: Decimal | None, now_ms: int) -> str | None:
    """None when it would be larger than a request can bring back."""
    said = {
        "at_ms": now_ms,
        "model": question.model,
        "max_tokens": question.max_tokens,
        "system": question.system,
        "message": question.messages[-1].content,
        "reply": reply.content,
        "reply_model": reply.model,
        "stop_reason": reply.stop_reason,
        "usage": reply.usage.received,
        "cost_usd": decimal_text(cost_usd),
    }
    raw = runtime.server_key().sealed(_PURPOSE, pack(to_json(said)), owner.encode())
    text = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    return text if len(text) <= MOST_CHARACTERS else None


def opened(text: str, owner: str, now_ms: int) -> Continuation:
    """What was sealed for this caller. Raises ValueRefused when it is forged, another's or too old."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        said = unpack(runtime.server_key().opened(_PURPOSE, raw, owner.encode()))
    except (binascii.Error, DecryptionFailed, ValueError) as error:
        raise ValueRefused("continuation_invalid", "/continuation") from error
    if now_ms >= said["at_ms"] + _LASTS_MS:
        raise ValueRefused("continuation_invalid", "/continuation")
    reply = Reply(said["reply_model"], said["reply"], said["stop_reason"], Usage(said["usage"]))
    cost_usd = None if said["cost_usd"] is None else Decimal(said["cost_usd"])
    turn = first_turn(Message("user", said["message"]), reply, cost_usd, said["at_ms"], runtime.turn_policy().window)
    return Continuation(SessionSettings(said["model"], said["max_tokens"], said["system"]), turn)
