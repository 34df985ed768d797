"""Work: a route on its way in a thread of its own, to its end, whoever reads."""

from __future__ import annotations

from turnlog.domain.reply_events import ReplyEvent
from turnlog.entrypoints.http.answers import Response, body_of, refused
from turnlog.entrypoints.http.api import Invocation
from turnlog.entrypoints.http.request import Request
from turnlog.entrypoints.stream.doors import Door
from turnlog.entrypoints.stream.outbox import Outbox
from turnlog.entrypoints.stream.streamed import KeptAlive, Streamed


class Work:
    """One request, from its route to its answer. What it has come to is to be read once the outbox has ended."""

    def __init__(self, door: Door, request: Request, invocation: Invocation, outbox: Outbox) -> None:
        self.request = request
        self._door = door
        self._invocation = invocation
        self._outbox = outbox
        self.form: Streamed | KeptAlive | None = None
        """The form in which the answer comes while it is made, as soon as the route has said so."""
        self.answer: Response | None = None
        """The whole answer, or what a stream notes in the log; None for a stream that notes nothing."""
        self.error: ReplyEvent | None = None
        """The event that tells a reader of the stream how it failed."""

    def run(self) -> None:
        """Runs the route, and what it answers with, and ends the outbox."""
        try:
            with self._invocation.audit.refusals(self.request.path_parameters.get("id", "")):
                self.answer = self._run()
            if self.answer and self.answer.status >= 400:  # a refusal as it came; a stream may have begun meanwhile
                self.error = ReplyEvent("error", body_of(self.answer))
        except Exception as error:  # noqa: BLE001 (as everywhere, any other error becomes a problem without its text)
            refusal = refused(error, self.request)
            self.answer = self._door.answer(refusal, self.request)
            self.error = self._door.event(refusal, self.request)
        finally:
            self._outbox.end()

    def _run(self) -> Response | None:
        answer = self._door.routes[self.request.route](self.request, self._invocation)
        if isinstance(answer, Response):
            return answer
        self.form = answer
        self._outbox.wake()
        return answer.run(self._outbox.put) if isinstance(answer, Streamed) else answer.run()
