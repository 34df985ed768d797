"""AWS's Lambda Web Adapter, as far as an ASGI app can see it: each event becomes a request, whose answer is read whole.

It is written after the adapter's own source, since its binary is in no registry that tests may use.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Iterator, Mapping
from typing import Any
from unittest import mock
from urllib.parse import quote, urlencode

from starlette.applications import Starlette

from turnlog import runtime

Event = Mapping[str, Any]


class WebAdapter:
    """Calls an app as a handler is called. `routes` are those of the app."""

    def __init__(self, app: Starlette, routes: frozenset[tuple[str, str]]) -> None:
        self._app = app
        self.routes = routes

    def __call__(self, event: Event, context: Any) -> dict[str, Any]:
        told: list[Any] = []
        parts = [{"type": "http.request", "body": _body(event), "more_body": False}]
        waiting = asyncio.Event()

        async def receive() -> Any:
            if parts:
                return parts.pop(0)
            return await waiting.wait()  # nobody hangs up

        async def send(message: Any) -> None:
            told.append(message)

        with mock.patch.object(runtime, "is_behind_adapter", lambda: True):
            asyncio.run(_awaited(self._app(_scope(event, context), receive, send)))
        start, *rest = told
        headers = {name.decode().title(): value.decode() for name, value in start["headers"]}
        assert len(headers) == len(start["headers"])
        assert [each.get("more_body", False) for each in rest] == [True] * (len(rest) - 1) + [False]
        headers.pop("Content-Length", None)
        headers = {name.replace("Www-", "WWW-"): value for name, value in headers.items()}
        text = b"".join(each.get("body", b"") for each in rest).decode()
        return {"statusCode": start["status"], "headers": headers, "body": text}


def events_in(text: str) -> list[dict[str, Any]]:
    """The data of each event of a stream; its type is that of the event."""
    found = []
    for each in text.split("\n\n")[:-1]:
        kind, data = each.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert kind == f"event: {found[-1]['type']}"
    assert text.endswith("\n\n")
    return found


def read_body(headers: Mapping[str, str], text: str) -> Any:
    """The body of an answer, of whatever type it is; None if it is empty."""
    if headers.get("Content-Type", "").startswith("text/event-stream"):
        return events_in(text)
    return json.loads(text) if text else None


def _scope(event: Event, context: Any) -> dict[str, Any]:
    path = event["resource"]
    for name, value in (event.get("pathParameters") or {}).items():
        path = path.replace(f"{{{name}}}", quote(value, safe="", errors="surrogatepass"))
    query = urlencode(event.get("multiValueQueryStringParameters") or {}, doseq=True, errors="surrogatepass")
    own = {
        "x-amzn-request-context": json.dumps(_without_null(event["requestContext"]), ensure_ascii=False),
        "x-amzn-lambda-context": json.dumps(
            {"deadline": runtime.now_ms() + context.get_remaining_time_in_millis(), "request_id": "1"}
        ),
    }
    sent = [(name, value) for name, value in _headers(event) if name not in own] + list(own.items())
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": event["httpMethod"],
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(name.encode("latin-1"), value.encode(errors="surrogatepass")) for name, value in sent],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8080),
    }


def _headers(event: Event) -> Iterator[tuple[str, str]]:
    several = event.get("multiValueHeaders") or {name: [value] for name, value in event["headers"].items()}
    for name, values in several.items():
        for value in values:
            yield name.lower(), value


def _body(event: Event) -> bytes:
    body = event.get("body") or ""
    return base64.b64decode(body) if event.get("isBase64Encoded") else body.encode(errors="surrogatepass")


def _without_null(context: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in context.items() if value is not None}


async def _awaited(answering: Awaitable[None]) -> None:
    await answering
