"""Continuations: a question and its reply, encrypted into a text that the caller keeps and can begin a session with.

Nothing is stored. A continuation is good for 15 minutes and for whoever asked, and nobody else can read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from turnlog.domain.messages import Message, ModelRequest, Reply, Usage, to_json
from turnlog.domain.opaque_tokens import TokenInvalid, make_token, read_token
from turnlog.domain.packing import pack, unpack
from turnlog.domain.server_key import ServerKey
from turnlog.domain.sessions import SessionSettings
from turnlog.domain.turns import ModelCall, Step, Totals, Turn
from turnlog.domain.window import WindowPolicy
from turnlog.errors import ValueRefused
from turnlog.usecases.turn_protocol import first_turn

_LASTS_MS = 15 * 60 * 1000
_PURPOSE = "continuation"
_MORE_SETTINGS = ("stop_sequences", "thinking", "effort", "tools", "own_tools", "tool_choice", "output_schema")
_MORE_OF_A_REPLY = ("id", "request_id", "stop_sequence", "stop_details")
"""Fields that a continuation has where they are not empty; one of an earlier version has none of them."""

MOST_CHARACTERS = 200_000
"""A continuation of this length fits into a request of 256 KB beside the other fields."""


@dataclass(frozen=True, slots=True)
class Continuation:
    """The beginning of a session that goes on from a question."""

    settings: SessionSettings
    turn: Turn


def make_continuation(
    server_key: ServerKey,
    owner: str,
    question: ModelRequest,
    reply: Reply,
    cost_usd: Decimal | None,
    now_ms: int,
    steps: Sequence[Step] = (),
) -> str | None:
    """Returns the continuation of a question; None when it would be longer than a request can bring back.

    `cost_usd` is that of the last call, which gave the reply; those before it are `steps`.
    """
    said = {
        "at_ms": now_ms,
        "model": question.settings.model,
        "max_tokens": question.settings.max_tokens,
        "system": question.settings.system,
        **{name: value for name in _MORE_SETTINGS if (value := getattr(question.settings, name))},
        "message": question.messages[-1].content,
        "reply": reply.content,
        "reply_model": reply.model,
        "stop_reason": reply.stop_reason,
        "usage": reply.usage.received,
        "cost_usd": _text(cost_usd),
        **{name: value for name in _MORE_OF_A_REPLY if (value := getattr(reply, name))},
        "steps": [_said(step) for step in steps],
    }
    text = make_token(server_key, _PURPOSE, pack(to_json(said)), owner)
    return text if len(text) <= MOST_CHARACTERS else None


def read_continuation(server_key: ServerKey, text: str, owner: str, window: WindowPolicy, now_ms: int) -> Continuation:
    """Returns what the owner was given. Raises ValueRefused when it is forged, another's or too old."""
    try:
        said = unpack(read_token(server_key, _PURPOSE, text, owner))
    except (TokenInvalid, ValueError) as error:
        raise ValueRefused("continuation_invalid", "/continuation") from error
    if now_ms >= said["at_ms"] + _LASTS_MS:
        raise ValueRefused("continuation_invalid", "/continuation")
    names = {name: said[name] for name in _MORE_OF_A_REPLY if name in said}
    reply = Reply(said["reply_model"], said["reply"], said["stop_reason"], Usage(said["usage"]), **names)
    turn = first_turn(Message("user", said["message"]), reply, _dollars(said["cost_usd"]), said["at_ms"], window)
    more = {name: _unlisted(said[name]) for name in _MORE_SETTINGS if name in said}
    settings = SessionSettings(said["model"], said["max_tokens"], said["system"], **more)
    return Continuation(settings, _with_steps(turn, [_step(each) for each in said.get("steps", ())]))


def _unlisted(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _with_steps(turn: Turn, steps: Sequence[Step]) -> Turn:
    messages = (turn.message, *(message for step in steps for message in step.messages), turn.reply.message)
    calls = (*(step.call for step in steps), *turn.calls)
    return replace(turn, messages=messages, calls=calls, totals=Totals().plus(messages, calls))


def _said(step: Step) -> dict[str, Any]:
    call = step.call
    return {
        "reply": step.reply.content,
        "results": step.results.content if step.results else None,
        "call": [call.model, call.usage.received, _text(call.cost_usd), call.id, call.request_id],
    }


def _step(said: dict[str, Any]) -> Step:
    model, usage, cost_usd, *ids = said["call"]
    results = Message("user", said["results"]) if said["results"] else None
    # Its number is no part of a turn.
    return Step(
        1, Message("assistant", said["reply"]), ModelCall(model, Usage(usage), _dollars(cost_usd), *ids), results
    )


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else f"{amount:f}"


def _dollars(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)
