"""A client that waits long for Claude is kept, and told of an error even when its answer has begun."""

from __future__ import annotations

import json
import threading
from functools import partial

import anthropic
import httpx2
import pytest

from local.loopback import GuardedHandler, LoopbackServer
from tests.messages.asking import ADA, ASKED, REPLY, STREAMED
from tests.messages.conftest import STOP, STREAM, Before, Facing, finished, said, started
from turnlog.entrypoints.stream.messages import pass_on
from turnlog.entrypoints.stream.streamed import KeptAlive

OVERLOADED = b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"req_7"}'


@pytest.fixture
def begins_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer waits for its first byte."""
    monkeypatch.setattr(pass_on, "_QUIET_S", 0.0)
    monkeypatch.setattr(pass_on, "KeptAlive", partial(KeptAlive, quiet_s=0.0))


class Held:
    """An answer that is sent once the client has read something."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.is_read = threading.Event()

    def send(self, handler: GuardedHandler) -> None:
        assert self.is_read.wait(10)
        handler.wfile.write(self._body)


class HeldHead(GuardedHandler):
    """A provider that refuses, but not before the client has read something."""

    is_read: threading.Event

    def answer(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        assert self.is_read.wait(10)
        self.send_json(529, json.loads(OVERLOADED))


@pytest.mark.usefixtures("begins_at_once")
class TestALongWait:
    """Once the answer has begun its status is 200, whatever comes."""

    def test_a_whole_answer_begins_with_line_ends_that_no_client_minds(self, facing: Facing) -> None:
        held = Held(REPLY)
        with (
            facing(held.send) as (url, _),
            httpx2.stream("POST", f"{url}/v1/messages", json=ASKED, headers=ADA, timeout=30) as answer,
        ):
            chunks = answer.iter_raw()
            assert next(chunks) == b"\n"
            held.is_read.set()
            rest = b"".join(chunks)
        assert rest.lstrip(b"\n") == REPLY.lstrip(b"\n")
        assert answer.headers["content-type"].startswith("application/json")
        assert answer.headers["request-id"]

    def test_the_sdk_reads_such_an_answer(self, facing: Facing) -> None:
        held = Held(REPLY)
        held.is_read.set()
        with (
            facing(held.send) as (url, _),
            anthropic.Anthropic(base_url=url, auth_token="ada", api_key=None, max_retries=0) as client,
        ):
            assert client.messages.create(**ASKED).id == "msg_1"

    def test_a_stream_begins_with_a_ping(self, facing: Facing) -> None:
        held = Held(started() + said("Hello.") + finished() + STOP)
        with (
            facing(held.send, headers=STREAM) as (url, _),
            httpx2.stream("POST", f"{url}/v1/messages", json=STREAMED, headers=ADA, timeout=30) as answer,
        ):
            lines = answer.iter_lines()
            assert next(lines) == "event: ping"
            held.is_read.set()
            assert [line for line in lines if line][-1] == 'data: {"type": "message_stop"}'

    def test_a_late_error_of_a_whole_answer_is_cut_so_that_no_sdk_takes_it_for_a_message(self, before: Before) -> None:
        is_read = threading.Event()
        is_read.set()
        with LoopbackServer(0, type("Late", (HeldHead,), {"is_read": is_read}), "provider") as provider:
            url = before(provider.url)
            read = bytearray()
            with (
                pytest.raises(httpx2.RemoteProtocolError),
                httpx2.stream("POST", f"{url}/v1/messages", json=ASKED, headers=ADA, timeout=30) as answer,
            ):
                for chunk in answer.iter_raw():
                    read += chunk
            assert json.loads(read)["error"]["type"] == "overloaded_error"
            with (
                anthropic.Anthropic(base_url=url, auth_token="ada", api_key=None, max_retries=0) as client,
                pytest.raises(anthropic.APIConnectionError),
            ):
                client.messages.create(**ASKED)

    def test_a_late_refusal_of_the_provider_is_an_event(self, before: Before) -> None:
        is_read = threading.Event()
        with LoopbackServer(0, type("Late", (HeldHead,), {"is_read": is_read}), "provider") as provider:
            url = before(provider.url)
            with httpx2.stream("POST", f"{url}/v1/messages", json=STREAMED, headers=ADA, timeout=30) as answer:
                lines = answer.iter_lines()
                assert next(lines) == "event: ping"
                is_read.set()
                *_, name, data = [line for line in lines if line]
        assert name == "event: error"
        assert json.loads(data.removeprefix("data: "))["error"]["type"] == "overloaded_error"
