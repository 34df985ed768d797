"""The adapter by which requests are passed on: one call over real HTTP, bounded in time, and noted without content."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from local.loopback import GuardedHandler
from tests.messages.conftest import providing
from turnlog.adapters.messages_api import HttpMessagesApi
from turnlog.errors import ModelError, ModelFailed, ModelTimeout, ModelUnavailable
from turnlog.ports.messages_api import PassedRequest

REQUEST = PassedRequest("messages", b'{"model":"claude-sonnet-5-5"}', "claude-sonnet-5-5", {"accept": "*/*"})


def the_key(*, renewed: bool = False) -> str:
    return "the key"


def trickle(handler: GuardedHandler) -> None:
    """White space without an end; far more than any time allows."""
    for _ in range(100_000):
        handler.wfile.write(b" ")


@pytest.mark.parametrize("headers", [{}, {"Content-Length": "100"}, {"Transfer-Encoding": "chunked"}], ids=str)
def test_an_answer_that_falls_silent_is_cut_when_its_time_is_over(headers: dict[str, str]) -> None:
    is_over = threading.Event()

    def fall_silent(handler: GuardedHandler) -> None:
        handler.wfile.write(b"2\r\n{}\r\n")
        is_over.wait(20)

    with providing(fall_silent, headers=headers) as provider:
        began_s = time.monotonic()
        with pytest.raises(ModelTimeout), HttpMessagesApi(provider.url, the_key).send(REQUEST, 1.1) as answer:
            list(answer.chunks())
        is_over.set()
    assert time.monotonic() - began_s < 10


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port at which somebody listens who never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield int(listening.getsockname()[1])


def test_an_answer_that_never_ends_ends_with_its_time() -> None:
    ticks = count()
    with providing(trickle) as provider:
        api = HttpMessagesApi(provider.url, the_key, clock=lambda: float(next(ticks)))
        with pytest.raises(ModelTimeout), api.send(REQUEST, 20) as answer:
            for _ in answer.chunks():
                pass
    assert next(ticks) < 60


def test_a_provider_that_says_nothing_is_left_in_time(silent_port: int) -> None:
    api = HttpMessagesApi(f"http://127.0.0.1:{silent_port}", the_key, clock=iter((0.0, 98.9, 99.0)).__next__)
    with pytest.raises(ModelTimeout), api.send(REQUEST, 100):
        pass


def test_without_time_nothing_is_sent() -> None:
    with providing(b"{}") as provider:
        api = HttpMessagesApi(provider.url, the_key)
        with pytest.raises(ModelUnavailable), api.send(REQUEST, 0.5):
            pass
    assert provider.seen == []


def test_a_compressed_answer_is_given_plain() -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    with (
        providing(gzip.compress(b'{"a":1}'), headers=headers) as provider,
        HttpMessagesApi(provider.url, the_key).send(REQUEST, 5) as answer,
    ):
        assert b"".join(answer.chunks()) == b'{"a":1}'
        assert "content-encoding" not in answer.headers
    assert provider.seen[0][1]["accept-encoding"] == "identity"


def test_a_base_url_may_have_a_path_and_a_slash() -> None:
    with providing(b"{}") as provider, HttpMessagesApi(f"{provider.url}/proxy/", the_key).send(REQUEST, 5):
        pass
    assert provider.seen[0][0] == "/proxy/v1/messages"


def test_each_call_is_noted_without_what_it_says() -> None:
    noted: list[dict[str, Any]] = []
    headers = {
        "Content-Type": "application/json",
        "request-id": "req_1",
        "anthropic-ratelimit-requests-remaining": "7",
        "anthropic-ratelimit-input-tokens-remaining": "many",
    }
    with providing(b"{}", 529, headers) as provider:
        api = HttpMessagesApi(provider.url, the_key, note_call=lambda **call: noted.append(call))
        with api.send(REQUEST, 5):
            pass
    assert noted[0].pop("ms") >= 0
    assert noted == [
        {
            "model": "claude-sonnet-5-5",
            "provider_request_id": "req_1",
            "status": 529,
            "code": "model_unavailable",
            "requests_left": 7,
        }
    ]


def test_a_call_that_fails_is_noted_with_its_code() -> None:
    noted: list[dict[str, Any]] = []
    headers = {"Content-Type": "application/json", "Content-Length": "9", "request-id": "req_2"}
    with providing(b"{}", headers=headers) as provider:
        api = HttpMessagesApi(provider.url, the_key, note_call=lambda **call: noted.append(call))
        with pytest.raises(ModelFailed) as failed, api.send(REQUEST, 5) as answer:
            list(answer.chunks())
    assert (noted[0]["code"], noted[0]["provider_request_id"]) == ("model_failed", "req_2")
    assert failed.value.provider_request_id == "req_2"


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://[::1]:9", "no-scheme://x", "http://"])
def test_what_was_never_sent_is_not_billed(url: str) -> None:
    with pytest.raises(ModelError) as failed, HttpMessagesApi(url, the_key).send(REQUEST, 5):
        pass
    assert not failed.value.billed
