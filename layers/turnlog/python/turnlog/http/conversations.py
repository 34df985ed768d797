"""The routes of a session: parse, one use case, one answer."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from turnlog import runtime
from turnlog.errors import InvalidRequest, KeyReused, SessionNotFound, TurnNotFound, TurnsMissing
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
from turnlog.sessions import Log, Turn, is_session_id, named_session_id, new_session_id
from turnlog.turns import TurnRequest, take_turn

_DEFAULT_LIMIT, _MOST_LIMIT = 20, 100
_PAGE_CHARACTERS = 1_500_000  # of turns: Lambda's answer may have 6 MB (quota), of UTF-8 in JSON in JSON
_DIGITS = 9  # of a turn's number, as in the store's keys


def create(request: Request, _: Remaining) -> Answer:
    """A new session of the caller; the one that is there when it was created under the same key before."""
    owner, now, hashed = request.owner, runtime.now_ms(), runtime.server_key().keyed_hash
    request.query()
    key = request.optional_idempotency_key
    body = request.body(NewSessionBody)
    session_id = new_session_id() if key is None else named_session_id(hashed("session", owner.encode(), key.encode()))
    fingerprint = b"" if key is None else hashed("fingerprint", body.model_dump_json(exclude_unset=True).encode())
    session = runtime.session_store().create(body.session(owner, now, session_id, fingerprint), body.title)
    if session.fingerprint != fingerprint:
        raise KeyReused
    log = Log(session, body.title, 0, ())
    if key is not None:  # it may have been there, and gone on
        log = runtime.session_store().read(owner, session_id, now, newest=1)
    headers = {"Location": f"/v1/sessions/{session.id}"}
    return Answer(201, session_shape(log, now), headers, {"session": _logged(session.id)})


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
    noted = {"session": _logged(session_id)}  # first, since a secret that cannot be read must stop it before it begins
    if not runtime.session_store().delete(request.owner, session_id, runtime.now_ms()):
        raise SessionNotFound
    return Answer(204, noted=noted)


def take(request: Request, remaining_s: Remaining) -> Answer:
    """The session's next turn, or the stored one when the key has been used for the same body before."""
    session_id = _session_id(request)
    request.query()
    key = request.idempotency_key
    body = request.body(TurnBody)
    asked = TurnRequest(
        owner=request.owner,
        session_id=session_id,
        # Without the session's id, which a move changes while a turn's key goes on to name it.
        key=runtime.server_key().keyed_hash("idempotency-key", key.encode()),
        fingerprint=runtime.server_key().keyed_hash("fingerprint", *_canonical(body)),
        message=body.message,
        number=body.turn,
    )
    taken = take_turn(
        asked,
        store=runtime.session_store(),
        model=runtime.chat_model(),
        clock=runtime.now_ms,
        remaining_s=remaining_s,
        policy=runtime.turn_policy(),
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


def _canonical(body: TurnBody) -> list[bytes]:
    """All that the request says, each thing in one form; what it leaves out is not there."""
    return [to_json(body.message.blocks).encode()] + ([b"%d" % body.turn] if body.turn else [])


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
    _expect_all(turns, request.owner, session_id, after, last)
    items = [turn_shape(turn) for turn in turns[: _that_fit(turns)]]
    last = after + len(items)
    body = {"items": items, "next": str(last) if items and last < log.count else None}
    return Answer(200, body, noted={"session": _logged(session_id)})


def _expect_all(turns: Sequence[Turn], owner: str, session_id: str, after: int, last: int) -> None:
    """Raises TurnsMissing unless they are all that the view had; SessionNotFound when it ended between two reads."""
    if len(turns) < last - after:
        runtime.session_store().read(owner, session_id, runtime.now_ms(), newest=1)
        raise TurnsMissing


def _that_fit(turns: Sequence[Turn]) -> int:
    """How many of the turns one answer can hold; the first in any case."""
    sizes = accumulate(len(turn.message.content) + 2 * len(turn.reply.content) for turn in turns)
    return max(1, sum(size <= _PAGE_CHARACTERS for size in sizes))


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
    _expect_all(turns, request.owner, session_id, number - 1, number)
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
