"""Requests to the door as bytes, and its refusals, for what an SDK would not send or show."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

import httpx2

from tests.messages.conftest import MODELS

ADA = {"Authorization": "Bearer ada", "Content-Type": "application/json", "anthropic-version": "2026-10-21"}
ASKED: dict[str, Any] = {"model": MODELS[0], "max_tokens": 500, "messages": [{"role": "user", "content": "hello"}]}
STREAMED: dict[str, Any] = ASKED | {"stream": True}
REPLY = b"""{"id": "msg_1", "type":"message",  "role":"assistant", "model":"claude-sonnet-5-5", "content": [],
 "stop_reason":"end_turn", "usage":{"input_tokens":3, "output_tokens":2}, "later": 1.50}\n"""
"""A whole answer of a provider, with spaces and a field that no reader of JSON would keep."""


def post(
    url: str,
    body: Mapping[str, Any] | bytes = MappingProxyType(ASKED),
    path: str = "/v1/messages",
    headers: Mapping[str, str] = MappingProxyType({}),
) -> httpx2.Response:
    """The answer to one request of Ada's."""
    content = body if isinstance(body, bytes) else json.dumps(dict(body)).encode()
    return _http().post(url + path, content=content, headers={**ADA, **headers})


@cache
def _http() -> httpx2.Client:
    """One client, since each loads all certificates."""
    return httpx2.Client(timeout=30)


def user(*blocks: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages of a conversation of one message, with these blocks."""
    return [{"role": "user", "content": list(blocks)}]


def error_of(answer: httpx2.Response) -> tuple[int, str, str]:
    """Status, type and code of a refusal, which has the form of the Messages API's."""
    body = answer.json()
    assert body["type"] == "error"
    assert body["request_id"] == answer.headers["request-id"]
    return answer.status_code, body["error"]["type"], body["error"]["details"]["error_code"]
