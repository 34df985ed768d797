"""Handlers as Lambda calls them, with a memory store and a model that can be looked into."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests import deployed, documented
from tests.fakes import MODEL, SERVER_KEY, HashModel, HeldClock, KeptLog, NoDocuments
from tests.web_adapter import WebAdapter, read_body
from turnlog import runtime
from turnlog.adapters import telemetry
from turnlog.adapters.lambda_tools import LambdaTools
from turnlog.adapters.local.memory import MemorySessionStore
from turnlog.adapters.tool_runner import ThreadToolRunner
from turnlog.config import AnonymousLifeSettings, AnonymousLimitSettings, GatewaySettings, SessionLifeSettings
from turnlog.domain.chosen_tools import OfferedTools
from turnlog.domain.passing.rules import PassingRules
from turnlog.domain.sessions import ListedSession, SessionView
from turnlog.domain.tool_functions import Tool
from turnlog.entrypoints.http.api import Api
from turnlog.errors import ItemUnreadable
from turnlog.ports.messages_api import PassedRequest
from turnlog.tools import tools_named
from turnlog.usecases.turn_request import TurnPolicy

Event = dict[str, Any]
DENIED = frozenset(["container", "thread"])
"""Some of the fields that a deployment lets nobody pass on."""

REFUSED_FIELDS = {"type", "title", "status", "detail", "instance", "code"}


@cache
def app(function: str) -> ModuleType:
    """The function's app.py, loaded as Lambda loads it: by its path, without its neighbours.

    It is as after the first request, which has less time than the others. An ASGI app is called by the adapter.
    """
    spec = importlib.util.spec_from_file_location(f"app_{function}", Path("functions") / function / "app.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if function == "stream":
        vars(module)["handler"] = WebAdapter(module.app, module.app.state.routes)
    elif isinstance(module.handler, Api):
        module.handler.is_warm = True
    return module


def event(function: str) -> Event:
    """The function's own example event."""
    loaded: Event = json.loads((Path("events") / f"{function}.json").read_text())
    return loaded


class Context:
    """The context that Lambda gives a handler. Its time runs with the clock, if it is given one."""

    aws_request_id = "6f1f2c9e-0000-4000-8000-000000000001"

    def __init__(self, seconds: float = 29, clock: Callable[[], int] = lambda: 0) -> None:
        self._clock = clock
        self._ends_ms = clock() + round(seconds * 1000)

    def get_remaining_time_in_millis(self) -> int:
        return self._ends_ms - self._clock()


@dataclass(frozen=True)
class Answered:
    """A handler's answer, read as a client reads it."""

    status: int
    headers: Mapping[str, str]
    body: Any
    raw: str


@dataclass
class Backstage:
    """The fakes behind the handlers under test."""

    model: HashModel
    store: MemorySessionStore
    clock: HeldClock
    audit: KeptLog
    slept: list[float] = field(default_factory=list)
    after_sleep: Callable[[], None] = lambda: None
    tools: list[Tool] = field(default_factory=lambda: tools_named(["current_time"]))
    """The tools that the deployment offers."""
    web: bool = False
    tool_failures: list[tuple[str, BaseException]] = field(default_factory=list)

    def tool_runner(self) -> ThreadToolRunner:
        remote = LambdaTools(lambda: None, {})
        return ThreadToolRunner(self.tools, remote, lambda *failed: self.tool_failures.append(failed), self.clock)

    def offered_tools(self) -> OfferedTools:
        return OfferedTools(self.tool_runner().definitions(), self.web)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock.tick(seconds=seconds)
        self.after_sleep()


class Echo:
    """A provider whose every answer is the same message, to whatever is passed on."""

    status = 200
    headers: Mapping[str, str] = {"content-type": "application/json", "request-id": "req_echo"}

    @contextmanager
    def send(self, request: PassedRequest, seconds: float) -> Iterator[Echo]:
        yield self

    def chunks(self) -> Iterator[bytes]:
        usage = {"input_tokens": 3, "output_tokens": 1}
        message = {"type": "message", "id": "msg_echo", "role": "assistant", "model": MODEL, "content": []}
        yield json.dumps(message | {"stop_reason": "end_turn", "usage": usage, "input_tokens": 3}).encode()


@pytest.fixture
def backstage(monkeypatch: pytest.MonkeyPatch, audit: KeptLog) -> Backstage:
    stage = Backstage(HashModel(), MemorySessionStore(), HeldClock(), audit)
    users, strangers = deployed.environment("SessionFunction"), deployed.environment("AnonymousFunction")
    life, anonymous_life = SessionLifeSettings.read(users).life, AnonymousLifeSettings.read(strangers).life
    anonymous = AnonymousLimitSettings.read(users).limits
    gateway_s = GatewaySettings.read(users).gateway_seconds
    monkeypatch.setattr(runtime, "gateway_s", lambda: gateway_s)
    monkeypatch.setattr(runtime, "chat_model", lambda: stage.model)
    monkeypatch.setattr(runtime, "session_store", lambda: stage.store)
    monkeypatch.setattr(runtime, "quota_store", lambda: stage.store)
    monkeypatch.setattr(runtime, "tool_runner", stage.tool_runner)
    monkeypatch.setattr(runtime, "offered_tools", stage.offered_tools)
    monkeypatch.setattr(runtime, "messages_api", Echo)
    monkeypatch.setattr(runtime, "passing_rules", lambda: PassingRules(runtime.models(), False, DENIED, ()))
    monkeypatch.setattr(runtime, "document_store", NoDocuments)
    monkeypatch.setattr(runtime, "now_ms", stage.clock)
    monkeypatch.setattr(runtime, "sleep", stage.sleep)
    monkeypatch.setattr(runtime, "server_key", lambda: SERVER_KEY)
    monkeypatch.setattr(runtime, "models", lambda: ("claude-sonnet-5-5", "claude-haiku-5-5"))
    monkeypatch.setattr(runtime, "session_life", lambda: life)
    monkeypatch.setattr(runtime, "anonymous_life", lambda: anonymous_life)
    monkeypatch.setattr(runtime, "turn_policy", TurnPolicy)
    monkeypatch.setattr(runtime, "owner_limits", lambda: runtime.turn_policy().owner)
    monkeypatch.setattr(runtime, "anonymous_limits", lambda: anonymous)
    return stage


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """All that the handlers write to their log."""
    lines = io.StringIO()
    monkeypatch.setattr(telemetry._logger().registered_handler, "stream", lines)
    return lines


class WithUnnamed:
    """A store that has one session more, whose very id cannot be read."""

    NAME = "S#unnamed"

    def __init__(self, store: MemorySessionStore) -> None:
        self._store = store
        self.is_deleted = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def session_ids(self, owner: str) -> list[str]:
        return [each.id for each in self.listed(owner)]

    def listed(self, owner: str) -> list[ListedSession]:
        return [*([] if self.is_deleted else [ListedSession(self.NAME, 0)]), *self._store.listed(owner)]

    def read(self, owner: str, session_id: str, now_ms: int, newest: int, **how: bool) -> SessionView:
        if session_id == self.NAME:
            raise ItemUnreadable
        return self._store.read(owner, session_id, now_ms, newest, **how)

    def delete(self, owner: str, session_id: str, now_ms: int) -> bool:
        if session_id == self.NAME:
            self.is_deleted = True
            return True
        return self._store.delete(owner, session_id, now_ms)


Call = Callable[..., Answered]


@pytest.fixture
def call(backstage: Backstage) -> Call:
    """Sends one request through a function's handler, as the gateway would hand it over.

    The answer must be one that the API's document allows.
    """

    def send(
        function: str,
        method: str,
        resource: str,
        body: object = None,
        *,
        raw: bytes | None = None,
        owner: str | None = "https://issuer.example/|ada",
        expires: str = "4102444800",
        parameters: Mapping[str, str] | None = None,
        query: Mapping[str, list[str]] | None = None,
        headers: Mapping[str, str] | None = None,
        roles: str = "",
        user: str | None = None,
        secret: str | None = None,
        source: str = "203.0.113.7",
        also: Mapping[str, Any] | None = None,
    ) -> Answered:
        """`secret` makes the caller anonymous, as the authorizer says; `user` makes it a back end that acts for this
        user; `source` is the address it comes from; `also` stands in the event instead of what would.
        """
        named = {"Turnlog-User": user} if user is not None else {}
        roles = roles or ("delegate" if named else "")
        verified = {"owner": owner, "kind": "user", "expires": expires, "roles": roles} if owner else None
        if secret:
            asked = {
                "authorizationToken": f"Session {secret}",
                "methodArn": "arn:aws:execute-api:::api/v1/GET/sessions/x",
            }
            verified = app("authorizer").handler(asked, Context())["context"]
        content = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        path = resource
        for name, value in (parameters or {}).items():
            path = path.replace(f"{{{name}}}", value)
        request = {
            "resource": resource,
            "path": path,
            "httpMethod": method,
            "headers": {"Content-Type": "application/json", **named, **(headers or {})},
            "multiValueQueryStringParameters": query,
            "pathParameters": parameters,
            "requestContext": {
                "requestId": "req-1",
                "authorizer": verified,
                "identity": {"sourceIp": source},
            },
            "body": base64.b64encode(content).decode() if content else None,
            "isBase64Encoded": True,
            **(also or {}),
        }
        answer = app(function).handler(request, Context(clock=backstage.clock))
        text = answer["body"]
        read = Answered(answer["statusCode"], answer["headers"], read_body(answer["headers"], text), text)
        if documented.is_written(method, resource):
            documented.expect(method, resource, read.status, read.headers, read.body)
        return read

    return send
