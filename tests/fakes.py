"""Fakes: a clock that the test moves, a model whose reply proves its history, a log and a bucket in memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from turnlog.adapters.s3_documents import Document
from turnlog.domain.messages import Message, ModelRequest, Reply, Usage, to_json
from turnlog.domain.sessions import Session, SessionSettings, new_session_id
from turnlog.errors import ModelError

START_MS = 1_790_000_000_000
MODEL = "claude-sonnet-5-5"
OWNER = "https://issuer.example/|ada"


@dataclass
class HeldClock:
    """A clock that stands still until the test moves it."""

    now_ms: int = START_MS

    def __call__(self) -> int:
        return self.now_ms

    def tick(self, *, seconds: float = 0, ms: int = 0) -> None:
        self.now_ms += round(seconds * 1000) + ms


def expected_text(messages: tuple[Message, ...]) -> str:
    """The answer of HashModel: equal texts mean equal histories."""
    shown = to_json([[message.role, message.content] for message in messages])
    return hashlib.sha256(shown.encode()).hexdigest()


@dataclass
class HashModel:
    """Replies with a hash of its whole request. Raises each of `fail_with` once instead; `during` runs in each call."""

    fail_with: list[ModelError] = field(default_factory=list)
    during: Callable[[], None] | None = None
    requests: list[ModelRequest] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    tokens: int = 10

    def reply(self, request: ModelRequest, seconds: float) -> Reply:
        self.requests.append(request)
        self.seconds.append(seconds)
        if self.during:
            self.during()
        if self.fail_with:
            raise self.fail_with.pop(0)
        content = to_json([{"type": "text", "text": expected_text(request.messages)}])
        usage = json.dumps({"input_tokens": self.tokens, "output_tokens": 5})
        return Reply(request.model, content, "end_turn", Usage(usage))


@dataclass
class KeptLog:
    """The part of CloudWatch Logs that the audit trail uses. Keeps events, oldest first; `during` runs before each put.

    What is put while `refusing` is not kept.
    """

    events: list[dict[str, str]] = field(default_factory=list)
    during: Callable[[], None] = lambda: None
    refusing: bool = False

    def put_log_events(self, **asked: Any) -> dict[str, Any]:
        self.during()
        if self.refusing:
            return {"rejectedLogEventsInfo": {"tooOldLogEventEndIndex": 1}}
        self.events += [json.loads(event["message"]) for event in asked["logEvents"]]
        return {}

    @property
    def actions(self) -> list[str]:
        return [event["action"] for event in self.events]


class NoDocuments:
    """An empty bucket."""

    def of(self, owner: str) -> list[Document]:
        return []

    def erase(self, owner: str) -> int:
        return 0


def new_session(owner: str = OWNER, *, created_ms: int = START_MS, idle_s: int = 1800, life_s: int = 86_400) -> Session:
    settings = SessionSettings(MODEL, 1000, "Be brief.")
    return Session(owner, new_session_id(), created_ms, created_ms + life_s * 1000, idle_s * 1000, settings)
