"""A function's routes: each event of the gateway goes to one of them, and its answer back.

API Gateway has matched method and path already, every route being written out in the template; so a route is looked up
by the gateway's own name for it, and no second matcher can disagree.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from turnlog import runtime
from turnlog.entrypoints.http.answers import (
    NOT_FOUND,
    Response,
    body_of,
    headers_of,
    note_request,
    problem_response,
    refused,
)
from turnlog.entrypoints.http.request import Request
from turnlog.usecases.audit import Audit, session_hash

COLD_START_S = 4.0
"""The most that an environment's start should take: of the gateway's time, since the function's begins after it.

The import of Anthropic's SDK is most of it, 1.4 s of CPU with byte code and 3 s without; the rest is for Python and the
layers. Lambda does not tell a function whether a start was waited for, so each first request keeps this back.
"""


@dataclass(frozen=True, slots=True)
class Invocation:
    """One run of a function: its notes for the audit trail, and its two deadlines.

    `remaining_s` returns the seconds until the function is stopped, and `answer_s` those until the gateway gives up. A
    function may outlast the gateway, to finish what nobody waits for any more; after a cold start all do.
    """

    audit: Audit
    remaining_s: Callable[[], float]
    answer_s: Callable[[], float]


Route = Callable[[Request, Invocation], Response]


class Api:
    """The routes of one function; itself the Lambda handler.

    Routes are named by method and path as the template writes them, such as `("GET", "/sessions/{id}")`, and are given
    the request and what they need to know of this invocation.
    """

    def __init__(self, routes: Mapping[tuple[str, str], Route]) -> None:
        self._routes = routes
        self.is_warm = False
        """True once this environment had a request; the first one may have waited for its start."""

    @property
    def routes(self) -> frozenset[tuple[str, str]]:
        """The names of the routes."""
        return frozenset(self._routes)

    def __call__(self, event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        began = time.monotonic()
        began_ms = runtime.now_ms()
        start_s = 0.0 if self.is_warm else COLD_START_S
        self.is_warm = True
        request = Request(event, began_ms)
        invocation = Invocation(
            audit_of(request),
            remaining_s=lambda: context.get_remaining_time_in_millis() / 1000,
            answer_s=lambda: runtime.gateway_s() - start_s - (runtime.now_ms() - began_ms) / 1000,
        )
        answer = self._answer(request, invocation)
        note_request(request, answer, began)
        return {"statusCode": answer.status, "headers": headers_of(answer), "body": body_of(answer)}

    def _answer(self, request: Request, invocation: Invocation) -> Response:
        try:
            route = self._routes.get(request.route)
            if route is None:
                return problem_response(NOT_FOUND, request)
            with invocation.audit.refusals(request.path_parameters.get("id", "")):
                return route(request, invocation)
        except Exception as error:  # noqa: BLE001 (the last resort: any other error becomes a problem without its text)
            return problem_response(refused(error, request), request)


def audit_of(request: Request) -> Audit:
    """The notes of one request for the audit trail."""
    route = " ".join(request.route)
    return Audit(runtime.audit_trail, runtime.server_key, request.id, route, request.recorded_caller)


def session_field(session_id: str) -> dict[str, str]:
    """The field of the request's log line that names a session."""
    return {"session": session_hash(runtime.server_key(), session_id)}


def location(session_id: str) -> dict[str, str]:
    """The header that says where a new session is."""
    return {"Location": f"/v1/sessions/{session_id}"}
