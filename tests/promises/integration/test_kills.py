"""P9 and P3 under SIGKILL: a process dies at any moment of a turn, and the session goes on after at most one lease.

A handler in a process of its own is stopped at that moment and killed from outside. Its successors live in this process
and are told the time: the lease that they meet is the one that the dead process has left in the table.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from tests.fakes import OWNER, START_MS, HeldClock, new_session
from tests.promises.integration.fault_proxy import Broken, FaultProxy, Step
from tests.promises.integration.handlers import HandlerSetup, Outcome, TurnTask, processes
from tests.promises.integration.killable import Moment, take_until
from tests.promises.integration.ministack import Contents, Tables, is_proving
from tests.promises.integration.model_server import PATIENCE_S, ModelServer, RemoteModel, require_one_order
from turnlog.adapters.dynamodb import DynamoDBSessionStore
from turnlog.clock import Clock, system_clock
from turnlog.domain.sessions import Session
from turnlog.errors import AttemptsExhausted, TurnInProgress
from turnlog.usecases.turn_protocol import TakenTurn, run_turn
from turnlog.usecases.turn_request import TurnPolicy

REMAINING_S = 29.0
LEASE_MS = 34_000
"""The lease of the process that dies: its remaining time and COMMIT_RESERVE_S."""

TIMES = 20 if is_proving() else 2
NOTHING_LEASED = (Moment.BEFORE_READ, Moment.AFTER_READ, Moment.LEASE_ON_THE_WIRE)
PAID = (Moment.DURING_MODEL, Moment.BEFORE_COMMIT, Moment.COMMIT_ON_THE_WIRE, Moment.AFTER_COMMIT)
ON_THE_WIRE = {Moment.LEASE_ON_THE_WIRE: Step.LEASE, Moment.COMMIT_ON_THE_WIRE: Step.COMMIT}


@dataclass
class Scene:
    """A session of two turns whose third one is being taken by a process that will be killed."""

    tables: Tables
    model_server: ModelServer
    proxy: FaultProxy
    contents: Contents
    store: DynamoDBSessionStore
    session: Session
    clock: Clock

    def task(self, text: str) -> TurnTask:
        return TurnTask(self.session.owner, self.session.id, text)

    def take(self, text: str) -> TakenTurn:
        return run_turn(
            self.task(text).request(),
            store=self.store,
            model=RemoteModel(self.model_server.url),
            clock=self.clock,
            remaining_s=lambda: REMAINING_S,
            policy=TurnPolicy(),
        )

    def kill(self, moment: Moment, text: str, *, held_ms: int | None, remaining_s: float = REMAINING_S) -> None:
        """Returns when the process is dead."""
        ours, theirs = processes().Pipe()
        setup = HandlerSetup(self.tables, self.model_server.url, held_ms)
        endpoint = self.proxy.url if moment in ON_THE_WIRE else self.tables.endpoint
        if moment in ON_THE_WIRE:
            self.proxy.break_next(ON_THE_WIRE[moment], Broken.LATE)
        if moment is Moment.DURING_MODEL:
            self.model_server.close_gate()
        asked = self.model_server.calls[self.session.id]
        arguments = (moment, setup, endpoint, self.task(text), remaining_s, theirs)
        victim = processes().Process(target=take_until, args=arguments, daemon=True)
        victim.start()
        if moment is Moment.DURING_MODEL:
            self.model_server.await_calls(self.session.id, asked + 1)
        elif moment in ON_THE_WIRE:
            assert self.proxy.arrived.wait(PATIENCE_S)
        else:
            assert ours.poll(PATIENCE_S)
            assert ours.recv() == "there"
        victim.kill()
        victim.join(PATIENCE_S)
        assert victim.exitcode == -9
        self.proxy.mend()
        self.model_server.open_gate()

    def turns(self, now_ms: int) -> list[Outcome]:
        """Returns the stored turns, after a check of their order."""
        view = self.store.read(self.session.owner, self.session.id, now_ms, newest=25)
        require_one_order(view.turns)
        return [Outcome.of(self.task(""), TakenTurn(turn, view)) for turn in view.turns]


def counted(session: Session) -> Session:
    """Makes the id the system prompt, so that the model server counts the calls of the session."""
    return replace(session, settings=replace(session.settings, system=session.id))


@pytest.fixture
def scene(tables: Tables, contents: Contents) -> Iterator[Scene]:
    with ModelServer() as model_server, FaultProxy(tables.endpoint) as proxy:
        store = tables.store(contents.client)
        session = store.create(counted(new_session()), "")
        scene = Scene(tables, model_server, proxy, contents, store, session, HeldClock())
        scene.take("one")
        scene.take("two")
        yield scene
        model_server.open_gate()


def every_kill() -> list[object]:
    """Yields each moment; for a request on the wire, with its arrival before the next turn and after all."""
    return [
        pytest.param(moment, late, number, id=f"{moment}{', which arrives last' if late else ''} {number + 1}")
        for moment in Moment
        for late in ([False, True] if moment in ON_THE_WIRE else [False])
        for number in range(TIMES)
    ]


@pytest.mark.parametrize(("moment", "arrives_last", "number"), every_kill())
def test_after_a_kill_the_session_goes_on_within_one_lease(
    scene: Scene, moment: Moment, arrives_last: bool, number: int
) -> None:
    scene.kill(moment, "three", held_ms=START_MS)
    if not arrives_last:
        scene.proxy.deliver()
    leased = moment not in NOTHING_LEASED or (moment is Moment.LEASE_ON_THE_WIRE and not arrives_last)
    committed = moment is Moment.AFTER_COMMIT or (moment is Moment.COMMIT_ON_THE_WIRE and not arrives_last)
    texts = ["three", "four"] if number % 2 == 0 else ["four", "three"]

    scene.clock = HeldClock(START_MS + LEASE_MS)
    if leased and not committed:
        for text in texts:
            with pytest.raises(TurnInProgress) as busy:
                scene.take(text)
            assert busy.value.retry_after_s
        scene.clock = HeldClock(START_MS + LEASE_MS + 1)
    taken = {text: scene.take(text) for text in texts}

    assert taken["three"].replayed is committed
    assert [taken[text].turn.number for text in texts] == ([3, 4] if not committed or texts[0] == "three" else [4, 3])
    assert scene.model_server.calls[scene.session.id] == 4 + (moment in PAID and not committed)
    before = scene.contents.everything()
    assert (scene.proxy.deliver() == 1) is arrives_last
    assert scene.contents.everything() == before, "a request of a dead process changed something"
    stored = scene.turns(scene.clock())
    assert len(stored) == 4
    again = scene.take("three")
    assert again.replayed
    assert (
        again.turn == taken["three"].turn == scene.store.turns(scene.session, again.turn.number, again.turn.number)[0]
    )


@pytest.mark.asvs("15.4.3")
@pytest.mark.parametrize("number", range(TIMES))
@pytest.mark.parametrize("moment", [Moment.AFTER_LEASE, Moment.DURING_MODEL, Moment.BEFORE_COMMIT])
def test_after_a_kill_a_client_goes_on_when_a_short_lease_is_over(scene: Scene, moment: Moment, number: int) -> None:
    scene.clock = system_clock
    scene.session = scene.store.create(counted(new_session(created_ms=system_clock())), "")
    scene.kill(moment, "one", held_ms=None, remaining_s=-4.0)  # COMMIT_RESERVE_S more is a second
    lease = scene.store.read(OWNER, scene.session.id, system_clock(), newest=1).running
    assert lease
    deadline = time.monotonic() + PATIENCE_S
    while True:
        asked_ms = system_clock()
        try:
            taken = scene.take("one")
            break
        except TurnInProgress:
            assert asked_ms <= lease.lease_expires_ms, "refused although the lease was over"
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert system_clock() > lease.lease_expires_ms
    assert taken.turn.number == 1
    assert not taken.replayed


def test_a_key_with_three_killed_handlers_is_not_paid_for_again(
    scene: Scene,
) -> None:
    now_ms = START_MS
    for attempt in (1, 2, 3):
        scene.kill(Moment.BEFORE_COMMIT, "three", held_ms=now_ms)
        assert scene.model_server.calls[scene.session.id] == 2 + attempt
        now_ms += LEASE_MS + 1
    scene.clock = HeldClock(now_ms)
    with pytest.raises(AttemptsExhausted):
        scene.take("three")
    assert scene.model_server.calls[scene.session.id] == 5
    assert scene.take("four").turn.number == 3
    assert len(scene.turns(now_ms)) == 3
