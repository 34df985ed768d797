"""P2, P3, P7 and P8 among real processes: one order, one model call at a time, nothing paid twice and nothing lost.

The handlers are processes with clients of their own against MiniStack. A reply is the hash of all messages that the
model was sent, so the stored turns themselves prove in which order they were computed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal

import pytest

from tests.fakes import OWNER, START_MS, new_session
from tests.promises.integration.handlers import LEASE_S, HandlerSetup, Outcome, TurnTask, handler_pool
from tests.promises.integration.ministack import Contents, Tables, is_proving
from tests.promises.integration.model_server import ModelServer, require_one_order
from turnlog.adapters.dynamodb import DynamoDBSessionStore
from turnlog.adapters.dynamodb.items import partition
from turnlog.clock import system_clock
from turnlog.domain.limits import OwnerLimits
from turnlog.domain.quotas import QuotaCharge, QuotaCharges
from turnlog.domain.sessions import Move, Session, new_session_id
from turnlog.domain.turns import Turn
from turnlog.errors import LeaseLost, QuotaExceeded, SessionNotFound, StoreUnavailable, TurnInProgress, TurnlogError
from turnlog.usecases.turn_request import TurnPolicy

ANOTHER_OWNER = "https://issuer.example/|eve"
ROUNDS = 10 if is_proving() else 1
EIGHT = range(8)


@pytest.fixture
def model_server() -> Iterator[ModelServer]:
    with ModelServer() as model_server:
        yield model_server
        model_server.open_gate()


@pytest.fixture
def store(tables: Tables, contents: Contents) -> DynamoDBSessionStore:
    return tables.store(contents.client)


@pytest.fixture
def setup(tables: Tables, model_server: ModelServer) -> HandlerSetup:
    return HandlerSetup(tables, model_server.url)


def started(store: DynamoDBSessionStore, owner: str = OWNER, created_ms: int | None = None) -> Session:
    """Makes a session whose system prompt is its id, so that the model server counts its calls."""
    session = new_session(owner, created_ms=created_ms or system_clock())
    session = replace(session, settings=replace(session.settings, system=session.id))
    return store.create(session, "A title")


def task(session: Session, text: str, *, name: str = "", insists: bool = True) -> TurnTask:
    return TurnTask(session.owner, session.id, text, name, insists)


def stored(store: DynamoDBSessionStore, session: Session) -> list[Turn]:
    """Returns all turns of the live session, after the checks of the store itself."""
    view = store.read(session.owner, session.id, system_clock(), newest=25)
    assert view.running is None
    return store.turns(session, 1, view.count) if view.count else []


def taken(outcomes: Sequence[Outcome]) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.number]


def refused(outcomes: Sequence[Outcome]) -> list[Outcome]:
    return [outcome for outcome in outcomes if not outcome.number]


def require_only_busy(refusals: Sequence[Outcome]) -> None:
    assert {outcome.error for outcome in refusals} <= {TurnInProgress.__name__}
    assert all((outcome.retry_after_s or 0) >= 1 for outcome in refusals)


def require_returned_is_stored(outcomes: Sequence[Outcome], turns: Sequence[Turn]) -> None:
    """Checks that each returned turn is stored under the same number, key and reply."""
    held = {(turn.number, turn.key, turn.reply.text) for turn in turns}
    assert {(outcome.number, outcome.task.key, outcome.reply) for outcome in taken(outcomes)} <= held


# --- turns among turns ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("_", range(ROUNDS))
def test_32_writers_leave_one_order_and_pay_each_turn_once(
    setup: HandlerSetup, store: DynamoDBSessionStore, model_server: ModelServer, _: int
) -> None:
    session = started(store)
    work = [[[task(session, f"{process}.{thread}.{n}") for n in range(3)] for thread in range(4)] for process in EIGHT]
    with handler_pool(setup, work) as handlers:
        outcomes = handlers.finish()
    turns = stored(store, session)
    assert len(turns) == len(taken(outcomes)) == 96
    require_one_order(turns)
    require_returned_is_stored(outcomes, turns)
    require_only_busy(refused(outcomes))
    assert refused(outcomes), "they did not race"
    assert model_server.most_running[session.id] == 1
    assert model_server.calls[session.id] == 96


@pytest.mark.asvs("2.3.4")
def test_of_16_texts_at_once_15_are_refused_before_the_model_is_asked(
    setup: HandlerSetup, store: DynamoDBSessionStore, model_server: ModelServer
) -> None:
    session = started(store)
    model_server.close_gate()
    work = [[[task(session, f"{process}.{thread}", insists=False)] for thread in (1, 2)] for process in EIGHT]
    with handler_pool(setup, work) as handlers:
        require_only_busy(handlers.await_outcomes(lambda outcomes: len(outcomes) == 15))
        model_server.await_calls(session.id, 1)
        model_server.open_gate()
        outcomes = handlers.finish()
    assert [outcome.number for outcome in taken(outcomes)] == [1]
    assert model_server.calls[session.id] == 1
    require_one_order(stored(store, session))


def test_of_two_texts_at_once_the_second_has_seen_the_first(
    setup: HandlerSetup, store: DynamoDBSessionStore, model_server: ModelServer
) -> None:
    session = started(store)
    model_server.close_gate()
    with handler_pool(setup, [[[task(session, "one")]], [[task(session, "two")]]]) as handlers:
        require_only_busy(list(handlers.await_outcomes(lambda outcomes: len(outcomes) >= 3)))
        assert model_server.calls[session.id] == 1
        model_server.open_gate()
        outcomes = handlers.finish()
    assert sorted(outcome.number for outcome in taken(outcomes)) == [1, 2]
    require_one_order(stored(store, session))
    assert model_server.calls[session.id] == 2


def test_the_same_key_from_16_at_once_is_one_turn_paid_once(
    setup: HandlerSetup, store: DynamoDBSessionStore, model_server: ModelServer
) -> None:
    session = started(store)
    model_server.close_gate()
    with handler_pool(setup, [[[task(session, "the same")]] * 2] * 8) as handlers:
        handlers.await_outcomes(lambda outcomes: len(outcomes) >= 32)
        model_server.open_gate()
        outcomes = handlers.finish()
    turns = stored(store, session)
    assert len(turns) == model_server.calls[session.id] == 1
    assert [outcome.replayed for outcome in taken(outcomes)].count(False) == 1
    assert len(taken(outcomes)) == 16
    require_returned_is_stored(outcomes, turns)
    require_only_busy(refused(outcomes))


def test_of_16_bodies_under_one_key_15_are_told_that_it_is_used(
    setup: HandlerSetup, store: DynamoDBSessionStore, model_server: ModelServer
) -> None:
    session = started(store)
    work = [[[task(session, f"{process}.{thread}", name="the same key")] for thread in (1, 2)] for process in EIGHT]
    with handler_pool(setup, work) as handlers:
        outcomes = handlers.finish()
    assert len(taken(outcomes)) == len(stored(store, session)) == model_server.calls[session.id] == 1
    reused = [outcome for outcome in outcomes if outcome.error == "KeyReused"]
    assert len(reused) == 15
    require_only_busy([outcome for outcome in refused(outcomes) if outcome not in reused])


# --- delete and move during turns -------------------------------------------------------------------------------------


def require_nothing_but_tombstones(contents: Contents, session: Session) -> None:
    left = contents.partition(partition(session.owner, session.id))
    assert {frozenset(item) - {"mk", "dst", "tok", "und"} for item in left} <= {
        frozenset(("pk", "sk", "v", "st", "ttl"))
    }
    assert {item["st"]["S"] for item in left} == {"ended"}


def test_a_delete_among_8_writers_leaves_no_content_and_no_answers(
    setup: HandlerSetup, store: DynamoDBSessionStore, model_server: ModelServer, contents: Contents
) -> None:
    session = started(store)
    work = [[[task(session, f"{process}.{n}") for n in range(20)]] for process in EIGHT]
    with handler_pool(setup, work) as handlers:
        handlers.await_outcomes(lambda outcomes: len(taken(outcomes)) >= 10)
        assert store.delete(session.owner, session.id, system_clock())
        require_nothing_but_tombstones(contents, session)
        paid = model_server.calls[session.id]
        outcomes = handlers.finish()
    require_nothing_but_tombstones(contents, session)
    assert store.session_ids(session.owner) == []
    assert paid - len(taken(outcomes)) <= 1, "more than the one turn that was running was paid for nothing"
    assert model_server.calls[session.id] == paid
    assert model_server.most_running[session.id] == 1
    assert {outcome.error for outcome in refused(outcomes)} == {"TurnInProgress", "SessionNotFound"}


def test_a_delete_during_the_model_call_is_final(
    setup: HandlerSetup, store: DynamoDBSessionStore, model_server: ModelServer, contents: Contents
) -> None:
    session = started(store)
    with handler_pool(setup, [[[task(session, "one")]]]) as handlers:
        handlers.finish()
    model_server.close_gate()
    with handler_pool(setup, [[[task(session, "two")]]]) as handlers:
        model_server.await_calls(session.id, 2)
        with ThreadPoolExecutor(4) as pool:
            deleting = [pool.submit(setup.tables.store().delete, OWNER, session.id, system_clock()) for _ in range(4)]
        assert any(each.result() for each in deleting)
        require_nothing_but_tombstones(contents, session)
        model_server.open_gate()
        (outcome,) = handlers.finish()
    assert outcome.error == "SessionNotFound"
    require_nothing_but_tombstones(contents, session)


def move_of(session: Session, *, name: bytes = b"one move", to_id: str = "") -> Move:
    now = system_clock()
    return Move(
        owner=session.owner,
        session_id=session.id,
        to_owner=ANOTHER_OWNER,
        to_id=to_id or new_session_id(),
        key=name.ljust(16),
        token=new_session_id(),
        at_ms=now,
        lease_expires_ms=now + LEASE_S * 1000,
    )


def until_done(act: Callable[[], Session]) -> Session:
    """Acts like a client that comes back while the session is busy."""
    for _ in range(10_000):
        try:
            return act()
        except TurnInProgress as busy:
            assert busy.retry_after_s
    raise AssertionError("always busy")


def test_a_move_among_8_writers_takes_every_answered_turn_along(
    setup: HandlerSetup, store: DynamoDBSessionStore, model_server: ModelServer, contents: Contents
) -> None:
    session, to_id = started(store), new_session_id()
    work = [[[task(session, f"{process}.{n}") for n in range(20)]] for process in EIGHT]
    with handler_pool(setup, work) as handlers:
        handlers.await_outcomes(lambda outcomes: len(taken(outcomes)) >= 10)
        with ThreadPoolExecutor(3) as pool:  # a client that asks three times at once, under the same key
            own = [setup.tables.store() for _ in range(3)]
            moves = [
                pool.submit(until_done, lambda own=each: own.move(move_of(session, to_id=to_id)))  # type: ignore[misc]
                for each in own
            ]
        assert {each.result().id for each in moves} == {to_id}
        outcomes = handlers.finish()
    moved = replace(session, owner=ANOTHER_OWNER, id=to_id)
    turns = stored(store, moved)
    assert len(turns) == len(taken(outcomes)) == model_server.calls[session.id]
    require_one_order(turns)
    require_returned_is_stored(outcomes, turns)
    assert {outcome.error for outcome in refused(outcomes)} == {"TurnInProgress", "SessionNotFound"}
    require_nothing_but_tombstones(contents, session)
    with pytest.raises(SessionNotFound):
        store.read(session.owner, session.id, system_clock(), newest=1)
    assert (store.session_ids(session.owner), store.session_ids(ANOTHER_OWNER)) == ([], [to_id])
    with handler_pool(setup, [[[task(moved, f"later {process}")]] for process in EIGHT]) as handlers:
        handlers.finish()
    require_one_order(stored(store, moved))


def test_a_move_while_the_model_is_asked_is_refused_and_the_turn_is_stored(
    setup: HandlerSetup, store: DynamoDBSessionStore, model_server: ModelServer
) -> None:
    session = started(store)
    model_server.close_gate()
    with handler_pool(setup, [[[task(session, "one")]]]) as handlers:
        model_server.await_calls(session.id, 1)
        with pytest.raises(TurnInProgress) as busy:
            store.move(move_of(session))
        assert busy.value.retry_after_s
        model_server.open_gate()
        (outcome,) = handlers.finish()
    assert outcome.number == 1
    require_one_order(stored(store, session))


def test_of_8_moves_to_different_owners_at_once_one_wins(setup: HandlerSetup, store: DynamoDBSessionStore) -> None:
    session = started(store)
    with handler_pool(setup, [[[task(session, f"{n}")]] for n in range(3)]) as handlers:
        handlers.finish()
    moves = [move_of(session, name=b"move %d" % n) for n in EIGHT]
    begin = threading.Barrier(len(moves))

    def run(move: Move) -> Session | TurnlogError:
        own = setup.tables.store()
        begin.wait()
        try:
            return own.move(move)
        except TurnlogError as error:
            return error

    with ThreadPoolExecutor(len(moves)) as pool:
        results = list(pool.map(run, moves))
    winners = [result for result in results if isinstance(result, Session)]
    assert len(winners) == 1
    assert {type(result) for result in results} - {Session} <= {TurnInProgress, SessionNotFound}
    require_one_order(stored(store, winners[0]))
    assert store.session_ids(ANOTHER_OWNER).count(winners[0].id) == 1


# --- quotas of an owner -----------------------------------------------------------------------------------------------


def test_40_turns_at_once_of_an_owner_are_admitted_up_to_its_limit(
    tables: Tables, store: DynamoDBSessionStore, model_server: ModelServer, contents: Contents
) -> None:
    policy = TurnPolicy(owner=OwnerLimits(turns_a_minute=15))
    setup = HandlerSetup(tables, model_server.url, START_MS, policy)
    sessions = [started(store, created_ms=START_MS) for _ in range(40)]
    work = [[[task(each, "hello")] for each in sessions[process * 5 : process * 5 + 5]] for process in EIGHT]
    with handler_pool(setup, work) as handlers:
        outcomes = handlers.finish()
    assert (len(taken(outcomes)), len(outcomes)) == (15, 40)
    assert {outcome.error for outcome in refused(outcomes)} == {QuotaExceeded.__name__}
    assert all((outcome.retry_after_s or 0) >= 1 for outcome in refused(outcomes))
    assert sum(model_server.calls.values()) == 15
    assert list(contents.counters().values()) == ["15"]


def test_a_budget_is_settled_to_the_use_of_40_racing_turns(
    tables: Tables, store: DynamoDBSessionStore, model_server: ModelServer, contents: Contents
) -> None:
    policy = TurnPolicy(owner=OwnerLimits(turns_a_minute=1000, budget_a_day=Decimal(1_000_000)))
    setup = HandlerSetup(tables, model_server.url, START_MS, policy)
    sessions = [started(store, created_ms=START_MS) for _ in range(10)]
    work = [[[task(each, f"{process}")] for each in sessions[process % 2 * 5 :][:5]] for process in EIGHT]
    with handler_pool(setup, work) as handlers:
        outcomes = handlers.finish()
    assert len(taken(outcomes)) == sum(model_server.calls.values()) == 40
    require_only_busy(refused(outcomes))
    used = sum(outcome.tokens for outcome in taken(outcomes))
    counters = {name.partition("#")[0]: count for name, count in contents.counters().items()}
    assert counters == {"turns": "40", "tokens": str(used)}
    for session in sessions:
        view = store.read(session.owner, session.id, START_MS, newest=25)
        require_one_order(view.turns)


def test_of_8_sessions_claimed_at_once_only_as_many_move_as_allowed(
    setup: HandlerSetup, store: DynamoDBSessionStore, contents: Contents
) -> None:
    charge = QuotaCharge("sessions#2026-11-25", Decimal(1), Decimal(3), system_clock() + 60_000)
    moves = [replace(move_of(started(store)), quota=QuotaCharges(ANOTHER_OWNER, (charge,))) for _ in EIGHT]
    begin = threading.Barrier(len(moves))

    def is_moved(move: Move) -> bool:
        own = setup.tables.store()
        begin.wait()
        for _ in range(10_000):
            try:
                return own.move(move).id == move.to_id
            except (QuotaExceeded, LeaseLost):
                return False
            except (StoreUnavailable, TurnInProgress):  # the counter was contended
                move = replace(move, token=new_session_id(), at_ms=system_clock())
        raise AssertionError("always busy")

    with ThreadPoolExecutor(len(moves)) as pool:
        outcomes = list(pool.map(is_moved, moves))
    assert outcomes.count(True) == 3
    assert list(contents.counters().values()) == ["3"]
    assert len(store.session_ids(ANOTHER_OWNER)) == 3
    for move, was_moved in zip(moves, outcomes, strict=True):
        assert (move.session_id in store.session_ids(move.owner)) != was_moved


@pytest.mark.asvs("2.4.1")
def test_a_budget_that_is_nearly_used_up_is_never_exceeded_by_a_race(
    tables: Tables, store: DynamoDBSessionStore, model_server: ModelServer, contents: Contents
) -> None:
    policy = TurnPolicy(owner=OwnerLimits(budget_a_day=Decimal(5_000)))
    setup = HandlerSetup(tables, model_server.url, START_MS, policy)
    sessions = [started(store, created_ms=START_MS) for _ in range(40)]
    model_server.close_gate()  # so that all reservations that fit are held at once
    work = [[[task(each, "hello")] for each in sessions[process * 5 : process * 5 + 5]] for process in EIGHT]
    with handler_pool(setup, work) as handlers:
        fit = 4  # of 1,000 tokens for the reply and about 100 for the prompt
        handlers.await_outcomes(lambda outcomes: len(outcomes) == 40 - fit)
        ((_, reserved),) = contents.counters().items()
        model_server.open_gate()
        outcomes = handlers.finish()
    assert 4_000 < Decimal(reserved) <= 5_000
    assert len(taken(outcomes)) == sum(model_server.calls.values()) == fit
    assert {outcome.error for outcome in refused(outcomes)} == {QuotaExceeded.__name__}
    assert list(contents.counters().values()) == [str(sum(outcome.tokens for outcome in taken(outcomes)))]
