"""The API as a caller sees it: requests, replies, and what a reply must be."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

import httpx2

from tests.smoke.hearing import Heard, events_of
from tests.smoke.outcome import Unexpected
from tests.smoke.target import Target

PATIENCE_S = 70  # the gateway gives up at 29 s; on one machine a handler has its whole minute
CONNECT_S = 10
PROBLEM = "application/problem+json"
STREAM = "text/event-stream"

_PUT_KEY_IN = "aws secretsmanager put-secret-value --secret-id <the output ClaudeKeySecret> --secret-string <your key>"
_MEANINGS = {
    "unauthorized": "is TOKEN of TokenIssuer, for TokenAudience, and not expired?",
    "forbidden": "may TOKEN's user call this route?",
    "allowance_used_up": "TOKEN's user has used up a quota: take another user's, or wait as long as Retry-After says",
    "too_many_requests": "the stage lets through no more now: RequestsPerSecond",
    "dependency_unavailable": f"is the key for Claude put in ({_PUT_KEY_IN}), and TokenJwksUrl right?",
    "model_unavailable": "Claude refuses the key or takes no more requests: is the key that was put in right?",
    "model_credit_used_up": "the account with Claude's provider has no credit: add some in its console",
    "model_retired": "Claude serves no such model, or none any more: are the names in ClaudeModels right?",
    "model_rejected": "Claude refuses the request: are the names in ClaudeModels right?",
    "model_timeout": "Claude did not answer in time: repeat it",
    "gateway_timeout": "the function took longer than 29 s: repeat it",
    "of Claude": "Claude itself answers so: is the key that was put in right?",
    "": "this is not Turnlog's own answer: does the URL end with /v1?",
}
"""The likely reason of an unexpected answer, by its code; without one when the answer is no problem of Turnlog's."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer; `body` is empty when it is no JSON object."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    took_ms: int

    @property
    def body(self) -> dict[str, Any]:
        try:
            parsed = json.loads(self.content)
        except ValueError:
            return {}
        return parsed if isinstance(parsed, dict) else {}

    @property
    def code(self) -> str:
        """The code of a problem, or of an error of the Messages API; empty when it is neither."""
        if self.status < 400:
            return ""
        details = self._error.get("details")
        return str(self.body.get("code") or (details.get("error_code", "") if isinstance(details, dict) else ""))

    def __str__(self) -> str:
        return f"{self.status} {self.code}".rstrip()

    def require(self, status: int) -> None:
        """Raises Unexpected for another status, with its likely reason."""
        if self.status == status:
            return
        detail = self.body.get("detail") or self._error.get("message")
        said = f"{self}{f' ({detail})' if detail else ''}, not {status}"
        meaning = _MEANINGS.get(self.code or ("of Claude" if self._error else ""), "")
        if self.status >= 500 and (request := self.body.get("instance") or self.body.get("request_id")):
            meaning = f"{meaning}; the log has it under {request}".removeprefix("; ")
        raise Unexpected(f"{said}: {meaning}" if meaning else said)

    @property
    def _error(self) -> dict[str, Any]:
        """The error of the Messages API; empty when it is none."""
        error = self.body.get("error")
        return error if isinstance(error, dict) else {}

    def require_problem(self, status: int, code: str) -> None:
        """Raises Unexpected unless it is this problem, as application/problem+json."""
        self.require(status)
        if self.code != code:
            raise Unexpected(f"{self}, not {status} {code}")
        kind = self.headers.get("content-type", "no content type")
        if not kind.startswith(PROBLEM):
            raise Unexpected(f"{self} as {kind}, not as {PROBLEM}: are the GatewayResponses deployed?")

    def text(self, name: str) -> str:
        """A field that is a text and not empty. Raises Unexpected without one."""
        value = self.body.get(name)
        if not isinstance(value, str) or not value:
            raise Unexpected(f"{self} without the field {name}")
        return value


class Api:
    """The API at the target's URL. Adds up what its answers cost."""

    def __init__(self, target: Target) -> None:
        self.token = target.token
        self.cost_usd = Decimal(0)
        self._url = target.url
        timeout = httpx2.Timeout(PATIENCE_S, connect=CONNECT_S)
        # A proxy is for other machines.
        self._client = httpx2.Client(timeout=timeout, trust_env=not target.is_local)

    def close(self) -> None:
        self._client.close()

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Sends a request with the token. Raises Unexpected without an answer."""
        known = {"Authorization": f"Bearer {self.token}", **(headers or {})}
        return self.ask_without_token(method, path, body, headers=known)

    def ask_without_token(
        self, method: str, path: str, body: object = None, *, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Sends a request with these headers alone. Raises Unexpected without an answer."""
        began = time.monotonic()
        try:
            got = self._client.request(method, f"{self._url}{path}", json=body, headers=dict(headers or {}))
        except httpx2.HTTPError as error:
            raise Unexpected(f"no answer ({type(error).__name__}): is the URL right, and does it run?") from error
        return Reply(got.status_code, got.headers, got.content, round((time.monotonic() - began) * 1000))

    def hear(self, path: str, body: object, headers: Mapping[str, str] | None = None) -> Heard:
        """Sends a request with the token, and hears its stream to the end.

        Raises Unexpected without one: for another answer with its likely reason, as `Reply.require` has it.
        """
        known = {"Authorization": f"Bearer {self.token}", **(headers or {})}
        began = time.monotonic()

        def since() -> int:
            return round((time.monotonic() - began) * 1000)

        try:
            with self._client.stream("POST", f"{self._url}{path}", json=body, headers=known) as got:
                kind = got.headers.get("content-type", "no content type")
                if not kind.startswith(STREAM):
                    Reply(got.status_code, got.headers, got.read(), since()).require(200)
                    raise Unexpected(f"{got.status_code} as {kind}, not as {STREAM}")
                return Heard(events_of((line, since()) for line in got.iter_lines()))
        except httpx2.HTTPError as error:
            raise Unexpected(f"no answer to its end ({type(error).__name__}): does it run, or was it cut?") from error

    def charge(self, paid: Mapping[str, Any]) -> str:
        """Adds what an answer cost to the total. Returns it as it is shown."""
        try:
            cost = Decimal(str(paid.get("cost_usd")))
        except InvalidOperation:
            return "at no known price"
        self.cost_usd += cost
        return f"${cost:f}"
