"""run_turn() on the in-memory store: order, replay, refusal, and what each failure leaves behind."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field, replace
from decimal import Decimal

import pytest

from tests.fakes import OWNER, HashModel, HeldClock, expected_text, new_session
from turnlog.adapters.local.memory import MemorySessionStore
from turnlog.domain.limits import OwnerLimits, SessionLimits
from turnlog.domain.messages import Message
from turnlog.domain.sessions import Session, SessionView
from turnlog.domain.turns import Lease, Slot, Turn
from turnlog.domain.window import messages
from turnlog.errors import (
    AttemptsExhausted,
    InvalidRequest,
    KeyReused,
    LeaseLost,
    ModelError,
    ModelFailed,
    ModelProtocolError,
    ModelTimeout,
    ModelUnavailable,
    QuotaExceeded,
    SessionLimitReached,
    SessionNotFound,
    StoreUnavailable,
    TurnInProgress,
    TurnNumberTaken,
    TurnTooLarge,
)
from turnlog.usecases.held_lease import COMMIT_RESERVE_S
from turnlog.usecases.turn_protocol import ATTEMPTS, TakenTurn, run_turn
from turnlog.usecases.turn_request import Require, TurnPolicy, TurnRequest, require_nothing

HANDLER_S, ANSWER_S = 60.0, 29.0


def hashed(text: str) -> bytes:
    """A hash as long as a real key's; texts that begin with the same six letters collide in the ring."""
    return text.encode()[:6].ljust(6) + hashlib.sha256(text.encode()).digest()[:10]


@dataclass
class Desk:
    """One session and all that its turns need."""

    clock: HeldClock = field(default_factory=HeldClock)
    model: HashModel = field(default_factory=HashModel)
    store: MemorySessionStore = field(default_factory=MemorySessionStore)
    session: Session = field(default_factory=new_session)
    policy: TurnPolicy = field(default_factory=TurnPolicy)

    def __post_init__(self) -> None:
        self.store.create(self.session, "")

    def turn(
        self,
        text: str,
        key: str = "",
        *,
        owner: str = OWNER,
        body: str = "",
        number: int | None = None,
        require: Require = require_nothing,
    ) -> TakenTurn:
        message = Message.of_text(text)
        keys = hashed(key or text), hashed(body or text)
        request = TurnRequest(owner, self.session.id, *keys, message, number, require=require)
        return run_turn(
            request,
            store=self.store,
            model=self.model,
            clock=self.clock,
            remaining_s=lambda: HANDLER_S,
            answer_s=lambda: ANSWER_S,
            policy=self.policy,
        )

    def count(self) -> int:
        return self.store.read(OWNER, self.session.id, self.clock(), newest=1).count

    def running(self) -> Lease | None:
        return self.store.read(OWNER, self.session.id, self.clock(), newest=1).running


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_turns_are_numbered_from_one_and_each_reply_saw_exactly_those_before(desk: Desk) -> None:
    taken = [desk.turn(text) for text in ("one", "two", "three")]
    assert [each.turn.number for each in taken] == [1, 2, 3]
    turns = [each.turn for each in taken]
    for index, turn in enumerate(turns):
        assert turn.reply.text == expected_text(messages(turns[:index], turn.message))


def test_the_same_key_gives_the_same_turn_and_the_model_is_asked_once(desk: Desk) -> None:
    first, again = desk.turn("hello", "k"), desk.turn("hello", "k")
    assert again.turn == first.turn
    assert (first.replayed, again.replayed) == (False, True)
    assert len(desk.model.requests) == 1


@pytest.mark.parametrize("turns", [1, 16, 17, 25, 26, 63, 64])
def test_a_key_is_found_after_so_many_further_turns_though_the_window_has_moved_on(desk: Desk, turns: int) -> None:
    desk.turn("the very first")
    first = desk.turn("first")
    for number in range(turns):
        desk.turn(f"later {number}")
    assert desk.turn("first").turn == first.turn
    assert len(desk.model.requests) == 2 + turns


def test_a_key_with_another_body_is_refused_and_nothing_is_paid(desk: Desk) -> None:
    desk.turn("hello", "k")
    with pytest.raises(KeyReused):
        desk.turn("goodbye", "k")
    assert len(desk.model.requests) == 1


def test_a_key_that_only_collides_with_an_older_one_is_a_new_turn(desk: Desk) -> None:
    desk.turn("first", "abcdef-1")
    for number in range(30):
        desk.turn(f"later {number}")
    assert desk.turn("other", "abcdef-2").turn.number == 32


def test_a_second_turn_while_one_runs_is_refused_before_it_is_paid(desk: Desk) -> None:
    refused: list[TurnInProgress] = []

    def meanwhile() -> None:
        desk.model.during = None
        with pytest.raises(TurnInProgress) as error:
            desk.turn("me too")
        refused.append(error.value)

    desk.model.during = meanwhile
    assert desk.turn("slow").turn.number == 1
    assert 1 <= (refused[0].retry_after_s or 0) <= 7
    assert len(desk.model.requests) == 1


def test_the_same_key_with_another_body_is_refused_while_its_turn_runs(desk: Desk) -> None:
    def meanwhile() -> None:
        desk.model.during = None
        with pytest.raises(KeyReused):
            desk.turn("other", "k")

    desk.model.during = meanwhile
    desk.turn("slow", "k")
    assert desk.count() == 1


@pytest.mark.parametrize("error", [ModelUnavailable(1)])
def test_a_failure_that_cannot_have_been_billed_frees_the_slot_at_once(desk: Desk, error: ModelError) -> None:
    desk.model.fail_with = [error]
    with pytest.raises(type(error)):
        desk.turn("hello")
    assert (desk.count(), desk.running()) == (0, None)
    assert desk.turn("something else").turn.number == 1


@pytest.mark.parametrize("error", [ModelTimeout(), ModelFailed(), ModelProtocolError()])
def test_after_a_failure_that_may_have_been_billed_the_next_turn_proceeds_at_once(
    desk: Desk, error: ModelError
) -> None:
    desk.model.fail_with = [error]
    with pytest.raises(type(error)):
        desk.turn("hello")
    assert desk.count() == 0
    assert desk.turn("something else").turn.number == 1


def test_a_key_is_paid_for_three_times_at_most(desk: Desk) -> None:
    desk.model.fail_with = [ModelTimeout() for _ in range(ATTEMPTS)]
    for _ in range(ATTEMPTS):
        with pytest.raises(ModelTimeout):
            desk.turn("hello", "k")
    with pytest.raises(AttemptsExhausted):
        desk.turn("hello", "k")
    assert len(desk.model.requests) == ATTEMPTS
    assert desk.turn("hello", "another key").turn.number == 1


def test_a_key_is_paid_three_times_at_most_whatever_comes_in_between(desk: Desk) -> None:
    asked = ["a", "b", "a", "b", "c", "a", "b"]
    desk.model.fail_with = [ModelTimeout() for _ in asked]
    for key in asked:
        with pytest.raises(ModelTimeout):
            desk.turn(f"message {key}", key)
    desk.turn("in between", "d")
    for key in ("a", "b"):
        with pytest.raises(AttemptsExhausted):
            desk.turn(f"message {key}", key)
    assert len(desk.model.requests) == len(asked) + 1
    assert desk.turn("message c", "c").turn.number == 2


def test_failures_that_were_not_billed_do_not_forget_what_other_keys_came_to(desk: Desk) -> None:
    desk.model.fail_with = [ModelTimeout(), ModelTimeout(), ModelTimeout(), ModelUnavailable(1)]
    for key in "aaab":
        with pytest.raises(ModelError):
            desk.turn(f"message {key}", key)
    with pytest.raises(AttemptsExhausted):
        desk.turn("message a", "a")


def test_failures_that_were_not_billed_neither_count_nor_reset_the_count(desk: Desk) -> None:
    billed = unbilled = 0
    for failure in (ModelFailed(), ModelUnavailable(1), ModelFailed(), ModelUnavailable(1), ModelFailed()):
        desk.model.fail_with = [failure]
        with pytest.raises(ModelError):
            desk.turn("hello")
        desk.clock.tick(ms=1)
        billed, unbilled = billed + failure.billed, unbilled + (not failure.billed)
    assert (billed, unbilled) == (ATTEMPTS, 2)
    with pytest.raises(AttemptsExhausted):
        desk.turn("hello")
    assert len(desk.model.requests) == billed + unbilled


def test_the_slot_of_a_handler_that_died_is_taken_over_after_its_lease(desk: Desk) -> None:
    lease_s = HANDLER_S + COMMIT_RESERVE_S
    dead = Lease(1, "dead", desk.clock() + round(lease_s * 1000), b"k", b"f", desk.clock())
    desk.store.acquire(desk.session, dead, over=None)
    desk.clock.tick(seconds=lease_s)
    with pytest.raises(TurnInProgress):
        desk.clock.tick(ms=-1)
        desk.turn("hello")
    desk.clock.tick(ms=2)
    assert desk.turn("hello").turn.number == 1


def test_a_handler_that_outlived_its_lease_overwrites_nothing(desk: Desk) -> None:
    def overtaken() -> None:
        desk.model.during = None
        desk.clock.tick(seconds=HANDLER_S + COMMIT_RESERVE_S + 1)
        desk.turn("fast")

    desk.model.during = overtaken
    with pytest.raises(LeaseLost):
        desk.turn("slow")
    assert desk.count() == 1
    assert desk.turn("fast").replayed


def test_a_handler_that_was_overtaken_by_its_own_retry_answers_with_the_stored_turn(desk: Desk) -> None:
    def overtaken() -> None:
        desk.model.during = None
        desk.clock.tick(seconds=HANDLER_S + COMMIT_RESERVE_S + 1)
        desk.turn("hello", "k")

    desk.model.during = overtaken
    late = desk.turn("hello", "k")
    assert late.turn == desk.turn("hello", "k").turn


def test_a_claim_whose_answer_was_lost_is_recognised_as_ones_own(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = desk.store.acquire

    def twice(session: Session, wanted: Lease, over: Lease | None) -> Slot | None:
        lease(session, wanted, over)
        return lease(session, wanted, over)

    monkeypatch.setattr(desk.store, "acquire", twice)
    assert desk.turn("hello").turn.number == 1


def test_a_claim_of_unknown_fate_is_given_back_and_nothing_is_paid(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = desk.store.acquire

    def cut(session: Session, wanted: Lease, over: Lease | None) -> Slot | None:
        lease(session, wanted, over)
        raise StoreUnavailable

    monkeypatch.setattr(desk.store, "acquire", cut)
    with pytest.raises(StoreUnavailable):
        desk.turn("hello")
    assert desk.running() is None
    assert desk.model.requests == []


def test_a_session_that_is_deleted_while_its_turn_runs_stays_deleted(desk: Desk) -> None:
    def deleted() -> None:
        desk.store.delete(OWNER, desk.session.id, desk.clock())

    desk.model.during = deleted
    with pytest.raises(SessionNotFound):
        desk.turn("hello")
    with pytest.raises(SessionNotFound):
        desk.turn("again")


@pytest.mark.parametrize("ms_before_the_end", [1, 0, -1])
def test_an_idle_session_ends_at_that_millisecond(desk: Desk, ms_before_the_end: int) -> None:
    desk.turn("hello")
    desk.clock.tick(ms=desk.session.idle_ms - ms_before_the_end)
    if ms_before_the_end > 0:
        assert desk.turn("still here").turn.number == 2
    else:
        with pytest.raises(SessionNotFound):
            desk.turn("too late")
        assert len(desk.model.requests) == 1


def test_a_session_ends_at_its_absolute_end_however_busy_it_is() -> None:
    desk = Desk(session=new_session(life_s=3600))
    for _ in range(3):
        desk.clock.tick(seconds=1199)
        taken = desk.turn(f"at {desk.clock()}")
    assert taken.idle_expires_ms == desk.session.expires_ms
    desk.clock.tick(seconds=3)
    with pytest.raises(SessionNotFound):
        desk.turn("too late")


def test_a_foreign_session_is_not_found(desk: Desk) -> None:
    with pytest.raises(SessionNotFound):
        desk.turn("hello", owner="https://issuer.example/|eve")


def test_the_model_gets_what_is_left_less_the_time_for_the_commit(desk: Desk) -> None:
    desk.turn("hello")
    assert desk.model.seconds == [HANDLER_S - COMMIT_RESERVE_S]


def test_a_refusal_is_known_early_enough_to_release_the_slot_and_answer(desk: Desk) -> None:
    desk.turn("hello")
    assert desk.model.retry_s == [ANSWER_S - COMMIT_RESERVE_S]


def test_totals_are_the_sum_of_all_turns(desk: Desk) -> None:
    turns = [desk.turn(f"turn {number}").turn for number in range(40)]
    assert turns[-1].totals.tokens == 40 * 15
    assert turns[-1].totals.cost_usd == sum(turn.cost_usd or 0 for turn in turns)
    assert turns[-1].totals.cost_usd > 0


def test_a_prompt_begins_with_the_one_before_except_at_a_cut(desk: Desk) -> None:
    for number in range(60):
        desk.turn(f"turn {number}")
    prompts = [request.messages for request in desk.model.requests]
    cuts = [
        index
        for index in range(1, 60)
        if prompts[index][: len(prompts[index - 1])] != prompts[index - 1] or not len(prompts[index]) > 1
    ]
    assert cuts == [25, 38, 51]
    assert max(len(prompt) for prompt in prompts) == 2 * 24 + 1


def test_a_turn_of_more_tokens_than_the_window_holds_cuts_it_to_half(desk: Desk) -> None:
    for number in range(10):
        desk.turn(f"turn {number}")
    desk.model.tokens = 100_000
    desk.turn("a long one")
    desk.turn("after it")
    assert len(desk.model.requests[-1].messages) == 2 * 5 + 1


def test_a_refused_turn_is_stored_and_left_out_of_later_prompts(desk: Desk) -> None:
    first = desk.turn("fine").turn
    refused = replace(first, number=2, stop_reason="refusal")
    sent = messages([first, refused], Message.of_text("next"))
    assert sent == (first.message, first.reply.message, Message.of_text("next"))


# --- what the caller expects ------------------------------------------------------------------------------------------


def test_a_key_older_than_the_ring_is_found_by_the_number_of_its_turn(desk: Desk) -> None:
    first = desk.turn("first")
    for number in range(70):
        desk.turn(f"later {number}")
    again = desk.turn("first", number=1)
    assert (again.turn, again.replayed) == (first.turn, True)
    assert desk.count() == 71


def test_a_number_that_another_turn_has_or_that_is_too_high_is_refused_unpaid(desk: Desk) -> None:
    desk.turn("one")
    for number in (1, 3):
        with pytest.raises(TurnNumberTaken):
            desk.turn("two", number=number)
    assert len(desk.model.requests) == 1
    assert desk.turn("two", number=2).turn.number == 2


# --- limits -----------------------------------------------------------------------------------------------------------


def test_a_session_limit_is_exact_and_refuses_before_anything_is_paid(desk: Desk) -> None:
    desk.policy = TurnPolicy(session=SessionLimits(turns=2))
    desk.turn("one")
    desk.turn("two")
    with pytest.raises(SessionLimitReached):
        desk.turn("three")
    assert (desk.count(), desk.running(), len(desk.model.requests)) == (2, None, 2)
    assert desk.turn("one").replayed


def test_an_owners_rate_is_shared_by_sessions_and_a_refused_turn_is_not_charged(desk: Desk) -> None:
    desk.policy = TurnPolicy(owner=OwnerLimits(turns_a_minute=2))
    desk.turn("one")
    desk.model.fail_with = [ModelUnavailable(1)]
    with pytest.raises(ModelUnavailable):
        desk.turn("unpaid")
    desk.session = desk.store.create(new_session(), "")
    desk.turn("two")
    with pytest.raises(QuotaExceeded) as refused:
        desk.turn("three")
    assert 1 <= (refused.value.retry_after_s or 0) <= 60
    desk.clock.tick(seconds=60)
    assert desk.turn("three").turn.number == 2


def test_a_budget_is_settled_so_that_only_what_was_used_counts(desk: Desk) -> None:
    most = 1000 + 64 + len("Be brief.") + len(Message.of_text("one").content)  # max_tokens, the frame, the prompt
    desk.policy = TurnPolicy(owner=OwnerLimits(budget_a_day=Decimal(most + 25)))
    desk.turn("one")  # uses 15 tokens, as HashModel does
    desk.turn("two")
    with pytest.raises(QuotaExceeded):
        desk.turn("a message that is long enough to be too much for what is left")
    assert desk.count() == 2


def test_a_message_that_might_not_fit_into_a_turn_is_refused_before_it_is_paid(desk: Desk) -> None:
    noise = random.Random(1).randbytes(2_000_000).hex()
    with pytest.raises(TurnTooLarge):
        desk.turn(noise + noise[::-1], "large")
    assert (desk.count(), desk.running(), desk.model.requests) == (0, None, [])


# --- old views --------------------------------------------------------------------------------------------------------


class _Forgetful(MemorySessionStore):
    """Shows what the session was when `remember` was last called, to whoever does not ask for a fresh view."""

    def __init__(self) -> None:
        super().__init__()
        self.old: SessionView | SessionNotFound | None = None
        self.reads: list[bool] = []

    def read(
        self,
        owner: str,
        session_id: str,
        now_ms: int,
        newest: int,
        *,
        consistent: bool = True,
        with_content: bool = True,
    ) -> SessionView:
        self.reads.append(consistent)
        if consistent or self.old is None:
            return super().read(owner, session_id, now_ms, newest, with_content=with_content)
        if isinstance(self.old, SessionNotFound):
            raise self.old
        return self.old


@pytest.fixture
def forgetful() -> Desk:
    return Desk(store=_Forgetful(), policy=TurnPolicy(reads_cached=True))


def remember(desk: Desk) -> _Forgetful:
    assert isinstance(desk.store, _Forgetful)
    desk.store.old = desk.store.read(OWNER, desk.session.id, desk.clock(), 25)
    desk.store.reads.clear()
    return desk.store


def test_an_old_view_that_is_still_right_saves_the_fresh_read(forgetful: Desk) -> None:
    forgetful.turn("one")
    store = remember(forgetful)
    assert forgetful.turn("two").turn.number == 2
    assert store.reads == [False]


def test_an_old_view_that_is_wrong_costs_a_fresh_read_and_never_a_turn(forgetful: Desk) -> None:
    forgetful.turn("one")
    store = remember(forgetful)
    forgetful.policy = TurnPolicy()
    forgetful.turn("two")
    forgetful.policy = TurnPolicy(reads_cached=True)
    store.reads.clear()
    three = forgetful.turn("three")
    assert three.turn.number == 3
    assert store.reads == [False, True]
    turns = forgetful.store.turns(forgetful.session, 1, 3)
    assert three.turn.reply.text == expected_text(messages(turns[:2], three.turn.message))


def test_no_replay_and_no_refusal_rests_on_an_old_view(forgetful: Desk) -> None:
    one = forgetful.turn("one")
    store = remember(forgetful)
    assert forgetful.turn("one").turn == one.turn
    assert store.reads == [False, True]
    store.old = SessionNotFound()
    assert forgetful.turn("two").turn.number == 2
    forgetful.store.delete(OWNER, forgetful.session.id, forgetful.clock())
    with pytest.raises(SessionNotFound):
        forgetful.turn("three")
    assert len(forgetful.model.requests) == 2


# --- a session that the caller does not want


def refuse(_: SessionView, stored: Turn | None) -> None:
    if stored is None or stored.reply.text != expected_text((stored.message,)):
        raise InvalidRequest("setting_settled")


def test_a_session_may_be_refused_before_a_turn_and_looked_at_with_a_stored_one(desk: Desk) -> None:
    with pytest.raises(InvalidRequest):
        desk.turn("one", require=refuse)
    assert (desk.model.requests, desk.count(), desk.running()) == ([], 0, None)
    desk.turn("one")
    desk.turn("two")
    assert desk.turn("one", require=refuse).replayed
    with pytest.raises(InvalidRequest):
        desk.turn("two", require=refuse)


def test_a_running_turn_comes_before_the_refusal_of_its_session(desk: Desk) -> None:
    def meanwhile() -> None:
        with pytest.raises(TurnInProgress):
            desk.turn("two", require=refuse)

    desk.model.during = meanwhile
    desk.turn("one")
