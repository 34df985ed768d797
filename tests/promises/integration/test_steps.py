"""P2, P3 and P9 for turns of several steps: no acknowledged step is paid or run again, whoever dies or comes too late.

The turns call a tool twice. Handlers are processes of their own, and all content is encrypted. A handler that is killed
or stands still does so by a held clock; its successors live in this process and are told a later time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING

import pytest

from tests.fakes import OWNER, START_MS, HeldClock, new_session
from tests.promises.integration.fault_proxy import Broken, FaultProxy, Step
from tests.promises.integration.handlers import HandlerSetup, TurnTask, handler_pool
from tests.promises.integration.ministack import Item, Tables, is_proving, new_tables
from tests.promises.integration.model_server import PATIENCE_S, TOOL, ModelServer, RemoteModel, require_one_order
from tests.promises.integration.tool_log import ToolLog
from tests.promises.integration.tool_loop import (
    MOMENTS,
    REMAINING_S,
    LoopHandler,
    Moment,
    RunningHandler,
    SharedClock,
    Where,
    moment,
    never_renewed,
)
from turnlog.adapters.dynamodb import DynamoDBSessionStore
from turnlog.adapters.dynamodb.items import partition
from turnlog.clock import Clock
from turnlog.domain.sessions import Session, SessionSettings
from turnlog.domain.tools import calls_in
from turnlog.domain.turns import INTERRUPTED, STOPPED, Lease, Turn, total_tokens
from turnlog.errors import LeaseLost, TurnInProgress, TurnNotRunning
from turnlog.usecases.caller import Caller
from turnlog.usecases.cancel_turn import cancel_turn
from turnlog.usecases.held_lease import LEASE_S
from turnlog.usecases.renewal import RENEW_EVERY_S
from turnlog.usecases.turn_protocol import TakenTurn, run_turn
from turnlog.usecases.turn_request import TurnPolicy

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

STEPS = 2
CALLS = STEPS + 1
LEASE_MS = round(LEASE_S * 1000)
ROUNDS = 10 if is_proving() else 1
TIMES = range(ROUNDS)
FIRST, SECOND, THIRD = "heron one", "heron two", "heron three"


@dataclass
class Scene:
    """A session of one turn, whose second one is taken by a process that will die or come too late."""

    setup: HandlerSetup
    model_server: ModelServer
    proxy: FaultProxy
    client: DynamoDBClient
    store: DynamoDBSessionStore
    session: Session
    log: ToolLog
    clock: Clock = field(default_factory=HeldClock)

    def __post_init__(self) -> None:
        self.tools = self.log.runner()

    def take(self, text: str) -> TakenTurn:
        return run_turn(
            self.task(text).request(),
            store=self.store,
            model=RemoteModel(self.model_server.url),
            tools=self.tools,
            clock=self.clock,
            remaining_s=lambda: REMAINING_S,
            renewing=never_renewed,
            policy=TurnPolicy(),
        )

    def task(self, text: str) -> TurnTask:
        return TurnTask(self.session.owner, self.session.id, text)

    def handler(
        self, where: Where, number: int, clock: Clock | None = None, renews_every_s: float | None = None
    ) -> RunningHandler:
        """Returns a process that takes the second turn, once it has arrived at that place."""
        endpoint = self.setup.tables.endpoint
        if where is Where.ON_THE_WIRE:
            endpoint = self.proxy.url
            self.proxy.break_next(Step.CHECKPOINT, Broken.LATE, after=number - 1)
        if where is Where.IN_MODEL:
            self.model_server.close_gate(only=self.calls + number)
        arrives_at = self.calls + number
        task = self.task(SECOND)
        begun = LoopHandler(self.setup, endpoint, task, self.log, clock or SharedClock(START_MS), renews_every_s)
        running = RunningHandler(where, number, begun)
        if where is Where.IN_MODEL:
            self.model_server.await_calls(self.session.id, arrives_at)
        elif where is Where.ON_THE_WIRE:
            assert self.proxy.arrived.wait(PATIENCE_S)
        else:
            running.await_arrival()
        return running

    def kill(self, where: Where, number: int) -> None:
        """Returns when the process is dead."""
        with self.handler(where, number) as running:
            running.kill()
        self.proxy.mend()
        self.model_server.open_gate()

    def let_go(self, running: RunningHandler, where: Where) -> None:
        """Lets the process go on from there."""
        if where is Where.IN_MODEL:
            self.model_server.open_gate()
        else:
            running.go_on()

    def await_renewal(self) -> None:
        """Returns when the lease has been written at the time that it is now."""
        deadline = monotonic() + PATIENCE_S
        while not (self.lease and self.lease.at_ms == self.clock()):
            assert monotonic() < deadline, "the lease was not renewed"
            sleep(0.01)

    def lapse(self) -> None:
        """Lets the lease of the other process be over, by the time that its successors are told."""
        for text in (SECOND, THIRD) if self.lease else ():
            self.clock = HeldClock(START_MS + LEASE_MS)
            with pytest.raises(TurnInProgress) as busy:
                self.take(text)
            assert busy.value.retry_after_s
        self.clock = HeldClock(START_MS + LEASE_MS + 1)

    @property
    def calls(self) -> int:
        return self.model_server.calls[self.session.id]

    @property
    def lease(self) -> Lease | None:
        return self.store.read(OWNER, self.session.id, self.clock(), newest=1).running

    @property
    def turns(self) -> list[Turn]:
        view = self.store.read(OWNER, self.session.id, self.clock(), newest=25)
        return self.store.turns(self.session, 1, view.count)

    def items(self) -> dict[str, Item]:
        """Returns all that is stored of the session, by its sort keys."""
        asked = {":pk": {"S": partition(OWNER, self.session.id)}}
        found = self.client.query(
            TableName=self.setup.tables.sessions, KeyConditionExpression="pk = :pk", ExpressionAttributeValues=asked
        )
        return {item["sk"]["S"]: dict(item) for item in found["Items"]}

    def pieces(self) -> dict[str, Item]:
        """Returns what is stored below the second slot: messages, replies and results."""
        return {sk: item for sk, item in self.items().items() if sk.startswith("!000000002.")}

    def left(self) -> tuple[int, int, int, int]:
        """Returns what there is of the second turn, as a Moment says it."""
        names = [sk.partition(".")[2] for sk in self.pieces()]
        replies = sum(name.startswith("s") and name != "s00" for name in names)
        results = sum(name.startswith("r") for name in names)
        return replies, results, self.calls - CALLS, self.log.runs().total() - STEPS

    def require_whole(self) -> None:
        """Checks all that must hold however the turns came about."""
        turns = self.turns
        require_one_order(turns)
        ids = [call.id for turn in turns for message in turn.messages for call in calls_in(message)]
        assert len(ids) == len(set(ids)), "a step is stored twice"
        runs = self.log.runs()
        assert set(runs) <= set(ids), "a tool ran before its call was stored"
        assert max(runs.values()) <= 2
        assert turns[-1].totals.tokens == sum(total_tokens(turn.calls) for turn in turns)
        said = [message.content.encode() for turn in turns for message in turn.messages]
        assert turns[-1].totals.content_bytes == sum(map(len, said))
        items = self.items()
        assert "heron" not in str(items)
        assert all("kid" in item for item in items.values() if {"body", "part"} & set(item))


@pytest.fixture(scope="module")
def tables(ministack: DynamoDBClient) -> Tables:
    return new_tables(ministack, encrypted=True)


@pytest.fixture
def scene(ministack: DynamoDBClient, tables: Tables, tmp_path: Path) -> Iterator[Scene]:
    with ModelServer(STEPS) as model_server, FaultProxy(tables.endpoint) as proxy:
        store, begun = tables.store(ministack), new_session()
        settings = SessionSettings(begun.settings.model, 1000, system=begun.id, tools="[]", own_tools=(TOOL,))
        session = store.create(replace(begun, settings=settings), "")
        setup = HandlerSetup(tables, model_server.url)
        log = ToolLog(tmp_path / "runs")
        scene = Scene(setup, model_server, proxy, ministack, store, session, log)
        scene.take(FIRST)
        yield scene
        model_server.open_gate()


def ids_of(turn: Turn) -> list[str]:
    """The ids of the turn's calls of the tool, in order."""
    return [call.id for message in turn.messages for call in calls_in(message)]


# --- SIGKILL between any two steps


def require_finished(scene: Scene, at: Moment, before: Counter[str]) -> None:
    """Checks the second turn, taken by the same key after a process had left what the moment says."""
    turn = scene.turns[1]
    assert (len(turn.calls), turn.stop_reason, turn.steps) == (CALLS, "end_turn", STEPS)
    runs = scene.log.runs()
    ran = [runs[each] - before[each] for each in ids_of(turn)]
    assert ran == [0] * at.results + [1] * (STEPS - at.results)
    scene.require_whole()


@pytest.mark.asvs("15.4.3")
@pytest.mark.parametrize("_", TIMES)
@pytest.mark.parametrize("at", MOMENTS, ids=str)
def test_after_a_kill_the_same_key_goes_on_after_the_last_step(scene: Scene, at: Moment, _: int) -> None:
    scene.kill(at.where, at.number)
    assert scene.left() == (at.replies, at.results, at.calls, at.runs)
    kept, runs, asked = scene.pieces(), scene.log.runs(), scene.calls
    scene.lapse()
    taken = scene.take(SECOND)
    assert (taken.turn.number, taken.replayed) == (2, at.is_committed)
    assert scene.calls - asked == (0 if at.is_committed else CALLS - at.replies)
    require_finished(scene, at, runs)
    assert kept.items() <= scene.pieces().items(), "a step was written again"
    assert scene.take(SECOND).replayed


INTERRUPTIONS = [
    moment(Where.AFTER_LEASE, 1),
    moment(Where.AFTER_CHECKPOINT, 1),
    moment(Where.IN_TOOL, 1),
    moment(Where.IN_MODEL, 2),
    moment(Where.BEFORE_CHECKPOINT, 4),
    moment(Where.AFTER_CHECKPOINT, 4),
    moment(Where.AFTER_COMMIT, 1),
]


@pytest.mark.parametrize("_", TIMES)
@pytest.mark.parametrize("at", MOMENTS if is_proving() else INTERRUPTIONS, ids=str)
def test_after_a_kill_another_key_finds_what_was_finished(scene: Scene, at: Moment, _: int) -> None:
    scene.kill(at.where, at.number)
    kept, runs, asked = scene.pieces(), scene.log.runs(), scene.calls
    scene.lapse()
    other, again = scene.take(THIRD), scene.take(SECOND)
    is_kept = at.replies > 0
    assert [(taken.turn.number, taken.replayed) for taken in (other, again)] == (
        [(3, False), (2, True)] if is_kept else [(2, False), (3, False)]
    )
    assert scene.calls - asked == (CALLS if is_kept else 2 * CALLS)
    if is_kept and not at.is_committed:
        assert (again.turn.stop_reason, len(again.turn.calls)) == (INTERRUPTED, at.replies)
        assert {each: scene.log.runs()[each] for each in ids_of(again.turn)} == {
            each: runs[each] for each in ids_of(again.turn)
        }
        assert kept == scene.pieces()
    scene.require_whole()


@pytest.mark.parametrize("arrives_last", [False, True], ids=["which arrives", "which arrives last"])
@pytest.mark.parametrize("number", [1, 2, 3, 4] if is_proving() else [1, 4])
def test_a_checkpoint_of_a_dead_process_counts_only_before_its_lease_is_over(
    scene: Scene, number: int, arrives_last: bool
) -> None:
    scene.kill(Where.ON_THE_WIRE, number)
    at = moment(Where.BEFORE_CHECKPOINT if arrives_last else Where.AFTER_CHECKPOINT, number)
    if not arrives_last:
        assert scene.proxy.deliver() == 1
    assert scene.left() == (at.replies, at.results, at.calls, at.runs)
    runs, asked = scene.log.runs(), scene.calls
    scene.lapse()
    assert not scene.take(SECOND).replayed
    assert scene.calls - asked == CALLS - at.replies
    before = scene.items()
    assert scene.proxy.deliver() == arrives_last
    assert scene.items() == before, "a request of a dead process changed something"
    require_finished(scene, at, runs)


# --- two handlers on one turn


OVERTAKEN = [
    pytest.param(at, key, id=f"{at}, by {name}")
    for at in MOMENTS[:-1]
    for key, name in ((SECOND, "the same key"), (THIRD, "another key"))
    if is_proving()
    or (str(at), key)
    in (
        ("after the lease 1", THIRD),
        ("after checkpoint 1", SECOND),
        ("in tool 1", SECOND),
        ("in tool 1", THIRD),
        ("in call 2", SECOND),
        ("before checkpoint 4", SECOND),
        ("before the commit 1", THIRD),
    )
]


@pytest.mark.parametrize(("at", "key"), OVERTAKEN)
def test_a_handler_that_was_overtaken_changes_nothing(scene: Scene, at: Moment, key: str) -> None:
    with scene.handler(at.where, at.number) as late:
        scene.lapse()
        scene.take(key)
        before = scene.items()
        scene.let_go(late, at.where)
        outcome = late.outcome()
    assert scene.items() == before
    scene.require_whole()
    if key == SECOND or at.replies:
        second = scene.turns[1]
        assert (outcome.number, outcome.reply) == (2, second.reply.text)
        assert second.stop_reason == ("end_turn" if key == SECOND else INTERRUPTED)
    else:
        assert outcome.error == LeaseLost.__name__


@pytest.mark.parametrize("_", TIMES)
@pytest.mark.parametrize("at", [moment(Where.IN_TOOL, 1), moment(Where.AFTER_CHECKPOINT, 3)], ids=str)
def test_of_handlers_that_go_on_with_one_turn_each_step_is_stored_once(scene: Scene, at: Moment, _: int) -> None:
    scene.kill(at.where, at.number)
    kept, runs, asked = scene.pieces(), scene.log.runs(), scene.calls
    scene.lapse()
    setup = replace(scene.setup, held_ms=scene.clock(), tool_log=scene.log)
    scene.model_server.close_gate()
    with handler_pool(setup, [[[scene.task(text)]] for text in (SECOND, SECOND, THIRD)]) as handlers:
        handlers.await_outcomes(lambda outcomes: len(outcomes) >= 2)
        scene.model_server.open_gate()
        outcomes = handlers.finish()
    assert {outcome.error for outcome in outcomes} <= {"", TurnInProgress.__name__}
    assert sorted(outcome.number for outcome in outcomes if outcome.number) == [2, 2, 3]
    second, third = scene.turns[1:]
    assert third.stop_reason == "end_turn"
    assert kept.items() <= scene.pieces().items(), "a step was written again"
    assert scene.model_server.most_running[scene.session.id] == 1
    if second.stop_reason == INTERRUPTED:
        assert scene.calls - asked == CALLS
        assert [scene.log.runs()[each] for each in ids_of(second)] == [runs[each] for each in ids_of(second)]
    else:
        assert scene.calls - asked == CALLS - at.replies + CALLS
        require_finished(scene, at, runs)
    scene.require_whole()


# --- a turn of minutes


@pytest.mark.parametrize(("where", "number"), [(Where.IN_MODEL, 2), (Where.IN_TOOL, 1)], ids=["model", "tool"])
def test_a_turn_that_outlives_its_lease_is_not_overtaken(scene: Scene, where: Where, number: int) -> None:
    time = SharedClock(START_MS)
    scene.clock = time
    with scene.handler(where, number, time, renews_every_s=0.05) as running:
        while time() <= START_MS + LEASE_MS:
            time.tick(seconds=RENEW_EVERY_S)
            scene.await_renewal()
            for text in (SECOND, THIRD):
                with pytest.raises(TurnInProgress):
                    scene.take(text)
        scene.let_go(running, where)
        outcome = running.outcome()
    assert (outcome.number, outcome.replayed) == (2, False)
    assert scene.left() == (STEPS, STEPS, CALLS, STEPS)
    scene.require_whole()


@pytest.mark.parametrize(
    ("where", "number", "replies", "runs"), [(Where.IN_TOOL, 1, 1, 1), (Where.IN_MODEL, 2, 2, 1)], ids=["tool", "model"]
)
def test_another_process_stops_a_turn_at_its_next_write(
    scene: Scene, where: Where, number: int, replies: int, runs: int
) -> None:
    with scene.handler(where, number, renews_every_s=0.05) as running:
        stop_second_turn(scene)
        scene.let_go(running, where)
        outcome = running.outcome()
    assert (outcome.number, outcome.replayed) == (2, False)
    second = scene.turns[1]
    assert (second.stop_reason, len(second.calls)) == (STOPPED, replies)
    assert scene.left()[2:] == (replies, runs)
    with pytest.raises(TurnNotRunning):
        stop_second_turn(scene)
    assert scene.take(THIRD).turn.number == 3
    assert scene.take(SECOND).turn == second
    scene.require_whole()


def stop_second_turn(scene: Scene) -> None:
    cancel_turn(Caller(OWNER), scene.session.id, 2, store=scene.store, now_ms=scene.clock())
