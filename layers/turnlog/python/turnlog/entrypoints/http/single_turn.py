"""A whole stateless function in one call: a question in, an answer out, nothing stored."""

from __future__ import annotations

from functools import partial

from turnlog import runtime
from turnlog.domain.limits import question_charges
from turnlog.domain.messages import ModelRequest
from turnlog.entrypoints.http.api import Api, Remaining, Response
from turnlog.entrypoints.http.continuations import sealed
from turnlog.entrypoints.http.request import Request
from turnlog.entrypoints.http.schemas import QueryBody, SingleTurnBody, chosen_model, reply_shape
from turnlog.usecases.ask import ask, ask_within

_ANSWER_RESERVE_S = 1.5  # kept back from the model's time for the way back through the gateway


def single_turn(path: str, system: str | None = None) -> Api:
    """The handler of `POST path`. `system` says what the function does with a message; without one, the caller may."""
    runtime.load_claude()
    kind = QueryBody if system is None else SingleTurnBody

    def answer(request: Request, remaining_s: Remaining) -> Response:
        owner = request.user
        request.query()
        asked = request.body(kind)
        own = asked if isinstance(asked, QueryBody) else None
        question = ModelRequest(
            model=chosen_model(asked.model),
            messages=(asked.message,),
            max_tokens=asked.max_tokens,
            system=own.system if own else system or "",
            stop_sequences=own.stop_sequences if own else (),
        )
        quota = question_charges(owner, question, runtime.turn_policy().owner, runtime.now_ms())
        put = ask if quota is None else partial(ask_within, quota=quota, quotas=runtime.quota_store())
        if continuable := own is not None and own.continuable:
            runtime.server_key()  # first, since a secret that cannot be read must stop it before it is paid
        seconds = remaining_s() - _ANSWER_RESERVE_S
        reply, cost_usd = put(question, model=runtime.chat_model(), seconds=seconds, clock=runtime.now_ms)
        noted = {"model": reply.model, "tokens": reply.usage.tokens, "cost_usd": cost_usd}
        body = reply_shape(reply, cost_usd)
        if continuable:
            body["continuation"] = sealed(owner, question, reply, cost_usd, runtime.now_ms())
        return Response(200, body, noted=noted)

    return Api({("POST", path): answer})
