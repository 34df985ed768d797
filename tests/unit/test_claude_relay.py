"""The relay to Claude: the real key replaces the placeholder, and answers are passed on piece by piece."""

import http.client
import json
import re
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any, TypedDict

import anthropic
import httpx2
import pytest
from anthropic.types import MessageParam

from local.claude_relay import ClaudeUnreachable, outgoing_headers, relay, require_reachable
from local.claude_stand_in import StandIn
from local.loopback import LoopbackServer

KEY = "sk-ant-the-real-one"
PLACEHOLDER = [("Authorization", "Bearer kept by the launcher"), ("anthropic-version", "2026-10-21")]


class Question(TypedDict):
    model: str
    max_tokens: int
    messages: list[MessageParam]


def ask(port: int, method: str = "POST", path: str = "/v1/messages", **headers: str) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request(method, path, b"{}", {"Authorization": "Bearer placeholder", **headers})
    answer = connection.getresponse()
    body = json.loads(answer.read())
    connection.close()
    return answer.status, body


@pytest.mark.parametrize("address", ["nonsense", "ftp://127.0.0.1", "http://", "http://127.0.0.1:1", "http://[::1"])
def test_an_address_where_nothing_answers_is_named(address: str) -> None:
    with pytest.raises(ClaudeUnreachable, match=re.escape(address)):
        require_reachable(address)


def test_whoever_answers_anything_is_reachable(claude: StandIn) -> None:
    require_reachable(claude.url)


@pytest.fixture
def claude() -> Iterator[StandIn]:
    with StandIn() as claude:
        yield claude


@pytest.fixture
def server(claude: StandIn) -> Iterator[LoopbackServer]:
    with relay(0, claude.url, KEY) as server:
        yield server


def sdk(server: LoopbackServer) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=server.url, api_key="placeholder", max_retries=0)


def question(text: str) -> Question:
    return {"model": "claude-sonnet-5-5", "max_tokens": 50, "messages": [{"role": "user", "content": text}]}


def test_the_placeholder_is_replaced_by_the_key() -> None:
    sent = dict(outgoing_headers([*PLACEHOLDER, ("x-api-key", "another placeholder"), ("Host", "127.0.0.1:8788")], KEY))
    assert sent == {"anthropic-version": "2026-10-21", "x-api-key": KEY}


def test_without_a_key_the_callers_own_header_goes_through() -> None:
    assert outgoing_headers(PLACEHOLDER, "") == PLACEHOLDER


def test_the_sdk_gets_its_answer_through_the_relay(server: LoopbackServer, claude: StandIn) -> None:
    with sdk(server) as client:
        reply = client.messages.create(**question("What is a lambda?"))
    assert reply.stop_reason == "end_turn"
    assert [each.path for each in claude.requests] == ["/v1/messages"]


def test_the_sdk_gets_a_stream_through_the_relay(server: LoopbackServer) -> None:
    with sdk(server) as client, client.messages.stream(**question("What is a lambda?")) as stream:
        assert "lambda" in "".join(stream.text_stream)


def test_a_refusal_of_the_provider_arrives_as_it_was(server: LoopbackServer, claude: StandIn) -> None:
    claude.fail("rate_limit", retry_after_s=7)
    with sdk(server) as client, pytest.raises(anthropic.RateLimitError) as refused:
        client.messages.create(**question("hi"))
    assert refused.value.response.headers["retry-after"] == "7"


def test_an_unreachable_provider_is_a_502_without_its_address() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with relay(0, f"http://127.0.0.1:{unused.getsockname()[1]}", KEY) as server:
            status, body = ask(server.server_port)
    assert status == 502
    assert body["error"]["message"] == "The relay could not reach Claude: ConnectError."


def test_a_broken_connection_does_not_look_whole(server: LoopbackServer, claude: StandIn) -> None:
    claude.fail("cut")
    with sdk(server) as client, pytest.raises((anthropic.APIConnectionError, httpx2.HTTPError)):
        client.messages.create(**question("hi"))


def test_an_answer_is_passed_on_as_it_comes() -> None:
    go_on = Event()

    class Slow(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"first")
            self.wfile.flush()
            go_on.wait(5)
            self.wfile.write(b" second")

        def log_message(self, *args: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as upstream:
        Thread(target=upstream.serve_forever, args=(0.02,), daemon=True).start()
        with relay(0, f"http://127.0.0.1:{upstream.server_port}", KEY) as server:
            connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=4)
            connection.request("POST", "/v1/messages", b"{}")
            answer = connection.getresponse()
            assert answer.read1(5) == b"first"
            go_on.set()
            assert answer.read() == b" second"
            connection.close()
        upstream.shutdown()


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Host": "rebound.example"}])
def test_no_web_page_can_spend_the_key(server: LoopbackServer, claude: StandIn, headers: dict[str, str]) -> None:
    assert ask(server.server_port, **headers)[0] == 403
    assert claude.requests == []


@pytest.mark.parametrize("path", ["/", "/_stand_in/requests", "/v2/messages", "/v1"])
def test_only_the_api_is_passed_on(server: LoopbackServer, path: str) -> None:
    assert ask(server.server_port, path=path)[0] == 404


@pytest.mark.parametrize(
    "target",
    [
        "x.evil.example:/v1/messages",
        "http://evil.example/v1/messages",
        "//evil.example/v1/messages",
        "@evil.example/v1/messages",
        "/v1/../../x",
        "/v1/%2e%2e/x",
        "/v1/messages#x",
        "/v1//messages",
    ],
)
def test_no_request_takes_the_key_to_another_host_or_path(server: LoopbackServer, claude: StandIn, target: str) -> None:
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=5) as connection:
        host = f"127.0.0.1:{server.server_port}"
        connection.sendall(f"POST {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n".encode())
        assert b" 404 " in connection.recv(1000).splitlines()[0]
    assert claude.requests == []


def test_a_request_that_is_too_large_is_not_read(server: LoopbackServer) -> None:
    assert ask(server.server_port, **{"Content-Length": str(33 * 1024 * 1024)})[0] == 400
