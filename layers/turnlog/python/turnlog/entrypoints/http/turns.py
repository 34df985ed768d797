"""The turns of a session: taken one after the other, read one by one or a page at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from turnlog import runtime
from turnlog.clock import rfc3339
from turnlog.domain.limits import wait_charges
from turnlog.domain.messages import to_json
from turnlog.domain.sessions import SessionView
from turnlog.domain.turns import Turn
from turnlog.entrypoints.http import auditing
from turnlog.entrypoints.http.api import Remaining, Response
from turnlog.entrypoints.http.cursors import opened, sealed
from turnlog.entrypoints.http.naming import logged, session_of
from turnlog.entrypoints.http.pagination import WHOLE, require_all, turns_after
from turnlog.entrypoints.http.request import Request
from turnlog.entrypoints.http.schemas import TurnBody, session_shape, taken_turn_shape, turn_shape
from turnlog.errors import TurnNotFound
from turnlog.usecases.take_turn import TurnPolicy, TurnRequest, retry_while_busy, take_turn

_LEFT_FOR_A_TURN_S = 10  # a wait ends before: a claim without time to ask the model would only be in the way
_DIGITS = 9  # of a turn's number, as in the store's keys


def take(request: Request, remaining_s: Remaining) -> Response:
    """The session's next turn, or the stored one when the key has been used for the same body before."""
    session_id = session_of(request)
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
    taken = retry_while_busy(
        lambda: take_turn(
            asked,
            store=runtime.session_store(),
            model=runtime.chat_model(),
            clock=runtime.now_ms,
            remaining_s=remaining_s,
            policy=_policy(request),
        ),
        wait_s=request.wait_s or 0,
        left_s=lambda: remaining_s() - _LEFT_FOR_A_TURN_S,
        sleep=runtime.sleep,
        before_waiting=lambda: _charge_wait(request),
    )
    turn = taken.turn
    noted = {
        "session": logged(session_id),
        "turn": turn.number,
        "replayed": taken.replayed,
        "model": turn.reply.model,
        "tokens": turn.reply.usage.tokens,
        "cost_usd": turn.cost_usd,
    }
    headers = {"Idempotent-Replayed": "true"} if taken.replayed else {}
    if request.wait_s is not None:
        headers["Preference-Applied"] = f"wait={request.wait_s}"
    return Response(200, taken_turn_shape(taken), headers, noted)


def _charge_wait(request: Request) -> None:
    now = runtime.now_ms()
    if quota := wait_charges(request.owner, _policy(request).owner, now):
        runtime.quota_store().charge(quota, now)


def _policy(request: Request) -> TurnPolicy:
    """What holds for the caller's turns: an anonymous session takes fewer, and all of them together no more than so
    many, or they would keep out people who are signed in.
    """
    policy, anonymous = runtime.turn_policy(), runtime.anonymous_settings()
    if not request.is_anonymous:
        return policy
    turns = min(filter(None, [anonymous.anonymous_turns, policy.session.turns]), default=None)
    owner = replace(policy.owner, anonymous_turns_a_minute=anonymous.anonymous_turns_a_minute)
    return replace(policy, session=replace(policy.session, turns=turns), owner=owner)


def list_turns(request: Request, _: Remaining) -> Response:
    """The finished turns, oldest first, a page at a time."""
    session_id = session_of(request)
    asked = request.query("limit", "cursor")
    bound = "turns", request.owner, session_id
    limit, after = request.limit(asked), turn_before(asked, *bound)
    return page_of(request.owner, session_id, after, limit, *bound)


def page_of(owner: str, session_id: str, after: int, limit: int, *bound: str) -> Response:
    """The page, for whoever may see the session; its cursor is good for the same `bound`, as in `sealed`."""
    view = runtime.session_store().read(owner, session_id, runtime.now_ms(), newest=1)
    turns, cursor = _page(view, after, limit, *bound)
    body = {"items": [turn_shape(turn) for turn in turns], "next": cursor}
    return Response(200, body, noted={"session": logged(session_id)})


def get_turn(request: Request, _: Remaining) -> Response:
    """One finished turn."""
    session_id = session_of(request)
    request.query()
    text = request.parameter("n")
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS else 0
    view = runtime.session_store().read(request.owner, session_id, runtime.now_ms(), newest=1)
    if not 1 <= number <= view.count:
        raise TurnNotFound
    turns = runtime.session_store().turns(view.session, number, number)
    require_all(turns, view, number - 1, number)
    return Response(200, turn_shape(turns[0]), noted={"session": logged(session_id), "turn": number})


def export(request: Request, _: Remaining) -> Response:
    """All that is kept of the session: what it is and every finished turn, in as many parts as it takes."""
    session_id = session_of(request)
    bound = "session-export", request.owner, session_id
    after, now = turn_before(request.query("cursor"), *bound), runtime.now_ms()
    auditing.note(request, "export", session_id)
    view = runtime.session_store().read(request.owner, session_id, now, newest=1)
    turns, cursor = _page(view, after, WHOLE, *bound)
    body = {
        "format": "turnlog-session-1",
        "exported_at": rfc3339(now),
        "session": session_shape(view, now),
        "turns": [turn_shape(turn) for turn in turns],
        "next": cursor,
    }
    return Response(200, body, noted={"session": logged(session_id), "count": len(turns)})


def _canonical(body: TurnBody) -> list[bytes]:
    """All that the request says, each thing in one form; what it leaves out is not there."""
    return [to_json(body.message.blocks).encode()] + ([b"%d" % body.turn] if body.turn else [])


def turn_before(asked: dict[str, str], *bound: str) -> int:
    """The last turn of the page before the one that is asked for; 0 for the first page."""
    return int(opened(asked["cursor"], *bound)) if "cursor" in asked else 0


def _page(view: SessionView, after: int, limit: int, *bound: str) -> tuple[Sequence[Turn], str | None]:
    """At most `limit` turns after that one, as many as one answer holds, and the cursor of the next page."""
    turns = turns_after(view, after, limit)
    more = turns and turns[-1].number < view.count
    return turns, sealed(str(turns[-1].number), *bound) if more else None
