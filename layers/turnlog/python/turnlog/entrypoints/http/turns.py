"""/sessions/{id}/turns and /export: turns are taken one after the other, and read one by one, by page, or all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from turnlog import runtime
from turnlog.clock import rfc3339
from turnlog.domain.messages import Message
from turnlog.domain.turn_stream import TurnStream
from turnlog.entrypoints.http.answers import Response
from turnlog.entrypoints.http.api import Invocation, session_field
from turnlog.entrypoints.http.bodies import TurnBody
from turnlog.entrypoints.http.replies import Export, Session, Stopping, TakenTurn, Turn, Turns
from turnlog.entrypoints.http.request import Request
from turnlog.usecases import read_turns, turn_protocol
from turnlog.usecases.cancel_turn import cancel_turn
from turnlog.usecases.take_turn import take_turn
from turnlog.usecases.turn_request import Require, require_nothing

_DIGITS = 9  # of a turn's number, as in the store's keys


Respond = Callable[[TurnStream | None], Response]
"""Takes a turn that was read. A stream, if there is one, shows it as it comes."""


def take(request: Request, invocation: Invocation) -> Response:
    """The session's next turn, or the stored one when the key has been used for the same body before."""
    return read_turn(request, invocation)(None)


def read_turn(request: Request, invocation: Invocation) -> Respond:
    """Reads a turn, and refuses what is wrong with the request, before anything is looked up."""
    session_id = request.session_id
    request.query()
    key = request.idempotency_key
    body = request.body(TurnBody)

    def respond(stream: TurnStream | None) -> Response:
        taken = run(
            request,
            invocation,
            session_id,
            body.message,
            key=key,
            number=body.turn,
            system=body.system,
            stream=stream,
        )
        replayed = {"Idempotent-Replayed": "true"} if taken.replayed else {}
        return Response(200, TakenTurn.of(taken), {**replayed, **preference_applied(request)}, noted_of(taken))

    return respond


def run(
    request: Request,
    invocation: Invocation,
    session_id: str,
    message: Message,
    *,
    key: str,
    number: int | None = None,
    system: str = "",
    require: Require = require_nothing,
    stream: TurnStream | None = None,
) -> turn_protocol.TakenTurn:
    """Takes a turn of whoever sent the request, as `take_turn` says."""
    return take_turn(
        request.caller,
        session_id,
        message,
        key=key,
        number=number,
        system=system,
        require=require,
        wait_s=request.wait_s or 0,
        store=runtime.session_store(),
        model=runtime.chat_model(),
        tools=runtime.tool_runner(),
        quotas=runtime.quota_store(),
        server_key=runtime.server_key(),
        policy=replace(runtime.turn_policy(), web_tools=runtime.offered_tools().web),
        anonymous=runtime.anonymous_limits(),
        clock=runtime.now_ms,
        remaining_s=invocation.remaining_s,
        answer_s=invocation.answer_s,
        sleep=runtime.sleep,
        stream=stream,
    )


def noted_of(taken: turn_protocol.TakenTurn) -> dict[str, Any]:
    """The part of the request's log line that is about the turn."""
    turn = taken.turn
    return session_field(taken.view.session.id) | {
        "turn": turn.number,
        "replayed": taken.replayed,
        "model": turn.reply.model,
        "tokens": turn.usage.tokens,
        "cost_usd": turn.cost_usd,
        "message_id": turn.reply.id,
        "provider_request_id": turn.reply.request_id,
    }


def preference_applied(request: Request) -> dict[str, str]:
    """The header that says for how long a busy session is waited for, if the caller asked for that."""
    return {} if request.wait_s is None else {"Preference-Applied": f"wait={request.wait_s}"}


def list_turns(request: Request, _: Invocation) -> Response:
    """The finished turns, oldest first, a page at a time."""
    session_id = request.session_id
    asked = request.query("limit", "cursor")
    page = read_turns.list_turns(
        request.caller,
        session_id,
        limit=request.limit(asked),
        cursor=asked.get("cursor"),
        store=runtime.session_store(),
        server_key=runtime.server_key(),
        now_ms=runtime.now_ms(),
    )
    return page_of_turns(page)


def page_of_turns(page: read_turns.TurnPage) -> Response:
    """One page of turns."""
    body = Turns(items=[Turn.of(turn) for turn in page.turns], next=page.next)
    return Response(200, body, noted=session_field(page.view.session.id))


def cancel(request: Request, _: Invocation) -> Response:
    """Stops the running turn at its next write."""
    session_id = request.session_id
    request.query()
    number = _number_of(request)
    cancel_turn(request.caller, session_id, number, store=runtime.session_store(), now_ms=runtime.now_ms())
    body = Stopping(session_id=session_id, turn=number, status="stopping")
    return Response(202, body, noted=session_field(session_id) | {"turn": number})


def _number_of(request: Request) -> int:
    """The number in the path; 0, which no turn has, for anything else."""
    text = request.parameter("n")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS else 0


def get_turn(request: Request, _: Invocation) -> Response:
    """One finished turn."""
    session_id = request.session_id
    request.query()
    number = _number_of(request)
    turn = read_turns.get_turn(
        request.caller, session_id, number, store=runtime.session_store(), now_ms=runtime.now_ms()
    )
    return Response(200, Turn.of(turn), noted=session_field(session_id) | {"turn": number})


def export(request: Request, invocation: Invocation) -> Response:
    """The session and every finished turn, in as many parts as it takes."""
    session_id, now = request.session_id, runtime.now_ms()
    page = read_turns.export_session(
        request.caller,
        session_id,
        cursor=request.query("cursor").get("cursor"),
        store=runtime.session_store(),
        server_key=runtime.server_key(),
        audit=invocation.audit,
        now_ms=now,
    )
    body = Export(
        format="turnlog-session-1",
        exported_at=rfc3339(now),
        session=Session.of(page.view, now),
        turns=[Turn.of(turn) for turn in page.turns],
        next=page.next,
    )
    return Response(200, body, noted=session_field(session_id) | {"count": len(page.turns)})
