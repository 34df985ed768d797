"""A handler in a process of its own that stops at a given moment, to be killed there."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from enum import StrEnum
from multiprocessing.connection import Connection
from typing import Any

from tests.promises.integration.handlers import HandlerSetup, Outcome, TurnTask
from tests.promises.integration.ministack import client_of
from tests.promises.integration.model_server import RemoteModel
from turnlog.usecases.turn_protocol import run_turn


class Moment(StrEnum):
    """A moment of a turn, in order. A request on the wire has left the process and reaches DynamoDB only after its
    death.
    """

    BEFORE_READ = "before the read"
    AFTER_READ = "after the read"
    LEASE_ON_THE_WIRE = "while the lease is on the wire"
    AFTER_LEASE = "after the lease"
    DURING_MODEL = "during the model call"
    BEFORE_COMMIT = "before the commit"
    COMMIT_ON_THE_WIRE = "while the commit is on the wire"
    AFTER_COMMIT = "after the commit"


_BEFORE = {Moment.BEFORE_READ: 1, Moment.BEFORE_COMMIT: 3}
_AFTER = {Moment.AFTER_READ: 1, Moment.AFTER_LEASE: 2, Moment.AFTER_COMMIT: 3}
"""The number of the call, of the turn's three, before or after which the process stops."""


def take_until(
    moment: Moment, setup: HandlerSetup, endpoint: str, task: TurnTask, remaining_s: float, pipe: Connection
) -> None:
    """Reports its arrival through the pipe, and waits. On the wire and in the model call others hold it up."""
    client = client_of(endpoint)
    client.meta.events.register("before-send.dynamodb.*", _stop_at(_BEFORE.get(moment), pipe))
    client.meta.events.register("after-call.dynamodb.*", _stop_at(_AFTER.get(moment), pipe))
    taken = run_turn(
        task.request(),
        store=setup.tables.store(client),
        model=RemoteModel(setup.model_url),
        clock=setup.clock,
        remaining_s=lambda: remaining_s,
        policy=setup.policy,
    )
    pipe.send(Outcome.of(task, taken))


def _stop_at(call: int | None, pipe: Connection) -> Callable[..., None]:
    calls = itertools.count(1)

    def stop(**_: Any) -> None:
        if next(calls) == call:
            pipe.send("there")
            pipe.recv()

    return stop
