"""Every AllowanceStore: what is charged without a session counts as what is charged with one."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from botocore.exceptions import ReadTimeoutError

from tests.contract.conftest import TABLE, USAGE_TABLE
from tests.contract.session_store import at_once, charge, claim_of
from tests.contract.test_dynamodb_contract import OneAtATime
from tests.fakes import OWNER, START_MS, new_session
from turnlog.adapters.dynamodb import DynamoDBSessionStore
from turnlog.adapters.dynamodb.quotas import DynamoDBAllowances
from turnlog.adapters.memory import MemorySessionStore
from turnlog.domain.quotas import Bill
from turnlog.errors import AllowanceUsedUp, StoreUnavailable
from turnlog.ports.quota_store import AllowanceStore
from turnlog.ports.session_store import SessionStore

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


@dataclass
class Counted:
    allowances: AllowanceStore
    sessions: SessionStore

    def is_refused(self, bill: Bill) -> bool:
        try:
            self.allowances.charge(bill, START_MS)
        except (AllowanceUsedUp, StoreUnavailable):
            return True
        return False


@pytest.fixture(params=["memory", "dynamodb"])
def counted(request: pytest.FixtureRequest, dynamodb: DynamoDBClient) -> Counted:
    if request.param == "memory":
        store = MemorySessionStore()
        return Counted(store, store)
    client: Any = OneAtATime(dynamodb)
    sessions = DynamoDBSessionStore(client, TABLE, USAGE_TABLE, sleep=lambda _: None)
    return Counted(DynamoDBAllowances(client, USAGE_TABLE, sleep=lambda _: None), sessions)


def bill(amount: str = "1", limit: str = "3", owner: str = OWNER) -> Bill:
    return Bill(owner, (charge(amount, limit),))


def test_what_does_not_fit_is_refused_and_says_which_and_until_when(counted: Counted) -> None:
    for _ in range(3):
        counted.allowances.charge(bill(), START_MS)
    with pytest.raises(AllowanceUsedUp) as error:
        counted.allowances.charge(bill(), START_MS + 1500)
    assert (error.value.limit, error.value.retry_after_s) == ("turns", 59)
    counted.allowances.charge(bill(owner="another"), START_MS)


def test_what_is_given_back_can_be_charged_again(counted: Counted) -> None:
    counted.allowances.charge(bill("3"), START_MS)
    counted.allowances.settle(bill("2").refund)
    counted.allowances.charge(bill("2"), START_MS)
    assert counted.is_refused(bill("0.000001"))


def test_a_settlement_may_go_beyond_the_limit(counted: Counted) -> None:
    counted.allowances.settle(bill("4"))
    assert counted.is_refused(bill("0"))
    counted.allowances.settle(bill("4").refund)
    assert not counted.is_refused(bill("3"))


def test_of_two_charges_either_both_are_taken_or_none(counted: Counted) -> None:
    both = Bill(OWNER, (charge("1", "1", "a#1"), charge("2", "1", "b#1")))
    assert counted.is_refused(both)
    assert not counted.is_refused(Bill(OWNER, both.charges[:1]))


def test_questions_and_turns_share_an_allowance(counted: Counted) -> None:
    session = counted.sessions.create(new_session(), "")
    counted.allowances.charge(bill("2"), START_MS)
    counted.sessions.claim(session, claim_of(1, charges=(charge("1", "3"),)), over=None)
    assert counted.is_refused(bill())
    counted.sessions.release(session, claim_of(1, charges=(charge("1", "3"),)), billed=False, now_ms=START_MS)
    assert not counted.is_refused(bill())


def test_a_charge_that_is_sent_again_after_a_lost_answer_is_the_same_one(dynamodb: DynamoDBClient) -> None:
    class LosesItsFirstAnswer:
        tokens: ClassVar[list[str]] = []

        def transact_write_items(self, **arguments: Any) -> Any:
            self.tokens.append(arguments["ClientRequestToken"])
            answer = dynamodb.transact_write_items(**arguments)
            if len(self.tokens) == 1:
                raise ReadTimeoutError(endpoint_url="")
            return answer

    client: Any = LosesItsFirstAnswer()
    DynamoDBAllowances(client, USAGE_TABLE, sleep=lambda _: None).charge(bill(), START_MS)
    assert len(client.tokens) == 2
    assert len(set(client.tokens)) == 1


def test_of_many_at_once_no_more_are_taken_than_fit(counted: Counted) -> None:
    refused = at_once(*[lambda: counted.is_refused(bill())] * 8)
    taken = refused.count(False)
    assert taken <= 3
    while not counted.is_refused(bill()):
        taken += 1
    assert Decimal(taken) == 3
