"""Streams tell of errors as the buffered routes do: before anything was shown by the status, and after by an event."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.fakes import HashModel, tell
from tests.handlers.conftest import Backstage, Call
from tests.handlers.every_route import Everybody
from turnlog.domain.messages import ModelRequest, Reply
from turnlog.domain.reply_events import OnEvent, ReplyEvent
from turnlog.entrypoints.http.openapi.operations import OPERATIONS
from turnlog.entrypoints.http.openapi.refusals import errors_of
from turnlog.entrypoints.http.problems import problem_of
from turnlog.entrypoints.http.request import Request
from turnlog.errors import ModelFailed, ModelUnavailable, TurnlogError

Route = tuple[str, str]

STREAMS = [route for route, operation in OPERATIONS.items() if operation.events]


def every_error() -> Iterator[Any]:
    for route in STREAMS:
        for error in errors_of(OPERATIONS[route]):
            yield pytest.param(route, error, id=f"{' '.join(route)} {error.code}")


@pytest.fixture
def everybody(call: Call) -> Everybody:
    return Everybody(call)


@pytest.mark.parametrize(("route", "error"), [*every_error()])
def test_an_error_before_anything_was_shown_is_an_answer_with_its_status(
    everybody: Everybody, monkeypatch: pytest.MonkeyPatch, route: Route, error: TurnlogError
) -> None:
    def refuses(*_: object) -> None:
        raise error

    monkeypatch.setattr(Request, "query", refuses)
    answer = everybody.ask(route)
    problem = problem_of(error)
    assert (answer.status, answer.body["code"]) == (problem.status, problem.code)
    assert answer.headers.get("Retry-After") == (error.retry_after_s and str(error.retry_after_s))


@pytest.mark.parametrize("route", STREAMS, ids=" ".join)
@pytest.mark.parametrize("error", [ModelFailed(), ModelUnavailable(7)], ids=repr)
def test_an_error_of_the_model_before_its_first_word_is_one_too(
    everybody: Everybody, backstage: Backstage, route: Route, error: ModelFailed | ModelUnavailable
) -> None:
    """The first event, which only says what will come, is not sent before there is something to show."""
    backstage.model.fail_with = [error]
    answer = everybody.ask(route, key="another")
    assert (answer.status, answer.body["code"]) == (problem_of(error).status, error.code)


@dataclass
class FailsInTheMiddle(HashModel):
    """A model that shows a reply's beginning and fails then."""

    error: Exception = field(default_factory=ModelFailed)

    def reply(
        self, request: ModelRequest, seconds: float, on_event: OnEvent | None = None, *, retry_s: float | None = None
    ) -> Reply:
        assert on_event
        return tell(self._reply(request, seconds, retry_s), on_event, self._fail)

    def _fail(self, event: ReplyEvent) -> None:
        if event.type == "content_block_start":
            raise self.error


@pytest.mark.parametrize("route", STREAMS, ids=" ".join)
@pytest.mark.parametrize(
    ("error", "code", "kind"),
    [
        (ModelFailed(), "model_failed", "api_error"),
        (ModelUnavailable(7), "model_unavailable", "overloaded_error"),
        (LookupError("canary"), "internal_error", "api_error"),
    ],
    ids=repr,
)
def test_an_error_after_that_is_the_last_event(
    everybody: Everybody,
    backstage: Backstage,
    route: Route,
    error: Exception,
    code: str,
    kind: str,
) -> None:
    backstage.model = FailsInTheMiddle(error=error)
    answer = everybody.ask(route, key="another")
    assert answer.status == 200
    last = answer.body[-1]
    assert [event["type"] for event in answer.body] == ["turnlog.turn", "message_start", "error"]
    assert (last["error"]["type"], last["error"]["details"]) == (kind, {"error_code": code})
    assert (last["problem"]["code"], last["problem"]["instance"]) == (code, f"urn:req:{last['request_id']}")
    assert last["error"]["message"] == last["problem"]["detail"]
    assert "canary" not in answer.raw


@pytest.mark.parametrize("route", STREAMS, ids=" ".join)
def test_a_stream_is_not_kept_and_not_held_back_on_the_way(everybody: Everybody, route: Route) -> None:
    headers = everybody.ask(route, key="another").headers
    assert headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert (headers["Cache-Control"], headers["X-Accel-Buffering"]) == ("no-store", "no")
