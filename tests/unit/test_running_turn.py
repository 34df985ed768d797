"""Turns of several steps on the in-memory store: what is asked, kept, paid and told after each kind of end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from tests.fakes import OWNER, new_session
from tests.unit.desk import (
    Desk,
    Killed,
    hashed,
    text,
    wants,
)
from turnlog.adapters.local.memory import MemorySessionStore
from turnlog.domain.limits import OwnerLimits, SessionLimits
from turnlog.domain.messages import Message, to_json
from turnlog.domain.older_keys import KEY_STRIDE
from turnlog.domain.sessions import Move, Session, SessionSettings, SessionView
from turnlog.domain.tools import UNKNOWN_OUTCOME
from turnlog.domain.turns import INTERRUPTED, MAX_STEPS, PAUSED, STOPPED, Lease, Slot, Turn
from turnlog.domain.window import WindowPolicy
from turnlog.errors import (
    AttemptsExhausted,
    ContextTooLong,
    KeyReused,
    LeaseLost,
    ModelTimeout,
    ModelUnavailable,
    QuotaExceeded,
    SessionNotFound,
    StoreUnavailable,
    ToolResultsExpected,
    ToolResultUnexpected,
    TurnInProgress,
    TurnNotRunning,
    TurnStopped,
    TurnUnfinished,
)
from turnlog.usecases.caller import Caller
from turnlog.usecases.cancel_turn import cancel_turn
from turnlog.usecases.held_lease import LEASE_S, MARGIN_S
from turnlog.usecases.running_turn import MOST_RESULT_BYTES, STEP_S
from turnlog.usecases.transfers import move_whole
from turnlog.usecases.turn_protocol import ATTEMPTS
from turnlog.usecases.turn_request import TurnPolicy


@pytest.fixture
def desk() -> Desk:
    return Desk()


def tokens_of(turn: Turn) -> int:
    return sum(call.usage.tokens for call in turn.calls)


# --- the loop


def test_a_tool_is_run_and_the_model_goes_on_with_its_result(desk: Desk) -> None:
    taken = desk.turn("What time is it?", "k", wants("a"), text("Nine."))
    assert taken.turn.reply.text == "Nine."
    assert desk.model.last[-2:] == [
        ("assistant", wants("a")),
        ("user", [{"type": "tool_result", "tool_use_id": "a", "content": "result of a"}]),
    ]
    assert [message.role for message in taken.turn.messages] == ["user", "assistant", "user", "assistant"]
    assert [call.id for call in taken.turn.calls] == ["msg_1", "msg_2"]
    assert tokens_of(taken.turn) == taken.turn.totals.tokens == 314
    assert desk.tools.owners == {OWNER}


def test_the_window_goes_by_the_last_call(desk: Desk) -> None:
    taken = desk.turn("one", "k", wants("a"), text("x"))
    assert taken.turn.reply.usage.tokens == 207


def test_calls_side_by_side_are_one_step(desk: Desk) -> None:
    taken = desk.turn("one", "k", wants("a", "b"), text("x"))
    assert desk.tools.runs == {"a": 1, "b": 1}
    assert len(taken.turn.calls) == 2


def test_the_next_turn_is_shown_all_messages_of_the_one_before(desk: Desk) -> None:
    first = desk.turn("one", "k", wants("a"), text("x")).turn
    desk.turn("two", "l", text("y"))
    assert desk.model.requests[-1].messages == (*first.messages, Message.of_text("two"))


def test_each_call_begins_with_all_that_the_one_before_sent(desk: Desk) -> None:
    desk.turn("one", "k", wants("a"), wants("b"), text("x"))
    desk.turn("two", "l", wants("c"), text("y"))
    sent = [request.messages for request in desk.model.requests]
    for before, after in pairwise(sent):
        assert after[: len(before)] == before
    marks = [request.cached_messages for request in desk.model.requests]
    assert marks == [0, *(len(each) for each in sent[:-1])]


def test_the_same_key_replays_the_whole_turn(desk: Desk) -> None:
    first = desk.turn("one", "k", wants("a"), text("x"))
    again = desk.turn("one", "k")
    assert (again.replayed, again.turn) == (True, first.turn)


def test_a_paused_reply_is_sent_back_as_it_is_and_goes_on(desk: Desk) -> None:
    taken = desk.turn("one", "k", (text("half"), "pause_turn"), text("whole"))
    assert desk.model.last[-1] == ("assistant", text("half"))
    assert [message.role for message in taken.turn.messages] == ["user", "assistant", "assistant"]
    assert taken.turn.stop_reason == "end_turn"


def test_an_empty_paused_reply_ends_the_turn(desk: Desk) -> None:
    assert desk.turn("one", "k", ([], "pause_turn")).turn.stop_reason == "pause_turn"


@pytest.mark.parametrize("model", ["claude-sonnet-4-6", "us.anthropic.claude-opus-5-5"])
def test_a_model_without_system_messages_gets_the_last_as_its_prompt(model: str) -> None:
    desk = Desk(session=replace(new_session(), settings=SessionSettings(model, 1000, "Be brief.")))
    desk.turn("one", "k", text("x"), system="It is Monday.")
    desk.turn("two", "l", text("y"), system="It is Tuesday.")
    desk.turn("three", "m", text("z"))
    assert [request.settings.system for request in desk.model.requests] == [
        "It is Monday.",
        *["It is Tuesday."] * 2,
    ]
    assert {role for role, _ in desk.model.last} == {"user", "assistant"}
    assert [message.role for message in desk.turns[0].messages] == ["user", "system", "assistant"]


def test_a_history_that_the_context_cannot_hold_is_cut(desk: Desk) -> None:
    for said in ("one", "two"):
        desk.turn(said, said, text("x"))
    taken = desk.turn("three", "k", ContextTooLong(), text("y"))
    assert desk.model.last[0] == ("user", text("two"))
    assert taken.turn.window_from == 2
    desk.turn("four", "l", text("z"))
    assert desk.model.last[0] == ("user", text("two"))


def test_a_last_turn_that_the_context_cannot_hold_is_never_left_out(desk: Desk) -> None:
    for said in ("one", "two"):
        desk.turn(said, said, text("x"))
    with pytest.raises(ContextTooLong):
        desk.turn("three", "k", ContextTooLong(), ContextTooLong())
    assert desk.model.last[0] == ("user", text("two"))
    assert desk.running is None


def test_a_message_that_the_context_cannot_hold_alone_is_refused(desk: Desk) -> None:
    with pytest.raises(ContextTooLong):
        desk.turn("one", "k", ContextTooLong())
    assert desk.turn("two", "m", text("y")).turn.number == 1


def test_a_turn_ends_at_the_most_steps_and_the_next_one_goes_on(desk: Desk) -> None:
    taken = desk.turn("one", "k", *(wants(f"id{number}") for number in range(MAX_STEPS)))
    assert (taken.turn.stop_reason, len(taken.turn.calls)) == (PAUSED, MAX_STEPS)
    assert desk.turn("two", "l", text("y")).turn.number == 2
    assert desk.model.last[-1] == ("user", text("two"))


def test_a_turn_ends_before_it_holds_more_than_an_answer_can_return(desk: Desk) -> None:
    desk.tools.content = "x" * 900_000
    taken = desk.turn("one", "k", *(wants(f"id{number}") for number in range(9)))
    assert taken.turn.stop_reason == PAUSED
    assert 5 <= len(taken.turn.calls) < 9


def test_results_that_are_too_large_together_are_left_out(desk: Desk) -> None:
    desk.tools.content = "x" * (MOST_RESULT_BYTES - 100)
    desk.turn("one", "k", wants("a", "b"), text("x"))
    _, (first, second) = desk.model.last[-1]
    assert (len(first["content"]), second["is_error"]) == (MOST_RESULT_BYTES - 100, True)


def test_a_turn_whose_results_exceed_the_context_ends_with_what_there_is(desk: Desk) -> None:
    taken = desk.turn("one", "k", wants("a"), ContextTooLong())
    assert taken.turn.stop_reason == "model_context_window_exceeded"
    assert desk.turn("two", "l", text("y")).turn.number == 2


# --- the caller's own tools


def results(*ids: str) -> Message:
    return Message("user", to_json([{"type": "tool_result", "tool_use_id": each, "content": "4"} for each in ids]))


def test_a_call_of_the_callers_tool_ends_the_turn(desk: Desk) -> None:
    taken = desk.turn("one", "k", wants("c", name="add"))
    assert (taken.turn.stop_reason, desk.tools.runs) == ("tool_use", {})
    answered = desk.turn(results("c"), "l", text("4"))
    assert answered.turn.reply.text == "4"
    assert [role for role, _ in desk.model.last] == ["user", "assistant", "user"]


def test_a_turn_without_the_results_names_the_missing_calls(desk: Desk) -> None:
    desk.turn("one", "k", wants("c", "d", name="add"))
    for message, missing in ((Message.of_text("never mind"), ("c", "d")), (results("d"), ("c",))):
        with pytest.raises(ToolResultsExpected) as error:
            desk.turn(message)
        assert error.value.missing == missing
    assert len(desk.model.requests) == 1
    assert desk.running is None


def test_a_result_without_a_call_or_twice_is_refused_before_it_is_paid(desk: Desk) -> None:
    for message in (results("c"), results("c", "c")):
        with pytest.raises(ToolResultUnexpected):
            desk.turn(message)
    desk.turn("one", "k", wants("c", name="add"))
    for message in (results("c", "c"), results("c", "z")):
        with pytest.raises(ToolResultUnexpected):
            desk.turn(message)
    desk.turn(results("c"), "l", text("x"))
    with pytest.raises(ToolResultUnexpected):
        desk.turn(results("c"), "late")
    assert len(desk.model.requests) == 2


def test_of_calls_of_both_kinds_the_services_run_and_the_others_end_the_turn(desk: Desk) -> None:
    taken = desk.turn("one", "k", [*wants("a"), *wants("c", name="add")])
    assert (taken.turn.stop_reason, desk.tools.runs, taken.turn.messages[-1].role) == ("tool_use", {"a": 1}, "user")
    desk.turn(results("c"), "l", text("x"))
    ids = [block["tool_use_id"] for role, blocks in desk.model.last[2:] for block in blocks]
    assert ids == ["a", "c"]


def test_a_call_that_was_cut_off_gets_an_unknown_outcome(desk: Desk) -> None:
    desk.turn("one", "k", (wants("c", name="add"), "max_tokens"))
    desk.turn("two", "l", text("x"))
    assert [role for role, _ in desk.model.last] == ["user", "assistant", "user", "user"]
    (result,) = desk.model.last[2][1]
    assert (result["tool_use_id"], result["content"], result["is_error"]) == ("c", UNKNOWN_OUTCOME, True)


# --- crashes


def test_after_a_crash_in_a_call_the_same_key_goes_on_after_the_last_step(desk: Desk) -> None:
    desk.killed_turn("one", "k", wants("a"), wants("b"), Killed())
    desk.lapse()
    taken = desk.turn("one", "k", text("x"))
    assert desk.tools.runs == {"a": 1, "b": 1}
    assert len(desk.model.requests) == 4
    assert [call.id for call in taken.turn.calls] == ["msg_1", "msg_2", "msg_4"]
    assert taken.turn.totals.tokens == tokens_of(taken.turn)


def test_after_a_crash_in_a_tool_the_tool_runs_again_under_the_same_id(desk: Desk) -> None:
    def die() -> None:
        desk.tools.during = lambda: None
        raise Killed

    desk.tools.during = die
    desk.killed_turn("one", "k", wants("a"))
    desk.lapse()
    desk.turn("one", "k", text("x"))
    assert (desk.tools.runs, len(desk.model.requests)) == ({"a": 2}, 2)


def test_while_the_lease_of_the_dead_handler_lasts_everybody_waits(desk: Desk) -> None:
    desk.killed_turn("one", "k", wants("a"), Killed())
    for key in ("k", "other"):
        with pytest.raises(TurnInProgress):
            desk.turn("one", key)
    assert len(desk.model.requests) == 2


def test_another_key_finds_the_steps_as_an_interrupted_turn(desk: Desk) -> None:
    desk.killed_turn("one", "k", wants("a"), wants("b"), Killed())
    desk.lapse()
    taken = desk.turn("two", "l", text("y"))
    interrupted = desk.turns[0]
    assert (taken.turn.number, interrupted.number, interrupted.stop_reason) == (2, 1, INTERRUPTED)
    assert tokens_of(interrupted) == 100 + 200 + 14
    assert taken.turn.totals.tokens == tokens_of(interrupted) + tokens_of(taken.turn)
    replayed = desk.turn("one", "k")
    assert (replayed.replayed, replayed.turn) == (True, interrupted)


def test_an_unfinished_turn_moves_along_as_an_interrupted_one(desk: Desk) -> None:
    for number in range(KEY_STRIDE):
        desk.turn(f"{number}", f"{number}", text("x"))
    desk.killed_turn("one", "k", wants("a"), Killed())
    desk.lapse()
    now = desk.clock()
    move = Move(OWNER, desk.session.id, "eve", "ses_" + "b" * 22, hashed("m"), "token", now, now + 5_000)
    moved = move_whole(move, store=desk.store, window=WindowPolicy(turns=2))
    (turn,) = desk.store.read(moved.owner, moved.id, now, newest=1).turns
    assert (turn.number, turn.stop_reason, turn.reply.message.blocks) == (KEY_STRIDE + 1, INTERRUPTED, wants("a"))


def test_a_handler_that_stood_still_for_hours_looks_again(desk: Desk) -> None:
    class StandingStill(MemorySessionStore):
        stands = True

        def read(self, *given: Any, **named: Any) -> SessionView:
            found = super().read(*given, **named)
            if self.stands:
                self.stands = False
                desk.clock.tick(seconds=7_200)
            return found

    desk.store, desk.session = StandingStill(), replace(desk.session, idle_ms=86_400_000)
    desk.store.create(desk.session, "")
    assert desk.turn("one", "k", text("x")).turn.number == 1


def test_a_call_of_an_interrupted_turn_that_may_have_run_has_an_unknown_outcome(desk: Desk) -> None:
    def die() -> None:
        raise Killed

    desk.tools.during = die
    desk.killed_turn("one", "k", wants("a"))
    desk.lapse()
    desk.turn("two", "l", text("y"))
    (result,) = desk.model.last[2][1]
    assert (result["tool_use_id"], result["content"]) == ("a", UNKNOWN_OUTCOME)


def test_another_body_under_the_key_of_an_unfinished_turn_is_refused(desk: Desk) -> None:
    desk.killed_turn("one", "k", wants("a"), Killed())
    desk.lapse()
    with pytest.raises(KeyReused):
        desk.turn("other", "k", body="other")


def test_attempts_are_counted_for_each_step(desk: Desk) -> None:
    for _ in range(ATTEMPTS - 1):
        desk.killed_turn("one", "k", Killed())
        desk.lapse()
    desk.killed_turn("one", "k", wants("a"), Killed())
    for _ in range(ATTEMPTS - 1):
        desk.lapse()
        desk.killed_turn("one", "k", Killed())
    desk.lapse()
    with pytest.raises(AttemptsExhausted):
        desk.turn("one", "k")
    assert desk.turn("two", "l", text("y")).turn.number == 2


def test_a_refused_call_keeps_the_steps_and_frees_the_slot_at_once(desk: Desk) -> None:
    with pytest.raises(ModelUnavailable):
        desk.turn("one", "k", wants("a"), ModelUnavailable(1))
    taken = desk.turn("one", "k", text("x"))
    assert (desk.tools.runs, len(taken.turn.calls)) == ({"a": 1}, 2)


def test_a_call_that_may_have_been_billed_is_an_attempt_of_its_step(desk: Desk) -> None:
    for script in ([wants("a"), ModelTimeout()], [ModelTimeout()], [ModelTimeout()]):
        with pytest.raises(ModelTimeout):
            desk.turn("one", "k", *script)
    with pytest.raises(AttemptsExhausted):
        desk.turn("one", "k")


def test_a_turn_without_time_for_another_call_goes_on_with_the_next_request(desk: Desk) -> None:
    desk.tools.during = lambda: desk.remaining_s.extend([STEP_S] * 9)
    with pytest.raises(TurnUnfinished):
        desk.turn("one", "k", wants("a"))
    desk.remaining_s.clear()
    taken = desk.turn("one", "k", text("x"))
    assert (desk.tools.runs, len(desk.model.requests), taken.turn.reply.text) == ({"a": 1}, 2, "x")


# --- money


@pytest.fixture
def paid(desk: Desk) -> Desk:
    desk.policy = TurnPolicy(owner=OwnerLimits(budget_a_day=Decimal(100_000)))
    return desk


def test_each_call_is_reserved_and_settled(paid: Desk) -> None:
    reserved: list[Decimal] = []
    paid.model.during = lambda: reserved.append(paid.used)
    taken = paid.turn("one", "k", wants("a"), text("x"))
    assert paid.used == tokens_of(taken.turn)
    assert reserved[1] > taken.turn.calls[0].usage.tokens + 1000  # the first call as it was, the second at its most


def test_new_instructions_are_reserved_before_the_call(paid: Desk) -> None:
    with pytest.raises(QuotaExceeded):
        paid.turn("one", "k", system="x" * 100_000)
    assert paid.model.requests == []


def test_a_paused_reply_reserves_the_call_that_goes_on(paid: Desk) -> None:
    reserved: list[Decimal] = []
    paid.model.during = lambda: reserved.append(paid.used)
    taken = paid.turn("one", "k", (text("half"), "pause_turn"), (text("more"), "pause_turn"), text("whole"))
    paid_before = [sum(each.usage.tokens for each in taken.turn.calls[:number]) for number in (1, 2)]
    assert all(held > before + 1000 for held, before in zip(reserved[1:], paid_before, strict=True))
    assert paid.used == tokens_of(taken.turn)


def test_a_budget_that_ends_at_a_pause_keeps_the_reply(paid: Desk) -> None:
    paid.policy = TurnPolicy(owner=OwnerLimits(budget_a_day=Decimal(1200)))
    with pytest.raises(QuotaExceeded):
        paid.turn("one", "k", (text("half"), "pause_turn"))
    paid.policy = TurnPolicy()
    assert paid.turn("one", "k", text("whole")).turn.reply.text == "whole"
    assert len(paid.model.requests) == 2


def test_a_budget_that_ends_between_two_steps_keeps_the_results(paid: Desk) -> None:
    def spend() -> None:
        counters = paid.store._memory.quotas[OWNER].used
        ((name, (amount, resets)),) = counters.items()
        counters[name] = amount + 99_000, resets

    paid.tools.during = spend
    with pytest.raises(QuotaExceeded):
        paid.turn("one", "k", wants("a"))
    paid.policy = TurnPolicy()
    assert paid.turn("one", "k", text("x")).turn.reply.text == "x"
    assert (paid.tools.runs, len(paid.model.requests)) == ({"a": 1}, 2)


def test_what_a_dead_handler_had_reserved_stays_charged(paid: Desk) -> None:
    paid.killed_turn("one", "k", wants("a"), Killed())
    held = paid.used
    paid.lapse()
    taken = paid.turn("one", "k", text("x"))
    assert paid.used == held + taken.turn.calls[1].usage.tokens


def test_a_session_without_tokens_left_ends_its_turn(desk: Desk) -> None:
    desk.policy = TurnPolicy(session=SessionLimits(tokens=100))
    assert desk.turn("one", "k", wants("a")).turn.stop_reason == PAUSED


# --- the lease


@dataclass
class Renewer:
    """Renews at once whatever runs, as often as asked, and notes the leases."""

    desk: Desk
    times: int = 1
    results: list[bool] = field(default_factory=list)
    leases: list[Lease | None] = field(default_factory=list)

    @contextmanager
    def __call__(self, renew: Callable[[], bool]) -> Iterator[None]:
        for _ in range(self.times):
            self.desk.clock.tick(seconds=20)
            self.results.append(renew())
            self.leases.append(self.desk.running)
        yield


def test_the_lease_is_written_again_while_model_and_tools_run(desk: Desk) -> None:
    desk.renewing = renewer = Renewer(desk, times=6)
    desk.turn("one", "k", wants("a"), text("x"))
    assert renewer.results == [True] * 18
    for lease in renewer.leases:
        assert lease
        assert lease.lease_expires_ms == lease.at_ms + LEASE_S * 1000
    numbers = [lease.sequence for lease in renewer.leases if lease]
    assert numbers == sorted(set(numbers))


def test_a_renewal_that_fails_is_tried_again(desk: Desk) -> None:
    class Failing(MemorySessionStore):
        fails = 2

        def renew(self, session: Session, lease: Lease, seen: int) -> Slot | None:
            if self.fails:
                self.fails -= 1
                raise StoreUnavailable
            return super().renew(session, lease, seen)

    desk.store = Failing()
    desk.store.create(desk.session, "")
    desk.renewing = renewer = Renewer(desk, times=3)
    assert desk.turn("one", "k", text("x")).turn.number == 1
    assert renewer.results == [True, True, True]


def test_a_renewal_whose_answer_was_lost_is_recognised_by_the_next_write(desk: Desk) -> None:
    class Losing(MemorySessionStore):
        loses = True

        def renew(self, session: Session, lease: Lease, seen: int) -> Slot | None:
            found = super().renew(session, lease, seen)
            if self.loses:
                self.loses = False
                raise StoreUnavailable
            return found

    desk.store = Losing()
    desk.store.create(desk.session, "")
    desk.renewing = Renewer(desk)
    assert desk.turn("one", "k", wants("a"), text("x")).turn.number == 1
    assert desk.tools.runs == {"a": 1}


def test_a_turn_that_ends_after_its_session_stores_no_step(desk: Desk) -> None:
    desk.session = replace(desk.session, id="ses_" + "b" * 22, expires_ms=desk.session.created_ms + 30_000)
    desk.store.create(desk.session, "")
    desk.model.during = lambda: desk.clock.tick(seconds=31)
    with pytest.raises(SessionNotFound):
        desk.turn("one", "k", wants("a"))
    assert desk.tools.runs == {}


def test_an_overtaken_handler_runs_no_tool(desk: Desk) -> None:
    def stand_still() -> None:
        desk.model.during = lambda: None
        desk.lapse()
        desk.turn("two", "l", text("y"))

    desk.model.during = stand_still
    desk.model.script = []
    with pytest.raises(LeaseLost):
        desk.turn("one", "k", text("y"), wants("a"))
    assert desk.tools.runs == {}


# --- stops


def cancel(desk: Desk, number: int = 1) -> None:
    cancel_turn(Caller(OWNER), desk.session.id, number, store=desk.store, now_ms=desk.clock())


def test_a_turn_that_is_stopped_keeps_what_there_is(desk: Desk) -> None:
    desk.tools.during = lambda: cancel(desk)
    taken = desk.turn("one", "k", wants("a"))
    assert (taken.turn.stop_reason, len(taken.turn.calls)) == (STOPPED, 1)
    assert desk.turn("one", "k").replayed
    assert desk.turn("two", "l", text("y")).turn.number == 2


def test_a_reply_that_comes_after_the_stop_is_kept_and_its_tools_do_not_run(desk: Desk) -> None:
    desk.model.during = lambda: cancel(desk)
    taken = desk.turn("one", "k", wants("a"))
    assert (taken.turn.stop_reason, desk.tools.runs, len(taken.turn.calls)) == (STOPPED, {}, 1)


def test_a_call_that_goes_on_after_the_stop_keeps_its_slot(desk: Desk) -> None:
    """Its reply is paid, however long it takes."""
    desk.model.during = lambda: cancel(desk)

    @contextmanager
    def renewed_after_the_stop(renew: Callable[[], bool]) -> Iterator[None]:
        yield
        for _ in range(6):
            desk.clock.tick(seconds=20)
            assert renew()
            with pytest.raises(TurnInProgress):
                desk.turn("two", "l")

    desk.renewing = renewed_after_the_stop
    taken = desk.turn("one", "k", wants("a"))
    assert (taken.turn.stop_reason, desk.tools.runs, len(taken.turn.calls)) == (STOPPED, {}, 1)


def test_a_last_reply_that_comes_after_the_stop_is_stored_as_it_is(desk: Desk) -> None:
    desk.model.during = lambda: cancel(desk)
    assert desk.turn("one", "k", text("x")).turn.stop_reason == "end_turn"


def test_a_stop_before_anything_is_there_leaves_nothing(desk: Desk) -> None:
    class StoppedAtOnce(MemorySessionStore):
        def acquire(self, session: Session, lease: Lease, over: Lease | None) -> Slot | None:
            found = super().acquire(session, lease, over)
            cancel(desk)
            desk.clock.tick(seconds=LEASE_S - MARGIN_S + 1)
            return found

    desk.store = StoppedAtOnce()
    desk.store.create(desk.session, "")
    with pytest.raises(TurnStopped):
        desk.turn("one", "k")
    assert (desk.turns, desk.running, desk.model.requests) == ((), None, [])


def test_a_turn_that_does_not_run_cannot_be_stopped(desk: Desk) -> None:
    with pytest.raises(TurnNotRunning):
        cancel(desk)
    desk.killed_turn("one", "k", Killed())
    for number in (0, 2):
        with pytest.raises(TurnNotRunning):
            cancel(desk, number)
    desk.lapse()
    with pytest.raises(TurnNotRunning):
        cancel(desk)


# --- instructions


def test_new_instructions_follow_the_callers_message(desk: Desk) -> None:
    desk.turn("one", "k", text("x"))
    taken = desk.turn("two", "l", text("y"), system="Answer in French.")
    assert [role for role, _ in desk.model.last] == ["user", "assistant", "user", "system"]
    assert taken.turn.message.text == "two"
    desk.turn("three", "m", text("z"))
    before, after = desk.model.requests[-2:]
    assert after.messages[: len(before.messages)] == before.messages
    assert {request.settings.system for request in desk.model.requests} == {"Be brief."}


def test_instructions_outlive_the_cut_of_the_turn_that_brought_them(desk: Desk) -> None:
    desk.policy = TurnPolicy(window=replace(TurnPolicy().window, turns=4))
    desk.turn("one", "k", text("x"), system="Answer in French.")
    for number in range(2, 9):
        desk.turn(f"turn {number}", f"key {number}", text("y"))
    assert desk.turns[-1].window_from > 1
    assert desk.model.requests[-1].settings.system == "Answer in French."
    assert all(message.role != "system" for message in desk.model.requests[-1].messages)
