"""One request of a server as the event that API Gateway would make of it, so that both are read by the same rules.

Behind the Lambda Web Adapter the gateway has verified who calls, and the adapter says so in a header that no client can
set. Anywhere else that header is a client's text: the token is verified here, as the gateway's authorizer does.
"""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

from starlette.requests import ClientDisconnect, Request

from turnlog import runtime
from turnlog.entrypoints.http.authorizer import verified_caller
from turnlog.entrypoints.http.request import MAX_MEDIA_BODY
from turnlog.errors import BodyStalled, BodyTooLarge, InvalidRequest, Unauthorized

MOST_S = 900.0
"""The seconds of a request where no context says when it ends: those of a function, and of a stream of the gateway."""

STALL_S = 30.0
"""The longest pause of a client in the middle of its body."""

MOST_BODY_S = 180.0
"""The longest time for a whole body: the largest one takes it at 25 KB a second."""

_CONTEXT, _LAMBDA = "x-amzn-request-context", "x-amzn-lambda-context"
_UNSEEN = frozenset({_CONTEXT, _LAMBDA, "authorization"})
"""Headers that no route sees: those of the adapter, and the credential, which has been looked at."""


def is_request(request: Request) -> bool:
    """False for an invocation that is no request: the adapter hands it over all the same, with `null` for a context.

    API Gateway is reported to make one after some streams.
    """
    return not (runtime.is_behind_adapter() and request.headers.getlist(_CONTEXT) == ["null"])


def path_of(request: Request) -> list[str]:
    """Returns the parts of the path, each decoded once, as the gateway decodes them after it has matched them."""
    raw = request.scope.get("raw_path") or request.scope["path"].encode()
    return [unquote_to_bytes(part).decode(errors="replace") for part in raw.removeprefix(b"/").split(b"/")]


def event_of(request: Request, resource: str, parameters: Mapping[str, str]) -> dict[str, Any]:
    """Returns the event without body and caller, for the route whose template is `resource`."""
    context = _adapter_context(request) if runtime.is_behind_adapter() else {}
    identity = context.get("identity") if runtime.is_behind_adapter() else {"sourceIp": _peer(request)}
    return {
        "resource": resource,
        "httpMethod": request.method,
        "pathParameters": dict(parameters),
        "multiValueHeaders": _several((name, value) for name, value in request.headers.items() if name not in _UNSEEN),
        "multiValueQueryStringParameters": _several(_query(request)),
        "requestContext": {
            "requestId": str(context.get("requestId") or uuid.uuid4()),
            "identity": identity if isinstance(identity, dict) else {},
            "authorizer": None,
        },
        "body": None,
        "isBase64Encoded": True,
    }


async def find_caller(request: Request, event: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Returns the verified caller, as the gateway's authorizer has named it or would name it.

    Raises Unauthorized, Forbidden or IssuerUnavailable.
    """
    if runtime.is_behind_adapter():
        return _named_by_gateway(_adapter_context(request))
    given = request.headers.getlist("authorization")
    if len(given) != 1:
        raise Unauthorized
    method, resource, request_id = event["httpMethod"], event["resource"], event["requestContext"]["requestId"]
    # In a thread, since the issuer may have to be asked for its keys.
    return await asyncio.to_thread(verified_caller, given[0], method, resource, request_id)


async def read_body(request: Request, most: int = MAX_MEDIA_BODY) -> str | None:
    """Returns the body as base64, None for an empty one. Raises BodyTooLarge before it is read to its end, BodyStalled,
    and InvalidRequest when the client goes away in the middle of it.
    """
    if _length(request) > most:
        raise BodyTooLarge("body_too_large", details={"maximum": most})
    parts, size = [], 0
    try:
        async with asyncio.timeout(MOST_BODY_S), aclosing(request.stream()) as stream:
            while part := await asyncio.wait_for(anext(stream), STALL_S):  # the last one is empty
                size += len(part)
                if size > most:
                    raise BodyTooLarge("body_too_large", details={"maximum": most})
                parts.append(part)
    except TimeoutError as error:
        raise BodyStalled("body_stalled") from error
    except ClientDisconnect as error:
        raise InvalidRequest("body_incomplete") from error
    return base64.b64encode(b"".join(parts)).decode() if size else None


def remaining_s(request: Request, began_ms: int) -> Callable[[], float]:
    """Returns the clock that tells how many seconds are left until the work is stopped."""
    ends_ms = began_ms + MOST_S * 1000
    if runtime.is_behind_adapter() and isinstance(deadline := _header_object(request, _LAMBDA).get("deadline"), int):
        ends_ms = deadline
    return lambda: (ends_ms - runtime.now_ms()) / 1000


def _adapter_context(request: Request) -> dict[str, Any]:
    """The gateway's context of the request; {} if the adapter brings none."""
    return _header_object(request, _CONTEXT)


def _named_by_gateway(context: Mapping[str, Any]) -> Mapping[str, Any] | None:
    named = context.get("authorizer")
    return named if isinstance(named, dict) else None


def _header_object(request: Request, name: str) -> dict[str, Any]:
    values = request.headers.getlist(name)
    try:
        # As it was sent: the adapter writes the names of people in UTF-8, and headers are read as Latin-1.
        found = json.loads(values[0].encode("latin-1").decode()) if len(values) == 1 else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _several(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found


def _query(request: Request) -> list[tuple[str, str]]:
    text = request.scope["query_string"].decode("latin-1")
    return parse_qsl(text, keep_blank_values=True)


def _peer(request: Request) -> str:
    return request.client.host if request.client else ""


def _length(request: Request) -> int:
    text = request.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0
