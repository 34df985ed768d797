"""A whole stateless function in one call: a question in, an answer out, nothing stored."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, cast

from turnlog import runtime
from turnlog.domain import messages
from turnlog.domain.messages import Effort, ModelRequest, ModelSettings
from turnlog.domain.output.replies import require_uncited
from turnlog.domain.turn_stream import TurnStream
from turnlog.entrypoints.http.answers import Response
from turnlog.entrypoints.http.api import Api, Invocation
from turnlog.entrypoints.http.bodies import QueryBody, SingleTurnBody, chosen_model
from turnlog.entrypoints.http.document_replies import document_reply
from turnlog.entrypoints.http.replies import Reply
from turnlog.entrypoints.http.request import Request
from turnlog.usecases.ask import ask
from turnlog.usecases.document_tasks import DocumentTask
from turnlog.usecases.long_documents import ask_about_document

_ANSWER_RESERVE_S = 1.5  # kept back from the model's time for the way back through the gateway


Respond = Callable[[TurnStream | None], Response]
"""Answers a question that was read. A stream, if there is one, shows the reply as it comes."""

Read = Callable[[Request, Invocation], Respond]
"""Reads a request, and refuses what is wrong with it, before anything is asked."""


def single_turn(path: str, does: str | DocumentTask | None = None) -> Api:
    """Returns the handler of `POST path`.

    `does` says what the function does with a message: a system prompt, or a task whose answer has a form of its own.
    Without it the caller brings the system prompt.
    """
    runtime.load_claude()
    if isinstance(does, DocumentTask):
        read = read_task(does)
    else:
        read = read_question(does, QueryBody if does is None else SingleTurnBody)
    return Api({("POST", path): lambda request, invocation: read(request, invocation)(None)})


def read_question(system: str | None = None, kind: type[SingleTurnBody] = QueryBody) -> Read:
    """Returns how a question is read, in the body of this kind. Without a system prompt the caller brings one."""

    def read(request: Request, invocation: Invocation) -> Respond:
        caller = request.user
        request.query()
        asked = request.body(kind)
        own = asked if isinstance(asked, QueryBody) else None
        settings = ModelSettings(
            model=chosen_model(asked.model),
            max_tokens=asked.max_tokens,
            system=own.system if own else system or "",
            stop_sequences=own.stop_sequences if own else (),
            thinking=(own and own.thinking) or "",
            effort=cast(Effort, (own and own.effort) or ""),
            **_tools_of(own),
            output_schema=own.output.form if own and own.output else "",
        )
        if settings.output_schema:
            require_uncited(asked.message)
        question = ModelRequest(settings, (asked.message,))
        continuable = own is not None and own.continuable

        def respond(stream: TurnStream | None) -> Response:
            given = ask(
                caller,
                question,
                model=runtime.chat_model(),
                quotas=runtime.quota_store(),
                limits=runtime.owner_limits(),
                seconds=lambda: invocation.answer_s() - _ANSWER_RESERVE_S,
                clock=runtime.now_ms,
                # First, since a secret that cannot be read must stop it before it is paid.
                continuable_with=runtime.server_key() if continuable else None,
                tools=runtime.tool_runner() if settings.own_tools else None,
                stream=stream,
            )
            continuation = {"continuation": given.continuation} if continuable else {}
            output = {} if given.output is None else {"output": given.output}
            body = Reply.of(given.reply, given.cost_usd, steps=given.steps, **output, **continuation)
            return Response(200, body, noted=_noted(given.reply, given.usage, given.cost_usd))

        return respond

    return read


def read_task(task: DocumentTask, kind: type[SingleTurnBody] = SingleTurnBody) -> Read:
    """Returns how a document for the task is read, in the body of this kind."""

    def read(request: Request, invocation: Invocation) -> Respond:
        caller = request.user
        request.query()
        asked = request.body(kind)

        def respond(stream: TurnStream | None) -> Response:
            given = ask_about_document(
                caller,
                task,
                asked.message,
                ModelSettings(chosen_model(asked.model), asked.max_tokens),
                model=runtime.chat_model(),
                quotas=runtime.quota_store(),
                limits=runtime.owner_limits(),
                seconds=lambda: invocation.answer_s() - _ANSWER_RESERVE_S,
                clock=runtime.now_ms,
                stream=stream,
            )
            body = document_reply(task.answers, given)
            return Response(200, body, noted=_noted(given.reply, given.reply.usage, given.cost_usd))

        return respond

    return read


def _noted(reply: messages.Reply, usage: messages.Usage, cost_usd: Decimal | None) -> dict[str, Any]:
    return {
        "model": reply.model,
        "tokens": usage.tokens,
        "cost_usd": cost_usd,
        "message_id": reply.id,
        "provider_request_id": reply.request_id,
    }


def _tools_of(body: QueryBody | None) -> dict[str, Any]:
    """The settings of a call that say which tools it has."""
    if body is None or not body.tools or not body.tools.definitions:
        return {}
    return {
        "tools": body.tools.definitions,
        "own_tools": body.tools.own,
        "tool_choice": body.tool_choice or "",
    }
