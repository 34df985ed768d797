"""OPTIONS on each path: a browser asks it before it lets a page of another origin call the API."""

from __future__ import annotations

import pytest

from tests.handlers.conftest import Call
from tests.handlers.test_authorisation import FUNCTION_OF
from turnlog import runtime

ORIGIN = "https://app.example"
PATHS = sorted({path for _, path in FUNCTION_OF})


@pytest.mark.parametrize("path", PATHS)
def test_a_page_of_the_named_origin_may_use_what_the_path_has(
    call: Call, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(runtime, "cors_origin", lambda: ORIGIN)
    answer = call("console", "OPTIONS", path, owner=None, headers={"Origin": ORIGIN})
    assert (answer.status, answer.raw) == (204, "")
    assert "Content-Type" not in answer.headers
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    methods = set(answer.headers["Access-Control-Allow-Methods"].split(", "))
    assert methods == {method for method, known in FUNCTION_OF if known == path}
    headers = set(answer.headers["Access-Control-Allow-Headers"].split(", "))
    assert headers == {"Authorization", "Content-Type", "Idempotency-Key", "Prefer"}


@pytest.mark.parametrize("origin", ["https://evil.example", "null", ORIGIN])
def test_no_page_is_let_in_while_the_api_is_closed_to_pages(call: Call, origin: str) -> None:
    answer = call("console", "OPTIONS", "/sessions", owner=None, headers={"Origin": origin})
    assert answer.status == 204
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_page_of_another_origin_is_told_the_one_that_may(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "cors_origin", lambda: ORIGIN)
    answer = call("console", "OPTIONS", "/query", owner=None, headers={"Origin": "https://evil.example"})
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN


def test_a_path_that_the_api_does_not_have_has_no_preflight(call: Call) -> None:
    assert call("console", "OPTIONS", "/no-such-route", owner=None).status == 404
