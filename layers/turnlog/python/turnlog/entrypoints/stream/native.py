"""The streams of our own API: what the buffered routes answer, as server-sent events in the Messages API's form."""

from __future__ import annotations

from turnlog.domain.turn_stream import Emit, TurnStream
from turnlog.entrypoints.http.answers import Response
from turnlog.entrypoints.http.api import Invocation
from turnlog.entrypoints.http.request import Request
from turnlog.entrypoints.http.single_turn import Read, read_question, read_task
from turnlog.entrypoints.stream.doors import Door
from turnlog.entrypoints.stream.events import done_event
from turnlog.entrypoints.stream.streamed import Route, Streamed
from turnlog.usecases.document_tasks import ANALYZE, SUMMARIZE


def _single(read: Read) -> Route:
    def route(request: Request, invocation: Invocation) -> Streamed:
        answer = read(request, invocation)

        def run(emit: Emit) -> Response:
            given = answer(TurnStream(emit))
            emit(done_event(given))
            return given

        return Streamed(run)

    return route


NATIVE = Door(
    {
        ("POST", "/query/stream"): _single(read_question()),
        ("POST", "/analyze/stream"): _single(read_task(ANALYZE)),
        ("POST", "/summarize/stream"): _single(read_task(SUMMARIZE)),
    }
)
"""The door of our own API."""
