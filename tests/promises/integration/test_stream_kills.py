"""P1, P3 and P9: a process that streams a turn is killed after any event, and its key goes on after the last step.

The handler is a process of its own over the store on files; its reader is this process, to which it sends each event
before it goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from tests.fakes import MODEL, OWNER, HashModel, HeldClock, ScriptedModel, called, new_session
from tests.promises.integration.handlers import processes
from tests.promises.integration.model_server import PATIENCE_S
from tests.promises.integration.tool_loop import never_renewed
from tests.readers import Events
from turnlog.adapters.local.files import FileSessionStore
from turnlog.domain.messages import Message
from turnlog.domain.reply_events import ReplyEvent
from turnlog.domain.sessions import Session, SessionSettings
from turnlog.domain.tools import ToolCall, ToolResult, calls_in
from turnlog.domain.turn_stream import TurnStream
from turnlog.errors import TurnInProgress
from turnlog.usecases.held_lease import LEASE_S
from turnlog.usecases.turn_protocol import TakenTurn, run_turn
from turnlog.usecases.turn_request import TurnPolicy, TurnRequest

TOOL = "look_up"
SCRIPT = [
    (called((TOOL, {"word": "heron"}), text="I look."), "tool_use"),
    ([{"type": "text", "text": "A bird."}], "end_turn"),
]
EVENTS = [
    "turnlog.turn",
    "message_start",
    *("content_block_start", "content_block_delta", "content_block_stop"),
    *("content_block_start", "content_block_stop"),
    *("turnlog.tool", "turnlog.tool"),
    *("content_block_start", "content_block_delta", "content_block_stop"),
    *("message_delta", "message_stop"),
]
"""All events of the turn, in order: it calls a tool and then replies."""

_CHECKPOINTED = EVENTS.index("turnlog.tool")
_LAST_OF_TOOL = _CHECKPOINTED + 2  # while it is shown, the results are not stored


@dataclass
class Tools:
    """Answers each call at once, and counts them."""

    runs: int = 0

    def run(self, calls: Sequence[ToolCall], owner: str, seconds: float) -> list[ToolResult]:
        self.runs += len(calls)
        return [ToolResult(call.id, '"a bird"') for call in calls]


def take(
    store: FileSessionStore, session: Session, model: HashModel, tools: Tools, clock: HeldClock, stream: TurnStream
) -> TakenTurn:
    key = b"k".ljust(16)
    return run_turn(
        TurnRequest(OWNER, session.id, key, key, Message.of_text("What is a heron?")),
        store=store,
        model=model,
        tools=tools,
        clock=clock,
        remaining_s=lambda: 900.0,
        renewing=never_renewed,
        policy=TurnPolicy(),
        stream=stream,
    )


def stream_to(pipe: Connection, folder: Path, session: Session) -> None:
    """Takes the turn, and goes on after each event when the reader has it."""

    def emit(event: ReplyEvent) -> None:
        pipe.send((event.type, event.data))
        pipe.recv()

    take(FileSessionStore(folder), session, ScriptedModel(script=list(SCRIPT)), Tools(), HeldClock(), TurnStream(emit))
    pipe.send(None)


@contextmanager
def handler(folder: Path, session: Session) -> Iterator[Connection]:
    """A process that streams the turn; killed at the end of the block."""
    ours, theirs = processes().Pipe()
    victim = processes().Process(target=stream_to, args=(theirs, folder, session), daemon=True)
    victim.start()
    try:
        yield ours
    finally:
        victim.kill()
        victim.join(PATIENCE_S)
        assert victim.exitcode == -9


def read(pipe: Connection, count: int) -> Events:
    """Reads so many events; the handler waits after the last of them."""
    events = Events()
    for number in range(count):
        if number:
            pipe.send("go on")
        assert pipe.poll(PATIENCE_S), "nothing came"
        events.append(ReplyEvent(*pipe.recv()))
    return events


@pytest.mark.parametrize("count", range(1, len(EVENTS) + 1))
def test_after_a_kill_the_same_key_gets_the_whole_turn_as_a_stream(tmp_path: Path, count: int) -> None:
    settings = SessionSettings(MODEL, 1000, tools="[]", own_tools=(TOOL,))
    store = FileSessionStore(tmp_path)
    session = store.create(replace(new_session(), settings=settings), "")
    with handler(tmp_path, session) as pipe:
        shown = read(pipe, count)
    assert shown.types == EVENTS[:count]

    is_stored, has_step = "message_delta" in shown.types, count > _CHECKPOINTED
    model, tools, clock, again = ScriptedModel(script=SCRIPT[has_step:]), Tools(), HeldClock(), Events()
    if not is_stored:
        with pytest.raises(TurnInProgress):
            take(store, session, model, tools, clock, TurnStream(again.append))
        clock.tick(seconds=LEASE_S + 1)
    taken = take(store, session, model, tools, clock, TurnStream(again.append))
    assert taken.replayed is is_stored
    assert (len(model.requests), tools.runs) == _left_to_do(count)
    said = [block for message in taken.turn.messages if message.role == "assistant" for block in message.blocks]
    assert again.message.message.blocks == said
    assert len([call for message in taken.turn.messages for call in calls_in(message)]) == 1
    assert again.types[-1] == "message_stop"
    if is_stored and count == len(EVENTS):
        assert shown.message.message.blocks == said


def _left_to_do(count: int) -> tuple[int, int]:
    """The calls of the model and the runs of the tool that are left when so many events were shown."""
    if count >= EVENTS.index("message_delta") + 1:
        return 0, 0
    if count > _LAST_OF_TOOL:
        return 1, 0
    return (1, 1) if count > _CHECKPOINTED else (2, 1)
