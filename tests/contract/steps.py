"""The contract of every TurnStore: turns of several calls, whose lease goes on and whose steps are kept.

Compose it with SessionStoreContract, and give it the same `store`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Protocol

import pytest

from tests.contract.session_store import (
    COUNTER,
    EVE,
    HOUR_MS,
    LEASE_MS,
    LEAST,
    STRANGE_BLOCKS,
    charge,
    forked,
    is_gone,
    lease_of,
    move_of,
    random_text,
    take,
    turn_of,
)
from tests.fakes import OWNER, START_MS, new_session
from turnlog.domain.messages import Message, Usage, to_json
from turnlog.domain.sessions import Session, SessionSettings
from turnlog.domain.turns import (
    INTERRUPTED,
    MAX_CONTENT_BYTES,
    MAX_STEPS,
    MAX_TURN_BYTES,
    STOPPED,
    Lease,
    ModelCall,
    Slot,
    Step,
    Tombstone,
    Totals,
    Turn,
)
from turnlog.errors import LeaseLost, QuotaExceeded, SessionNotFound, TurnInProgress, TurnTooLarge
from turnlog.ports.session_store import SessionStore, TurnStore

EVERY_MS = 20_000
QUESTION = (Message.of_text("Who is ada?"),)


class Store(SessionStore, TurnStore, Protocol):
    """A store of sessions that keeps steps, too."""


def call_of(number: int = 1, *, cost_usd: Decimal | None = Decimal("0.5")) -> ModelCall:
    usage = Usage(to_json({"input_tokens": number, "output_tokens": 10, "later": {"a": None}}))
    return ModelCall("claude-sonnet-5-5", usage, cost_usd, id=f"msg_{number}", request_id=f"req_{number}")


def results_of(number: int, text: str = "found") -> Message:
    return Message("user", to_json([{"type": "tool_result", "tool_use_id": f"toolu_{number}", "content": text}]))


def step_of(number: int, *, text: str = "looking", results: bool = False) -> Step:
    """A step in which the model calls a tool."""
    tool_use = {"type": "tool_use", "id": f"toolu_{number}", "name": "look_up", "input": {"word": text[:9]}}
    reply = Message("assistant", to_json([{"type": "text", "text": text}, tool_use]))
    return Step(number, reply, call_of(number), results_of(number) if results else None)


ANSWER = Message("assistant", to_json([{"type": "text", "text": "A name."}]))


def turn_with(
    lease: Lease,
    *steps: Step,
    message: tuple[Message, ...] = QUESTION,
    answer: Message | None = ANSWER,
    stop_reason: str = "end_turn",
) -> Turn:
    """The turn of these steps and of an answer after them, if there is one."""
    messages = (*message, *(each for step in steps for each in step.messages))
    calls = tuple(step.call for step in steps)
    if answer:
        messages, calls = (*messages, answer), (*calls, call_of(99))
    return Turn(
        number=lease.number,
        token=lease.token,
        key=lease.key,
        fingerprint=lease.fingerprint,
        messages=messages,
        calls=calls,
        stop_reason=stop_reason,
        totals=Totals().plus(messages, calls),
        at_ms=lease.at_ms + 5,
        window_from=1,
        older_keys=b"",
        attempt_counts=lease.attempt_counts,
        steps=len(steps),
    )


def again(lease: Lease, *, steps: int | None = None, sequence: int | None = None) -> Lease:
    """The lease as its handler writes it EVERY_MS later."""
    return replace(
        lease,
        sequence=lease.sequence + 1 if sequence is None else sequence,
        steps=lease.steps if steps is None else steps,
        at_ms=lease.at_ms + EVERY_MS,
        lease_expires_ms=lease.at_ms + EVERY_MS + LEASE_MS,
        attempt=1 if steps else lease.attempt,
    )


def held(store: Store, session: Session, now_ms: int = START_MS + EVERY_MS) -> Lease:
    """The lease that the session's next slot holds."""
    running = store.read(session.owner, session.id, now_ms, newest=1).running
    assert running
    return running


def taken(store: Store, session: Session, number: int = 1, *, at_ms: int = START_MS) -> Lease:
    lease = lease_of(number, at_ms=at_ms)
    assert store.acquire(session, lease, over=None) == lease
    return lease


def stepped(
    store: Store, session: Session, lease: Lease, *steps: Step, message: tuple[Message, ...] = QUESTION
) -> Lease:
    """Stores the steps, those with results in two writes. Returns the lease afterwards."""
    for step in steps:
        writes = [replace(step, results=None), step] if step.results else [step]
        for write in writes:
            renewed = again(lease, steps=step.number)
            given = message if step.number == 1 and not write.results else ()
            assert store.checkpoint(session, renewed, lease.sequence, write, message=given) == renewed
            lease = renewed
    return lease


class StepFacts:
    """The fixtures of all groups. A subclass provides the store."""

    @pytest.fixture
    def store(self) -> Store:
        raise NotImplementedError

    @pytest.fixture
    def session(self, store: Store) -> Session:
        return store.create(new_session(), "A title")


class Renewing(StepFacts):
    def test_a_renewed_lease_is_seen_with_its_new_end_and_number(self, store: Store, session: Session) -> None:
        lease = taken(store, session)
        for _ in range(3):
            renewed = again(lease)
            assert store.renew(session, renewed, lease.sequence) == renewed
            assert held(store, session, renewed.at_ms) == renewed
            lease = renewed

    def test_a_renewal_repeated_after_a_lost_answer_is_still_ones_own(self, store: Store, session: Session) -> None:
        renewed = again(taken(store, session))
        for _ in range(2):
            assert store.renew(session, renewed, 0) == renewed
        assert held(store, session) == renewed

    def test_a_late_renewal_changes_nothing(self, store: Store, session: Session) -> None:
        lease = taken(store, session)
        late, renewed = again(lease, sequence=7), again(lease, sequence=8)
        store.renew(session, renewed, 0)
        assert store.renew(session, late, 0) == renewed
        assert held(store, session) == renewed

    def test_a_renewal_of_an_older_number_erases_no_step(self, store: Store, session: Session) -> None:
        lease = taken(store, session)
        late = again(lease, sequence=7)
        stored = stepped(store, session, lease, step_of(1))
        assert store.renew(session, late, 0) == stored
        assert store.steps(session, held(store, session)) == (QUESTION, (step_of(1),))

    def test_a_turn_that_was_asked_to_stop_is_not_renewed(self, store: Store, session: Session) -> None:
        lease = taken(store, session)
        assert store.ask_to_stop(session, lease)
        assert store.renew(session, again(lease), 0) == replace(lease, stop_asked=True)
        assert held(store, session) == replace(lease, stop_asked=True)

    def test_a_renewal_that_knows_of_the_wish_to_stop_keeps_it(self, store: Store, session: Session) -> None:
        lease = taken(store, session)
        store.ask_to_stop(session, lease)
        renewed = replace(again(lease), stop_asked=True)
        assert store.renew(session, renewed, 0) == renewed
        assert held(store, session) == renewed
        assert store.checkpoint(session, again(renewed), renewed.sequence + 1, step_of(1)) == renewed

    def test_a_renewal_that_was_stored_before_the_turn_was_to_stop_is_ones_own(
        self, store: Store, session: Session
    ) -> None:
        renewed = again(taken(store, session))
        store.renew(session, renewed, 0)
        store.ask_to_stop(session, renewed)
        assert store.renew(session, renewed, 0) == renewed

    def test_an_overtaken_handler_renews_nothing(self, store: Store, session: Session) -> None:
        slow = taken(store, session)
        fast = lease_of(1, "fast", at_ms=slow.lease_expires_ms + 1)
        store.acquire(session, fast, over=slow)
        assert store.renew(session, again(slow), 0) == fast
        turn = turn_of(fast)
        store.commit(session, turn)
        assert store.renew(session, again(slow), 0) == turn

    def test_a_lease_that_was_released_is_not_renewed(self, store: Store, session: Session) -> None:
        lease = taken(store, session)
        store.release(session, lease, billed=False, now_ms=START_MS)
        assert store.renew(session, again(lease), 0) is None
        assert store.read(OWNER, session.id, START_MS, newest=1).running is None

    @pytest.mark.parametrize("end", ["deleted", "moved"])
    def test_a_lease_of_a_session_that_is_gone_is_not_renewed(self, store: Store, session: Session, end: str) -> None:
        take(store, session, 1)
        lease = lease_of(2, lease_expires_ms=START_MS + 50)
        store.acquire(session, lease, over=None)
        if end == "deleted":
            store.delete(OWNER, session.id, START_MS)
        else:
            store.move(move_of(session))
        assert isinstance(store.renew(session, again(lease), 0), Tombstone)
        assert is_gone(store, session)

    def test_a_renewed_lease_can_be_taken_over_only_as_it_was_seen(self, store: Store, session: Session) -> None:
        lease = taken(store, session)
        renewed = again(lease)
        store.renew(session, renewed, 0)
        heir = lease_of(1, "heir", at_ms=renewed.lease_expires_ms + 1)
        for seen in (lease, replace(renewed, sequence=9)):
            assert store.acquire(session, heir, over=seen) == renewed
        assert store.acquire(session, heir, over=renewed) == heir

    def test_a_renewal_counts_as_use(self, store: Store, session: Session) -> None:
        lease = taken(store, session)
        late = replace(again(lease), at_ms=START_MS + session.idle_ms - 1)
        late = replace(late, lease_expires_ms=late.at_ms + LEASE_MS)
        store.renew(session, late, 0)
        last_ms = late.at_ms + session.idle_ms - 1
        assert store.read(OWNER, session.id, last_ms, newest=1).running == late
        with pytest.raises(SessionNotFound):
            store.read(OWNER, session.id, last_ms + 1, newest=1)

    def test_a_lease_takes_over_the_number_and_the_steps_it_is_given(self, store: Store, session: Session) -> None:
        lease = replace(lease_of(1), sequence=5, steps=2)
        assert store.acquire(session, lease, over=None) == lease
        assert held(store, session) == lease

    def test_a_commit_looks_neither_at_the_number_nor_at_a_wish_to_stop(self, store: Store, session: Session) -> None:
        lease = taken(store, session)
        store.renew(session, again(lease), 0)
        store.ask_to_stop(session, lease)
        assert store.commit(session, turn_of(lease)) == turn_of(lease)


class Stopping(StepFacts):
    def test_a_running_turn_is_asked_to_stop(self, store: Store, session: Session) -> None:
        lease = taken(store, session)
        for _ in range(2):
            assert store.ask_to_stop(session, lease)
        assert held(store, session) == replace(lease, stop_asked=True)

    def test_a_turn_is_asked_to_stop_whatever_was_renewed_since(self, store: Store, session: Session) -> None:
        lease = taken(store, session)
        stored = stepped(store, session, lease, step_of(1))
        assert store.ask_to_stop(session, lease)
        assert held(store, session) == replace(stored, stop_asked=True)

    @pytest.mark.parametrize("why", ["done", "overtaken", "released", "deleted", "never was"])
    def test_a_turn_that_no_longer_runs_is_not_asked(self, store: Store, session: Session, why: str) -> None:
        lease = lease_of(1) if why == "never was" else taken(store, session)
        if why == "done":
            store.commit(session, turn_of(lease))
        if why == "overtaken":
            store.acquire(session, lease_of(1, "heir", at_ms=lease.lease_expires_ms + 1), over=lease)
        if why == "released":
            store.release(session, lease, billed=False, now_ms=START_MS)
        if why == "deleted":
            store.delete(OWNER, session.id, START_MS)
        assert store.ask_to_stop(session, lease) is False
        if why == "overtaken":
            assert held(store, session).stop_asked is False
        if why in ("released", "never was"):
            assert store.read(OWNER, session.id, START_MS, newest=1).running is None
        if why == "deleted":
            assert is_gone(store, session)

    def test_a_turn_that_was_stopped_can_be_released(self, store: Store, session: Session) -> None:
        lease = taken(store, session)
        store.ask_to_stop(session, lease)
        store.release(session, lease, billed=False, now_ms=START_MS)
        assert store.read(OWNER, session.id, START_MS, newest=1).running is None


class Checkpointing(StepFacts):
    def test_steps_come_back_as_they_were_received(self, store: Store, session: Session) -> None:
        steps = tuple(step_of(number, results=number < 4) for number in range(1, 5))
        lease = stepped(store, session, taken(store, session), *steps)
        assert held(store, session) == lease
        assert (lease.steps, lease.sequence) == (4, 7)
        assert store.steps(session, lease) == (QUESTION, steps)

    def test_a_step_survives_json_equal_whatever_blocks_it_has(self, store: Store, session: Session) -> None:
        strange = json.dumps(STRANGE_BLOCKS, indent=1)
        call = replace(call_of(), model="claude-☃", usage=Usage('{ "later": {"a": null} }'), cost_usd=None)
        call = replace(call, stop_sequence='"\\', stop_details='{"type": "new", "of": [1, null]}')
        step = Step(1, Message("assistant", strange), call, Message("user", strange))
        message = (Message("system", strange), Message("user", strange))
        lease = stepped(store, session, taken(store, session), step, message=message)
        messages, (kept,) = store.steps(session, lease)
        assert [(each.role, each.blocks) for each in messages] == [
            ("system", STRANGE_BLOCKS),
            ("user", STRANGE_BLOCKS),
        ]
        assert kept.results
        assert [each.blocks for each in kept.messages] == [STRANGE_BLOCKS] * 2
        assert json.loads(kept.call.stop_details) == {"type": "new", "of": [1, None]}
        assert kept.call.usage.fields == {"later": {"a": None}}
        names = ("model", "cost_usd", "id", "request_id", "stop_sequence")
        assert [getattr(kept.call, name) for name in names] == [getattr(call, name) for name in names]

    def test_a_reply_that_goes_on_has_no_results(self, store: Store, session: Session) -> None:
        steps = step_of(1), step_of(2, results=True), step_of(3)
        lease = stepped(store, session, taken(store, session), *steps)
        assert store.steps(session, lease) == (QUESTION, steps)

    def test_a_checkpoint_repeated_after_a_lost_answer_is_still_ones_own(self, store: Store, session: Session) -> None:
        renewed = again(taken(store, session), steps=1)
        for _ in range(2):
            assert store.checkpoint(session, renewed, 0, step_of(1), message=QUESTION) == renewed
        assert store.steps(session, held(store, session)) == (QUESTION, (step_of(1),))

    @pytest.mark.parametrize("why", ["late", "stopped", "overtaken", "done", "released", "deleted"])
    def test_a_step_is_stored_with_its_lease_or_not_at_all(self, store: Store, session: Session, why: str) -> None:
        lease = taken(store, session)
        expected: Slot | None = None
        if why == "late":
            expected = again(lease, sequence=9)
            store.renew(session, expected, 0)
        if why == "stopped":
            expected = replace(lease, stop_asked=True)
            store.ask_to_stop(session, lease)
        if why == "overtaken":
            expected = lease_of(1, "heir", at_ms=lease.lease_expires_ms + 1)
            store.acquire(session, expected, over=lease)
        if why == "done":
            expected = turn_of(lease)
            store.commit(session, expected)
        if why == "released":
            store.release(session, lease, billed=False, now_ms=START_MS)
        if why == "deleted":
            expected = Tombstone(1)
            store.delete(OWNER, session.id, START_MS)
        charges = (charge("4"),)
        found = store.checkpoint(
            session, again(lease, steps=1), 0, step_of(1), message=QUESTION, settlement=charges, charges=charges
        )
        assert found == expected
        if why == "deleted":
            assert is_gone(store, session)
        else:
            view = store.read(OWNER, session.id, START_MS, newest=1)
            assert (view.turns[-1] if view.turns else view.running) == expected
        require_used(store, "0")

    def test_the_results_alone_are_stored_with_a_second_checkpoint(self, store: Store, session: Session) -> None:
        lease = stepped(store, session, taken(store, session), step_of(1))
        late = again(lease, sequence=9)
        store.renew(session, late, lease.sequence)
        with_results = step_of(1, results=True)
        assert store.checkpoint(session, again(lease, steps=1), lease.sequence, with_results) == late
        assert store.steps(session, late) == (QUESTION, (step_of(1),))
        renewed = again(late, steps=1)
        assert store.checkpoint(session, renewed, late.sequence, with_results) == renewed
        assert store.steps(session, renewed) == (QUESTION, (with_results,))

    def test_a_large_step_is_kept_whole(self, store: Store, session: Session) -> None:
        message = (Message.of_text(random_text(MAX_TURN_BYTES // 2)),)
        step = Step(1, step_of(1, text=random_text(MAX_TURN_BYTES // 3)).reply, call_of())
        with_results = replace(step, results=results_of(1, random_text(MAX_TURN_BYTES - 100_000)))
        lease = stepped(store, session, taken(store, session), with_results, message=message)
        assert store.steps(session, lease) == (message, (with_results,))

    def test_a_step_that_is_too_large_is_refused_and_nothing_changes(self, store: Store, session: Session) -> None:
        lease, half = taken(store, session), random_text(MAX_TURN_BYTES // 2 + 100_000)
        renewed, charges = again(lease, steps=1), (charge("4"),)
        large = (Message.of_text(half),)
        with pytest.raises(TurnTooLarge):
            store.checkpoint(session, renewed, 0, step_of(1, text=half), message=large, charges=charges)
        results = replace(step_of(1), results=results_of(1, random_text(MAX_TURN_BYTES)))
        with pytest.raises(TurnTooLarge):
            store.checkpoint(session, renewed, 0, results, settlement=charges)
        assert held(store, session) == lease
        require_used(store, "0")

    def test_as_many_steps_as_a_turn_may_have_are_kept(self, store: Store, session: Session) -> None:
        steps = tuple(step_of(number, results=True) for number in range(1, MAX_STEPS + 1))
        lease = taken(store, session)
        for step in steps:
            for write in (replace(step, results=None), step):
                renewed = replace(again(lease, steps=step.number), at_ms=START_MS, lease_expires_ms=START_MS + 1)
                message = QUESTION if step.number == 1 and not write.results else ()
                assert store.checkpoint(session, renewed, lease.sequence, write, message=message) == renewed
                lease = renewed
        assert store.steps(session, lease) == (QUESTION, steps)
        turn = turn_with(lease, *steps)
        assert store.commit(session, turn) == turn
        assert store.turns(session, 1, 1) == [turn]


class Settling(StepFacts):
    def test_a_step_is_settled_and_the_next_call_charged_with_it(self, store: Store, session: Session) -> None:
        lease = lease_of(1, charges=(charge("4"),))
        store.acquire(session, lease, over=None)
        first = again(lease, steps=1)
        for _ in range(2):
            store.checkpoint(session, first, 0, step_of(1), message=QUESTION, settlement=(charge("-1"),))
        require_used(store, "3")
        second = again(first, steps=1)
        for _ in range(2):
            store.checkpoint(session, second, 1, step_of(1, results=True), charges=(charge("5"),))
        require_used(store, "8")

    def test_one_checkpoint_may_settle_and_charge_the_same_counter(self, store: Store, session: Session) -> None:
        store.acquire(session, lease_of(1, charges=(charge("8"),)), over=None)
        other = charge("2", counter="usd#2026-11-25")
        found = store.checkpoint(
            session,
            again(lease_of(1), steps=1),
            0,
            step_of(1),
            message=QUESTION,
            settlement=(charge("-6"), other),
            charges=(charge("7"),),
        )
        assert isinstance(found, Lease)
        require_used(store, "9")
        require_used(store, "2", counter="usd#2026-11-25")

    def test_a_charge_that_does_not_fit_stores_nothing(self, store: Store, session: Session) -> None:
        lease = lease_of(1, charges=(charge("4"),))
        store.acquire(session, lease, over=None)
        usd = charge("3", counter="usd#2026-11-25")
        for charges in ((charge("7"), usd), (usd, charge("7"))):
            with pytest.raises(QuotaExceeded) as refused:
                store.checkpoint(
                    session, again(lease, steps=1), 0, step_of(1), message=QUESTION, settlement=(usd,), charges=charges
                )
            assert (refused.value.limit, refused.value.retry_after_s) == ("turns", 40)
        assert replace(held(store, session), charges=lease.charges) == lease
        require_used(store, "4")
        require_used(store, "0", counter="usd#2026-11-25")

    def test_a_settlement_is_made_whatever_its_limit(self, store: Store, session: Session) -> None:
        lease = lease_of(1, charges=(charge("9"),))
        store.acquire(session, lease, over=None)
        renewed = again(lease, steps=1)
        found = store.checkpoint(session, renewed, 0, step_of(1), message=QUESTION, settlement=(charge("5"),))
        assert found == renewed
        require_used(store, "14")

    def test_a_release_gives_back_the_charges_of_the_call_that_ran(self, store: Store, session: Session) -> None:
        lease = taken(store, session)
        renewed = replace(again(lease, steps=1), charges=(charge("5"),))
        store.checkpoint(session, renewed, 0, step_of(1), message=QUESTION, charges=renewed.charges)
        for _ in range(2):
            store.release(session, renewed, billed=False, now_ms=renewed.at_ms)
        require_used(store, "0")


def require_used(store: Store, used: str, *, counter: str = COUNTER) -> None:
    """Expects that what is left of 100 can be charged, and no more; gives it back afterwards."""
    left = 100 - Decimal(used)
    session = store.create(new_session(), "")
    with pytest.raises(QuotaExceeded):
        store.acquire(session, lease_of(1, charges=(charge(left + LEAST, "100", counter),)), over=None)
    lease = lease_of(1, charges=(charge(left, "100", counter),))
    store.acquire(session, lease, over=None)
    store.release(session, lease, billed=False, now_ms=START_MS)


class TakingOver(StepFacts):
    def test_who_takes_over_finds_the_steps_and_goes_on(self, store: Store, session: Session) -> None:
        dead = stepped(store, session, taken(store, session), step_of(1, results=True), step_of(2))
        seen = held(store, session)
        heir = replace(lease_of(1, "heir", at_ms=dead.lease_expires_ms + 1), steps=seen.steps, attempt=2)
        assert store.acquire(session, heir, over=seen) == heir
        assert store.steps(session, heir) == (QUESTION, (step_of(1, results=True), step_of(2)))
        with_results = step_of(2, results=True)
        renewed = again(heir, steps=2)
        assert store.checkpoint(session, renewed, 0, with_results) == renewed
        turn = turn_with(renewed, step_of(1, results=True), with_results)
        assert store.commit(session, turn) == turn
        assert store.turns(session, 1, 1) == [turn]

    def test_a_dead_handlers_step_comes_too_late(self, store: Store, session: Session) -> None:
        dead = stepped(store, session, taken(store, session), step_of(1))
        heir = replace(lease_of(1, "heir", at_ms=dead.lease_expires_ms + 1), steps=1)
        store.acquire(session, heir, over=dead)
        assert store.checkpoint(session, again(dead, steps=1), dead.sequence, step_of(1, results=True)) == heir
        assert store.steps(session, heir) == (QUESTION, (step_of(1),))

    @pytest.mark.parametrize("billed", [True, False])
    def test_a_release_keeps_the_steps_and_the_time_of_use(self, store: Store, session: Session, billed: bool) -> None:
        lease = stepped(store, session, taken(store, session), step_of(1))
        store.release(session, lease, billed=billed, now_ms=lease.at_ms + 7)
        left = held(store, session)
        assert (left.steps, left.at_ms, left.lease_expires_ms) == (1, lease.at_ms, lease.at_ms + 6)
        assert store.steps(session, left) == (QUESTION, (step_of(1),))
        heir = replace(lease_of(1, "heir", at_ms=lease.at_ms + 7), steps=1)
        assert store.acquire(session, heir, over=left) == heir

    @pytest.mark.parametrize("billed", [True, False])
    def test_a_release_of_a_renewed_lease_keeps_the_time_of_use(
        self, store: Store, session: Session, billed: bool
    ) -> None:
        lease = again(taken(store, session))
        store.renew(session, lease, 0)
        store.release(session, lease, billed=billed, now_ms=lease.at_ms + 7)
        assert (held(store, session).at_ms, held(store, session).sequence) == (lease.at_ms, 1)

    @pytest.mark.parametrize("billed", [True, False])
    def test_a_release_of_an_older_number_changes_nothing(self, store: Store, session: Session, billed: bool) -> None:
        lease = taken(store, session)
        stored = stepped(store, session, lease, step_of(1))
        store.release(session, lease, billed=billed, now_ms=START_MS)
        assert held(store, session) == stored

    def test_the_steps_of_a_slot_that_was_lost_are_not_found(self, store: Store, session: Session) -> None:
        lease = stepped(store, session, taken(store, session), step_of(1))
        store.delete(OWNER, session.id, START_MS)
        with pytest.raises((SessionNotFound, LeaseLost)):
            store.steps(session, lease)


STEPS = step_of(1, results=True), step_of(2)


class Interrupting(StepFacts):
    def interrupted(self, store: Store, session: Session) -> tuple[Lease, Turn]:
        """A lease with steps that has lapsed, and the turn that they are to become."""
        dead = stepped(store, session, taken(store, session), *STEPS)
        turn = turn_with(dead, *STEPS, answer=None, stop_reason=INTERRUPTED)
        return dead, replace(turn, token="another", at_ms=dead.lease_expires_ms + 1)

    def test_the_steps_of_a_dead_handler_become_a_turn(self, store: Store, session: Session) -> None:
        dead, turn = self.interrupted(store, session)
        for _ in range(2):  # a repeat after a lost answer finds the same
            assert store.interrupt(session, turn, over=dead) == turn
        view = store.read(OWNER, session.id, turn.at_ms, newest=5)
        assert (view.turns, view.running) == ((turn,), None)
        assert store.turns(session, 1, 1) == [turn]
        assert take(store, session, 2, at_ms=turn.at_ms).number == 2

    def test_the_results_of_the_last_step_are_part_of_it(self, store: Store, session: Session) -> None:
        steps = step_of(1, results=True), step_of(2, results=True)
        dead = stepped(store, session, taken(store, session), *steps)
        turn = replace(turn_with(dead, *steps, answer=None, stop_reason=INTERRUPTED), at_ms=dead.lease_expires_ms + 1)
        assert store.interrupt(session, turn, over=dead) == turn
        assert store.turns(session, 1, 1) == [turn]

    def test_a_lease_that_has_not_lapsed_is_not_interrupted(self, store: Store, session: Session) -> None:
        dead, turn = self.interrupted(store, session)
        early = replace(turn, at_ms=dead.lease_expires_ms)
        assert store.interrupt(session, early, over=dead) == dead
        assert held(store, session) == dead

    def test_a_lease_that_was_written_again_is_not_interrupted(self, store: Store, session: Session) -> None:
        dead, turn = self.interrupted(store, session)
        renewed = replace(dead, sequence=dead.sequence + 1)
        store.renew(session, renewed, dead.sequence)
        assert store.interrupt(session, turn, over=dead) == renewed
        assert store.steps(session, held(store, session)) == (QUESTION, STEPS)

    def test_a_handler_that_was_interrupted_finds_the_turn(self, store: Store, session: Session) -> None:
        dead, turn = self.interrupted(store, session)
        store.interrupt(session, turn, over=dead)
        assert store.renew(session, again(dead), dead.sequence) == turn
        assert store.checkpoint(session, again(dead, steps=3), dead.sequence, step_of(3)) == turn
        assert store.commit(session, turn_with(dead, *STEPS)) == turn
        assert store.turns(session, 1, 1) == [turn]

    def test_what_was_committed_or_deleted_is_not_interrupted(self, store: Store, session: Session) -> None:
        dead, turn = self.interrupted(store, session)
        done = turn_with(dead, *STEPS)
        store.commit(session, done)
        assert store.interrupt(session, turn, over=dead) == done
        store.delete(OWNER, session.id, START_MS)
        assert isinstance(store.interrupt(session, turn, over=dead), Tombstone)
        assert is_gone(store, session)


class StepCommitting(StepFacts):
    def test_a_turn_is_read_with_its_steps(self, store: Store, session: Session) -> None:
        steps = step_of(1, results=True), step_of(2), step_of(3, results=True)
        lease = stepped(store, session, taken(store, session), *steps)
        turn = turn_with(lease, *steps)
        for _ in range(2):  # a repeat after a lost answer finds the same
            assert store.commit(session, turn) == turn
        assert store.read(OWNER, session.id, lease.at_ms, newest=3).turns == (turn,)
        assert store.turns(session, 1, 1) == [turn]

    @pytest.mark.parametrize("stored", [True, False])
    def test_a_turn_may_end_with_results_whether_or_not_they_were_stored(
        self, store: Store, session: Session, stored: bool
    ) -> None:
        lease = stepped(store, session, taken(store, session), step_of(1, results=stored))
        turn = turn_with(lease, step_of(1, results=True), answer=None, stop_reason=STOPPED)
        assert store.commit(session, turn) == turn
        assert store.turns(session, 1, 1) == [turn]

    def test_a_turn_may_end_without_the_results_of_its_last_step(self, store: Store, session: Session) -> None:
        lease = stepped(store, session, taken(store, session), step_of(1, results=True), step_of(2))
        turn = turn_with(lease, step_of(1, results=True), step_of(2), answer=None, stop_reason=STOPPED)
        assert store.commit(session, turn) == turn
        assert store.turns(session, 1, 1) == [turn]

    def test_results_that_were_not_stored_may_come_with_the_reply_to_them(self, store: Store, session: Session) -> None:
        lease = stepped(store, session, taken(store, session), step_of(1))
        turn = turn_with(lease, step_of(1, results=True))
        assert store.commit(session, turn) == turn
        assert store.turns(session, 1, 1) == [turn]

    def test_a_turn_of_several_calls_needs_no_steps(self, store: Store, session: Session) -> None:
        lease = taken(store, session)
        turn = replace(turn_with(lease, step_of(1, results=True), step_of(2, results=True)), steps=0)
        assert store.commit(session, turn) == turn
        assert store.turns(session, 1, 1) == [turn]

    def test_messages_of_every_kind_are_kept_in_order(self, store: Store, session: Session) -> None:
        system = Message("system", to_json([{"type": "text", "text": "Be brief."}]))
        turn = turn_with(lease_of(1), message=(system, *QUESTION, system), stop_reason="tool_use")
        turn = replace(turn, messages=(*turn.messages, results_of(1)))
        assert store.create(replace(session, id=new_session().id), "", first=turn)
        taken(store, session)
        assert store.commit(session, turn) == turn
        assert store.turns(session, 1, 1) == [turn]

    @pytest.mark.parametrize("form", ["exchange", "steps", "interrupted"])
    def test_the_instructions_that_hold_before_the_window_are_kept(
        self, store: Store, session: Session, form: str
    ) -> None:
        lease, rules = taken(store, session), "Be ☃. " * 99
        if form == "exchange":
            turn = replace(turn_of(lease), window_system=rules)
        else:
            lease = stepped(store, session, lease, *STEPS)
            turn = replace(turn_with(lease, *STEPS), window_system=rules)
        if form == "interrupted":
            turn = turn_with(lease, *STEPS, answer=None, stop_reason=INTERRUPTED)
            turn = replace(turn, window_system=rules, at_ms=lease.lease_expires_ms + 1)
            assert store.interrupt(session, turn, over=lease) == turn
        else:
            assert store.commit(session, turn) == turn
        assert store.read(OWNER, session.id, START_MS, newest=1).turns == (turn,)
        assert store.turns(session, 1, 1) == [turn]

    def test_the_names_of_a_call_are_kept(self, store: Store, session: Session) -> None:
        lease = taken(store, session)
        call = replace(call_of(), stop_sequence="END", stop_details='{"type":"refusal"}')
        turn = replace(turn_of(lease), calls=(call,))
        store.commit(session, turn)
        assert store.turns(session, 1, 1) == [turn]

    def test_the_costs_of_calls_are_kept_apart(self, store: Store, session: Session) -> None:
        lease = taken(store, session)
        steps = [
            replace(step_of(number), call=call_of(number, cost_usd=cost)) for number, cost in ((1, None), (2, LEAST))
        ]
        turn = turn_with(stepped(store, session, lease, *steps), *steps)
        store.commit(session, turn)
        assert [call.cost_usd for call in store.turns(session, 1, 1)[0].calls] == [None, LEAST, Decimal("0.5")]

    def test_an_overtaken_handler_commits_no_steps(self, store: Store, session: Session) -> None:
        slow = stepped(store, session, taken(store, session), step_of(1))
        heir = replace(lease_of(1, "heir", at_ms=slow.lease_expires_ms + 1), steps=1)
        store.acquire(session, heir, over=slow)
        assert store.commit(session, turn_with(slow, step_of(1))) == heir
        turn = turn_with(heir, step_of(1))
        assert store.commit(session, turn) == turn
        assert store.commit(session, turn_with(slow, step_of(1))) == turn

    def test_a_turn_too_large_for_its_last_write_is_refused(self, store: Store, session: Session) -> None:
        lease = stepped(store, session, taken(store, session), step_of(1))
        answer = Message("assistant", to_json([{"type": "text", "text": random_text(MAX_TURN_BYTES)}]))
        with pytest.raises(TurnTooLarge):
            store.commit(session, turn_with(lease, step_of(1), answer=answer))
        assert held(store, session) == lease

    def test_a_turn_is_settled_with_its_steps(self, store: Store, session: Session) -> None:
        lease = stepped(store, session, taken(store, session), step_of(1))
        for _ in range(2):
            store.commit(session, turn_with(lease, step_of(1)), (charge("3"),))
        require_used(store, "3")


class ReadingLargeContent(StepFacts):
    """Content that does not fit into its slot is read where it is needed."""

    def test_a_large_message_and_reply_are_kept_whole(self, store: Store, session: Session) -> None:
        lease = taken(store, session)
        answer = Message("assistant", to_json([{"type": "text", "text": random_text(MAX_TURN_BYTES // 3)}]))
        message = (Message.of_text(random_text(MAX_TURN_BYTES // 2)),)
        turn = turn_with(lease, message=message, answer=answer)
        assert store.commit(session, turn) == turn
        assert store.read(OWNER, session.id, START_MS, newest=1).turns == (turn,)
        assert store.turns(session, 1, 1) == [turn]

    @pytest.mark.parametrize("window_from", [1, 2, 3])
    def test_the_window_is_read_whole(self, store: Store, session: Session, window_from: int) -> None:
        turns = [self.committed(store, session, number, window_from) for number in (1, 2, 3)]
        for newest in (1, 2, 5):
            view = store.read(OWNER, session.id, START_MS, newest)
            assert [turn.number for turn in view.turns] == [1, 2, 3][-newest:]
            for turn in view.turns:
                stored = turns[turn.number - 1]
                assert turn == stored or (turn.number < window_from and turn == without_content(stored))
        assert store.turns(session, 1, 3) == turns

    def test_a_read_without_content_says_all_else(self, store: Store, session: Session) -> None:
        turns = [self.committed(store, session, number) for number in (1, 2)]
        view = store.read(OWNER, session.id, START_MS, newest=5, with_content=False)
        for turn, stored in zip(view.turns, turns, strict=True):
            assert turn in (stored, without_content(stored))
        assert (view.count, view.totals) == (2, turns[-1].totals)

    def test_a_window_of_20_mb_is_read(self, store: Store, session: Session) -> None:
        large = [step_of(number, text=random_text(1_300_000)) for number in (1, 2, 3)]
        turns = []
        for number in range(1, 6):
            lease = stepped(store, session, taken(store, session, number), *large)
            turns.append(turn_with(lease, *large))
            assert sum(len(each.content) for each in turns[-1].messages) < MAX_CONTENT_BYTES
            store.commit(session, turns[-1])
        assert list(store.read(OWNER, session.id, START_MS, newest=25).turns) == turns

    @staticmethod
    def committed(store: Store, session: Session, number: int, window_from: int = 1) -> Turn:
        lease = stepped(store, session, taken(store, session, number), step_of(1, results=True))
        turn = turn_with(lease, step_of(1, results=True))
        turn = replace(turn, window_from=min(number, window_from))
        assert store.commit(session, turn) == turn
        return turn


def without_content(turn: Turn) -> Turn:
    return replace(turn, messages=(), calls=())


class Carrying(StepFacts):
    """Steps go where their session goes, and end with it."""

    def three(self, store: Store, session: Session) -> list[Turn]:
        """Three turns: one of steps, one that is large, and one like any other."""
        steps = step_of(1, results=True), step_of(2, text=random_text(1_000_000)), step_of(3, results=True)
        lease = stepped(store, session, taken(store, session, 1), *steps)
        first = turn_with(lease, *steps)
        large = (Message.of_text(random_text(MAX_TURN_BYTES - 100_000)),)
        second = turn_with(taken_after(store, session, first), message=large)
        assert store.commit(session, second) == second
        return [first, second, take(store, session, 3)]

    def test_a_move_takes_all_content_along(self, store: Store, session: Session) -> None:
        turns = self.three(store, session)
        move = move_of(session)
        moved = store.move(move)
        assert store.turns(moved, 1, 9) == turns
        assert store.read(EVE, moved.id, START_MS + 100, newest=9).turns == tuple(turns)
        assert is_gone(store, session)
        assert store.move(move) == moved
        assert take(store, moved, 4).number == 4

    def test_a_fork_takes_all_content_along(self, store: Store, session: Session) -> None:
        turns = self.three(store, session)
        child = forked(store, session, 3, new_session())
        assert store.turns(child, 1, 9) == [turn.forked() for turn in turns]
        store.delete(OWNER, session.id, START_MS)
        assert store.turns(child, 1, 9) == [turn.forked() for turn in turns]
        assert forked(store, child, 1, new_session())

    def test_a_deletion_takes_all_content(self, store: Store, session: Session) -> None:
        self.three(store, session)
        stepped(store, session, taken(store, session, 4), step_of(1))
        assert store.delete(OWNER, session.id, START_MS) is True
        assert is_gone(store, session)

    def test_a_turn_larger_than_one_write_is_moved_and_forked(self, store: Store, session: Session) -> None:
        steps = [step_of(number, text=random_text(1_350_000)) for number in (1, 2, 3)]
        lease = stepped(store, session, taken(store, session), *steps)
        turn = turn_with(lease, *steps)
        store.commit(session, turn)
        child = forked(store, session, 1, new_session())
        assert store.turns(child, 1, 1) == [turn.forked()]
        assert store.turns(store.move(move_of(session)), 1, 1) == [turn]

    def test_a_lapsed_lease_with_steps_is_not_moved_before_it_is_a_turn(self, store: Store, session: Session) -> None:
        dead = stepped(store, session, taken(store, session), step_of(1))
        move = move_of(session, at_ms=dead.lease_expires_ms + 1)
        with pytest.raises(TurnInProgress):
            store.move(move)
        assert held(store, session) == dead
        turn = turn_with(dead, step_of(1), answer=None, stop_reason=INTERRUPTED)
        turn = replace(turn, at_ms=dead.lease_expires_ms + 1)
        store.interrupt(session, turn, over=dead)
        assert store.turns(store.move(move), 1, 1) == [turn]

    def test_a_session_is_not_moved_while_a_renewed_lease_runs(self, store: Store, session: Session) -> None:
        lease = again(taken(store, session))
        store.renew(session, lease, 0)
        with pytest.raises(TurnInProgress):
            store.move(move_of(session, at_ms=START_MS + LEASE_MS + 1))
        assert store.commit(session, turn_of(lease)) == turn_of(lease)

    def test_an_expired_session_is_swept_with_its_steps(self, store: Store, session: Session) -> None:
        lease = stepped(store, session, taken(store, session), step_of(1))
        assert store.sweep(lease.at_ms + session.idle_ms) == 0
        assert store.steps(session, lease) == (QUESTION, (step_of(1),))
        assert store.sweep(lease.at_ms + session.idle_ms + HOUR_MS) == 1
        assert is_gone(store, session)
        assert isinstance(store.renew(session, again(lease), lease.sequence), Tombstone)

    def test_a_session_keeps_the_settings_of_its_calls(self, store: Store) -> None:
        settings = SessionSettings(
            "claude-sonnet-5-5",
            64_000,
            "Be brief.",
            stop_sequences=("END", "☃"),
            thinking='{"type":"enabled","budget_tokens":2000}',
            effort="high",
            tools='[{"name":"look_up","input_schema":{"type":"object"}}]',
            own_tools=("look_up",),
            tool_choice="auto",
            output_schema='{"type":"object"}',
            cache="1h",
        )
        session = store.create(replace(new_session(), settings=settings), "A title")
        assert store.read(OWNER, session.id, START_MS, newest=1).session.settings == settings
        take(store, session, 1)
        moved = store.move(move_of(session))
        assert store.read(EVE, moved.id, START_MS, newest=1).session.settings == settings


def taken_after(store: Store, session: Session, turn: Turn) -> Lease:
    """The lease of the next slot, after this turn is stored."""
    assert store.commit(session, turn) == turn
    return taken(store, session, turn.number + 1)


class TurnStoreContract(
    Renewing,
    Stopping,
    Checkpointing,
    Settling,
    TakingOver,
    Interrupting,
    StepCommitting,
    ReadingLargeContent,
    Carrying,
):
    """The whole contract. Derive a class whose name begins with Test, and give it a fixture `store`."""
