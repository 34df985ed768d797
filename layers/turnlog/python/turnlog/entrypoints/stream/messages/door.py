"""The door of the Messages API: its routes, and errors in the form that Anthropic's clients read."""

from __future__ import annotations

from turnlog.domain.reply_events import ReplyEvent
from turnlog.entrypoints.http.answers import Refused, Response
from turnlog.entrypoints.http.request import Request
from turnlog.entrypoints.stream.doors import Door
from turnlog.entrypoints.stream.messages.envelope import ErrorAnswer, error_event, problem_answer
from turnlog.entrypoints.stream.messages.gateway import count_tokens, pass_on_message


def _answer_of(ended: Refused, request: Request) -> ErrorAnswer:
    return problem_answer(ended.problem, request.id, ended.retry_after_s, has_key=request.has_key)


def _response(ended: Refused, request: Request) -> Response:
    answer = _answer_of(ended, request)
    return Response(answer.status, answer.body, answer.headers, {"code": ended.problem.code, **ended.noted})


def _event(ended: Refused, request: Request) -> ReplyEvent:
    return error_event(_answer_of(ended, request))


MESSAGES = Door(
    {
        ("POST", "/messages"): pass_on_message,
        ("POST", "/messages/count_tokens"): count_tokens,
    },
    bases=("", "/v1", "/v1/v1"),  # whoever names the stage in a client's base URL has it twice
    answer=_response,
    event=_event,
)
"""Anthropic's clients append /v1/messages to the base URL that they are given."""
