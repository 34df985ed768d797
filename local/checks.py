"""Checks that must pass before the launcher says ready. Each asks the running stack a question.

The checks also warm the functions that ask Claude. Two requests at once give the one of sessions two workers, since two
turns of a session meet; one more of each function would be half of a restart's time.
"""

from __future__ import annotations

import http.client
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from local.guard import HOST
from local.processes import Interruption
from local.stack import Aws

_TIMEOUT_S = 90.0  # a function's first answer waits for its imports, and those for each other on a small machine
_WORKERS_OF_SESSIONS = 2
_AT_ONCE = max(_WORKERS_OF_SESSIONS, os.cpu_count() or 1)
_REFUSED = {"check": True}  # by every route, before it asks or stores anything
_NO_SESSION = "ses_" + "0" * 22
_PROBLEM = "application/problem+json"
_STAGE = "/v1"


class CheckFailed(Exception):
    """The message names what is wrong with the stack."""


@dataclass(frozen=True, slots=True)
class Route:
    """One route of the template. `asks_claude` is True when its function has the permission to."""

    method: str
    path: str
    function: str
    asks_claude: bool
    is_public: bool = False
    streams: bool = False

    def __str__(self) -> str:
        return f"{self.method} {_STAGE}{self.path}"

    @property
    def workers(self) -> int:
        """The number of workers to warm."""
        return _WORKERS_OF_SESSIONS if self.path.startswith("/sessions") else 1

    @property
    def example(self) -> str:
        """A path of this route that names a session which does not exist."""
        path = self.path.replace("{id}", _NO_SESSION).replace("{n}", "1")
        return _STAGE + re.sub(r"\{\w+\}", "x", path)


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: Mapping[str, str]
    body: Any  # None when it is not JSON

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0]

    @property
    def is_problem(self) -> bool:
        return self.content_type == _PROBLEM and isinstance(self.body, dict)

    @property
    def is_error(self) -> bool:
        """True for a problem, and for an error of the Messages API, which the gateway's own refusals are too."""
        return self.is_problem or (isinstance(self.body, dict) and isinstance(self.body.get("error"), dict))


def routes_of(template: Mapping[str, Any]) -> list[Route]:
    """Every Api event of the template but the preflights of browsers, which need no token and ask nothing."""
    routes = []
    for name, properties in _functions(template):
        for event in properties.get("Events", {}).values():
            if event["Type"] == "Api" and event["Properties"]["Method"] != "options":
                api = event["Properties"]
                is_public = api.get("Auth", {}).get("Authorizer") == "NONE"
                streams = api.get("ResponseTransferMode") == "RESPONSE_STREAM"
                asks_claude = _asks_claude(properties)
                routes.append(Route(api["Method"].upper(), api["Path"], name, asks_claude, is_public, streams))
    return routes


def event_functions_of(template: Mapping[str, Any]) -> list[str]:
    """The functions that ask Claude and that no route reaches."""
    routed = {route.function for route in routes_of(template)}
    return [name for name, properties in _functions(template) if _asks_claude(properties) and name not in routed]


def _functions(template: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, resource in template["Resources"].items():
        if resource["Type"] == "AWS::Serverless::Function":
            yield name, resource["Properties"]


def _asks_claude(properties: Mapping[str, Any]) -> bool:
    policies = properties.get("Policies", [])
    return {"Ref": "AskClaudePolicy"} in (policies if isinstance(policies, list) else [policies])


class Checks:
    """Asks the API on `port`, with `token` where one is needed. Calls `on_answer` with each function that answers."""

    def __init__(self, port: int, token: str, interruption: Interruption, on_answer: Callable[[str], None]) -> None:
        self._port = port
        self._token = token
        self._interruption = interruption
        self._on_answer = on_answer

    def gateway(self) -> None:
        """Checks that the gateway answers an unknown route, with problem+json. Raises CheckFailed."""
        self._all_of([self._unknown_route])

    def _unknown_route(self) -> None:
        answer = self._ask("GET", f"{_STAGE}/no-such-route", "")
        if answer.status != 404 or not answer.is_problem:
            raise CheckFailed(f"an unknown route answers {_shown(answer)}, not 404 as {_PROBLEM}")

    def routes(self, routes: Iterable[Route]) -> None:
        """Checks that each route needs a token, and warms the functions. Raises CheckFailed."""
        routes = list(routes)
        self._all_of([lambda route=route: self._without_token(route) for route in routes if not route.is_public])  # type: ignore[misc]
        warmed = {route.function: route for route in reversed(routes) if route.asks_claude}
        first = [route for route in warmed.values() for _ in range(route.workers)]
        for asked in first, [route for route in routes if route not in warmed.values()]:
            self._all_of([lambda route=route: self._with_token(route) for route in asked])  # type: ignore[misc]

    def _invoke(self, client: Any, function: str, name: str) -> str:
        answer = client.invoke(FunctionName=name, Payload=b"{}")
        if "FunctionError" in answer:
            raise CheckFailed(f"the function {name} fails on an empty event")
        return function

    def model(self, aws: Aws, by_event: Mapping[str, str]) -> None:
        """Checks that the model answers, and that functions without a route take an empty event. Raises CheckFailed.

        `by_event` has the physical name of each.
        """
        client = aws.client("lambda")  # here, since making one is not safe in threads
        self._all_of([self._question, *(lambda each=each: self._invoke(client, *each) for each in by_event.items())])

    def _question(self) -> None:
        answer = self._ask("POST", f"{_STAGE}/query", self._token, {"message": "Say ok.", "max_tokens": 16})
        if answer.status != 200 or not isinstance(answer.body, dict) or not answer.body.get("text"):
            raise CheckFailed(f"the model does not answer: POST {_STAGE}/query gives {_shown(answer)}")

    def _without_token(self, route: Route) -> None:
        answer = self._ask(route.method, route.example, "")
        is_error = answer.is_error if route.streams else answer.is_problem
        if answer.status != 401 or not is_error or "www-authenticate" not in answer.headers:
            raise CheckFailed(f"{route} without a token answers {_shown(answer)}, not 401 as {_PROBLEM}")

    def _with_token(self, route: Route) -> str:
        answer = self._ask(route.method, route.example, self._token, _REFUSED if route.method == "POST" else None)
        is_ours = answer.is_problem or answer.content_type == "application/json"
        # What the gateway says itself when nothing behind it answers, it says without a reason of ours.
        if answer.status >= 500 or answer.status in (401, 403) or not is_ours or not isinstance(answer.body, dict):
            raise CheckFailed(f"{route} with a token answers {_shown(answer)}")
        return route.function

    def _all_of(self, checks: list[Callable[[], str | None]]) -> None:
        """Runs the checks in threads, so that a stop need not wait for a cold start.

        A check that returns a function's name reports that this function has answered.
        """
        pool = ThreadPoolExecutor(_AT_ONCE)
        try:
            left = {pool.submit(check) for check in checks}
            while left:
                done, left = wait(left, timeout=0.1, return_when=FIRST_COMPLETED)
                for each in done:
                    if function := each.result():
                        self._on_answer(function)
                self._interruption.check()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _ask(self, method: str, path: str, token: str, body: object = None) -> Response:
        connection = http.client.HTTPConnection(HOST, self._port, timeout=_TIMEOUT_S)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            sent = None if body is None else json.dumps(body)
            connection.request(method, path, sent, {**headers, "Content-Type": "application/json"} if sent else headers)
            reply = connection.getresponse()
            raw = reply.read()
        except (OSError, http.client.HTTPException) as error:
            raise CheckFailed(f"{method} {path.replace(_NO_SESSION, '{id}')} gets no answer: {error}") from error
        finally:
            connection.close()
        try:
            parsed = json.loads(raw)
        except ValueError:
            parsed = None
        return Response(reply.status, {name.lower(): value for name, value in reply.getheaders()}, parsed)


def _shown(answer: Response) -> str:
    code = answer.body.get("code") or answer.body.get("message") if isinstance(answer.body, dict) else None
    return f"{answer.status} {answer.content_type or 'without a type'}" + (f" ({code})" if code else "")
