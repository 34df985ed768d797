"""A request goes on to the byte, and whatever Claude answers comes back to the byte, errors included."""

from __future__ import annotations

import io
import json
import threading
from typing import Any

import anthropic
import httpx2
import pytest

from local.claude_stand_in import StandIn
from local.loopback import GuardedHandler, LoopbackServer
from tests.messages.asking import ADA, ASKED, REPLY, STREAMED, post
from tests.messages.conftest import (
    KEY,
    STOP,
    STREAM,
    Before,
    DoorSettings,
    Facing,
    event,
    finished,
    said,
    started,
)
from tests.stream.conftest import Served


def test_bytes_go_on_and_come_back_as_they_are(facing: Facing) -> None:
    body = b' {"max_tokens" : 5e0, "model":"claude-sonnet-5-5","messages":[], "of_tomorrow": {"b":1,"a":"\\u00e9"}}\n'
    headers = {"Content-Type": "application/json", "request-id": "req_9", "anthropic-organization-id": "org_1"}
    with facing(REPLY, headers=headers) as (url, provider):
        sent = {
            "anthropic-version": "2026-10-21",
            "anthropic-beta": "a-2026-01-01,b",
            "User-Agent": "claude-cli/2.1",
            "Cookie": "session=1",
            "X-Forwarded-For": "203.0.113.7",
        }
        answer = post(url, body, "/v1/messages?beta=true", sent)
    assert answer.content == REPLY
    path, received, passed = provider.seen[0]
    assert (path, passed) == ("/v1/messages?beta=true", body)
    assert received["authorization"] == f"Bearer {KEY}"
    assert {name: received[name] for name in ("anthropic-version", "anthropic-beta", "user-agent")} == {
        "anthropic-version": "2026-10-21",
        "anthropic-beta": "a-2026-01-01,b",
        "user-agent": "claude-cli/2.1",
    }
    assert received.keys() & {"cookie", "x-forwarded-for", "x-api-key"} == set()
    assert answer.headers["request-id"] == "req_9"
    assert "anthropic-organization-id" not in answer.headers


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("status", [400, 403, 404, 413, 429, 500, 503, 529])
def test_an_error_of_the_provider_comes_back_unchanged(status: int, streamed: bool, facing: Facing) -> None:
    refused = b'{"type":"error", "error":{"type":"x_error","message":"its own words"},"request_id":"req_7"}'
    headers = {"Content-Type": "application/json", "request-id": "req_7", "retry-after": "3", "x-should-retry": "true"}
    with facing(refused, status, headers) as (url, _):
        answer = post(url, STREAMED if streamed else ASKED)
    assert (answer.status_code, answer.content) == (status, refused)
    assert {name: answer.headers[name] for name in ("request-id", "retry-after", "x-should-retry")} == {
        "request-id": "req_7",
        "retry-after": "3",
        "x-should-retry": "true",
    }


def test_a_refused_key_is_no_answer_for_the_caller(settings: DoorSettings, facing: Facing) -> None:
    settings.keys = ["an-old-key", "another-old-key"]
    with facing(b"{}", 401) as (url, provider):
        answer = post(url)
    assert (answer.status_code, answer.json()["error"]["details"]["error_code"]) == (503, "model_unavailable")
    assert [headers["authorization"] for _, headers, _ in provider.seen] == [
        "Bearer an-old-key",
        "Bearer another-old-key",
    ]


def test_a_rotated_key_is_taken_up_by_the_call_that_meets_it(settings: DoorSettings, before: Before) -> None:
    settings.keys = ["an-old-key", KEY]

    class Checking(GuardedHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_json(200 if self.headers["Authorization"].endswith(KEY) else 401, json.loads(REPLY))

    with LoopbackServer(0, Checking, "provider") as provider:
        assert post(before(provider.url)).status_code == 200


@pytest.mark.parametrize("streamed", [False, True])
def test_a_provider_that_is_not_there_is_an_error_that_may_pass(streamed: bool, before: Before) -> None:
    answer = post(before("http://127.0.0.1:9"), STREAMED if streamed else ASKED)
    assert (answer.status_code, answer.json()["error"]["type"]) == (503, "overloaded_error")
    assert answer.headers["retry-after"] == "5"


@pytest.mark.parametrize("streamed", [False, True])
def test_a_redirect_is_followed_nowhere(streamed: bool, facing: Facing) -> None:
    with facing(b"", 307, {"Location": "http://127.0.0.1:9/"}) as (url, _):
        answer = post(url, STREAMED if streamed else ASKED)
    assert (answer.status_code, answer.json()["error"]["details"]["error_code"]) == (502, "model_rejected")
    assert answer.headers["x-should-retry"] == "false"


def test_a_stand_in_is_refused_where_none_may_be(before: Before, claude: StandIn) -> None:
    assert post(before(claude.url)).status_code == 502


@pytest.mark.parametrize("body", [b"<html>no JSON</html>", b"[1]", b'{"id":', b"", b'{"a":"\xff"}'])
def test_an_answer_that_is_none_is_502(body: bytes, facing: Facing) -> None:
    with facing(body) as (url, _):
        answer = post(url)
    assert (answer.status_code, answer.json()["error"]["details"]["error_code"]) == (502, "model_protocol_error")


def test_a_cut_answer_is_502(facing: Facing) -> None:
    headers = {"Content-Type": "application/json", "Content-Length": "5000"}
    with facing(REPLY, headers=headers) as (url, _):
        answer = post(url)
    assert (answer.status_code, answer.json()["error"]["details"]["error_code"]) == (502, "model_failed")


class TestAStream:
    """Events come as they are; one that ends without an end gets an `error` event."""

    def events(self, answer: httpx2.Response) -> list[tuple[str, dict[str, Any]]]:
        blocks = [block.split("\n", 1) for block in answer.text.split("\n\n") if block]
        told = [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]
        return [each for each in told if each[0] != "ping"]

    def test_data_is_relayed_to_the_byte(self, facing: Facing) -> None:
        sent = [
            started(),
            b'event: hologram_of_tomorrow\ndata: {"type":"hologram_of_tomorrow",   "x":1.50}\n\n',
            said("Hello."),
            finished(),
            STOP,
        ]
        with facing(b"".join(sent), headers=STREAM) as (url, _):
            answer = post(url, STREAMED)
        assert answer.content.replace(b'event: ping\ndata: {"type":"ping"}\n\n', b"") == b"".join(sent)
        assert answer.headers["request-id"] == "req_upstream"
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"

    @pytest.mark.parametrize("cut", range(7))
    def test_one_without_an_end_ends_with_an_error(self, cut: int, facing: Facing) -> None:
        whole = [
            started(),
            *(part + b"\n\n" for part in said("Hello.").split(b"\n\n")[:-1]),
            finished(),
            b"event: mess",
        ]
        with facing(b"".join(whole[:cut]), headers=STREAM) as (url, _):
            answer = post(url, STREAMED)
        if cut == 0:
            assert (answer.status_code, answer.json()["error"]["type"]) == (502, "api_error")
            return
        *_, (last, data) = self.events(answer)
        assert last == "error"
        assert data["error"]["details"]["error_code"] == "model_protocol_error"
        assert "message_stop" not in answer.text

    def test_the_sdk_raises_for_one_without_an_end(self, facing: Facing) -> None:
        with (
            facing(started() + said("Hello."), headers=STREAM) as (url, _),
            anthropic.Anthropic(base_url=url, auth_token="ada", api_key=None, max_retries=0) as client,
            pytest.raises(anthropic.APIStatusError) as raised,
            client.messages.stream(**ASKED) as stream,
        ):
            stream.until_done()
        assert raised.value.error_code == "model_protocol_error"

    def test_an_error_after_text_is_passed_on(self, facing: Facing) -> None:
        failed = event("error", error={"type": "overloaded_error", "message": "Overloaded"})
        body = started() + said("Hello.") + failed
        with facing(body, headers=STREAM) as (url, _):
            answer = post(url, STREAMED)
        assert answer.content.endswith(failed)

    @pytest.mark.parametrize(
        "garbage",
        [
            b"data: <html>\n\n",
            b"event: content_block_delta\ndata: [1]\n\n",
            b'data: {"a":"\xff"}\n\n',
            b'data: {"a":NaN}\n\ndata: nonsense\n\n',
        ],
    )
    def test_what_is_no_json_ends_it_with_an_error(self, garbage: bytes, facing: Facing) -> None:
        with facing(started() + garbage + STOP, headers=STREAM) as (url, _):
            told = self.events(post(url, STREAMED))
        assert told[-1][1]["error"]["details"]["error_code"] == "model_protocol_error"

    def test_a_repeated_start_is_passed_on(self, facing: Facing) -> None:
        body = started() + said("a") + started() + said("b", 1) + finished() + STOP
        with facing(body, headers=STREAM) as (url, _):
            told = self.events(post(url, STREAMED))
        assert [kind for kind, _ in told].count("message_start") == 2
        assert told[-1][0] == "message_stop"

    def test_json_in_answer_to_a_stream_is_an_error(self, facing: Facing) -> None:
        with facing(REPLY) as (url, _):
            answer = post(url, STREAMED, headers={"Accept": "application/json"})
        assert answer.status_code == 502

    def test_a_first_event_comes_before_the_last_one_is_made(self, facing: Facing) -> None:
        is_read = threading.Event()

        def send(handler: GuardedHandler) -> None:
            handler.wfile.write(started())
            assert is_read.wait(10)
            handler.wfile.write(said("Hello.") + finished() + STOP)

        with (
            facing(send, headers=STREAM) as (url, _),
            httpx2.stream("POST", f"{url}/v1/messages", json=STREAMED, headers=ADA, timeout=30) as answer,
        ):
            lines = answer.iter_lines()
            assert any(line == "event: message_start" for line in lines)
            is_read.set()
            assert any(line == "event: message_stop" for line in lines)


def test_nothing_of_a_conversation_nor_a_key_gets_into_the_log(
    door: Served, logged: io.StringIO, claude: StandIn
) -> None:
    asked = ASKED | {"messages": [{"role": "user", "content": "My name is Canary-7."}], "system": "Canary-8"}
    for body in (asked, asked | {"stream": True}, asked | {"stream": 1}, asked | {"thread": {"Canary-9": 1}}):
        post(door.url, body, headers={"anthropic-beta": "canary-beta"})
    claude.fail("garbage")
    post(door.url, asked)
    written = logged.getvalue()
    assert written.count('"request"') == 5
    assert "anary" not in written
    assert KEY not in written
    assert "provider_request_id" in written
