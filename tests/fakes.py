"""Fakes: a clock that the test moves, a model whose reply proves its history, a log and a bucket in memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from local.claude_stand_in.objects import object_for
from turnlog.domain.documents import Document, SummaryState, Upload
from turnlog.domain.messages import Message, ModelRequest, Reply, Usage, to_json
from turnlog.domain.reply_events import OnEvent, ReplyEvent, events_of
from turnlog.domain.server_key import ServerKey
from turnlog.domain.sessions import Session, SessionSettings, new_session_id
from turnlog.domain.turns import STOPPED, ModelCall, Totals, Turn
from turnlog.errors import DocumentRefused, ModelError, StoreUnavailable
from turnlog.usecases.audit import Audit
from turnlog.usecases.caller import Caller

START_MS = 1_790_000_000_000
MODEL = "claude-sonnet-5-5"
OWNER = "https://issuer.example/|ada"
SERVER_KEY = ServerKey("a server key for tests")


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
    """Replies with a hash of its whole request, in an object if a schema asks for one.

    Raises each of `fail_with` once instead; `during` runs in each call.
    """

    fail_with: list[ModelError] = field(default_factory=list)
    during: Callable[[], object] | None = None
    requests: list[ModelRequest] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    retry_s: list[float | None] = field(default_factory=list)
    tokens: int = 10

    def reply(
        self, request: ModelRequest, seconds: float, on_event: OnEvent | None = None, *, retry_s: float | None = None
    ) -> Reply:
        reply = self._reply(request, seconds, retry_s)
        return tell(reply, on_event) if on_event else reply

    def _reply(self, request: ModelRequest, seconds: float, retry_s: float | None) -> Reply:
        self.requests.append(request)
        self.seconds.append(seconds)
        self.retry_s.append(retry_s)
        if self.during:
            self.during()
        if self.fail_with:
            raise self.fail_with.pop(0)
        text = expected_text(request.messages)
        if request.settings.output_schema:
            text = to_json(object_for(json.loads(request.settings.output_schema), text))
        content = to_json([{"type": "text", "text": text}])
        usage = json.dumps({"input_tokens": self.tokens, "output_tokens": 5})
        return Reply(request.settings.model, content, "end_turn", Usage(usage))


def tell(reply: Reply, on_event: OnEvent, before_each: Callable[[ReplyEvent], None] = lambda event: None) -> Reply:
    """Tells the listener the reply, its texts in at most 50 pieces, as a model that streams does.

    Returns the reply, or what had come of it when the listener had enough: whole blocks, the text so far, and the usage
    as it is told at the start.
    """
    so_far: list[dict[str, Any]] = []
    open_block: dict[str, Any] = {}
    for event in _in_pieces(reply):
        before_each(event)
        data = json.loads(event.data)
        if event.type == "content_block_start":
            open_block = data["content_block"]
        elif event.type == "content_block_delta":
            open_block["text"] += data["delta"]["text"]
        elif event.type == "content_block_stop":
            so_far, open_block = [*so_far, open_block], {}
        if not on_event(event):
            kept = [*so_far, open_block] if open_block.get("text") else so_far
            usage = Usage(to_json(reply.usage.fields | {"output_tokens": 1}))
            return replace(reply, content=to_json(kept), stop_reason=STOPPED, usage=usage)
    return reply


def count_of_pieces(reply: Reply) -> int:
    """The number of events in which `tell` tells the reply."""
    return sum(1 for _ in _in_pieces(reply))


def _in_pieces(reply: Reply) -> Iterator[ReplyEvent]:
    for event in events_of(reply):
        if event.type != "content_block_delta":
            yield event
            continue
        data = json.loads(event.data)
        text = data["delta"]["text"]
        size = max(8, -(-len(text) // 50))
        for at in range(0, len(text), size):
            delta = {"type": "text_delta", "text": text[at : at + size]}
            yield ReplyEvent(event.type, to_json(data | {"delta": delta}))


class Heard(list[ReplyEvent]):
    """The events that a listener has heard."""

    def hear(self, event: ReplyEvent) -> bool:
        """Keeps the event, and lets the reply go on."""
        self.append(event)
        return True


def called(*calls: tuple[str, dict[str, Any]], text: str = "", first: int = 1) -> list[dict[str, Any]]:
    """The blocks of a reply that calls tools, by name and input; their ids count from `first`."""
    said = [{"type": "text", "text": text}] if text else []
    uses = enumerate(calls, start=first)
    return said + [{"type": "tool_use", "id": f"toolu_{n}", "name": name, "input": given} for n, (name, given) in uses]


@dataclass
class ScriptedModel(HashModel):
    """Replies with these blocks and stop reasons, one after the other, and goes on as HashModel."""

    script: list[tuple[list[dict[str, Any]], str]] = field(default_factory=list)

    def _reply(self, request: ModelRequest, seconds: float, retry_s: float | None) -> Reply:
        hashed = super()._reply(request, seconds, retry_s)
        if not self.script:
            return hashed
        blocks, stop_reason = self.script.pop(0)
        return replace(hashed, content=to_json(blocks), stop_reason=stop_reason, id=f"msg_{len(self.requests)}")


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


@dataclass
class NotedTrail:
    """An audit trail that keeps its events, as (action, fields)."""

    events: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def note(self, action: str, **fields: str) -> None:
        self.events.append((action, {name: value for name, value in fields.items() if value}))


def audit_of(caller: Caller, trail: NotedTrail | None = None) -> Audit:
    """The audit notes of one request of the caller, through no entry point at all."""
    kept = trail or NotedTrail()
    return Audit(lambda: kept, lambda: SERVER_KEY, "req-1", "TEST", caller)


class NoDocuments:
    """An empty bucket."""

    def exists(self, upload: Upload) -> bool:
        return False

    def read_text(self, upload: Upload) -> str:
        raise DocumentRefused("object_gone")

    def find_summary(self, upload: Upload) -> SummaryState | None:
        return None

    def put_summary(
        self, upload: Upload, summary: Mapping[str, object], over: SummaryState | None, lease_expires_ms: int = 0
    ) -> SummaryState:
        raise StoreUnavailable

    def list_documents(self, owner: str) -> list[Document]:
        return []

    def erase(self, owner: str) -> int:
        return 0


def new_session(owner: str = OWNER, *, created_ms: int = START_MS, idle_s: int = 1800, life_s: int = 86_400) -> Session:
    settings = SessionSettings(MODEL, 1000, "Be brief.")
    return Session(owner, new_session_id(), created_ms, created_ms + life_s * 1000, idle_s * 1000, settings)


def put_together(events: Iterable[ReplyEvent]) -> Reply:
    """The reply, by the rules of the API's stream: start events hold a block, text deltas are appended to it."""
    message: dict[str, Any] = {}
    open_block = None
    for event in events:
        data = json.loads(event.data)
        assert data["type"] == event.type
        if event.type == "message_start":
            message = data["message"]
            assert (message["role"], message["content"], message["stop_reason"]) == ("assistant", [], None)
        elif event.type == "content_block_start":
            assert data["index"] == len(message["content"])
            open_block = data["index"]
            message["content"].append(data["content_block"])
        elif event.type == "content_block_delta":
            assert (data["index"], data["delta"]["type"]) == (open_block, "text_delta")
            message["content"][open_block]["text"] += data["delta"]["text"]
        elif event.type == "content_block_stop":
            assert data["index"] == open_block
            open_block = None
        elif event.type == "message_delta":
            message |= data["delta"] | {"usage": data["usage"]}
        else:
            assert event.type == "message_stop"
            assert open_block is None
    details = message.get("stop_details")
    return Reply(
        message["model"],
        to_json(message["content"]),
        message["stop_reason"],
        Usage(to_json(message["usage"])),
        id=message.get("id", ""),
        stop_sequence=message.get("stop_sequence", ""),
        stop_details=to_json(details) if details else "",
    )


TOOL_USE = to_json(
    [
        {"type": "thinking", "thinking": "I look it up.", "signature": "c2lnbmVk"},
        {"type": "tool_use", "id": "toolu_1", "name": "look_up", "input": {"word": "ada"}},
    ]
)
TOOL_RESULT = to_json([{"type": "tool_result", "tool_use_id": "toolu_1", "content": "a name"}])


def two_call_turn(number: int = 1, *, tokens: int = 100, cost_usd: Decimal | None = Decimal("0.5")) -> Turn:
    """A turn of four messages: the model calls a tool and then replies. Each call uses `tokens` tokens."""
    messages = (
        Message.of_text(f"question {number}"),
        Message("assistant", TOOL_USE),
        Message("user", TOOL_RESULT),
        Message("assistant", to_json([{"type": "text", "text": "A name."}])),
    )
    usage = Usage(to_json({"input_tokens": tokens - 10, "output_tokens": 10}))
    calls = (ModelCall(MODEL, usage, cost_usd), ModelCall(MODEL, usage, cost_usd))
    return Turn(number, "token", b"", b"", messages, calls, "end_turn", Totals(), START_MS, 1, b"")


def with_content(turn: Turn, *, message: Message | None = None, reply: Reply | None = None) -> Turn:
    """The turn of one call with another message or reply, at the same cost."""
    message, reply = message or turn.message, reply or turn.reply
    calls = (ModelCall(reply.model, reply.usage, turn.cost_usd),)
    return replace(turn, messages=(message, reply.message), calls=calls, stop_reason=reply.stop_reason)


def with_cost(turn: Turn, cost_usd: Decimal | None) -> Turn:
    """The turn of one call at another cost."""
    return replace(turn, calls=(replace(turn.calls[0], cost_usd=cost_usd),))
