"""Sessions behind the Messages API's door: the door alone, and a model whose replies have names."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from tests.fakes import ScriptedModel
from turnlog.domain.messages import ModelRequest, Reply
from turnlog.domain.reply_events import OnEvent, ReplyEvent, events_of
from turnlog.entrypoints.http.answers import Refused, Response
from turnlog.entrypoints.http.request import Request
from turnlog.entrypoints.stream.doors import Door
from turnlog.entrypoints.stream.messages.envelope import ErrorAnswer, error_event, problem_answer
from turnlog.entrypoints.stream.messages.session_turns import take_session_turn


@dataclass
class NamedModel(ScriptedModel):
    """Gives each reply an id, and tells its events, as the provider does."""

    ids: list[str] = field(default_factory=list)

    def reply(
        self, request: ModelRequest, seconds: float, on_event: OnEvent | None = None, *, retry_s: float | None = None
    ) -> Reply:
        reply = super().reply(request, seconds, retry_s=retry_s)
        self.ids.append(f"msg_{len(self.ids) + 1}")
        named = replace(reply, id=self.ids[-1])
        if on_event:
            all(map(on_event, events_of(named)))
        return named


def _envelope(ended: Refused, request: Request) -> ErrorAnswer:
    return problem_answer(ended.problem, request.id, ended.retry_after_s, has_key=request.has_key)


def _answer(ended: Refused, request: Request) -> Response:
    answer = _envelope(ended, request)
    return Response(answer.status, answer.body, answer.headers, {"code": ended.problem.code})


def _event(ended: Refused, request: Request) -> ReplyEvent:
    return error_event(_envelope(ended, request))


SESSIONS = Door({("POST", "/messages"): take_session_turn}, ("", "/v1", "/v1/v1"), _answer, _event)
"""The door to sessions, without the gateway beside it."""
