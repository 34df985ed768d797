"""P1, P3, P8 and P10 on a wire that breaks: whatever becomes of a request, nothing is stored, paid or charged twice.

Each kind of fault meets each call of a turn, once and for as long as the store tries, with plain writes and with the
transactions that charge an owner's quotas. The store talks to MiniStack through boto3 and a proxy that breaks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from tests.fakes import OWNER, HashModel, HeldClock, new_session, with_content
from tests.promises.integration.fault_proxy import Broken, FaultProxy, Step
from tests.promises.integration.handlers import TurnTask
from tests.promises.integration.ministack import Contents, Tables, client_of
from tests.promises.integration.model_server import require_one_order
from turnlog.adapters.dynamodb import DynamoDBSessionStore
from turnlog.domain.limits import OwnerLimits, charges
from turnlog.domain.messages import Usage, to_json
from turnlog.domain.sessions import Session
from turnlog.domain.turns import Turn
from turnlog.errors import ModelError, ModelTimeout, ModelUnavailable, StoreUnavailable, TurnInProgress
from turnlog.usecases.turn_protocol import TakenTurn, run_turn
from turnlog.usecases.turn_request import TurnPolicy

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

LEASE_MS = 34_000  # 29 s that the handler has left, and COMMIT_RESERVE_S
TRIES = 4  # of the store, for each call
CHARGED = TurnPolicy(owner=OwnerLimits(turns_a_minute=100, budget_a_day=Decimal(1_000_000)))
POLICIES = [pytest.param(TurnPolicy(), id="plain"), pytest.param(CHARGED, id="charged")]

NOT_APPLIED = (Broken.THROTTLED, Broken.FAILED, Broken.UNAVAILABLE, Broken.CUT_BEFORE)
TIMED_OUT = (Broken.LATE_BEFORE_RETRY, Broken.LATE_AFTER_RETRY, Broken.LATE)

NEVER_SENT = ModelUnavailable(1)
"""Not billed for certain, so that the lease is given back."""


@dataclass
class Conversation:
    """A session whose store sits behind the breaking wire."""

    store: DynamoDBSessionStore
    session: Session
    policy: TurnPolicy
    model: HashModel = field(default_factory=HashModel)
    clock: HeldClock = field(default_factory=HeldClock)

    def take(self, text: str, fails_with: ModelError | None = None) -> TakenTurn:
        self.model.fail_with = [fails_with] if fails_with else []
        return run_turn(
            TurnTask(self.session.owner, self.session.id, text).request(),
            store=self.store,
            model=self.model,
            clock=self.clock,
            remaining_s=lambda: 29.0,
            policy=self.policy,
        )

    def take_when_free(self, text: str) -> TakenTurn:
        """Takes the turn after the lease, until which the session is busy."""
        with pytest.raises(TurnInProgress) as busy:
            self.take(text)
        assert busy.value.retry_after_s
        self.clock.tick(ms=LEASE_MS + 1)
        return self.take(text)

    @property
    def reserve(self) -> Counter[str]:
        """Returns the charges of a lease of the second turn."""
        view = self.store.read(self.session.owner, self.session.id, self.clock(), newest=1)
        message = TurnTask(OWNER, "", "two").request().message
        taken = charges(replace(view, turns=view.turns[:1]), message, self.policy.owner, self.clock())
        return Counter({charge.counter.partition("#")[0]: int(charge.amount) for charge in taken})


@pytest.fixture
def proxy(tables: Tables) -> Iterator[FaultProxy]:
    with FaultProxy(tables.endpoint) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: FaultProxy, broken: Broken) -> Iterator[DynamoDBClient]:
    client = client_of(proxy.url, read_timeout_s=0.4 if broken in TIMED_OUT else 60)
    yield client
    client.close()


@pytest.fixture
def conversation(tables: Tables, client: DynamoDBClient, policy: TurnPolicy) -> Conversation:
    store = tables.store(client)
    conversation = Conversation(store, store.create(new_session(), ""), policy)
    conversation.take("one")
    return conversation


def counted(contents: Contents) -> Counter[str]:
    """Returns the owner's use by kind, over all minutes."""
    found: Counter[str] = Counter()
    for name, count in contents.counters().items():
        found[name.partition("#")[0]] += int(count)
    return found


def compact(turn: Turn) -> Turn:
    """Returns the turn in its stored form: the JSON of its usage without spaces."""
    return with_content(turn, reply=replace(turn.reply, usage=Usage(to_json(turn.reply.usage.fields))))


def require_whole(
    conversation: Conversation, contents: Contents, proxy: FaultProxy, second: TakenTurn, *, lost_leases: int = 0
) -> None:
    """The second turn stands once, as it was returned; a straggler changes nothing; the next turn goes on; and the
    quotas hold the use, and the reservations of lost leases.
    """
    reserved = conversation.reserve
    before = contents.everything()
    proxy.deliver()
    assert contents.everything() == before, "a request that came late changed something"
    paid = len(conversation.model.requests)
    again = conversation.take("two")
    assert again.replayed
    assert compact(again.turn) == compact(second.turn)
    assert len(conversation.model.requests) == paid
    third = conversation.take("three")
    view = conversation.store.read(OWNER, conversation.session.id, conversation.clock(), newest=25)
    assert view.turns[1:] == (compact(second.turn), compact(third.turn))
    require_one_order(view.turns)
    if conversation.policy is CHARGED:
        used = Counter(turns=3, tokens=sum(turn.reply.usage.tokens for turn in view.turns))
        assert counted(contents) == used + Counter({name: lost_leases * each for name, each in reserved.items()})
    else:
        assert counted(contents) == Counter()


# --- once: the store tries again, and nobody notices ------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("broken", [each for each in Broken if each is not Broken.TORN])
@pytest.mark.parametrize("step", [Step.READ, Step.LEASE, Step.COMMIT])
def test_a_call_that_breaks_once_is_repeated_and_the_turn_paid_once(
    conversation: Conversation, contents: Contents, proxy: FaultProxy, step: Step, broken: Broken
) -> None:
    proxy.break_next(step, broken)
    second = conversation.take("two")
    assert proxy.fired == [(step, broken)]
    assert (second.turn.number, second.replayed) == (2, False)
    assert len(conversation.model.requests) == 2
    require_whole(conversation, contents, proxy, second)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("broken", list(Broken))
@pytest.mark.parametrize("failure", [NEVER_SENT, ModelTimeout()], ids=["unbilled", "billed"])
def test_a_release_that_breaks_once_is_repeated(
    conversation: Conversation, contents: Contents, proxy: FaultProxy, failure: ModelError, broken: Broken
) -> None:
    proxy.break_next(Step.RELEASE, broken)
    with pytest.raises(type(failure)):
        conversation.take("two", fails_with=failure)
    assert proxy.fired == [(Step.RELEASE, broken)]
    conversation.clock.tick(ms=1)  # a lease that is given back is over in the millisecond before
    second = conversation.take("two")
    assert len(conversation.model.requests) == 3
    require_whole(conversation, contents, proxy, second, lost_leases=int(failure.billed))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("broken", [Broken.TORN])
@pytest.mark.parametrize("step", [Step.LEASE, Step.COMMIT])
def test_a_write_with_a_torn_answer_is_applied_once(
    conversation: Conversation, contents: Contents, proxy: FaultProxy, step: Step, broken: Broken
) -> None:
    proxy.break_next(step, broken)
    second = conversation.take("two")
    assert proxy.fired == [(step, broken)]
    assert len(conversation.model.requests) == 2
    require_whole(conversation, contents, proxy, second)


@pytest.mark.parametrize("policy", [TurnPolicy()])
@pytest.mark.parametrize("broken", [Broken.TORN])
def test_a_read_whose_answer_is_torn_is_tried_again(
    conversation: Conversation, contents: Contents, proxy: FaultProxy, broken: Broken
) -> None:
    proxy.break_next(Step.READ, broken)
    require_whole(conversation, contents, proxy, conversation.take("two"))


# --- for as long as the store tries: the caller is told, and a repeat under the same key finds out --------------------


LASTING = [*NOT_APPLIED, Broken.CUT_AFTER, Broken.CUT_LATE]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("broken", [*LASTING, Broken.TORN])
def test_a_read_that_stays_broken_writes_and_pays_nothing(
    conversation: Conversation, contents: Contents, proxy: FaultProxy, broken: Broken
) -> None:
    before = contents.everything()
    proxy.break_next(Step.READ, broken, times=TRIES)
    with pytest.raises(StoreUnavailable):
        conversation.take("two")
    assert proxy.fired == [(Step.READ, broken)] * TRIES
    assert contents.everything() == before
    assert len(conversation.model.requests) == 1
    require_whole(conversation, contents, proxy, conversation.take("two"))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("broken", LASTING)
def test_a_lease_that_stays_broken_is_taken_back_before_the_model(
    conversation: Conversation, contents: Contents, proxy: FaultProxy, broken: Broken
) -> None:
    before = contents.everything()
    proxy.break_next(Step.LEASE, broken, times=TRIES)
    with pytest.raises(StoreUnavailable):
        conversation.take("two")
    assert proxy.fired == [(Step.LEASE, broken)] * TRIES
    assert {key: item for key, item in contents.everything().items() if key in before} == before
    assert len(conversation.model.requests) == 1
    require_whole(conversation, contents, proxy, conversation.take("two"))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("broken", [Broken.CUT_LATE])
def test_a_lease_that_arrives_late_holds_the_session_until_it_is_over(
    conversation: Conversation, contents: Contents, proxy: FaultProxy, broken: Broken
) -> None:
    proxy.break_next(Step.LEASE, broken, times=TRIES)
    with pytest.raises(StoreUnavailable):
        conversation.take("two")
    assert proxy.deliver() == TRIES
    second = conversation.take_when_free("two")
    assert len(conversation.model.requests) == 2
    require_whole(conversation, contents, proxy, second, lost_leases=1)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("broken", [*NOT_APPLIED, Broken.CUT_LATE])
def test_a_commit_that_never_arrives_is_repeated_after_the_lease(
    conversation: Conversation, contents: Contents, proxy: FaultProxy, broken: Broken
) -> None:
    proxy.break_next(Step.COMMIT, broken, times=TRIES)
    with pytest.raises(StoreUnavailable):
        conversation.take("two")
    assert proxy.fired == [(Step.COMMIT, broken)] * TRIES
    second = conversation.take_when_free("two")
    assert (second.turn.number, second.replayed) == (2, False)
    assert len(conversation.model.requests) == 3  # once more for the handler that could not store its reply
    require_whole(conversation, contents, proxy, second, lost_leases=1)  # the late request arrives in there


@pytest.mark.asvs("15.1.3")
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("broken", [Broken.CUT_AFTER, Broken.CUT_LATE])
def test_a_commit_whose_answer_was_lost_is_found_by_the_repeat(
    conversation: Conversation, contents: Contents, proxy: FaultProxy, broken: Broken
) -> None:
    proxy.break_next(Step.COMMIT, broken, times=TRIES)
    with pytest.raises(StoreUnavailable):
        conversation.take("two")
    proxy.deliver()
    second = conversation.take("two")
    assert (second.turn.number, second.replayed) == (2, True)
    assert len(conversation.model.requests) == 2
    require_whole(conversation, contents, proxy, second)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("broken", LASTING)
@pytest.mark.parametrize("failure", [NEVER_SENT, ModelTimeout()], ids=["unbilled", "billed"])
def test_a_release_that_stays_broken_costs_at_most_one_lease(
    conversation: Conversation, contents: Contents, proxy: FaultProxy, failure: ModelError, broken: Broken
) -> None:
    proxy.break_next(Step.RELEASE, broken, times=TRIES)
    with pytest.raises(StoreUnavailable):
        conversation.take("two", fails_with=failure)
    assert proxy.fired == [(Step.RELEASE, broken)] * TRIES
    if broken is Broken.CUT_AFTER:
        conversation.clock.tick(ms=1)
        second = conversation.take("two")
    else:
        second = conversation.take_when_free("two")
    assert len(conversation.model.requests) == 3
    given_back = broken is Broken.CUT_AFTER and not failure.billed
    require_whole(conversation, contents, proxy, second, lost_leases=int(not given_back))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("broken", [Broken.LATE])
def test_a_commit_whose_every_try_arrived_late_is_stored_once(
    conversation: Conversation, contents: Contents, proxy: FaultProxy, broken: Broken
) -> None:
    proxy.break_next(Step.COMMIT, broken, times=TRIES)
    with pytest.raises(StoreUnavailable):
        conversation.take("two")
    assert proxy.deliver() == TRIES
    second = conversation.take("two")
    assert second.replayed
    require_whole(conversation, contents, proxy, second)
