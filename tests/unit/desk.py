"""A session at a desk: its store, its scripted model and its tools, and a shorthand for a turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Literal

import pytest

from tests.fakes import MODEL, OWNER, HeldClock, new_session, tell
from turnlog.adapters.local.memory import MemorySessionStore
from turnlog.domain.messages import Message, ModelRequest, Reply, Usage, to_json
from turnlog.domain.reply_events import OnEvent, ReplyEvent, events_of
from turnlog.domain.sessions import Session, SessionSettings
from turnlog.domain.tools import ToolCall, ToolResult
from turnlog.domain.turn_stream import TurnStream
from turnlog.domain.turns import STOPPED, Lease, Turn
from turnlog.usecases.held_lease import LEASE_S
from turnlog.usecases.turn_protocol import TakenTurn, run_turn
from turnlog.usecases.turn_request import TurnPolicy, TurnRequest

HANDLER_S = 60.0
OWN = "current_time"


class Killed(BaseException):
    """The end of a process: nothing of it runs any more."""


def text(said: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": said}]


def wants(*ids: str, name: str = OWN) -> list[dict[str, Any]]:
    return [{"type": "tool_use", "id": each, "name": name, "input": {"zone": "Asia/Tokyo"}} for each in ids]


@dataclass
class ScriptedModel:
    """Answers with one part of its script after the other; a part is blocks, blocks with a stop reason, or an error.

    `during` runs in each call, and `between` before each event that a listener is told as it comes.
    """

    script: list[Any] = field(default_factory=list)
    requests: list[ModelRequest] = field(default_factory=list)
    retry_s: list[float | None] = field(default_factory=list)
    during: Callable[[], None] = lambda: None
    between: Callable[[ReplyEvent], None] = lambda event: None
    tells: Literal["as it comes", "at the end", "nothing", "of its stop"] = "as it comes"

    def reply(
        self, request: ModelRequest, seconds: float, on_event: OnEvent | None = None, *, retry_s: float | None = None
    ) -> Reply:
        self.requests.append(request)
        self.retry_s.append(retry_s)
        self.during()
        part = self.script.pop(0)
        if isinstance(part, BaseException):
            raise part
        blocks, stop_reason = part if isinstance(part, tuple) else (part, "")
        stop_reason = stop_reason or ("tool_use" if any(each["type"] == "tool_use" for each in blocks) else "end_turn")
        usage = Usage(to_json({"input_tokens": 100 * len(self.requests), "output_tokens": 7}))
        reply = Reply(MODEL, to_json(blocks), stop_reason, usage, id=f"msg_{len(self.requests)}")
        if on_event is None or self.tells == "nothing":
            return reply
        if self.tells == "of its stop":
            return replace(reply, content="[]", stop_reason=STOPPED, usage=Usage("{}"))
        if self.tells == "as it comes":
            return tell(reply, on_event, self.between)
        all(map(on_event, events_of(reply)))
        return reply

    @property
    def last(self) -> list[tuple[str, list[dict[str, Any]]]]:
        return [(message.role, message.blocks) for message in self.requests[-1].messages]


@dataclass
class CountingTools:
    """Answers each call with its id; counts the runs of each id."""

    runs: dict[str, int] = field(default_factory=dict)
    during: Callable[[], None] = lambda: None
    content: str = ""
    owners: set[str] = field(default_factory=set)

    def run(self, calls: Sequence[ToolCall], owner: str, seconds: float) -> list[ToolResult]:
        for call in calls:
            self.runs[call.id] = self.runs.get(call.id, 0) + 1
        self.owners.add(owner)
        self.during()
        return [ToolResult(call.id, to_json(self.content or f"result of {call.id}")) for call in calls]


@contextmanager
def never_renewed(renew: Callable[[], bool]) -> Iterator[None]:
    yield


def hashed(name: str) -> bytes:
    return name.encode().ljust(16)


@dataclass
class Desk:
    """One session whose model may call a tool of the service, and all that its turns need."""

    clock: HeldClock = field(default_factory=HeldClock)
    model: ScriptedModel = field(default_factory=ScriptedModel)
    tools: CountingTools = field(default_factory=CountingTools)
    store: MemorySessionStore = field(default_factory=MemorySessionStore)
    session: Session = field(
        default_factory=lambda: replace(
            new_session(), settings=SessionSettings(MODEL, 1000, "Be brief.", tools="[]", own_tools=(OWN,))
        )
    )
    policy: TurnPolicy = field(default_factory=TurnPolicy)
    remaining_s: list[float] = field(default_factory=list)
    renewing: Any = never_renewed

    def __post_init__(self) -> None:
        self.store.create(self.session, "")

    def turn(
        self,
        said: str | Message,
        key: str = "",
        *script: Any,
        body: str = "",
        system: str = "",
        stream: TurnStream | None = None,
    ) -> TakenTurn:
        self.model.script += script
        message = Message.of_text(said) if isinstance(said, str) else said
        name = key or message.content
        request = TurnRequest(
            OWNER, self.session.id, hashed(name), hashed(body or name), message=message, system=system
        )
        return run_turn(
            request,
            store=self.store,
            model=self.model,
            tools=self.tools,
            clock=self.clock,
            remaining_s=lambda: self.remaining_s.pop(0) if len(self.remaining_s) > 1 else HANDLER_S,
            renewing=self.renewing,
            policy=self.policy,
            stream=stream,
        )

    def killed_turn(self, said: str, key: str, *script: Any) -> None:
        with pytest.raises(Killed):
            self.turn(said, key, *script)

    def lapse(self) -> None:
        self.clock.tick(seconds=LEASE_S + 1)

    @property
    def running(self) -> Lease | None:
        return self.store.read(OWNER, self.session.id, self.clock(), newest=1).running

    @property
    def turns(self) -> tuple[Turn, ...]:
        return self.store.read(OWNER, self.session.id, self.clock(), newest=25).turns

    @property
    def used(self) -> Decimal:
        counters = self.store._memory.quotas[OWNER].used
        return sum((amount for name, (amount, _) in counters.items() if name.startswith("tokens")), Decimal(0))
