"""The door of the Messages API under a real server, with the stand-in, or a provider of a test's own, behind it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import anthropic
import pytest

from local.claude_stand_in import StandIn
from local.loopback import GuardedHandler, LoopbackServer
from tests import deployed
from tests.handlers.conftest import Backstage, backstage, logged
from tests.stream.conftest import Believing, Served, running
from turnlog import runtime
from turnlog.adapters.messages_api import HttpMessagesApi
from turnlog.config import PassingSettings
from turnlog.domain.limits import OwnerLimits
from turnlog.domain.passing.rules import PassingRules
from turnlog.entrypoints.stream import NATIVE, make_app
from turnlog.entrypoints.stream.messages.door import MESSAGES

__all__ = ["Backstage", "backstage", "logged"]

KEY = "sk-ant-the-key-of-the-service"
MODELS = ("claude-sonnet-5-5", "claude-haiku-4-5")


def _by_default() -> PassingSettings:
    """The fields that are denied where the deployment's owner names none."""
    return PassingSettings.read(deployed.environment("StreamFunction"))


@dataclass
class DoorSettings:
    """The decisions of a deployment for this door; a test changes them."""

    web: bool = False
    denied_fields: tuple[str, ...] = field(default_factory=lambda: _by_default().denied_fields)
    denied_betas: tuple[str, ...] = field(default_factory=lambda: _by_default().denied_betas)
    limits: OwnerLimits = field(default_factory=OwnerLimits)
    keys: list[str] = field(default_factory=lambda: [KEY])

    def rules(self) -> PassingRules:
        return PassingRules(MODELS, self.web, frozenset(self.denied_fields), self.denied_betas)

    def key(self, *, renewed: bool = False) -> str:
        return self.keys[-1 if renewed else 0]


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, backstage: Backstage) -> DoorSettings:
    made = DoorSettings()
    monkeypatch.setattr(runtime, "passing_rules", made.rules)
    monkeypatch.setattr(runtime, "owner_limits", lambda: made.limits)
    monkeypatch.setattr(runtime, "token_verifier", Believing)
    return made


@pytest.fixture
def claude() -> Iterator[StandIn]:
    with StandIn(port=0) as upstream:
        yield upstream


@pytest.fixture(scope="session")
def server() -> Iterator[Served]:
    """One server for all tests: what is behind its doors is looked up for each request."""
    yield from running(make_app(NATIVE, MESSAGES))


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch, settings: DoorSettings, claude: StandIn, server: Served) -> Served:
    """The door, behind which is the stand-in."""
    api = HttpMessagesApi(claude.url, settings.key, allows_stand_in=True)
    monkeypatch.setattr(runtime, "messages_api", lambda: api)
    return server


@pytest.fixture
def client(door: Served) -> Iterator[anthropic.Anthropic]:
    """Anthropic's own client, with nothing changed but its address and its token."""
    with anthropic.Anthropic(base_url=door.url, auth_token="ada", api_key=None, max_retries=0) as made:
        yield made


@dataclass
class Provider:
    """A provider of a test's own, which answers with the status, headers and bytes that it is given."""

    url: str = ""
    seen: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    """Path, headers and body of each request."""


@contextmanager
def providing(
    send: Callable[[GuardedHandler], None] | bytes,
    status: int = 200,
    headers: Mapping[str, str] = MappingProxyType({"Content-Type": "application/json"}),
) -> Iterator[Provider]:
    """A server that answers with these bytes, or with what `send` writes; the end of the connection ends it."""
    made = Provider()

    class Answering(GuardedHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            made.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.close_connection = True
            self.end_headers()
            if isinstance(send, bytes):
                self.wfile.write(send)
            else:
                send(self)

    with LoopbackServer(0, Answering, "provider") as server:
        made.url = server.url
        yield made


Before = Callable[[str], str]
Facing = Callable[..., AbstractContextManager[tuple[str, Provider]]]


@pytest.fixture
def facing(before: Before) -> Facing:
    """Puts the door in front of a provider that answers as `providing` says: its address, and the provider."""

    @contextmanager
    def begin(*answer: Any, **more: Any) -> Iterator[tuple[str, Provider]]:
        with providing(*answer, **more) as provider:
            yield before(provider.url), provider

    return begin


@pytest.fixture
def before(settings: DoorSettings, monkeypatch: pytest.MonkeyPatch, server: Served) -> Before:
    """Puts the door in front of the provider at this address, and returns its own."""

    def begin(provider_url: str) -> str:
        api = HttpMessagesApi(provider_url, settings.key)
        monkeypatch.setattr(runtime, "messages_api", lambda: api)
        return server.url

    return begin


STREAM = MappingProxyType({"Content-Type": "text/event-stream; charset=utf-8", "request-id": "req_upstream"})


def event(kind: str, **fields: Any) -> bytes:
    """One event of a stream, as the API writes it."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def started(input_tokens: int = 9, **usage: Any) -> bytes:
    """The first event of a message."""
    used = {"input_tokens": input_tokens, "output_tokens": 1, **usage}
    message: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": MODELS[0],
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": used,
    }
    return event("message_start", message=message)


def said(text: str, index: int = 0) -> bytes:
    """The events of one block of text."""
    return (
        event("content_block_start", index=index, content_block={"type": "text", "text": ""})
        + event("content_block_delta", index=index, delta={"type": "text_delta", "text": text})
        + event("content_block_stop", index=index)
    )


def finished(output_tokens: int = 5, stop_reason: str | None = "end_turn", **usage: Any) -> bytes:
    """The event with which a message has ended, but for its last one."""
    delta = {"stop_reason": stop_reason, "stop_sequence": None}
    return event("message_delta", delta=delta, usage={"output_tokens": output_tokens, **usage})


STOP = event("message_stop")
