"""The Messages API without a session: a request goes to Claude as it is, and the answer comes back as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from turnlog import runtime
from turnlog.domain.passing.fields import PassedBody
from turnlog.domain.passing.rules import require_headers, require_passable
from turnlog.domain.turn_stream import Emit
from turnlog.entrypoints.http.answers import Response
from turnlog.entrypoints.http.api import Invocation
from turnlog.entrypoints.http.request import Request
from turnlog.entrypoints.stream.messages.raw_body import raw_body
from turnlog.entrypoints.stream.streamed import KeptAlive, Streamed
from turnlog.errors import InvalidRequest
from turnlog.ports.messages_api import ApiPath, PassedRequest
from turnlog.usecases.pass_on import Passed, Passing

_PASSED_ON = ("content-type", "accept", "user-agent", "anthropic-version", "anthropic-beta")
"""The headers that go on. The others tell of the client's connection or credential, or are for this service."""

_RESERVE_S = 5.0  # of the function's time, for the settlement and the last bytes
_QUIET_S = 60.0
"""Seconds after which a stream begins though Claude has said nothing: before, an error still has its own status."""


@dataclass(frozen=True, slots=True)
class RawBody:
    """A body of the provider's, as it came."""

    text: str

    def to_json(self) -> str:
        return self.text

    def fields_but(self, *_: str) -> dict[str, Any]:
        return {}


def pass_on_message(request: Request, invocation: Invocation) -> Streamed | KeptAlive:
    """One request for a message, as a stream or whole."""
    caller = request.user
    passed, body = _checked(request, "messages")
    passing = _passing(invocation)
    headers = {"request-id": request.id}  # until the provider's own is here, at its first event
    if not _wants_stream(body):
        return KeptAlive(lambda: _response(passing.message(caller, passed, body), request), headers=headers)

    def on_headers(sent: Mapping[str, str]) -> None:
        headers["request-id"] = sent.get("request-id", request.id)

    def run(emit: Emit) -> Response:
        return _response(passing.stream(caller, passed, body, emit, on_headers), request)

    return Streamed(run, headers, _QUIET_S)


def count_tokens(request: Request, invocation: Invocation) -> Response:
    """The number of tokens that a request has."""
    caller = request.user
    passed, body = _checked(request, "messages/count_tokens")
    return _response(_passing(invocation).count(caller, passed, body), request)


def _checked(request: Request, path: ApiPath) -> tuple[PassedRequest, PassedBody]:
    """The request as it goes on, and what its body says, once all that can be refused here is."""
    rules = runtime.passing_rules()
    query = "&".join(f"{name}={value}" for name, value in request.query("beta").items() if value == "true")
    raw, parsed = raw_body(request)
    body = PassedBody(parsed)
    sent = {name: values for name in _PASSED_ON if (values := request.header_values(name))}
    require_headers(sent.get("anthropic-beta", []), request.header_names, rules)
    require_passable(body, rules)
    headers = {name: ",".join(values) for name, values in sent.items()}
    return PassedRequest(path, raw, parsed["model"], headers, query), body


def _wants_stream(body: PassedBody) -> bool:
    """True if the body asks for a stream: what a client accepts says nothing, since the SDKs always accept JSON."""
    wish = body.fields.get("stream")
    if wish is not None and type(wish) is not bool:
        raise InvalidRequest("wrong_type", "/stream")
    return wish is True


def _passing(invocation: Invocation) -> Passing:
    return Passing(
        runtime.messages_api(),
        runtime.quota_store(),
        runtime.owner_limits(),
        seconds=lambda: invocation.remaining_s() - _RESERVE_S,
        clock=runtime.now_ms,
    )


def _response(passed: Passed, request: Request) -> Response:
    noted = {
        "model": passed.model,
        "tokens": passed.tokens,
        "cost_usd": passed.cost_usd,
        "message_id": passed.id,
        "provider_request_id": passed.headers.get("request-id", ""),
    }
    named = {"Content-Type" if name == "content-type" else name: value for name, value in passed.headers.items()}
    headers = {"request-id": request.id, **named}
    return Response(passed.status, RawBody(passed.body.decode(errors="replace")), headers, noted)
