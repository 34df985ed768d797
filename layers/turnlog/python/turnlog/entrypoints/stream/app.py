"""The ASGI app: each request becomes an event, runs in a thread of its own, and its answer is sent as it comes.

It holds nothing of its own beyond that. When Lambda's managed runtime for Python can stream by itself, an adapter from
its handler to `Door.routes` takes the place of `asgi_request` and of this module, and the server goes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from starlette.applications import Starlette
from starlette.requests import Request as AsgiRequest
from starlette.responses import Response as EmptyResponse
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from turnlog import runtime
from turnlog.entrypoints.http.answers import NOT_FOUND, Refused, Response, body_of, note_request, refused
from turnlog.entrypoints.http.api import Invocation, audit_of
from turnlog.entrypoints.http.request import Request
from turnlog.entrypoints.stream import asgi_request
from turnlog.entrypoints.stream.doors import Door
from turnlog.entrypoints.stream.outbox import Outbox
from turnlog.entrypoints.stream.sending import Sending, start_of
from turnlog.entrypoints.stream.work import Work

_NO_TOKEN = {"WWW-Authenticate": "Bearer, Session"}


def make_app(*doors: Door) -> Starlette:
    """Returns the app behind which these doors are; the first one tells of paths that are none's.

    Its `state.routes` are the names of all routes.
    """
    app = Starlette(routes=[Mount("/", app=_Doors(doors))])
    app.state.routes = frozenset(route for door in doors for route in door.routes)
    return app


def begin(work: Callable[[], object]) -> None:
    """Begins the work in a thread of its own, which a process that is told to end waits for."""
    threading.Thread(target=work, name="turn", daemon=False).start()


class _Doors:
    """The one place where every request arrives."""

    def __init__(self, doors: Sequence[Door]) -> None:
        self._doors = doors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began_s, began_ms = time.monotonic(), runtime.now_ms()
        asked = AsgiRequest(scope, receive)
        if not asgi_request.is_request(asked):
            await EmptyResponse(status_code=204)(scope, receive, send)
            return
        door, resource, parameters = self._find(asked)
        event = asgi_request.event_of(asked, resource, parameters)
        request = Request(event, began_ms)  # which reads the event when it is asked: what comes late is put in below
        try:
            if (asked.method, resource) not in door.routes:
                await _send_whole(door.answer(NOT_FOUND, request), request, began_s, send)
                return
            event["requestContext"]["authorizer"] = await asgi_request.find_caller(asked, event)
            event["body"] = await asgi_request.read_body(asked)
        except Exception as error:  # noqa: BLE001 (as everywhere, any other error becomes a problem without its text)
            await _send_whole(_refusal(door, refused(error, request), request), request, began_s, send)
            return
        left_s = asgi_request.remaining_s(asked, began_ms)
        outbox = Outbox()
        work = Work(door, request, Invocation(audit_of(request), left_s, left_s), outbox)
        begin(work.run)
        answer = await Sending(work, outbox, receive, send).finish(began_s)
        if answer is not None:
            await _send_whole(answer, request, began_s, send)

    def _find(self, asked: AsgiRequest) -> tuple[Door, str, dict[str, str]]:
        parts = asgi_request.path_of(asked)
        for door in self._doors:
            if found := door.find(asked.method, parts):
                return door, *found
        return next((door for door in self._doors if door.has_path(parts)), self._doors[0]), "", {}


def _refusal(door: Door, refusal: Refused, request: Request) -> Response:
    answer = door.answer(refusal, request)
    more = _NO_TOKEN if answer.status == 401 else {}
    return Response(answer.status, answer.body, {**more, **answer.headers}, answer.noted)


async def _send_whole(answer: Response, request: Request, began_s: float, send: Send) -> None:
    note_request(request, answer, began_s)
    body = body_of(answer).encode()
    await send(start_of(answer, **{"Content-Length": str(len(body))}))
    await send({"type": "http.response.body", "body": body})
