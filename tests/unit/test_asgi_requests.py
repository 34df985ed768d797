"""A server's request becomes the event that API Gateway would make of it; who calls is believed behind it alone."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence
from typing import Any

import pytest
from starlette.requests import Request

from tests.fakes import START_MS, KeptLog
from turnlog import runtime
from turnlog.domain.owners import VerifiedToken
from turnlog.entrypoints.stream import asgi_request
from turnlog.errors import BodyStalled, BodyTooLarge, Forbidden, InvalidRequest, Unauthorized

Headers = Sequence[tuple[str, str]]

EVE = {"owner": "https://issuer.example/|eve", "kind": "user", "expires": "4102444800", "roles": "admin"}
CONTEXT = {"requestId": "req-7", "identity": {"sourceIp": "203.0.113.7"}, "authorizer": EVE}
FORGED = [("x-amzn-request-context", json.dumps(CONTEXT)), ("x-amzn-lambda-context", '{"deadline": 1}')]


def request(path: str = "/query/stream", headers: Headers = (), parts: Sequence[Any] = (), query: str = "") -> Request:
    """A request of a peer at 198.51.100.1; `parts` are what the server hands over of it."""
    left = list(parts)

    async def receive() -> Any:
        if left:
            return left.pop(0)
        await asyncio.Event().wait()
        return None

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/decoded/already",
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in headers],
        "client": ("198.51.100.1", 4711),
    }
    return Request(scope, receive)


def body(*parts: bytes) -> list[Any]:
    return [
        {"type": "http.request", "body": part, "more_body": number < len(parts)}
        for number, part in enumerate(parts, start=1)
    ]


def event(asked: Request) -> dict[str, Any]:
    return asgi_request.event_of(asked, "/query/stream", {})


def caller(asked: Request) -> Any:
    return asyncio.run(asgi_request.find_caller(asked, event(asked)))


@pytest.fixture
def _on_lambda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "is_behind_adapter", lambda: True)


on_lambda = pytest.mark.usefixtures("_on_lambda")


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, audit: KeptLog) -> None:
    class Believing:
        def verify(self, token: str) -> VerifiedToken:
            if token != "good":
                raise Unauthorized
            return VerifiedToken("https://issuer.example/|ada", 4_102_444_800, frozenset(["delegate", "other"]))

    monkeypatch.setattr(runtime, "is_behind_adapter", lambda: False)
    monkeypatch.setattr(runtime, "token_verifier", Believing)
    monkeypatch.setattr(runtime, "now_ms", lambda: START_MS)


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("/sessions/ses_1/turns/stream", ["sessions", "ses_1", "turns", "stream"]),
        ("/sessions/a%2Fb/turns", ["sessions", "a/b", "turns"]),
        ("/sessions/%2531/turns", ["sessions", "%31", "turns"]),
        ("/a/%00/%ff/", ["a", "\0", "�", ""]),
    ],
)
def test_each_part_of_a_path_is_decoded_once_and_after_it_was_parted(path: str, parts: list[str]) -> None:
    assert asgi_request.path_of(request(path)) == parts


def test_headers_and_parameters_keep_all_their_values() -> None:
    twice = [("prefer", "a"), ("idempotency-key", "k"), ("prefer", "b")]
    made = event(request(headers=twice, query="a=1&b=%C3%A9+x&a=2&c=&d"))
    assert made["multiValueHeaders"] == {"prefer": ["a", "b"], "idempotency-key": ["k"]}
    assert made["multiValueQueryStringParameters"] == {"a": ["1", "2"], "b": ["é x"], "c": [""], "d": [""]}


def test_no_route_sees_the_credential_nor_the_adapters_own_headers() -> None:
    sent = [("authorization", "Bearer good"), *FORGED, ("content-type", "application/json")]
    assert event(request(headers=sent))["multiValueHeaders"] == {"content-type": ["application/json"]}


def test_elsewhere_the_token_says_who_calls_and_the_connection_from_where() -> None:
    asked = request(headers=[("authorization", "Bearer good"), *FORGED, ("x-forwarded-for", "192.0.2.1")])
    assert caller(asked) == {
        "owner": "https://issuer.example/|ada",
        "kind": "user",
        "expires": "4102444800",
        "roles": "delegate",
    }
    context = event(asked)["requestContext"]
    assert context["identity"] == {"sourceIp": "198.51.100.1"}
    assert context["requestId"] not in ("", "req-7")
    assert asgi_request.remaining_s(asked, START_MS)() == 900


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("authorization", "Bearer bad")],
        [("authorization", "good")],
        [("authorization", "Basic good")],
        [("authorization", "Bearer good"), ("authorization", "Bearer good")],
        [("x-api-key", "good")],
    ],
    ids=str,
)
def test_elsewhere_nobody_is_believed_without_a_good_token(headers: list[tuple[str, str]]) -> None:
    with pytest.raises(Unauthorized):
        caller(request(headers=[*headers, *FORGED]))


def test_elsewhere_a_secret_is_for_sessions_alone() -> None:
    headers = [("authorization", f"Session {'s' * 43}")]
    with pytest.raises(Forbidden):
        caller(request(headers=headers))
    asked = request(headers=headers)
    made = asgi_request.event_of(asked, "/sessions/{id}/turns/stream", {"id": "x"})
    named = asyncio.run(asgi_request.find_caller(asked, made))
    assert named and named["kind"] == "anonymous"


@on_lambda
def test_behind_the_adapter_its_context_says_who_calls_and_the_token_nothing() -> None:
    deadline = json.dumps({"deadline": START_MS + 5_000})
    asked = request(headers=[("authorization", "Bearer good"), FORGED[0], ("x-amzn-lambda-context", deadline)])
    assert caller(asked) == EVE
    context = event(asked)["requestContext"]
    assert (context["requestId"], context["identity"]) == ("req-7", {"sourceIp": "203.0.113.7"})
    assert asgi_request.remaining_s(asked, START_MS)() == 5


@on_lambda
def test_a_name_of_any_script_comes_as_it_was_sent() -> None:
    context = json.dumps(CONTEXT | {"authorizer": EVE | {"owner": "x|зоя"}}, ensure_ascii=False)
    named = caller(request(headers=[("x-amzn-request-context", context)]))
    assert named["owner"] == "x|зоя"


@on_lambda
@pytest.mark.parametrize(
    "contexts",
    [
        [],
        ["null"],
        ["{}"],
        ["{"],
        ["[1]"],
        ["[" * 100_000],
        ['{"authorizer": "eve"}'],
        [json.dumps(CONTEXT), json.dumps(CONTEXT)],
    ],
    ids=lambda each: str(each)[:30],
)
def test_behind_the_adapter_nobody_calls_without_one_good_context(contexts: list[str]) -> None:
    headers = [("authorization", "Bearer good"), *(("x-amzn-request-context", each) for each in contexts)]
    assert caller(request(headers=headers)) is None


@on_lambda
@pytest.mark.parametrize(("context", "is_one"), [("null", False), (json.dumps(CONTEXT), True)])
def test_an_invocation_without_a_context_is_no_request(context: str, is_one: bool) -> None:
    assert asgi_request.is_request(request(headers=[("x-amzn-request-context", context)])) == is_one


def test_a_body_comes_in_as_many_parts_as_it_likes() -> None:
    asked = request(parts=body(b'{"mess', b"", b'age":', b'"\xff"}'))
    assert base64.b64decode(asyncio.run(asgi_request.read_body(asked)) or "") == b'{"message":"\xff"}'
    assert asyncio.run(asgi_request.read_body(request(parts=body(b"")))) is None


def test_a_body_that_says_that_it_is_too_large_is_not_read() -> None:
    with pytest.raises(BodyTooLarge):  # and no part of it is there
        asyncio.run(asgi_request.read_body(request(headers=[("content-length", "11")]), 10))


@pytest.mark.parametrize("length", ["", "3", "-1", "²", "9" * 30, "x"])
def test_a_body_that_says_nothing_or_lies_is_read_up_to_the_limit(length: str) -> None:
    headers = [("content-length", length)] if length else []
    parts = [{"type": "http.request", "body": b"12345", "more_body": True}] * 3
    with pytest.raises(BodyTooLarge):
        asyncio.run(asgi_request.read_body(request(headers=headers, parts=parts), 10))


@pytest.mark.parametrize("limit", ["STALL_S", "MOST_BODY_S"])
def test_a_client_that_stops_in_the_middle_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(asgi_request, limit, 0.01)
    parts = [{"type": "http.request", "body": b"1", "more_body": True}]
    with pytest.raises(BodyStalled):
        asyncio.run(asgi_request.read_body(request(parts=parts)))


def test_a_client_that_goes_away_in_the_middle_has_sent_nothing() -> None:
    parts = [{"type": "http.request", "body": b"{}", "more_body": True}, {"type": "http.disconnect"}]
    with pytest.raises(InvalidRequest, match="body_incomplete"):
        asyncio.run(asgi_request.read_body(request(parts=parts)))
