"""Handlers as real processes: each with its own client of DynamoDB, several threads, and turns to take."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from typing import Any

from tests.promises.integration.ministack import Tables
from tests.promises.integration.model_server import PATIENCE_S, RemoteModel
from tests.promises.integration.tool_log import ToolLog
from turnlog.clock import Clock, system_clock
from turnlog.domain.messages import Message
from turnlog.errors import TurnInProgress, TurnlogError
from turnlog.usecases.turn_protocol import TakenTurn, run_turn
from turnlog.usecases.turn_request import TurnPolicy, TurnRequest

LEASE_S = 34
"""The lease of a handler with 29 s left: COMMIT_RESERVE_S is 5 s."""


def remaining_s() -> float:
    return 29.0


@dataclass(frozen=True, slots=True)
class TurnTask:
    """A turn to take. A task that insists is repeated as long as the session is busy."""

    owner: str
    session_id: str
    text: str
    name: str = ""
    insists: bool = True

    @property
    def key(self) -> bytes:
        return hashlib.sha256((self.name or self.text).encode()).digest()[:16]

    def request(self) -> TurnRequest:
        fingerprint = hashlib.sha256(b"body" + self.text.encode()).digest()[:16]
        return TurnRequest(self.owner, self.session_id, self.key, fingerprint, Message.of_text(self.text))


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one try: a turn, or the name of an error."""

    task: TurnTask
    number: int = 0
    reply: str = ""
    replayed: bool = False
    tokens: int = 0
    error: str = ""
    retry_after_s: int | None = None

    @classmethod
    def of(cls, task: TurnTask, taken: TakenTurn) -> Outcome:
        turn = taken.turn
        return cls(task, turn.number, turn.reply.text, taken.replayed, turn.reply.usage.tokens)


@dataclass(frozen=True, slots=True)
class HandlerSetup:
    """The tables, the model and the policy of handlers, and the log of their tool, if they have one.

    A held clock gives all of them the same time; else it is the machine's.
    """

    tables: Tables
    model_url: str
    held_ms: int | None = None
    policy: TurnPolicy = field(default_factory=TurnPolicy)
    tool_log: ToolLog | None = None

    @property
    def clock(self) -> Clock:
        held = self.held_ms
        return system_clock if held is None else lambda: held


@cache
def processes() -> ForkServerContext:
    """Starts processes that have all modules loaded and share nothing else."""
    context = multiprocessing.get_context("forkserver")
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))  # the server's own: else it loads nothing
    context.set_forkserver_preload(["pytest", "anthropic", "tests.promises.integration.tool_loop"])
    forkserver.ensure_running()
    os.environ.pop("PYTHONPATH")
    if before is not None:
        os.environ["PYTHONPATH"] = before
    return context


class HandlerPool:
    """Processes at work. The outcome of each try arrives in `outcomes` during `await_outcomes` and `finish`."""

    def __init__(self, setup: HandlerSetup, work: Sequence[Sequence[Sequence[TurnTask]]]) -> None:
        context = processes()
        self.outcomes: list[Outcome] = []
        self._results: Any = context.SimpleQueue()
        self._left = len(work)
        pipes = [context.Pipe() for _ in work]
        self._processes = [
            context.Process(target=_work, args=(setup, tasks, theirs, self._results), daemon=True)
            for tasks, (_, theirs) in zip(work, pipes, strict=True)
        ]
        for each in self._processes:
            each.start()
        ours = [mine for mine, _ in pipes]
        for pipe in ours:
            assert pipe.poll(PATIENCE_S), "a process did not start"
            pipe.recv()
        for pipe in ours:
            pipe.send("go")

    def await_outcomes(self, enough: Callable[[list[Outcome]], bool]) -> list[Outcome]:
        """Returns all outcomes so far, once they are enough."""
        deadline = time.monotonic() + PATIENCE_S
        while not enough(self.outcomes):
            self._take(deadline)
        return self.outcomes

    def finish(self) -> list[Outcome]:
        """Returns all outcomes, once every process has done its work."""
        deadline = time.monotonic() + 2 * PATIENCE_S
        while self._left:
            self._take(deadline)
        for each in self._processes:
            each.join(PATIENCE_S)
            assert each.exitcode == 0
        return self.outcomes

    def _take(self, deadline: float) -> None:
        while self._results.empty():
            assert time.monotonic() < deadline, "the handlers do not get on"
            time.sleep(0.002)
        found = self._results.get()
        if isinstance(found, Outcome):
            self.outcomes.append(found)
        elif isinstance(found, BaseException):
            raise found
        else:
            self._left -= 1

    def end(self) -> None:
        for each in self._processes:
            each.kill()
            each.join()
        self._results.close()


@contextmanager
def handler_pool(setup: HandlerSetup, work: Sequence[Sequence[Sequence[TurnTask]]]) -> Iterator[HandlerPool]:
    """Starts a process for each element of `work`, and in it a thread for each list of tasks, which it runs in order.

    They all begin at the same moment.
    """
    started = HandlerPool(setup, work)
    try:
        yield started
    finally:
        started.end()


def _work(setup: HandlerSetup, work: Sequence[Sequence[TurnTask]], pipe: Connection, results: Any) -> None:
    store, model = setup.tables.store(), RemoteModel(setup.model_url)
    tools = setup.tool_log.runner() if setup.tool_log else None

    def run(tasks: Sequence[TurnTask]) -> None:
        for task in tasks:
            while not run_once(task):
                time.sleep(random.uniform(0.1, 0.3))  # far less than Retry-After, which would take minutes

    def run_once(task: TurnTask) -> bool:
        try:
            taken = run_turn(
                task.request(),
                store=store,
                model=model,
                tools=tools,
                clock=setup.clock,
                remaining_s=remaining_s,
                policy=setup.policy,
            )
        except TurnlogError as error:
            results.put(Outcome(task, error=type(error).__name__, retry_after_s=error.retry_after_s))
            return not (task.insists and isinstance(error, TurnInProgress))
        results.put(Outcome.of(task, taken))
        return True

    pipe.send("ready")
    pipe.recv()
    with ThreadPoolExecutor(len(work)) as pool:
        for done in [pool.submit(run, tasks) for tasks in work]:
            if error := done.exception():
                results.put(error)
    results.put(None)
