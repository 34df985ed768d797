"""OPTIONS on each path: a browser asks it before it lets a page of another origin call the API."""

from __future__ import annotations

import httpx2
import pytest
from anthropic import Anthropic, BadRequestError

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
    of_sdks = {name for name in headers if name.startswith(("Anthropic-", "X-Stainless-"))} | {"User-Agent"}
    assert headers - of_sdks == {"Authorization", "Content-Type", "Idempotency-Key", "Prefer", "Turnlog-Session"}


def test_a_page_may_send_what_the_anthropic_sdk_sends(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK in Python sends what the one of browsers sends, but for one header, and some more."""
    monkeypatch.setattr(runtime, "cors_origin", lambda: ORIGIN)
    sent: set[str] = set()

    def note(request: httpx2.Request) -> httpx2.Response:
        sent.update(request.headers)
        return httpx2.Response(400, json={"type": "error", "error": {"type": "invalid_request_error", "message": ""}})

    http = httpx2.Client(transport=httpx2.MockTransport(note))
    with Anthropic(auth_token="t", base_url="https://api.example", http_client=http) as client:
        for ask in (client.messages.stream, client.beta.messages.stream):
            with pytest.raises(BadRequestError):
                ask(model="m", max_tokens=1, messages=[{"role": "user", "content": "Hello"}]).__enter__()
    answer = call("console", "OPTIONS", "/models", owner=None, headers={"Origin": ORIGIN})
    allowed = {name.lower() for name in answer.headers["Access-Control-Allow-Headers"].split(", ")}
    of_browsers = {"accept", "accept-encoding", "connection", "content-length", "host"}
    of_python = {f"x-stainless-{name}" for name in ("async", "read-timeout", "stream-helper")}
    assert sent - of_browsers - of_python <= allowed
    assert "anthropic-dangerous-direct-browser-access" in allowed


def test_a_path_with_v1_once_more_has_the_same_preflight(call: Call) -> None:
    first, again = (call("console", "OPTIONS", f"{more}/models", owner=None) for more in ("", "/v1"))
    assert first.status == again.status == 204
    assert again.headers == first.headers


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
