"""A turn of several steps in a process of its own, which stops at a given moment: to be killed, or to go on late."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from tests.promises.integration.fault_proxy import Sent, Step
from tests.promises.integration.handlers import HandlerSetup, Outcome, TurnTask, processes
from tests.promises.integration.ministack import client_of
from tests.promises.integration.model_server import PATIENCE_S, RemoteModel
from tests.promises.integration.tool_log import ToolLog
from turnlog.clock import Clock
from turnlog.errors import TurnlogError
from turnlog.usecases.renewal import Renewing, renewing
from turnlog.usecases.turn_protocol import run_turn

REMAINING_S = 600.0
"""The time of a handler whose turns take minutes: its lease is as long as one may be."""


class Where(StrEnum):
    """A place in a turn at which its process stops; `Moment.number` says which one of several.

    A turn of two steps and a reply has four checkpoints: each step's reply, and then its results.
    """

    AFTER_LEASE = "after the lease"
    IN_MODEL = "in call"
    BEFORE_CHECKPOINT = "before checkpoint"
    ON_THE_WIRE = "on the wire is checkpoint"
    AFTER_CHECKPOINT = "after checkpoint"
    IN_TOOL = "in tool"
    BEFORE_COMMIT = "before the commit"
    AFTER_COMMIT = "after the commit"


_STOPS_BEFORE = {Where.BEFORE_CHECKPOINT: Step.CHECKPOINT, Where.BEFORE_COMMIT: Step.COMMIT}
_STOPS_AFTER = {
    Where.AFTER_LEASE: Step.LEASE,
    Where.AFTER_CHECKPOINT: Step.CHECKPOINT,
    Where.AFTER_COMMIT: Step.COMMIT,
}


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment of a turn, and what it leaves: stored replies and results, calls of the model and runs of the tool."""

    where: Where
    number: int
    replies: int
    results: int
    calls: int
    runs: int

    def __str__(self) -> str:
        return f"{self.where} {self.number}"

    @property
    def is_committed(self) -> bool:
        return self.where is Where.AFTER_COMMIT


MOMENTS = (
    Moment(Where.AFTER_LEASE, 1, 0, 0, 0, 0),
    Moment(Where.IN_MODEL, 1, 0, 0, 1, 0),
    Moment(Where.BEFORE_CHECKPOINT, 1, 0, 0, 1, 0),
    Moment(Where.AFTER_CHECKPOINT, 1, 1, 0, 1, 0),
    Moment(Where.IN_TOOL, 1, 1, 0, 1, 1),
    Moment(Where.BEFORE_CHECKPOINT, 2, 1, 0, 1, 1),
    Moment(Where.AFTER_CHECKPOINT, 2, 1, 1, 1, 1),
    Moment(Where.IN_MODEL, 2, 1, 1, 2, 1),
    Moment(Where.BEFORE_CHECKPOINT, 3, 1, 1, 2, 1),
    Moment(Where.AFTER_CHECKPOINT, 3, 2, 1, 2, 1),
    Moment(Where.IN_TOOL, 2, 2, 1, 2, 2),
    Moment(Where.BEFORE_CHECKPOINT, 4, 2, 1, 2, 2),
    Moment(Where.AFTER_CHECKPOINT, 4, 2, 2, 2, 2),
    Moment(Where.IN_MODEL, 3, 2, 2, 3, 2),
    Moment(Where.BEFORE_COMMIT, 1, 2, 2, 3, 2),
    Moment(Where.AFTER_COMMIT, 1, 2, 2, 3, 2),
)
"""Every moment between two writes, calls and runs of a turn of two steps and a reply."""


def moment(where: Where, number: int) -> Moment:
    return next(each for each in MOMENTS if (each.where, each.number) == (where, number))


class SharedClock:
    """A clock that several processes read and one moves."""

    def __init__(self, now_ms: int) -> None:
        self._shared: Any = processes().RawValue("q", now_ms)

    def __call__(self) -> int:
        return int(self._shared.value)

    def tick(self, *, seconds: float) -> None:
        self._shared.value += round(seconds * 1000)


@contextmanager
def never_renewed(renew: Callable[[], bool]) -> Iterator[None]:
    yield


@dataclass(frozen=True, slots=True)
class LoopHandler:
    """A handler in a process of its own. With `renews_every_s` its thread renews so often, by the machine's clock."""

    setup: HandlerSetup
    endpoint: str
    task: TurnTask
    log: ToolLog
    clock: Clock
    renews_every_s: float | None = None

    @property
    def renewing(self) -> Renewing:
        every_s = self.renews_every_s
        return never_renewed if every_s is None else partial(renewing, every_s=every_s)


def run_until(where: Where, number: int, handler: LoopHandler, pipe: Connection) -> None:
    """Takes the turn. Says through the pipe that it has arrived, and goes on when it is told to; others hold up what is
    on the wire, and the model. Sends the outcome at the end.
    """

    def stop() -> None:
        pipe.send("there")
        pipe.recv()

    client = client_of(handler.endpoint)
    _stop_at(client, where, number, stop)
    earlier = handler.log.runs().total()
    in_tool = earlier + number if where is Where.IN_TOOL else 0
    try:
        taken = run_turn(
            handler.task.request(),
            store=handler.setup.tables.store(client),
            model=RemoteModel(handler.setup.model_url),
            tools=handler.log.runner(lambda runs: stop() if runs == in_tool else None),
            clock=handler.clock,
            remaining_s=lambda: REMAINING_S,
            renewing=handler.renewing,
            policy=handler.setup.policy,
        )
    except TurnlogError as error:
        pipe.send(Outcome(handler.task, error=type(error).__name__))
    else:
        pipe.send(Outcome.of(handler.task, taken))


def _stop_at(client: Any, where: Where, number: int, stop: Callable[[], None]) -> None:
    """Stops before or after the request of that step, the number `number` of its kind."""
    seen: Counter[Step | None] = Counter()
    arrived: list[Step] = []

    def before(request: Any, **_: Any) -> None:
        headers = {name.lower(): _text(value) for name, value in request.headers.items()}
        step = Sent(headers, request.body).step
        seen[step] += 1
        if step is None or seen[step] != number:
            return
        if step is _STOPS_BEFORE.get(where):
            stop()
        if step is _STOPS_AFTER.get(where):
            arrived.append(step)

    def after(**_: Any) -> None:
        if arrived:
            arrived.clear()
            stop()

    client.meta.events.register("before-send.dynamodb.*", before)
    client.meta.events.register("after-call.dynamodb.*", after)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


class RunningHandler(AbstractContextManager["RunningHandler"]):
    """The process of a handler, from its start; ended with the block."""

    def __init__(self, where: Where, number: int, handler: LoopHandler) -> None:
        self._ours, theirs = processes().Pipe()
        arguments = where, number, handler, theirs
        self._process = processes().Process(target=run_until, args=arguments, daemon=True)
        self._process.start()

    def await_arrival(self) -> None:
        assert self._ours.poll(PATIENCE_S), "the handler did not arrive"
        assert self._ours.recv() == "there"

    def go_on(self) -> None:
        self._ours.send("go on")

    def outcome(self) -> Outcome:
        assert self._ours.poll(PATIENCE_S), "the handler did not finish"
        found = self._ours.recv()
        assert isinstance(found, Outcome)
        self._process.join(PATIENCE_S)
        return found

    def kill(self) -> None:
        self._process.kill()
        self._process.join(PATIENCE_S)
        assert self._process.exitcode == -9

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join(PATIENCE_S)
        self._ours.close()
