"""The answer to a turn in the form of the Messages API: one message, however many calls the turn took."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Annotated, Any, Literal, Self

from turnlog.clock import rfc3339
from turnlog.domain.shown_turns import shown_blocks
from turnlog.entrypoints.http import fields
from turnlog.entrypoints.http.fields import described
from turnlog.entrypoints.http.replies import ResponseBody, decimal_text
from turnlog.usecases import turn_protocol

_USAGE = {"input_tokens": 9, "output_tokens": 20}
_BLOCKS = [{"type": "text", "text": "A heron is a long-legged bird."}]


class TurnFacts(ResponseBody):
    """Facts of a turn that the Messages API has no field for."""

    session_id: fields.SessionId
    turn: fields.TurnNumber
    cost_usd: fields.Dollars
    expires_at: fields.ExpiresAt
    idle_expires_at: fields.IdleExpiresAt


class SessionMessage(ResponseBody):
    """The model's message, as Claude sends one, with a field of Turnlog's own that other clients pass over."""

    id: Annotated[str, described("Claude's own name of the message.", "msg_01XFDUDYJgAACzvnptvVoYEL")]
    type: Annotated[Literal["message"], described("Always `message`.")]
    role: Annotated[Literal["assistant"], described("Always `assistant`.")]
    model: fields.Model
    content: Annotated[fields.Blocks, described("The blocks of the message, as Claude sent them.", _BLOCKS)]
    stop_reason: Annotated[str, described("The reason why the message ends, in Claude's words.", "end_turn")]
    stop_sequence: Annotated[str | None, described("The text at which the message stopped.", None)]
    stop_details: Annotated[dict[str, Any] | None, described("What Claude says about the stop, in its own fields.")]
    usage: Annotated[dict[str, Any], described("The tokens that the turn used, in Claude's own fields.", _USAGE)]
    turnlog: Annotated[TurnFacts, described("Turnlog's own facts.")]

    @classmethod
    def of(cls, taken: turn_protocol.TakenTurn) -> Self:
        """The turn as a stream of it is put together: with the id and model of the first call, and the sum of usage."""
        turn, first = taken.turn, taken.turn.calls[0]
        own_tools: Collection[str] = taken.view.session.settings.own_tools
        return cls(
            id=first.id,
            type="message",
            role="assistant",
            model=first.model,
            content=shown_blocks(turn, own_tools),
            stop_reason=turn.stop_reason,
            stop_sequence=turn.reply.stop_sequence or None,
            stop_details=json.loads(turn.reply.stop_details or "null"),
            usage=turn.usage.fields,
            turnlog=facts_of(taken),
        )


def facts_of(taken: turn_protocol.TakenTurn) -> TurnFacts:
    """The facts of a turn, for the field of a message or the last event of a stream."""
    session = taken.view.session
    return TurnFacts(
        session_id=session.id,
        turn=taken.turn.number,
        cost_usd=decimal_text(taken.turn.cost_usd),
        expires_at=rfc3339(session.expires_ms),
        idle_expires_at=rfc3339(taken.idle_expires_ms),
    )
