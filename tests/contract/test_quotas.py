"""Every QuotaStore: a charge without a session counts as one with a session."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from botocore.exceptions import ReadTimeoutError

from tests.contract.conftest import TABLE, USAGE_TABLE
from tests.contract.session_store import at_once, charge, lease_of, turn_of
from tests.contract.test_dynamodb_contract import OneAtATime
from tests.fakes import OWNER, START_MS, new_session
from turnlog.adapters.dynamodb import DynamoDBSessionStore
from turnlog.adapters.dynamodb.quotas import DynamoDBQuotaStore
from turnlog.adapters.local.files import FileSessionStore
from turnlog.adapters.local.files.write_behind import WriteBehindSessionStore
from turnlog.adapters.local.memory import MemorySessionStore
from turnlog.adapters.read_cache import CachedSessionStore
from turnlog.domain.quotas import QuotaCharges
from turnlog.errors import QuotaExceeded, StoreUnavailable
from turnlog.ports.quota_store import QuotaStore
from turnlog.ports.session_store import SessionStore

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


@dataclass
class Counted:
    quotas: QuotaStore
    sessions: SessionStore

    def is_refused(self, quota: QuotaCharges) -> bool:
        try:
            self.quotas.charge(quota, START_MS)
        except (QuotaExceeded, StoreUnavailable):
            return True
        return False


@pytest.fixture(params=["memory", "filesystem", "write_behind", "dynamodb", "hybrid"])
def counted(request: pytest.FixtureRequest, tmp_path: Path) -> Counted:
    if request.param == "memory":
        memory = MemorySessionStore()
        return Counted(memory, memory)
    if request.param == "filesystem":
        return Counted(FileSessionStore(tmp_path), FileSessionStore(tmp_path))
    if request.param == "write_behind":
        behind = WriteBehindSessionStore(tmp_path)
        return Counted(behind, behind)
    client: Any = OneAtATime(request.getfixturevalue("dynamodb"))
    durable = DynamoDBSessionStore(client, TABLE, USAGE_TABLE, sleep=lambda _: None)
    sessions = CachedSessionStore(durable) if request.param == "hybrid" else durable
    return Counted(DynamoDBQuotaStore(client, USAGE_TABLE, sleep=lambda _: None), sessions)


def quota(amount: str = "1", limit: str = "3", owner: str = OWNER) -> QuotaCharges:
    return QuotaCharges(owner, (charge(amount, limit),))


def test_a_refusal_names_the_quota_and_when_it_resets(counted: Counted) -> None:
    for _ in range(3):
        counted.quotas.charge(quota(), START_MS)
    with pytest.raises(QuotaExceeded) as error:
        counted.quotas.charge(quota(), START_MS + 1500)
    assert (error.value.limit, error.value.retry_after_s) == ("turns", 59)
    counted.quotas.charge(quota(owner="another"), START_MS)


def test_a_refund_can_be_charged_again(counted: Counted) -> None:
    counted.quotas.charge(quota("3"), START_MS)
    counted.quotas.settle(quota("2").refund)
    counted.quotas.charge(quota("2"), START_MS)
    assert counted.is_refused(quota("0.000001"))


def test_a_settlement_may_go_beyond_the_limit(counted: Counted) -> None:
    counted.quotas.settle(quota("4"))
    assert counted.is_refused(quota("0"))
    counted.quotas.settle(quota("4").refund)
    assert not counted.is_refused(quota("3"))


def test_two_charges_are_taken_together_or_not_at_all(counted: Counted) -> None:
    both = QuotaCharges(OWNER, (charge("1", "1", "a#1"), charge("2", "1", "b#1")))
    assert counted.is_refused(both)
    assert not counted.is_refused(QuotaCharges(OWNER, both.charges[:1]))


def test_questions_and_turns_share_a_quota(counted: Counted) -> None:
    session = counted.sessions.create(new_session(), "")
    counted.quotas.charge(quota("2"), START_MS)
    counted.sessions.acquire(session, lease_of(1, charges=(charge("1", "3"),)), over=None)
    assert counted.is_refused(quota())
    counted.sessions.release(session, lease_of(1, charges=(charge("1", "3"),)), billed=False, now_ms=START_MS)
    assert not counted.is_refused(quota())


def test_a_turn_s_settlement_counts_for_questions(counted: Counted) -> None:
    session = counted.sessions.create(new_session(), "")
    lease = lease_of(1, charges=(charge("3", "3"),))
    counted.sessions.acquire(session, lease, over=None)
    counted.sessions.commit(session, turn_of(lease), (charge("-2", "3"),))
    counted.quotas.charge(quota("2"), START_MS)
    assert counted.is_refused(quota())


def test_a_charge_may_be_for_a_quota_that_others_share(counted: Counted) -> None:
    shared = replace(charge("1", "2", "all#1"), owner="anonymous")
    for owner in ("a", "b"):
        counted.quotas.charge(QuotaCharges(owner, (charge("1", "1"), shared)), START_MS)
    assert counted.is_refused(QuotaCharges("c", (charge("1", "1"), shared)))
    assert not counted.is_refused(QuotaCharges("c", (charge("1", "1"),)))
    counted.quotas.settle(QuotaCharges("a", (shared,)).refund)
    assert not counted.is_refused(QuotaCharges("d", (shared,)))


def test_a_charge_repeated_after_a_lost_answer_counts_once(dynamodb: DynamoDBClient) -> None:
    class LosesItsFirstAnswer:
        tokens: ClassVar[list[str]] = []

        def transact_write_items(self, **arguments: Any) -> Any:
            self.tokens.append(arguments["ClientRequestToken"])
            answer = dynamodb.transact_write_items(**arguments)
            if len(self.tokens) == 1:
                raise ReadTimeoutError(endpoint_url="")
            return answer

    client: Any = LosesItsFirstAnswer()
    DynamoDBQuotaStore(client, USAGE_TABLE, sleep=lambda _: None).charge(quota(), START_MS)
    assert len(client.tokens) == 2
    assert len(set(client.tokens)) == 1


def test_many_charges_at_once_never_exceed_the_limit(counted: Counted) -> None:
    refused = at_once(*[lambda: counted.is_refused(quota())] * 8)
    taken = refused.count(False)
    assert taken <= 3
    while not counted.is_refused(quota()):
        taken += 1
    assert Decimal(taken) == 3
