"""Doors: routes that speak one language, and the way in which errors are told in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from turnlog.domain.messages import to_json
from turnlog.domain.reply_events import ReplyEvent
from turnlog.entrypoints.http.answers import Refused, Response, problem_in, problem_response
from turnlog.entrypoints.http.request import Request
from turnlog.entrypoints.stream.messages.envelope import error_type
from turnlog.entrypoints.stream.streamed import Route


def error_event(refusal: Refused, request: Request) -> ReplyEvent:
    """Returns the event that tells of an error after the first byte: in the Messages API's form, with the problem."""
    problem = refusal.problem
    error = {
        "type": error_type(problem.code, problem.status),
        "message": problem.detail,
        "details": {"error_code": problem.code},
    }
    told = to_json({"type": "error", "error": error, "request_id": request.id})
    return ReplyEvent("error", f'{told[:-1]},"problem":{problem_in(refusal, request).to_json()}}}')


@dataclass(frozen=True)
class Door:
    """Routes by method and path, as the template names them, which answer under each of the `bases`."""

    routes: Mapping[tuple[str, str], Route]
    bases: tuple[str, ...] = ("", "/v1")
    answer: Callable[[Refused, Request], Response] = problem_response
    event: Callable[[Refused, Request], ReplyEvent] = error_event

    def find(self, method: str, parts: Sequence[str]) -> tuple[str, dict[str, str]] | None:
        """Returns the template of the path and the parts that it names; None if no route has this method and path."""
        for own_method, resource in self.routes:
            found = self._match(resource, parts) if own_method == method else None
            if found is not None:
                return resource, found
        return None

    def has_path(self, parts: Sequence[str]) -> bool:
        """True if a route has this path, whatever its method."""
        return any(self._match(resource, parts) is not None for _, resource in self.routes)

    def _match(self, resource: str, parts: Sequence[str]) -> dict[str, str] | None:
        for base in self.bases:
            names = f"{base}{resource}".split("/")[1:]
            if len(names) == len(parts) and all(
                name == part or name.startswith("{") for name, part in zip(names, parts, strict=True)
            ):
                return {name[1:-1]: part for name, part in zip(names, parts, strict=True) if name.startswith("{")}
        return None
