"""The streams of our own API: what the buffered routes answer, as server-sent events in the Messages API's form."""

from __future__ import annotations

from turnlog.domain.reply_events import ReplyEvent
from turnlog.domain.turn_stream import Emit, TurnStream, own_event
from turnlog.entrypoints.http import turns
from turnlog.entrypoints.http.answers import Response
from turnlog.entrypoints.http.api import Invocation
from turnlog.entrypoints.http.bodies import StreamedDocumentBody, StreamedQueryBody
from turnlog.entrypoints.http.replies import SHOWN
from turnlog.entrypoints.http.request import Request
from turnlog.entrypoints.http.single_turn import Read, read_question, read_task
from turnlog.entrypoints.stream.doors import Door
from turnlog.entrypoints.stream.streamed import QUIET_S, Route, Streamed
from turnlog.usecases.document_tasks import ANALYZE, SUMMARIZE


def done_event(given: Response) -> ReplyEvent:
    """Returns the last event: what the whole answer says, but for what was shown, and whether it was stored before."""
    replayed = {"replayed": given.noted["replayed"]} if "replayed" in given.noted else {}
    fields = given.body.fields_but(*SHOWN) if given.body else {}
    return own_event("done", **fields, **replayed)


def take(request: Request, invocation: Invocation) -> Streamed:
    """The session's next turn as it comes, or the stored one, whose key has been used for the same body before."""
    respond = turns.read_turn(request, invocation)
    facts = {"idempotency_key": request.idempotency_key}

    def run(emit: Emit) -> Response:
        given = respond(TurnStream(emit, facts=facts))
        emit(done_event(given))
        return given

    # A busy session is waited for before the stream begins, so that it can still be told by the status.
    return Streamed(run, turns.preference_applied(request), QUIET_S + (request.wait_s or 0))


def _single(read: Read) -> Route:
    def route(request: Request, invocation: Invocation) -> Streamed:
        respond = read(request, invocation)

        def run(emit: Emit) -> Response:
            given = respond(TurnStream(emit))
            emit(done_event(given))
            return given

        return Streamed(run)

    return route


NATIVE = Door(
    {
        ("POST", "/query/stream"): _single(read_question(kind=StreamedQueryBody)),
        ("POST", "/analyze/stream"): _single(read_task(ANALYZE, StreamedDocumentBody)),
        ("POST", "/summarize/stream"): _single(read_task(SUMMARIZE, StreamedDocumentBody)),
        ("POST", "/sessions/{id}/turns/stream"): take,
    }
)
"""The door of our own API."""
