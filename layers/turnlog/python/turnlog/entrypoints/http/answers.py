"""The one way in which every answer leaves: JSON or a problem, with the same headers and one line in the log."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from turnlog import runtime
from turnlog.adapters import telemetry
from turnlog.entrypoints.http.problem_body import Problem as ProblemBody
from turnlog.entrypoints.http.problem_body import problem_body
from turnlog.entrypoints.http.problems import INTERNAL, ROUTE_NOT_FOUND, Problem, problem_of
from turnlog.entrypoints.http.request import Request
from turnlog.errors import ModelError, TurnlogError

_HEADERS = {
    "Cache-Control": "no-store",
    "Strict-Transport-Security": "max-age=63072000; includeSubDomains",
    "X-Content-Type-Options": "nosniff",
}
_EXPOSED = ", ".join(
    [
        *("Idempotent-Replayed", "Location", "Preference-Applied", "Request-Id", "Retry-After"),
        *("Turnlog-Expires", "Turnlog-Session", "Turnlog-Turn", "X-Should-Retry"),
    ]
)


class Body(Protocol):
    """The body of an answer."""

    def to_json(self) -> str:
        """Returns it as it is sent."""

    def fields_but(self, *names: str) -> dict[str, Any]:
        """Returns its fields, but for these."""


@dataclass(frozen=True, slots=True)
class Response:
    """A status, a body (None for 204), headers beside the usual ones, and what the request's log line notes."""

    status: int
    body: Body | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    noted: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refused:
    """The end of a request without an answer: its problem, the wait that may help, and what the log line notes."""

    problem: Problem
    retry_after_s: int | None = None
    noted: Mapping[str, Any] = field(default_factory=dict)


NOT_FOUND = Refused(ROUTE_NOT_FOUND)


def refused(error: Exception, request: Request) -> Refused:
    """Returns what becomes of the error, in the words that are right for who asked; an unknown one is internal."""
    if not isinstance(error, TurnlogError):
        return Refused(INTERNAL, noted={"where": runtime.source_line(error)})
    caller, is_admin = request.recorded_caller, request.route[1].startswith("/admin/")
    problem = problem_of(error, is_anonymous=caller.is_anonymous or not caller.owner, is_admin=is_admin)
    noted = {"provider_request_id": error.provider_request_id} if isinstance(error, ModelError) else {}
    return Refused(problem, error.retry_after_s, noted)


def problem_response(refusal: Refused, request: Request) -> Response:
    """Returns the problem as an answer."""
    headers = {"Content-Type": "application/problem+json; charset=utf-8"}
    if refusal.retry_after_s is not None:
        headers["Retry-After"] = str(refusal.retry_after_s)
    noted = {"code": refusal.problem.code, **refusal.noted}
    return Response(refusal.problem.status, problem_in(refusal, request), headers, noted)


def problem_in(refusal: Refused, request: Request) -> ProblemBody:
    """Returns the problem as it stands in an answer or an event."""
    return problem_body(refusal.problem, request.id, refusal.retry_after_s, has_key=request.has_key)


def headers_of(answer: Response) -> dict[str, str]:
    """Returns all headers of the answer: its own, the usual ones, and those that let a browser show it to a page of
    the one origin that may call the API.
    """
    content_type = {} if answer.body is None else {"Content-Type": "application/json; charset=utf-8"}
    origin = runtime.cors_origin()
    for_pages = (
        {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": _EXPOSED} if origin is not None else {}
    )
    return {**_HEADERS, **for_pages, **content_type, **answer.headers}


def body_of(answer: Response) -> str:
    """Returns the body as it is sent; empty without one."""
    return "" if answer.body is None else answer.body.to_json()


def note_request(request: Request, answer: Response, began_s: float, **measured: Any) -> None:
    """Writes the request's line in the log. `began_s` is when it began, by the clock that never goes back."""
    telemetry.note(
        "request",
        request_id=request.id,
        route=" ".join(request.route),
        status=answer.status,
        ms=round((time.monotonic() - began_s) * 1000),
        **measured,
        **answer.noted,
    )
