"""The routes of a session: parse, one use case, one answer."""

from __future__ import annotations

from turnlog import runtime
from turnlog.errors import InvalidRequest, SessionNotFound, TurnNotFound
from turnlog.http.api import Answer, Remaining
from turnlog.http.request import Request
from turnlog.http.shapes import (
    NewSessionBody,
    TurnBody,
    session_shape,
    taken_turn_shape,
    turn_shape,
)
from turnlog.messages import to_json
from turnlog.sessions import Log, is_session_id
from turnlog.turns import TurnRequest, take_turn

_DEFAULT_LIMIT, _MOST_LIMIT = 20, 100
_DIGITS = 9  # of a turn's number, as in the store's keys


def create(request: Request, _: Remaining) -> Answer:
    """A new session of the caller."""
    owner, now = request.owner, runtime.now_ms()
    request.query()
    body = request.body(NewSessionBody)
    session = body.session(owner, now)
    runtime.session_store().create(session, body.title)
    shape = session_shape(Log(session, body.title, 0, ()), now)
    return Answer(201, shape, {"Location": f"/v1/sessions/{session.id}"}, {"session": _logged(session.id)})


def get(request: Request, _: Remaining) -> Answer:
    """What the session is and when it ends; no content."""
    session_id = _session_id(request)
    request.query()
    now = runtime.now_ms()
    log = runtime.session_store().read(request.owner, session_id, now, newest=1)
    return Answer(200, session_shape(log, now), noted={"session": _logged(session_id)})


def delete(request: Request, _: Remaining) -> Answer:
    """Ends the session; 204 says that its content is gone."""
    session_id = _session_id(request)
    request.query()
    if not runtime.session_store().delete(request.owner, session_id, runtime.now_ms()):
        raise SessionNotFound
    return Answer(204, noted={"session": _logged(session_id)})


def take(request: Request, remaining_s: Remaining) -> Answer:
    """The session's next turn, or the stored one when the key has been used for the same body before."""
    session_id = _session_id(request)
    request.query()
    key = request.idempotency_key
    body = request.body(TurnBody)
    asked = TurnRequest(
        owner=request.owner,
        session_id=session_id,
        key=runtime.server_key().keyed_hash("idempotency-key", session_id.encode(), key.encode()),
        fingerprint=runtime.server_key().keyed_hash("fingerprint", to_json(body.message.blocks).encode()),
        message=body.message,
    )
    taken = take_turn(
        asked,
        store=runtime.session_store(),
        model=runtime.chat_model(),
        clock=runtime.now_ms,
        remaining_s=remaining_s,
        policy=runtime.window_policy,
    )
    turn = taken.turn
    noted = {
        "session": _logged(session_id),
        "turn": turn.number,
        "replayed": taken.replayed,
        "model": turn.reply.model,
        "tokens": turn.reply.usage.tokens,
        "cost_usd": turn.cost_usd,
    }
    headers = {"Idempotent-Replayed": "true"} if taken.replayed else {}
    return Answer(200, taken_turn_shape(taken), headers, noted)


def list_turns(request: Request, _: Remaining) -> Answer:
    """The finished turns, oldest first, a page at a time."""
    session_id = _session_id(request)
    asked = request.query("limit", "cursor")
    limit = _whole_number(asked.get("limit", str(_DEFAULT_LIMIT)), "parameter_invalid")
    after = _whole_number(asked.get("cursor", "0"), "cursor_invalid")
    if not 1 <= limit <= _MOST_LIMIT:
        raise InvalidRequest("parameter_invalid")
    log = runtime.session_store().read(request.owner, session_id, runtime.now_ms(), newest=1)
    last = min(after + limit, log.count)
    turns = runtime.session_store().turns(log.session, after + 1, last) if after < last else []
    body = {"items": [turn_shape(turn) for turn in turns], "next": str(last) if after < last < log.count else None}
    return Answer(200, body, noted={"session": _logged(session_id)})


def get_turn(request: Request, _: Remaining) -> Answer:
    """One finished turn."""
    session_id = _session_id(request)
    request.query()
    text = request.parameter("n")
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS else 0
    log = runtime.session_store().read(request.owner, session_id, runtime.now_ms(), newest=1)
    if not 1 <= number <= log.count:
        raise TurnNotFound
    turns = runtime.session_store().turns(log.session, number, number)
    if not turns:
        raise SessionNotFound  # deleted between the two reads
    return Answer(200, turn_shape(turns[0]), noted={"session": _logged(session_id), "turn": number})


def _session_id(request: Request) -> str:
    """The id in the path, for a verified caller. What has not the form of an id was never one."""
    request.owner  # noqa: B018 (raises when nobody was verified)
    session_id = request.parameter("id")
    if not is_session_id(session_id):
        raise SessionNotFound
    return session_id


def _whole_number(text: str, code: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
        raise InvalidRequest(code)
    return int(text)


def _logged(session_id: str) -> str:
    """A session's name in logs: enough to follow it, not to find it."""
    return runtime.server_key().keyed_hash("log", session_id.encode()).hex()[:10]
