"""The line that `make run` prints for each request: its cost, and none of its content."""

import json
from datetime import datetime

import pytest

from local.request_line import (
    MOST_READ_BYTES,
    Answered,
    Noted,
    event_line,
    problem_code,
    request_line,
    route_of,
    spent,
)

ROUTES = ["/v1/query", "/v1/sessions", "/v1/sessions/{id}", "/v1/sessions/{id}/turns", "/v1/sessions/{id}/turns/{n}"]
AT = datetime(2026, 11, 24, 14, 3, 22)
USAGE = {
    "input_tokens": 1000,
    "cache_creation_input_tokens": 100,
    "cache_read_input_tokens": 90,
    "output_tokens": 13,
    "service_tier": "standard",
}


def line(answered: Answered) -> str:
    return request_line(answered, ROUTES, AT)


def test_a_line_names_time_route_status_milliseconds_tokens_and_dollars() -> None:
    answered = Answered("POST", "/v1/sessions/ses_XaE0LyHVODhHwZjvcZNIdQ/turns", 200, 412, 1203, "0.002106")
    assert line(answered) == "14:03:22  POST /v1/sessions/{id}/turns  200  412 ms  1,203 tokens  $0.002106"


def test_a_line_of_an_answer_without_usage_ends_with_the_milliseconds() -> None:
    assert line(Answered("GET", "/v1/query", 403, 1234)) == "14:03:22  GET /v1/query  403  1,234 ms"


def test_a_line_of_a_problem_ends_with_its_code() -> None:
    answered = Answered("GET", "/v1/query", 409, 12, code="turn_in_progress")
    assert line(answered) == "14:03:22  GET /v1/query  409  12 ms  turn_in_progress"


@pytest.mark.parametrize(
    ("kind", "body", "code"),
    [
        ("application/problem+json; charset=utf-8", b'{"code": "unauthorized"}', "unauthorized"),
        ("application/problem+json", b'{"code": "two words\\u001b[2J"}', None),
        ("application/problem+json", b'{"code": 7}', None),
        ("application/problem+json", b"[]", None),
        ("application/problem+json", b"not json", None),
        ("application/json", b'{"code": "unauthorized"}', None),
        (
            "application/json",
            b'{"type": "error", "error": {"details": {"error_code": "unauthorized"}}}',
            "unauthorized",
        ),
        ("application/json", b'{"type": "error", "error": {"type": "overloaded_error"}}', "overloaded_error"),
        ("application/json", b'{"type": "error", "error": {"details": {"error_code": "\\u001b[2J"}}}', None),
    ],
)
def test_only_an_error_has_a_code_and_only_a_word_is_one(kind: str, body: bytes, code: str | None) -> None:
    assert problem_code(kind, body) == code


def test_what_a_function_logs_of_an_upload_or_a_sweep_is_a_line_too() -> None:
    upload = {"message": "upload summarized", "tokens": 1203, "cost_usd": "0.002106", "request_id": "a"}
    assert event_line(Noted.read(upload, 412), AT) == "14:03:22  upload summarized  412 ms  1,203 tokens  $0.002106"
    sweep = {"message": "sessions swept", "count": 0}
    assert event_line(Noted.read(sweep, 9), AT) == "14:03:22  sessions swept  0  9 ms"
    failed = {"message": "upload failed", "code": "ModelUnavailable", "cost_usd": "\u001b[2J"}
    assert event_line(Noted.read(failed, 9), AT) == "14:03:22  upload failed  9 ms  ModelUnavailable"


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/v1/query", "/v1/query"),
        ("/v1/sessions/ses_secret", "/v1/sessions/{id}"),
        ("/v1/sessions/anything at all", "/v1/sessions/{id}"),
        ("/v1/sessions/ses_secret/turns/12", "/v1/sessions/{id}/turns/{n}"),
        ("/v1/sessions/ses_secret/turns/12/more", "-"),
        ("/v1/my-own-secret", "-"),
        ("/v1/sessions/", "-"),
        ("/v1/queryx", "-"),
        ("/v1/query\n/v1/query", "-"),
    ],
)
def test_a_path_is_shown_as_its_route_without_the_callers_words(path: str, route: str) -> None:
    assert route_of(path, ROUTES) == route


def test_a_route_without_braces_goes_before_one_that_would_take_any_name() -> None:
    assert route_of("/v1/sessions/new", ["/v1/sessions/{id}", "/v1/sessions/new"]) == "/v1/sessions/new"


def test_tokens_are_all_that_the_usage_counts_and_dollars_are_kept_exactly() -> None:
    body = json.dumps({"text": "…", "usage": USAGE, "cost_usd": "0.000000105"}).encode()
    assert spent("application/json; charset=utf-8", body) == (1203, "0.000000105")


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"[]",
        b"not json",
        b"",
        b"[" * 100_000,
        b'{"usage": null, "cost_usd": null}',
        b'{"usage": {"input_tokens": "many"}, "cost_usd": 0.1}',
        b'{"usage": [1], "cost_usd": "\\u001b[2J and other text"}',
        b'{"usage": {"input_tokens": true}, "cost_usd": "1e5"}',
    ],
)
def test_an_answer_that_states_no_usage_costs_nothing_that_is_known(body: bytes) -> None:
    assert spent("application/json", body) == (None, None)


def test_only_json_of_a_bounded_size_is_looked_into() -> None:
    body = json.dumps({"usage": USAGE, "cost_usd": "1"}).encode()
    assert spent("text/event-stream", body) == (None, None)
    assert spent("application/json", body + b" " * MOST_READ_BYTES) == (None, None)
