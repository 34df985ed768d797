"""The door of the Messages API: its routes, and errors in the form that Anthropic's clients read."""

from __future__ import annotations

from turnlog.domain.reply_events import ReplyEvent
from turnlog.entrypoints.http.answers import Refused, Response
from turnlog.entrypoints.http.api import Invocation
from turnlog.entrypoints.http.request import SESSION_HEADER, Request
from turnlog.entrypoints.stream.doors import Door
from turnlog.entrypoints.stream.messages.envelope import ErrorAnswer, error_event, problem_answer
from turnlog.entrypoints.stream.messages.pass_on import count_tokens, pass_on_message
from turnlog.entrypoints.stream.messages.session_turns import take_session_turn
from turnlog.entrypoints.stream.streamed import KeptAlive, Streamed


def _answer_of(refusal: Refused, request: Request) -> ErrorAnswer:
    return problem_answer(refusal.problem, request.id, refusal.retry_after_s, has_key=request.has_key)


def _response(refusal: Refused, request: Request) -> Response:
    answer = _answer_of(refusal, request)
    return Response(answer.status, answer.body, answer.headers, {"code": refusal.problem.code, **refusal.noted})


def _event(refusal: Refused, request: Request) -> ReplyEvent:
    return error_event(_answer_of(refusal, request))


def _message(request: Request, invocation: Invocation) -> Streamed | KeptAlive:
    """One message: the next one of a session if the request names one, and else Claude's answer to it as it is."""
    in_session = SESSION_HEADER in request.header_names
    return take_session_turn(request, invocation) if in_session else pass_on_message(request, invocation)


MESSAGES = Door(
    {
        ("POST", "/messages"): _message,
        ("POST", "/messages/count_tokens"): count_tokens,
    },
    bases=("", "/v1", "/v1/v1"),  # whoever names the stage in a client's base URL has it twice
    answer=_response,
    event=_event,
)
"""Anthropic's clients append /v1/messages to the base URL that they are given."""
