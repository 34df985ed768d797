"""POST /query/stream: the reply to one question, as it comes."""

from __future__ import annotations

import json
from http.client import HTTPConnection

import httpx2
import pytest

from tests.stream.conftest import Backstage, Served

ADA = {"Authorization": "Bearer ada"}


def test_a_reply_is_one_message_between_events_of_our_own(served: Served, backstage: Backstage) -> None:
    answer = httpx2.post(f"{served.url}/query/stream", json={"message": "hello"}, headers=ADA)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    kinds = [line.removeprefix("event: ") for line in answer.text.splitlines() if line.startswith("event: ")]
    assert kinds == [
        "turnlog.turn",
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "turnlog.done",
    ]
    assert json.loads(answer.text.splitlines()[-2].removeprefix("data: "))["cost_usd"] == "0.00007"


def test_a_request_that_is_refused_gets_a_problem(served: Served) -> None:
    answer = httpx2.post(f"{served.url}/v1/query/stream", json={"massage": "hello"}, headers=ADA)
    assert (answer.status_code, answer.json()["code"]) == (400, "unknown_field")


def test_a_request_without_a_token_gets_401(served: Served) -> None:
    answer = httpx2.post(f"{served.url}/query/stream", json={"message": "hello"})
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer, Session"


@pytest.mark.parametrize("target", ["*", "http://proxy.example/query/stream", "/query/stream/", "//query/stream"])
def test_a_target_that_is_no_path_of_a_route_gets_a_problem(served: Served, target: str) -> None:
    connection = HTTPConnection("127.0.0.1", served.port, timeout=10)
    connection.request("POST", target, b"{}", ADA)
    answer = connection.getresponse()
    assert (answer.status, json.load(answer)["code"]) == (404, "route_not_found")
    connection.close()
