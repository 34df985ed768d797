"""A function's routes, and the one way in which every answer leaves: JSON or a problem, with the same headers.

API Gateway has matched method and path already, every route being written out in the template; so a route is looked up
by the gateway's own name for it, and no second matcher can disagree.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from turnlog import runtime
from turnlog.adapters import telemetry
from turnlog.entrypoints.http.problem_body import problem_body
from turnlog.entrypoints.http.problems import INTERNAL, ROUTE_NOT_FOUND, Problem, problem_of
from turnlog.entrypoints.http.replies import ResponseBody
from turnlog.entrypoints.http.request import Request
from turnlog.errors import ModelError, TurnlogError
from turnlog.usecases.audit import Audit, session_hash

_HEADERS = {
    "Cache-Control": "no-store",
    "Strict-Transport-Security": "max-age=63072000; includeSubDomains",
    "X-Content-Type-Options": "nosniff",
}
COLD_START_S = 4.0
"""The most that an environment's start should take: of the gateway's time, since the function's begins after it.

The import of Anthropic's SDK is most of it, 1.4 s of CPU with byte code and 3 s without; the rest is for Python and the
layers. Lambda does not tell a function whether a start was waited for, so each first request keeps this back.
"""

_EXPOSED = "Idempotent-Replayed, Location, Preference-Applied, Retry-After"


@dataclass(frozen=True, slots=True)
class Response:
    """A status, a body (None for 204), headers beside the usual ones, and what the request's log line notes."""

    status: int
    body: ResponseBody | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    noted: Mapping[str, Any] = field(default_factory=dict)


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
        audit = Audit(
            runtime.audit_trail, runtime.server_key, request.id, " ".join(request.route), request.recorded_caller
        )
        invocation = Invocation(
            audit,
            remaining_s=lambda: context.get_remaining_time_in_millis() / 1000,
            answer_s=lambda: runtime.gateway_s() - start_s - (runtime.now_ms() - began_ms) / 1000,
        )
        answer = self._answer(request, invocation)
        telemetry.note(
            "request",
            request_id=request.id,
            route=" ".join(request.route),
            status=answer.status,
            ms=round((time.monotonic() - began) * 1000),
            **answer.noted,
        )
        return {
            "statusCode": answer.status,
            "headers": {**_HEADERS, **_for_pages(), **answer.headers},
            "body": "" if answer.body is None else answer.body.to_json(),
        }

    def _answer(self, request: Request, invocation: Invocation) -> Response:
        try:
            route = self._routes.get(request.route)
            if route is None:
                return _problem(ROUTE_NOT_FOUND, request)
            with invocation.audit.refusals(request.path_parameters.get("id", "")):
                answer = route(request, invocation)
        except TurnlogError as error:
            caller, is_admin = request.recorded_caller, request.route[1].startswith("/admin/")
            is_anonymous = caller.is_anonymous or not caller.owner
            problem = problem_of(error, is_anonymous=is_anonymous, is_admin=is_admin)
            provider_request_id = error.provider_request_id if isinstance(error, ModelError) else ""
            return _problem(problem, request, error.retry_after_s, provider_request_id=provider_request_id)
        except Exception as error:  # noqa: BLE001 (the last resort: any other error becomes a problem without its text)
            return _problem(INTERNAL, request, where=runtime.source_line(error))
        if answer.body is None:
            return answer
        content_type = {"Content-Type": "application/json; charset=utf-8"}
        return Response(answer.status, answer.body, {**content_type, **answer.headers}, answer.noted)


def session_field(session_id: str) -> dict[str, str]:
    """The field of the request's log line that names a session."""
    return {"session": session_hash(runtime.server_key(), session_id)}


def location(session_id: str) -> dict[str, str]:
    """The header that says where a new session is."""
    return {"Location": f"/v1/sessions/{session_id}"}


def _for_pages() -> Mapping[str, str]:
    """The headers that let a browser show the answer to a page of the one origin that may call the API."""
    origin = runtime.cors_origin()
    if origin is None:
        return {}
    return {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": _EXPOSED}


def _problem(problem: Problem, request: Request, retry_after_s: int | None = None, **noted: str) -> Response:
    headers = {"Content-Type": "application/problem+json; charset=utf-8"}
    if retry_after_s is not None:
        headers["Retry-After"] = str(retry_after_s)
    body = problem_body(problem, request.id, retry_after_s, has_key=request.has_key)
    return Response(problem.status, body, headers, {"code": problem.code, **noted})
