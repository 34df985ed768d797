"""Requests as clients send them, whatever they are: in pieces, too large, forged, or broken off."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest

from tests.fakes import OWNER
from tests.handlers.conftest import Call
from tests.handlers.test_session import create
from tests.stream.conftest import Backstage, Served
from tests.stream.held_model import PATIENCE_S
from tests.stream.reading import Reading, wait_for_work
from turnlog import runtime
from turnlog.domain.messages import to_json
from turnlog.entrypoints.http.request import MAX_MEDIA_BODY
from turnlog.entrypoints.stream import asgi_request
from turnlog.errors import IssuerUnavailable

HEAD = "POST /query/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ada\r\nContent-Type: application/json\r\n"
BODY = b'{"message":"hello"}'
EVE = {"owner": "https://issuer.example/|eve", "kind": "user", "expires": "4102444800", "roles": "admin"}


class Wire:
    """A connection on which a test writes what it likes."""

    def __init__(self, served: Served) -> None:
        self.socket = socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE_S)

    def send(self, *parts: bytes | str) -> None:
        for part in parts:
            self.socket.sendall(part.encode() if isinstance(part, str) else part)

    def answer(self) -> str:
        """All that comes up to the end of the answer's body."""
        found = b""
        while not found.endswith((b"0\r\n\r\n", b"}")):
            part = self.socket.recv(65_536)
            assert part, found
            found += part
        return found.decode()


@pytest.fixture
def wire(served: Served) -> Iterator[Wire]:
    made = Wire(served)
    yield made
    made.socket.close()


def test_a_body_may_dribble_in(wire: Wire) -> None:
    wire.send(HEAD, f"Content-Length: {len(BODY)}\r\n\r\n", *(bytes([byte]) for byte in BODY))
    assert "event: turnlog.done" in wire.answer()


def test_a_body_may_come_in_chunks_of_no_known_length(wire: Wire) -> None:
    chunks = [b"%x\r\n%s\r\n" % (len(part), part) for part in (BODY[:5], BODY[5:])]
    wire.send(HEAD, "Transfer-Encoding: chunked\r\n\r\n", *chunks, b"0\r\n\r\n")
    assert "event: turnlog.done" in wire.answer()


@pytest.mark.parametrize("framing", [f"Content-Length: {10**12}", "Transfer-Encoding: chunked"])
def test_a_body_without_end_is_refused_while_it_comes(wire: Wire, framing: str, backstage: Backstage) -> None:
    wire.send(HEAD, f"{framing}\r\n\r\n")
    if "chunked" in framing:
        part = b"x" * 500_000
        for _ in range(MAX_MEDIA_BODY // len(part) + 1):
            wire.send(b"%x\r\n%s\r\n" % (len(part), part))
    answer = wire.answer()
    assert answer.startswith("HTTP/1.1 413 ")
    assert '"code":"body_too_large"' in answer
    assert backstage.model.requests == []


def test_a_client_that_stalls_in_the_middle_gets_408(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi_request, "STALL_S", 0.01)
    wire.send(HEAD, f"Content-Length: {len(BODY)}\r\n\r\n", BODY[:5])
    answer = wire.answer()
    assert answer.startswith("HTTP/1.1 408 ")
    assert '"code":"body_stalled"' in answer


def test_nothing_is_asked_for_who_goes_away_in_the_middle_of_the_body(wire: Wire, backstage: Backstage) -> None:
    wire.send(HEAD, f"Content-Length: {len(BODY)}\r\n\r\n", BODY[:5])
    wire.socket.shutdown(socket.SHUT_RDWR)
    wait_for_work()
    assert backstage.model.requests == []


def test_what_is_too_much_for_the_length_that_was_said_is_another_request(wire: Wire, backstage: Backstage) -> None:
    wire.send(HEAD, f"Content-Length: {len(BODY)}\r\n\r\n", BODY, b"and more")
    assert "event: turnlog.done" in wire.answer()
    assert len(backstage.model.requests) == 1


def test_a_stranger_is_refused_before_the_body_is_read(wire: Wire) -> None:
    wire.send(HEAD.replace("Authorization", "X-Other"), "Content-Length: 1000\r\n\r\n")
    assert wire.answer().startswith("HTTP/1.1 401 ")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (HEAD.replace("POST", "GET"), 404),
        (HEAD.replace("/query/stream", "/query/stream/"), 404),
        (HEAD.replace("/query/stream", "/QUERY/stream"), 404),
        (HEAD.replace("/query/stream", "//query/stream"), 404),
        (HEAD.replace("/query/stream", "/query%2Fstream"), 404),
        (HEAD.replace("/query/stream", "/v1/v1/query/stream"), 404),
        (HEAD.replace("/query/stream", "/q%75ery/stream"), 200),
        (HEAD.replace("/query/stream", "/v1/query/stream"), 200),
        (HEAD.replace("/query/stream", "/query/stream?a=1"), 400),
    ],
)
def test_a_route_has_one_path_and_one_method(wire: Wire, head: str, status: int) -> None:
    wire.send(head, f"Content-Length: {len(BODY)}\r\n\r\n", BODY)
    assert wire.answer().startswith(f"HTTP/1.1 {status} ")


def test_a_header_of_the_adapter_is_a_clients_text_where_there_is_none(
    served: Served, call: Call, backstage: Backstage
) -> None:
    """Whoever sends it is who the token says."""
    session_id = str(create(call).body["session_id"])
    forged = {"x-amzn-request-context": to_json({"requestId": "forged", "authorizer": EVE})}
    named = {"Idempotency-Key": "k", **forged}
    assert Reading(served, f"/sessions/{session_id}/turns/stream", {"message": "hello"}, named).open().status == 200
    wait_for_work()
    assert len(backstage.store.read(OWNER, session_id, backstage.clock(), newest=1).turns) == 1
    refused = Reading(served, "/query/stream", {"message": "hello"}, {**forged, "Authorization": ""}).open()
    assert refused.status == 401
    assert refused.problem["instance"] != "urn:req:forged"


def test_behind_the_adapter_the_token_is_nobodys(served: Served, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    session_id = str(create(call).body["session_id"])
    monkeypatch.setattr(runtime, "is_behind_adapter", lambda: True)
    context = {"x-amzn-request-context": json.dumps({"requestId": "req-7", "authorizer": EVE})}
    path, named = f"/sessions/{session_id}/turns/stream", {"Idempotency-Key": "k"}
    foreign = Reading(served, path, {"message": "hello"}, {**named, **context}).open()
    assert (foreign.status, foreign.problem["instance"]) == (404, "urn:req:req-7")
    assert Reading(served, path, {"message": "hello"}, named).open().status == 401


def test_an_invocation_that_is_no_request_is_answered_quietly(
    served: Served, monkeypatch: pytest.MonkeyPatch, backstage: Backstage
) -> None:
    monkeypatch.setattr(runtime, "is_behind_adapter", lambda: True)
    assert Reading(served, "/events", {}, {"x-amzn-request-context": "null"}).open().status == 204


def test_an_issuer_that_cannot_be_asked_is_no_fault_of_the_token(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Silent:
        def verify(self, _: str) -> None:
            raise IssuerUnavailable

    monkeypatch.setattr(runtime, "token_verifier", Silent)
    answer = Reading(served, "/query/stream", {"message": "hello"}).open()
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    assert answer.problem["detail"] == "The token could not be checked. Try again."
