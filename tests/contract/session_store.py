"""The contract of every SessionStore: run it on your own store.

    from tests.contract.session_store import SessionStoreContract

    class TestMyStore(SessionStoreContract):
        @pytest.fixture
        def store(self) -> SessionStore:
            return MyStore()  # an empty one; its sessions are those of this test alone

Nothing here waits or looks at a clock: times are given. The facts are grouped by what one does with a store, and the
contract is all of them; a store whose files or items can be looked into has tests of its own for those.
"""

from __future__ import annotations

import base64
import json
import random
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from functools import cache
from typing import Any, TypeVar

import pytest

from tests.fakes import OWNER, START_MS, new_session, with_content, with_cost
from turnlog.domain.margins import CLOCK_TOLERANCE, SWEEP_MARGIN
from turnlog.domain.messages import Message, Reply, Usage, to_json
from turnlog.domain.older_keys import KEY_STRIDE, OLDER_KEYS, OTHER_KEYS
from turnlog.domain.quotas import QuotaCharge, QuotaCharges
from turnlog.domain.sessions import (
    ListedSession,
    Metadata,
    Move,
    Session,
    SessionChanges,
    SessionSettings,
    new_session_id,
)
from turnlog.domain.turns import KEY_HASH, MAX_TURN_BYTES, Lease, ModelCall, Slot, Tombstone, Totals, Turn
from turnlog.errors import (
    ClockBehind,
    ErasureUnfinished,
    LeaseLost,
    QuotaExceeded,
    SessionNotFound,
    StoreUnavailable,
    TurnInProgress,
    TurnTooLarge,
)
from turnlog.ports.session_store import SessionStore

T = TypeVar("T")

EVE = "https://issuer.example/|eve"
LEASE_MS = 65_000
HOUR_MS = 3_600_000
YEAR_S = 365 * 86_400
MARGIN_MS = int(SWEEP_MARGIN.total_seconds() * 1000)
TOLERANCE_MS = int(CLOCK_TOLERANCE.total_seconds() * 1000)
COUNTER = "turns#2026-11-25T14:05"
LEAST = Decimal("0.000001")
MOST_ROUNDS = 20_000  # of a race, before it counts as one that never ends
STRANGE_BLOCKS = [
    {"type": "thinking", "thinking": "…", "signature": "Zm9v/+=="},
    {"type": "from_the_future", "nested": {"z": 1, "a": [1.5, None, True, 12345678901234567890]}, "empty": {}},
    {"type": "text", "text": 'snow ☃, family 👩‍👩‍👧, quote " backslash \\ line\nend, NUL \0'},
]


def lease_of(
    number: int,
    token: str = "",
    *,
    at_ms: int = START_MS,
    lease_expires_ms: int | None = None,
    charges: tuple[QuotaCharge, ...] = (),
) -> Lease:
    lease = at_ms + LEASE_MS if lease_expires_ms is None else lease_expires_ms
    return Lease(number, token or f"token-{number}", lease, b"k%015d" % number, b"f" * 16, at_ms, charges=charges)


def turn_of(lease: Lease, text: str = "hello") -> Turn:
    usage = Usage('{"input_tokens":3,"new":{"a":null}}')
    return Turn(
        number=lease.number,
        token=lease.token,
        key=lease.key,
        fingerprint=lease.fingerprint,
        messages=(Message.of_text(text), Message("assistant", to_json([{"type": "text", "text": "☃"}]))),
        calls=(ModelCall("claude-sonnet-5-5", usage, Decimal("0.000012")),),
        stop_reason="end_turn",
        totals=Totals(12 * lease.number, Decimal("0.00012") * lease.number, 40 * lease.number),
        at_ms=lease.at_ms + 5,
        window_from=1,
        older_keys=b"abcdef" * (min(lease.number - 1, OLDER_KEYS) // KEY_STRIDE),
    )


def take(store: SessionStore, session: Session, number: int, *, at_ms: int = START_MS) -> Turn:
    lease = lease_of(number, at_ms=at_ms)
    assert store.acquire(session, lease, over=None) == lease
    turn = turn_of(lease, f"turn {number}")
    assert store.commit(session, turn) == turn
    return turn


def take_all(store: SessionStore, session: Session, last: int) -> list[Turn]:
    return [take(store, session, number) for number in range(1, last + 1)]


def forked(store: SessionStore, parent: Session, number: int, child: Session, title: str = "") -> Session:
    """The child, as it is read."""
    store.fork(parent, number, child, title)
    return store.read(child.owner, child.id, child.created_ms, newest=1).session


def charge(amount: str | Decimal, limit: str = "10", counter: str = COUNTER) -> QuotaCharge:
    return QuotaCharge(counter, Decimal(amount), Decimal(limit), START_MS + 60_000)


@cache
def random_text(size: int) -> str:
    """Text that packs to about `size` bytes, since it cannot be compressed to less."""
    return base64.b64encode(random.Random(size).randbytes(size)).decode()


def is_gone(store: SessionStore, session: Session, now_ms: int = START_MS) -> bool:
    """True if there is neither the session nor any of its content."""
    try:
        store.read(session.owner, session.id, now_ms, newest=1)
    except SessionNotFound:
        return store.turns(session, 1, 999) == []
    return False


def at_once(*calls: Callable[[], T]) -> list[T]:
    """Begins the calls at the same time, each in a thread. Returns what they return."""
    start = threading.Barrier(len(calls))

    def run(call: Callable[[], T]) -> T:
        start.wait(60)
        return call()

    switch_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # so that a lock that is missing shows
    try:
        with ThreadPoolExecutor(len(calls)) as pool:
            return [each.result() for each in [pool.submit(run, call) for call in calls]]
    finally:
        sys.setswitchinterval(switch_s)


class Facts:
    """The fixtures of all groups. A subclass provides the store."""

    @pytest.fixture
    def store(self) -> SessionStore:
        raise NotImplementedError

    @pytest.fixture
    def session(self, store: SessionStore) -> Session:
        return store.create(new_session(), "A title")


class Creating(Facts):
    def test_a_new_session_is_as_it_was_created_and_has_no_turns(self, store: SessionStore) -> None:
        settings = SessionSettings("claude-sonnet-5-5", 64_000, 'Be brief. ☃ \0 \\ "')
        session = replace(new_session(), settings=settings, fingerprint=bytes(range(32)))
        assert store.create(session, "Snow ☃") == session
        view = store.read(OWNER, session.id, START_MS, newest=5)
        assert (view.session, view.title, view.count, view.turns, view.running) == (session, "Snow ☃", 0, (), None)

    def test_a_title_may_be_empty(self, store: SessionStore) -> None:
        session = new_session()
        store.create(session, "")
        assert store.read(OWNER, session.id, START_MS, newest=1).title == ""

    def test_a_repeated_creation_finds_the_session_as_it_is(self, store: SessionStore, session: Session) -> None:
        turn = take(store, session, 1)
        again = replace(session, created_ms=START_MS + 9, expires_ms=session.expires_ms + 9, fingerprint=b"other")
        assert store.create(again, "Another title") == session
        view = store.read(OWNER, session.id, START_MS, newest=1)
        assert (view.session, view.title, view.turns) == (session, "A title", (turn,))

    def test_a_repeated_creation_leaves_a_running_turn_alone(self, store: SessionStore, session: Session) -> None:
        store.acquire(session, lease_of(1), over=None)
        store.create(session, "")
        assert store.commit(session, turn_of(lease_of(1))) == turn_of(lease_of(1))

    def test_the_id_of_a_session_that_was_deleted_is_never_used_again(
        self, store: SessionStore, session: Session
    ) -> None:
        store.delete(OWNER, session.id, START_MS)
        with pytest.raises(SessionNotFound):
            store.create(session, "")
        assert is_gone(store, session)

    def test_the_id_of_a_session_that_was_swept_is_never_used_again(
        self, store: SessionStore, session: Session
    ) -> None:
        now = session.expires_ms + HOUR_MS - 1000
        store.sweep(now)
        with pytest.raises(SessionNotFound):
            store.create(replace(session, created_ms=now, expires_ms=now + HOUR_MS), "")
        assert is_gone(store, session, now)

    @pytest.mark.parametrize("late_ms", [-1, 0])
    def test_a_repeated_creation_finds_no_session_that_has_expired_since(
        self, store: SessionStore, session: Session, late_ms: int
    ) -> None:
        again = replace(session, created_ms=START_MS + session.idle_ms + late_ms)
        if late_ms < 0:
            assert store.create(again, "") == session
        else:
            with pytest.raises(SessionNotFound):
                store.create(again, "")

    def test_the_same_id_of_another_owner_is_another_session(self, store: SessionStore, session: Session) -> None:
        other = store.create(replace(session, owner=EVE), "Eve's")
        assert other == replace(session, owner=EVE)
        take(store, other, 1)
        assert store.read(OWNER, session.id, START_MS, newest=1).count == 0
        assert store.read(EVE, session.id, START_MS, newest=1).count == 1

    def test_a_session_can_begin_with_a_turn(self, store: SessionStore) -> None:
        session, first = new_session(), turn_of(lease_of(1), "asked before")
        assert store.create(session, "T", first=first) == session
        view = store.read(OWNER, session.id, START_MS, newest=5)
        assert (view.session, view.title, view.turns, view.running) == (session, "T", (first,), None)
        assert take(store, session, 2).number == 2

    def test_a_repeated_creation_with_a_turn_changes_nothing(self, store: SessionStore) -> None:
        first = turn_of(lease_of(1), "asked before")
        session = store.create(new_session(), "T", first=first)
        second = take(store, session, 2)
        assert store.create(session, "T", first=replace(first, token="another")) == session
        assert store.turns(session, 1, 9) == [first, second]

    def test_a_session_without_a_turn_gets_none_by_a_repeated_creation(
        self, store: SessionStore, session: Session
    ) -> None:
        assert store.create(session, "", first=turn_of(lease_of(1))) == session
        assert store.read(OWNER, session.id, START_MS, newest=1).count == 0

    def test_a_first_turn_may_be_large_and_not_too_large(self, store: SessionStore) -> None:
        refused = new_session()
        large = with_content(turn_of(lease_of(1)), message=Message.of_text(random_text(MAX_TURN_BYTES - 100_000)))
        session = store.create(new_session(), "", first=large)
        assert store.turns(session, 1, 1) == [large]
        with pytest.raises(TurnTooLarge):
            store.create(refused, "", first=with_content(large, message=Message.of_text(random_text(MAX_TURN_BYTES))))
        assert is_gone(store, refused)

    def test_a_refused_charge_leaves_no_first_turn(self, store: SessionStore) -> None:
        session, quota = new_session(), QuotaCharges(OWNER, (charge("1", "0"),))
        with pytest.raises(QuotaExceeded):
            store.create(session, "", quota=quota, first=turn_of(lease_of(1)))
        assert is_gone(store, session)


class Reading(Facts):
    def test_turns_come_back_as_they_were_stored_oldest_first(self, store: SessionStore, session: Session) -> None:
        turns = tuple(take_all(store, session, 7))
        assert store.read(OWNER, session.id, START_MS, newest=7).turns == turns
        assert store.read(OWNER, session.id, START_MS, newest=100).turns == turns

    def test_only_the_newest_turns_are_read_when_fewer_are_asked_for(
        self, store: SessionStore, session: Session
    ) -> None:
        turns = take_all(store, session, 7)
        for newest in (1, 3, 6):
            view = store.read(OWNER, session.id, START_MS, newest)
            assert (view.count, list(view.turns)) == (7, turns[-newest:])

    def test_the_window_is_whole_while_a_lease_is_the_newest_item(self, store: SessionStore, session: Session) -> None:
        turns = take_all(store, session, 5)
        store.acquire(session, lease_of(6), over=None)
        for newest in (1, 3, 5, 9):
            view = store.read(OWNER, session.id, START_MS, newest)
            assert (view.count, list(view.turns), view.running) == (5, turns[-newest:], lease_of(6))

    def test_an_inconsistent_read_is_whole_all_the_same(self, store: SessionStore, session: Session) -> None:
        turns = take_all(store, session, 5)
        for newest in (2, 5, 9):
            view = store.read(OWNER, session.id, START_MS, newest, consistent=False)
            assert list(view.turns) == turns[: view.count][-newest:]

    def test_a_long_session_is_read_to_its_end(self, store: SessionStore, session: Session) -> None:
        turns = take_all(store, session, 300)
        view = store.read(OWNER, session.id, START_MS, newest=100)
        assert (view.count, list(view.turns)) == (300, turns[-100:])
        assert list(store.read(OWNER, session.id, START_MS, newest=300).turns) == turns
        assert store.turns(session, 1, 300) == turns
        assert store.turns(session, 99, 101) == turns[98:101]

    def test_content_survives_json_equal_whatever_blocks_it_has(self, store: SessionStore, session: Session) -> None:
        store.acquire(session, lease_of(1), over=None)
        usage = Usage('{ "input_tokens": 3, "later": {"a": null} }')
        reply = Reply("claude-from-the-future ☃", json.dumps(STRANGE_BLOCKS, indent=1), "a_new_reason", usage)
        store.commit(session, with_content(turn_of(lease_of(1)), message=Message("user", reply.content), reply=reply))
        turn = store.read(OWNER, session.id, START_MS, newest=1).turns[0]
        assert turn.message.blocks == STRANGE_BLOCKS
        assert json.loads(turn.reply.content) == STRANGE_BLOCKS
        assert turn.reply.usage.fields == {"input_tokens": 3, "later": {"a": None}}
        assert (turn.reply.model, turn.reply.stop_reason) == ("claude-from-the-future ☃", "a_new_reason")

    def test_totals_and_prices_are_exact(self, store: SessionStore, session: Session) -> None:
        store.acquire(session, lease_of(1), over=None)
        totals = Totals(2**40, Decimal("12345.678901234567890123"), 2**41)
        turn = with_cost(turn_of(lease_of(1)), Decimal("0.000000000000000001"))
        turn = replace(turn, totals=totals)
        store.commit(session, turn)
        assert store.read(OWNER, session.id, START_MS, newest=1).turns == (turn,)

    def test_older_keys_and_counted_attempts_are_kept(self, store: SessionStore, session: Session) -> None:
        chance = random.Random(7)
        others = chance.randbytes(OTHER_KEYS * (KEY_HASH + 1))
        store.acquire(session, replace(lease_of(1), attempt_counts=others), over=None)
        running = store.read(OWNER, session.id, START_MS, newest=1).running
        assert running is not None
        assert running.attempt_counts == others
        older = chance.randbytes(OLDER_KEYS // KEY_STRIDE * KEY_HASH)
        store.commit(session, replace(turn_of(lease_of(1)), older_keys=older, attempt_counts=others))
        turn = store.read(OWNER, session.id, START_MS, newest=1).turns[0]
        assert (turn.older_keys, turn.attempt_counts) == (older, others)

    @pytest.mark.parametrize("consistent", [True, False])
    def test_an_unknown_and_a_foreign_session_are_not_found(
        self, store: SessionStore, session: Session, consistent: bool
    ) -> None:
        take(store, session, 1)
        for owner, session_id in [(OWNER, new_session_id()), (EVE, session.id), ("", session.id)]:
            with pytest.raises(SessionNotFound):
                store.read(owner, session_id, START_MS, newest=1, consistent=consistent)
            assert store.turns(replace(session, owner=owner, id=session_id), 1, 9) == []

    @pytest.mark.parametrize("consistent", [True, False])
    @pytest.mark.parametrize("late_ms", [-1, 0, 1])
    @pytest.mark.parametrize("used", ["created", "turn", "running", "absolute"])
    def test_a_session_ends_at_its_millisecond_without_any_sweep(
        self, store: SessionStore, used: str, late_ms: int, consistent: bool
    ) -> None:
        session = store.create(new_session(life_s=600 if used == "absolute" else 86_400), "")
        end_ms = START_MS + session.idle_ms
        if used == "turn":
            end_ms = take(store, session, 1, at_ms=START_MS + 70).at_ms + session.idle_ms
        if used == "running":
            store.acquire(session, lease_of(1, at_ms=START_MS + 90), over=None)
            end_ms += 90
        if used == "absolute":
            take(store, session, 1, at_ms=session.expires_ms - 10)
            end_ms = session.expires_ms
        if late_ms < 0:
            assert store.read(OWNER, session.id, end_ms + late_ms, newest=1, consistent=consistent).session == session
        else:
            with pytest.raises(SessionNotFound):
                store.read(OWNER, session.id, end_ms + late_ms, newest=1, consistent=consistent)

    def test_a_running_turn_keeps_an_idle_session_alive(self, store: SessionStore, session: Session) -> None:
        at_ms = START_MS + session.idle_ms - 1
        store.acquire(session, lease_of(1, at_ms=at_ms), over=None)
        assert store.read(OWNER, session.id, at_ms + 60_000, newest=1).running

    @pytest.mark.parametrize("early_ms", [0, 1])
    @pytest.mark.parametrize("seen", ["created", "turn", "running"])
    def test_nothing_is_decided_by_a_clock_that_lies_far_behind(
        self, store: SessionStore, session: Session, seen: str, early_ms: int
    ) -> None:
        seen_ms = START_MS
        if seen == "turn":
            seen_ms = take(store, session, 1, at_ms=START_MS + HOUR_MS // 4).at_ms
        if seen == "running":
            seen_ms += HOUR_MS // 4
            store.acquire(session, lease_of(1, at_ms=seen_ms), over=None)
        now = seen_ms - TOLERANCE_MS - early_ms
        if early_ms:
            with pytest.raises(ClockBehind):
                store.read(OWNER, session.id, now, newest=1)
        else:
            assert store.read(OWNER, session.id, now, newest=1).session == session

    def test_a_range_of_turns_leaves_out_what_is_not_finished(self, store: SessionStore, session: Session) -> None:
        turns = take_all(store, session, 5)
        store.acquire(session, lease_of(6), over=None)
        assert store.turns(session, 1, 1) == turns[:1]
        assert store.turns(session, 2, 4) == turns[1:4]
        assert store.turns(session, 5, 9) == turns[4:]
        assert store.turns(session, 6, 6) == []
        assert store.turns(session, 7, 9) == []


class Leasing(Facts):
    def test_one_of_two_leases_gets_the_slot_and_the_other_sees_it(self, store: SessionStore, session: Session) -> None:
        mine, other = lease_of(1, "mine"), lease_of(1, "other")
        assert store.acquire(session, mine, over=None) == mine
        assert store.acquire(session, other, over=None) == mine
        assert store.read(OWNER, session.id, START_MS, newest=1).running == mine

    def test_a_lease_is_seen_as_it_was_made(self, store: SessionStore, session: Session) -> None:
        lease = Lease(1, "☃ token", START_MS + 77, bytes(range(32)), b"", START_MS + 3, attempt=3)
        store.acquire(session, lease, over=None)
        assert store.read(OWNER, session.id, START_MS, newest=1).running == lease

    def test_a_lease_repeated_after_a_lost_answer_is_still_ones_own(
        self, store: SessionStore, session: Session
    ) -> None:
        mine = lease_of(1, "mine")
        store.acquire(session, mine, over=None)
        assert store.acquire(session, mine, over=None) == mine

    @pytest.mark.parametrize(("late_ms", "taken"), [(-1, False), (0, False), (1, True)])
    def test_a_lease_is_taken_over_only_after_it_expired(
        self, store: SessionStore, session: Session, late_ms: int, taken: bool
    ) -> None:
        dead = lease_of(1, "dead")
        store.acquire(session, dead, over=None)
        heir = lease_of(1, "heir", at_ms=dead.lease_expires_ms + late_ms)
        for _ in range(2):  # a repeat after a lost answer finds the same
            assert store.acquire(session, heir, over=dead) == (heir if taken else dead)

    def test_an_expired_lease_is_not_taken_over_unseen(self, store: SessionStore, session: Session) -> None:
        dead = lease_of(1, "dead")
        store.acquire(session, dead, over=None)
        assert store.acquire(session, lease_of(1, "heir", at_ms=dead.lease_expires_ms + 1), over=None) == dead

    def test_only_the_lease_that_was_seen_can_be_taken_over(self, store: SessionStore, session: Session) -> None:
        dead = lease_of(1, "dead")
        store.acquire(session, dead, over=None)
        first = lease_of(1, "first", at_ms=dead.lease_expires_ms + 1)
        assert store.acquire(session, first, over=dead) == first
        second = lease_of(1, "second", at_ms=first.lease_expires_ms + 1)
        assert store.acquire(session, second, over=dead) == first

    def test_a_lease_over_one_that_was_released_finds_an_empty_slot(
        self, store: SessionStore, session: Session
    ) -> None:
        dead = lease_of(1, "dead")
        store.acquire(session, dead, over=None)
        store.release(session, dead, billed=False, now_ms=START_MS)
        assert store.acquire(session, lease_of(1, "heir", at_ms=dead.lease_expires_ms + 1), over=dead) is None
        assert store.read(OWNER, session.id, START_MS, newest=1).running is None

    def test_a_slot_with_a_turn_cannot_be_leased(self, store: SessionStore, session: Session) -> None:
        turn = take(store, session, 1)
        assert store.acquire(session, lease_of(1, "late"), over=None) == turn
        assert store.acquire(session, lease_of(1, "late", at_ms=START_MS + HOUR_MS), over=lease_of(1)) == turn
        assert store.read(OWNER, session.id, START_MS, newest=1).turns == (turn,)


class Charging(Facts):
    """A lease takes its charges together with the slot, all or nothing."""

    def test_a_limit_is_reached_exactly_and_says_when_it_resets(self, store: SessionStore) -> None:
        for _ in range(3):
            self.charge_one(store, charge("1", limit="3"))
        with pytest.raises(QuotaExceeded) as refused:
            self.charge_one(store, charge("1", limit="3"))
        assert (refused.value.limit, refused.value.retry_after_s) == ("turns", 60)

    def test_parts_of_a_unit_add_up_exactly(self, store: SessionStore) -> None:
        for _ in range(10):
            self.charge_one(store, charge("0.1", limit="1"))
        self.require_used(store, "1")

    def test_one_charge_may_be_all_of_a_quota_and_no_more(self, store: SessionStore) -> None:
        with pytest.raises(QuotaExceeded):
            self.charge_one(store, charge(10 + LEAST))
        self.charge_one(store, charge("10"))
        self.require_used(store, "10")

    def test_a_refused_lease_leaves_the_slot_and_every_quota(self, store: SessionStore, session: Session) -> None:
        lease = lease_of(1, charges=(charge("4"), charge("11", counter="usd#2026-11-25")))
        with pytest.raises(QuotaExceeded) as refused:
            store.acquire(session, lease, over=None)
        assert refused.value.limit == "usd"
        assert store.read(OWNER, session.id, START_MS, newest=1).running is None
        self.require_used(store, "0")
        self.require_used(store, "0", counter="usd#2026-11-25")

    def test_a_refused_lease_takes_nothing_over(self, store: SessionStore, session: Session) -> None:
        dead = lease_of(1, "dead")
        store.acquire(session, dead, over=None)
        with pytest.raises(QuotaExceeded):
            store.acquire(
                session, lease_of(1, "heir", at_ms=dead.lease_expires_ms + 1, charges=(charge("11"),)), over=dead
            )
        assert store.read(OWNER, session.id, START_MS, newest=1).running == dead

    def test_several_quotas_are_charged_together_and_kept_apart(self, store: SessionStore, session: Session) -> None:
        store.acquire(session, lease_of(1, charges=(charge("4"), charge("7", counter="usd#2026-11-25"))), over=None)
        self.require_used(store, "4")
        self.require_used(store, "7", counter="usd#2026-11-25")
        self.require_used(store, "0", counter="turns#2026-11-25T14:06")

    def test_a_lease_that_finds_the_slot_taken_is_not_charged(self, store: SessionStore, session: Session) -> None:
        mine = lease_of(1, "mine")
        store.acquire(session, mine, over=None)
        other = lease_of(1, "other", charges=(charge("4"),))
        assert store.acquire(session, other, over=None) == mine
        assert store.acquire(session, other, over=lease_of(1, "never there")) == mine
        self.require_used(store, "0")

    def test_a_taken_slot_is_reported_though_the_quota_is_used_up(self, store: SessionStore, session: Session) -> None:
        mine = lease_of(1, "mine")
        store.acquire(session, mine, over=None)
        assert store.acquire(session, lease_of(1, "other", charges=(charge("11"),)), over=None) == mine

    def test_a_repeated_lease_is_charged_once(self, store: SessionStore, session: Session) -> None:
        lease = lease_of(1, charges=(charge("4"),))
        for _ in range(2):
            assert self.token(store.acquire(session, lease, over=None)) == lease.token
        self.require_used(store, "4")

    def test_a_take_over_is_charged_and_the_lost_lease_keeps_its_charge(
        self, store: SessionStore, session: Session
    ) -> None:
        dead = lease_of(1, "dead", charges=(charge("4"),))
        store.acquire(session, dead, over=None)
        heir = lease_of(1, "heir", at_ms=dead.lease_expires_ms + 1, charges=(charge("3"),))
        assert self.token(store.acquire(session, heir, over=dead)) == "heir"
        self.require_used(store, "7")

    def test_a_release_gives_back_what_was_charged_and_only_once(self, store: SessionStore, session: Session) -> None:
        self.charge_one(store, charge("2"))
        lease = lease_of(1, charges=(charge("4"), charge("1", counter="usd#2026-11-25")))
        store.acquire(session, lease, over=None)
        for _ in range(2):
            store.release(session, lease, billed=False, now_ms=START_MS)
        self.require_used(store, "2")
        self.require_used(store, "0", counter="usd#2026-11-25")

    def test_a_repeated_release_of_a_later_attempt_gives_back_only_once_too(
        self, store: SessionStore, session: Session
    ) -> None:
        second = replace(lease_of(1, charges=(charge("4"),)), attempt=2)
        store.acquire(session, second, over=None)
        for later_ms in (1, 2):
            store.release(session, second, billed=False, now_ms=START_MS + later_ms)
        self.require_used(store, "0")
        assert store.read(OWNER, session.id, START_MS, newest=1).running is not None

    def test_a_charge_that_may_have_been_billed_stays(self, store: SessionStore, session: Session) -> None:
        lease = lease_of(1, charges=(charge("4"),))
        store.acquire(session, lease, over=None)
        store.release(session, lease, billed=True, now_ms=START_MS)
        self.require_used(store, "4")

    def test_a_lost_lease_gives_nothing_back(self, store: SessionStore, session: Session) -> None:
        dead = lease_of(1, "dead", charges=(charge("4"),))
        store.acquire(session, dead, over=None)
        store.acquire(session, lease_of(1, "heir", at_ms=dead.lease_expires_ms + 1), over=dead)
        store.release(session, dead, billed=False, now_ms=START_MS)
        self.require_used(store, "4")

    @pytest.mark.parametrize(("beyond", "used"), [("-3", "1"), ("5", "9"), ("9", "13")])
    def test_a_commit_settles_once_what_was_reserved(
        self, store: SessionStore, session: Session, beyond: str, used: str
    ) -> None:
        lease = lease_of(1, charges=(charge("4"),))
        store.acquire(session, lease, over=None)
        for _ in range(2):
            assert store.commit(session, turn_of(lease), (charge(beyond),)) == turn_of(lease)
        self.require_used(store, used)

    def test_a_settlement_needs_no_reservation(self, store: SessionStore, session: Session) -> None:
        store.acquire(session, lease_of(1), over=None)
        store.commit(session, turn_of(lease_of(1)), (charge("5"),))
        self.require_used(store, "5")

    def test_several_settlements_are_made_together(self, store: SessionStore, session: Session) -> None:
        lease = lease_of(1, charges=(charge("4"), charge("4", counter="usd#2026-11-25")))
        store.acquire(session, lease, over=None)
        store.commit(session, turn_of(lease), (charge("-1"), charge("2", counter="usd#2026-11-25")))
        self.require_used(store, "3")
        self.require_used(store, "6", counter="usd#2026-11-25")

    def test_a_commit_that_stores_nothing_settles_nothing(self, store: SessionStore, session: Session) -> None:
        lease = lease_of(1, "mine", charges=(charge("4"),))
        store.acquire(session, lease, over=None)
        store.commit(session, turn_of(lease_of(1, "other")), (charge("-3"),))
        self.require_used(store, "4")

    def test_a_quota_is_shared_by_an_owners_sessions_alone(self, store: SessionStore) -> None:
        self.charge_one(store, charge("9"))
        self.charge_one(store, charge("8"), owner=EVE)
        self.require_used(store, "9")
        self.require_used(store, "8", owner=EVE)

    def test_a_refusal_says_at_least_a_second_though_the_window_is_over(self, store: SessionStore) -> None:
        self.charge_one(store, charge("10"))
        late = replace(charge("1"), resets_ms=START_MS)
        with pytest.raises(QuotaExceeded) as refused:
            self.charge_one(store, late)
        assert refused.value.retry_after_s == 1

    @pytest.mark.asvs("2.3.2")
    def test_sixteen_at_once_never_exceed_a_limit_of_ten(self, store: SessionStore) -> None:
        sessions = [new_session() for _ in range(16)]
        for session in sessions:
            store.create(session, "")

        def admitted(session: Session) -> bool:
            try:
                return isinstance(store.acquire(session, lease_of(1, charges=(charge("1"),)), over=None), Lease)
            except QuotaExceeded:
                return False

        assert sum(at_once(*(lambda session=session: admitted(session) for session in sessions))) == 10
        self.require_used(store, "10")

    @staticmethod
    def token(found: Slot | None) -> str:
        """The token of the lease that was found; stores need not keep its charges."""
        assert isinstance(found, Lease)
        return found.token

    @staticmethod
    def charge_one(store: SessionStore, wanted: QuotaCharge, *, owner: str = OWNER) -> tuple[Session, Lease]:
        """Charges a session of its own. Raises QuotaExceeded."""
        session = store.create(new_session(owner), "")
        lease = lease_of(1, charges=(wanted,))
        store.acquire(session, lease, over=None)
        return session, lease

    def require_used(self, store: SessionStore, used: str, *, owner: str = OWNER, counter: str = COUNTER) -> None:
        """Expects that what is left of 100 can be charged, and no more; gives it back afterwards."""
        left = 100 - Decimal(used)
        with pytest.raises(QuotaExceeded):
            self.charge_one(store, charge(left + LEAST, "100", counter), owner=owner)
        session, lease = self.charge_one(store, charge(left, "100", counter), owner=owner)
        store.release(session, lease, billed=False, now_ms=START_MS)


class Releasing(Facts):
    def test_an_unbilled_lease_disappears(self, store: SessionStore, session: Session) -> None:
        store.acquire(session, lease_of(1), over=None)
        store.release(session, lease_of(1), billed=False, now_ms=START_MS)
        assert store.read(OWNER, session.id, START_MS, newest=1).running is None
        assert store.acquire(session, lease_of(1, "next"), over=None) == lease_of(1, "next")

    def test_a_billed_lease_stays_expired(self, store: SessionStore, session: Session) -> None:
        store.acquire(session, lease_of(1), over=None)
        store.release(session, lease_of(1), billed=True, now_ms=START_MS + 7)
        view = store.read(OWNER, session.id, START_MS + 7, newest=1)
        assert view.running == replace(lease_of(1), lease_expires_ms=START_MS + 6)

    def test_an_unbilled_lease_leaves_the_count_of_billed_ones_before(
        self, store: SessionStore, session: Session
    ) -> None:
        third = replace(lease_of(1), attempt=3)
        store.acquire(session, third, over=None)
        store.release(session, third, billed=False, now_ms=START_MS + 7)
        running = store.read(OWNER, session.id, START_MS + 7, newest=1).running
        assert running
        assert (running.attempt, running.lease_expires_ms, running.key) == (2, START_MS + 6, third.key)

    def test_a_billed_lease_can_be_taken_over_at_once(self, store: SessionStore, session: Session) -> None:
        store.acquire(session, lease_of(1), over=None)
        store.release(session, lease_of(1), billed=True, now_ms=START_MS + 7)
        heir = lease_of(1, "heir", at_ms=START_MS + 7)
        assert store.acquire(session, heir, over=lease_of(1)) == heir

    @pytest.mark.parametrize("billed", [True, False])
    def test_another_handlers_lease_is_left_alone(self, store: SessionStore, session: Session, billed: bool) -> None:
        other = lease_of(1, "other")
        store.acquire(session, other, over=None)
        store.release(session, lease_of(1, "mine"), billed=billed, now_ms=START_MS)
        assert store.read(OWNER, session.id, START_MS, newest=1).running == other

    @pytest.mark.parametrize("billed", [True, False])
    def test_a_stored_turn_is_left_alone(self, store: SessionStore, session: Session, billed: bool) -> None:
        turn = take(store, session, 1)
        store.release(session, lease_of(1), billed=billed, now_ms=START_MS)
        assert store.read(OWNER, session.id, START_MS, newest=1).turns == (turn,)

    @pytest.mark.parametrize("billed", [True, False])
    def test_an_empty_slot_stays_empty(self, store: SessionStore, session: Session, billed: bool) -> None:
        store.release(session, lease_of(1), billed=billed, now_ms=START_MS)
        assert store.read(OWNER, session.id, START_MS, newest=1).running is None

    @pytest.mark.parametrize("billed", [True, False])
    def test_a_deleted_session_stays_deleted(self, store: SessionStore, session: Session, billed: bool) -> None:
        store.acquire(session, lease_of(1), over=None)
        store.delete(OWNER, session.id, START_MS)
        store.release(session, lease_of(1), billed=billed, now_ms=START_MS)
        assert is_gone(store, session)


class Committing(Facts):
    @pytest.mark.asvs("2.3.1")
    def test_a_commit_without_the_lease_stores_nothing(self, store: SessionStore, session: Session) -> None:
        assert store.commit(session, turn_of(lease_of(1))) is None
        other = lease_of(1, "other")
        store.acquire(session, other, over=None)
        assert store.commit(session, turn_of(lease_of(1, "mine"))) == other
        assert store.read(OWNER, session.id, START_MS, newest=1).count == 0

    def test_a_commit_repeated_after_a_lost_answer_finds_its_own_turn(
        self, store: SessionStore, session: Session
    ) -> None:
        turn = take(store, session, 1)
        assert store.commit(session, turn) == turn

    def test_a_turn_is_never_overwritten(self, store: SessionStore, session: Session) -> None:
        turn = take(store, session, 1)
        assert store.commit(session, turn_of(lease_of(1, "other"), "another")) == turn
        assert store.commit(session, turn_of(lease_of(1), "the same token")) == turn
        assert store.read(OWNER, session.id, START_MS, newest=1).turns == (turn,)

    def test_an_overtaken_handler_finds_the_turn_of_the_other(self, store: SessionStore, session: Session) -> None:
        slow = lease_of(1, "slow")
        store.acquire(session, slow, over=None)
        fast = lease_of(1, "fast", at_ms=slow.lease_expires_ms + 1)
        store.acquire(session, fast, over=slow)
        assert store.commit(session, turn_of(slow)) == fast
        assert store.commit(session, turn_of(fast)) == turn_of(fast)
        assert store.commit(session, turn_of(slow)) == turn_of(fast)

    def test_an_expired_lease_that_nobody_took_over_still_commits(self, store: SessionStore, session: Session) -> None:
        store.acquire(session, lease_of(1), over=None)
        store.release(session, lease_of(1), billed=True, now_ms=START_MS)
        assert store.commit(session, turn_of(lease_of(1))) == turn_of(lease_of(1))

    def test_a_price_that_is_not_known_stays_unknown(self, store: SessionStore, session: Session) -> None:
        store.acquire(session, lease_of(1), over=None)
        turn = with_cost(turn_of(lease_of(1)), None)
        store.commit(session, turn)
        assert store.read(OWNER, session.id, START_MS, newest=1).turns == (turn,)

    @pytest.mark.asvs("2.3.3")
    def test_a_turn_of_nearly_the_largest_size_is_kept_whole(self, store: SessionStore, session: Session) -> None:
        take(store, session, 1)
        store.acquire(session, lease_of(2), over=None)
        large = with_content(turn_of(lease_of(2)), message=Message.of_text(random_text(MAX_TURN_BYTES - 100_000)))
        assert store.commit(session, large) == large
        third = take(store, session, 3)
        view = store.read(OWNER, session.id, START_MS, newest=2)
        assert (view.count, view.turns) == (3, (large, third))
        assert store.turns(session, 2, 2) == [large]
        assert store.commit(session, large) == large

    def test_a_turn_that_only_compresses_to_a_storable_size_is_kept(
        self, store: SessionStore, session: Session
    ) -> None:
        store.acquire(session, lease_of(1), over=None)
        large = with_content(turn_of(lease_of(1)), message=Message.of_text("again and again, " * 500_000))
        assert store.commit(session, large) == large
        assert store.read(OWNER, session.id, START_MS, newest=1).turns == (large,)

    @pytest.mark.asvs("2.3.3")
    def test_a_turn_that_is_too_large_is_refused_and_nothing_changes(
        self, store: SessionStore, session: Session
    ) -> None:
        turn = take(store, session, 1)
        store.acquire(session, lease_of(2), over=None)
        reply = replace(turn.reply, content=to_json([{"type": "text", "text": random_text(MAX_TURN_BYTES + 100_000)}]))
        with pytest.raises(TurnTooLarge):
            store.commit(session, with_content(turn_of(lease_of(2)), reply=reply))
        view = store.read(OWNER, session.id, START_MS, newest=9)
        assert (view.turns, view.running) == ((turn,), lease_of(2))


class SharedQuotas(Facts):
    """A turn may also be charged to a quota that others share."""

    def test_both_are_charged_or_neither(self, store: SessionStore) -> None:
        sessions = [store.create(new_session(f"anonymous:{number}"), "") for number in range(3)]
        shared = replace(charge("1", "2", "all#1"), owner="anonymous")
        lease = lease_of(1, charges=(charge("1", "1"), shared))
        assert [store.acquire(each, lease, over=None) for each in sessions[:2]] == [lease, lease]
        with pytest.raises(QuotaExceeded) as error:
            store.acquire(sessions[2], lease, over=None)
        assert error.value.limit == "all"
        own_alone = lease_of(1, charges=(charge("1", "1"),))
        assert store.acquire(sessions[2], own_alone, over=None) == own_alone

    def test_a_refund_can_be_used_by_others(self, store: SessionStore) -> None:
        sessions = [store.create(new_session(f"anonymous:{number}"), "") for number in range(2)]
        lease = lease_of(1, charges=(replace(charge("1", "1", "all#1"), owner="anonymous"),))
        store.acquire(sessions[0], lease, over=None)
        store.release(sessions[0], lease, billed=False, now_ms=START_MS)
        assert store.acquire(sessions[1], lease, over=None) == lease


class Billing(Facts):
    """A session is charged for together with its creation, its fork or its move."""

    def test_no_more_sessions_are_made_than_the_charged_owner_may_make(self, store: SessionStore) -> None:
        quota = QuotaCharges("address", (charge("1", "2"),))
        made = [store.create(new_session(f"owner {number}"), "", quota=quota) for number in range(2)]
        refused = new_session()
        with pytest.raises(QuotaExceeded) as error:
            store.create(refused, "", quota=quota)
        assert (error.value.limit, error.value.retry_after_s) == ("turns", 60)
        assert is_gone(store, refused)
        assert [store.read(each.owner, each.id, START_MS, newest=1).session for each in made] == made
        assert store.create(refused, "", quota=QuotaCharges("another address", quota.charges)) == refused

    def test_a_creation_that_finds_its_session_costs_nothing(self, store: SessionStore) -> None:
        quota, session = QuotaCharges(OWNER, (charge("1", "2"),)), new_session()
        for _ in range(5):
            assert store.create(session, "", quota=quota) == session
        store.create(new_session(), "", quota=quota)
        with pytest.raises(QuotaExceeded):
            store.create(new_session(), "", quota=quota)
        assert store.create(session, "", quota=quota) == session

    def test_a_refused_creation_can_be_made_when_the_window_is_over(self, store: SessionStore) -> None:
        session = new_session()
        store.create(new_session(), "", quota=QuotaCharges(OWNER, (charge("1", "1"),)))
        with pytest.raises(QuotaExceeded):
            store.create(session, "T", quota=QuotaCharges(OWNER, (charge("1", "1"),)))
        later = QuotaCharges(OWNER, (charge("1", "1", "turns#2026-11-25T14:06"),))
        assert store.create(session, "T", quota=later) == session
        assert take(store, session, 1).number == 1

    def test_two_charges_are_taken_together_or_not_at_all(self, store: SessionStore) -> None:
        both = QuotaCharges(OWNER, (charge("1", "5", "a#1"), charge("1", "0", "b#1")))
        with pytest.raises(QuotaExceeded):
            store.create(new_session(), "", quota=both)
        for _ in range(5):
            store.create(new_session(), "", quota=QuotaCharges(OWNER, (charge("1", "5", "a#1"),)))

    def test_a_fork_is_charged_once_and_a_refused_one_is_not_made(self, store: SessionStore, session: Session) -> None:
        take_all(store, session, 2)
        quota, child, refused = QuotaCharges("address", (charge("1", "1"),)), new_session(), new_session()
        for _ in range(3):
            store.fork(session, 1, child, "", quota=quota)
        with pytest.raises(QuotaExceeded):
            store.fork(session, 1, refused, "", quota=quota)
        with pytest.raises(SessionNotFound):
            store.read(OWNER, refused.id, START_MS, newest=1)
        store.fork(session, 1, refused, "", quota=QuotaCharges("another address", quota.charges))
        assert store.read(OWNER, refused.id, START_MS, newest=1).count == 1

    def test_a_move_is_charged_once_and_not_when_it_is_refused_or_repeated(
        self, store: SessionStore, session: Session
    ) -> None:
        turn = take(store, session, 1)
        quota = QuotaCharges("address", (charge("1", "1"),))
        used_up = QuotaCharges("another address", (charge("1", "1"),))
        store.move(replace(move_of(store.create(new_session(), "")), quota=used_up))
        move = replace(move_of(session), quota=quota)
        with pytest.raises(QuotaExceeded) as error:
            store.move(replace(move, quota=used_up))
        assert (error.value.limit, error.value.retry_after_s) == ("turns", 60)
        assert store.read(OWNER, session.id, START_MS + 100, newest=9).turns == (turn,)
        moved = store.move(move)
        assert store.move(replace(move, quota=used_up)) == moved
        with pytest.raises(QuotaExceeded):
            store.move(replace(move_of(store.create(new_session(), "")), quota=quota))

    def test_a_move_that_fails_costs_nothing(self, store: SessionStore, session: Session) -> None:
        other, quota = store.create(new_session(EVE), ""), QuotaCharges("address", (charge("1", "1"),))
        with pytest.raises(LeaseLost):
            store.move(replace(move_of(session), to_id=other.id, quota=quota))
        with pytest.raises(SessionNotFound):
            store.move(replace(move_of(new_session()), quota=quota))
        at_ms = START_MS + LEASE_MS
        assert store.move(replace(move_of(session, at_ms=at_ms), quota=quota)).owner == EVE

    def test_of_many_moves_at_once_just_as_many_are_made_as_may_be(self, store: SessionStore) -> None:
        quota = QuotaCharges("address", (charge("1", "3"),))

        def moved(move: Move) -> bool:
            for _ in range(20):
                with suppress(StoreUnavailable):
                    try:
                        return store.move(move).id == move.to_id
                    except (QuotaExceeded, LeaseLost):
                        return False
            return False

        sessions = [store.create(new_session(f"owner {number}"), "") for number in range(8)]
        for session in sessions:
            take(store, session, 1)
        moves = [replace(move_of(session), quota=quota) for session in sessions]
        outcomes = at_once(*[lambda move=each: moved(move) for each in moves])
        assert outcomes.count(True) == 3
        for session, was_moved in zip(sessions, outcomes, strict=True):
            assert is_gone(store, session, START_MS + 100) == was_moved

    def test_of_many_creations_at_once_just_as_many_are_made_as_may_be(self, store: SessionStore) -> None:
        def made(session: Session) -> bool:
            try:
                store.create(session, "", quota=QuotaCharges("address", (charge("1", "3"),)))
            except (QuotaExceeded, StoreUnavailable):
                return False
            return True

        tries = [new_session(f"owner {number}") for number in range(8)]
        found = at_once(*(lambda session=session: made(session) for session in tries))
        assert sum(found) <= 3
        assert [is_gone(store, session) for session in tries] == [not each for each in found]
        assert sum(found) + sum(made(new_session()) for _ in range(4)) == 3


class Forking(Facts):
    @pytest.mark.parametrize("number", [1, 3, 5])
    def test_a_fork_has_the_turns_up_to_its_number_without_their_keys(
        self, store: SessionStore, session: Session, number: int
    ) -> None:
        turns = take_all(store, session, 5)
        child = new_session(created_ms=START_MS + 50, life_s=5000)
        store.fork(session, number, child, "A fork")
        view = store.read(OWNER, child.id, START_MS + 50, newest=9)
        assert (view.session, view.title, view.count, view.running) == (child, "A fork", number, None)
        assert list(view.turns) == [self.without_key(turn) for turn in turns[:number]]
        assert store.read(OWNER, session.id, START_MS, newest=9).turns == tuple(turns)

    def test_a_fork_has_the_settings_that_it_is_given(self, store: SessionStore, session: Session) -> None:
        take_all(store, session, 2)
        child = replace(new_session(), settings=replace(session.settings, model="claude-haiku-5-5"))
        store.fork(session, 2, child, "")
        assert store.read(OWNER, child.id, START_MS, newest=1).session == child
        assert store.read(OWNER, session.id, START_MS, newest=1).session.settings == session.settings

    def test_a_fork_and_its_parent_go_on_apart(self, store: SessionStore, session: Session) -> None:
        turns = take_all(store, session, 3)
        child = forked(store, session, 2, new_session())
        third = take(store, child, 3, at_ms=START_MS + 60)
        assert store.turns(child, 3, 9) == [third]
        store.delete(OWNER, session.id, START_MS)
        assert store.turns(child, 1, 9) == [*map(self.without_key, turns[:2]), third]

    def test_a_running_turn_of_the_parent_is_not_copied_and_goes_on(
        self, store: SessionStore, session: Session
    ) -> None:
        take(store, session, 1)
        store.acquire(session, lease_of(2), over=None)
        child = new_session()
        store.fork(session, 1, child, "")
        assert store.read(OWNER, child.id, START_MS, newest=9).running is None
        assert store.commit(session, turn_of(lease_of(2))) == turn_of(lease_of(2))

    def test_a_fork_of_old_turns_lives_as_long_as_a_new_session(self, store: SessionStore, session: Session) -> None:
        take(store, session, 1)
        take(store, session, 2, at_ms=START_MS + session.idle_ms)
        child = new_session(created_ms=START_MS + session.idle_ms + 60_000)
        store.fork(session, 1, child, "")
        last_ms = child.created_ms + child.idle_ms - 1
        assert store.read(OWNER, child.id, last_ms, newest=1).session == child
        with pytest.raises(SessionNotFound):
            store.read(OWNER, child.id, last_ms + 1, newest=1)

    def test_a_repeated_fork_changes_nothing(self, store: SessionStore, session: Session) -> None:
        take_all(store, session, 2)
        child = forked(store, session, 2, new_session(), "A fork")
        third = take(store, child, 3)
        store.fork(session, 2, child, "Another title")
        view = store.read(OWNER, child.id, START_MS, newest=1)
        assert (view.title, view.turns) == ("A fork", (third,))

    def test_a_large_turn_is_forked_whole(self, store: SessionStore, session: Session) -> None:
        store.acquire(session, lease_of(1), over=None)
        large = with_content(turn_of(lease_of(1)), message=Message.of_text(random_text(MAX_TURN_BYTES - 100_000)))
        store.commit(session, large)
        child = forked(store, session, 1, new_session())
        assert store.turns(child, 1, 1) == [self.without_key(large)]

    @pytest.mark.parametrize("why", ["deleted", "moved", "never was", "foreign"])
    def test_a_session_that_is_not_there_cannot_be_forked(
        self, store: SessionStore, session: Session, why: str
    ) -> None:
        take(store, session, 1)
        parent = session
        if why == "deleted":
            store.delete(OWNER, session.id, START_MS)
        if why == "moved":
            store.move(move_of(session))
        if why == "never was":
            parent = new_session()
        if why == "foreign":
            parent = replace(session, owner=EVE)
        child = new_session(parent.owner)
        with pytest.raises(SessionNotFound):
            store.fork(parent, 1, child, "")
        assert is_gone(store, child)

    @staticmethod
    def without_key(turn: Turn) -> Turn:
        return turn.forked()


PAIRS: Metadata = (("case", "snow ☃ 17"), ("empty", ""), ("x.y_z-1", 'quote " and \\'))


class Renaming(Facts):
    def test_a_session_has_its_new_title_and_all_else_is_kept(self, store: SessionStore, session: Session) -> None:
        turns = take_all(store, session, 2)
        before = store.read(OWNER, session.id, START_MS, newest=9)
        for title in ("Snow ☃", "", 'Quote " and \\'):
            store.change(OWNER, session.id, SessionChanges(title=title), START_MS + 50)
            for consistent in (True, False):
                view = store.read(OWNER, session.id, START_MS + 50, newest=9, consistent=consistent)
                assert view == replace(before, title=title)
        assert list(view.turns) == turns
        assert take(store, session, 3, at_ms=START_MS + 60).number == 3

    def test_a_title_goes_along_with_a_move(self, store: SessionStore, session: Session) -> None:
        store.change(OWNER, session.id, SessionChanges(title="New"), START_MS)
        moved = store.move(move_of(session))
        assert store.read(EVE, moved.id, START_MS + 100, newest=1).title == "New"

    def test_a_session_can_be_renamed_while_its_turn_runs(self, store: SessionStore, session: Session) -> None:
        store.acquire(session, lease_of(1), over=None)
        store.change(OWNER, session.id, SessionChanges(title="New"), START_MS)
        assert store.commit(session, turn_of(lease_of(1))) == turn_of(lease_of(1))
        assert store.read(OWNER, session.id, START_MS, newest=1).title == "New"

    def test_a_new_title_prolongs_nothing(self, store: SessionStore, session: Session) -> None:
        store.change(OWNER, session.id, SessionChanges(title="New"), START_MS + session.idle_ms - 1)
        with pytest.raises(SessionNotFound):
            store.read(OWNER, session.id, START_MS + session.idle_ms, newest=1)

    def test_metadata_is_kept_as_it_was_given_and_changes_nothing_else(
        self, store: SessionStore, session: Session
    ) -> None:
        take_all(store, session, 2)
        before = store.read(OWNER, session.id, START_MS, newest=9)
        assert before.metadata == ()
        for metadata in (PAIRS, PAIRS[:1], (), PAIRS[1:]):
            store.change(OWNER, session.id, SessionChanges(metadata=metadata), START_MS + 50)
            for consistent in (True, False):
                view = store.read(OWNER, session.id, START_MS + 50, newest=9, consistent=consistent)
                assert view == replace(before, metadata=metadata)

    def test_title_and_metadata_change_alone_or_together(self, store: SessionStore, session: Session) -> None:
        def change(*given: Any) -> tuple[str, Metadata]:
            store.change(OWNER, session.id, SessionChanges(*given), START_MS)
            view = store.read(OWNER, session.id, START_MS, newest=1)
            return view.title, view.metadata

        assert change("New", PAIRS) == ("New", PAIRS)
        assert change("Newer") == ("Newer", PAIRS)
        assert change(None, PAIRS[1:]) == ("Newer", PAIRS[1:])
        assert change("Last", ()) == ("Last", ())
        assert change("", PAIRS) == ("", PAIRS)
        assert change() == ("", PAIRS)

    def test_a_session_is_created_with_its_metadata(self, store: SessionStore) -> None:
        session = store.create(new_session(), "A title", metadata=PAIRS, first=turn_of(lease_of(1)))
        view = store.read(OWNER, session.id, START_MS, newest=1)
        assert (view.metadata, view.count) == (PAIRS, 1)
        store.create(session, "Another title", metadata=PAIRS[:1])
        assert store.read(OWNER, session.id, START_MS, newest=1).metadata == PAIRS

    def test_the_most_metadata_is_kept(self, store: SessionStore, session: Session) -> None:
        most = tuple((f"{number:064d}", "\U0001f426" * 512) for number in range(16))
        store.change(OWNER, session.id, SessionChanges(metadata=most), START_MS)
        take(store, session, 1)
        assert store.read(OWNER, session.id, START_MS, newest=1).metadata == most

    def test_metadata_goes_along_with_a_move(self, store: SessionStore, session: Session) -> None:
        store.change(OWNER, session.id, SessionChanges(metadata=PAIRS), START_MS)
        moved = store.move(move_of(session))
        view = store.read(EVE, moved.id, START_MS + 100, newest=1)
        assert (view.title, view.metadata) == ("A title", PAIRS)

    def test_a_fork_has_the_metadata_that_it_is_given(self, store: SessionStore, session: Session) -> None:
        take(store, session, 1)
        store.change(OWNER, session.id, SessionChanges(metadata=PAIRS), START_MS)
        child, bare = new_session(), new_session()
        store.fork(session, 1, child, "A fork", metadata=PAIRS[1:])
        store.fork(session, 1, bare, "A fork")
        assert store.read(OWNER, child.id, START_MS, newest=1).metadata == PAIRS[1:]
        assert store.read(OWNER, bare.id, START_MS, newest=1).metadata == ()

    def test_metadata_can_change_while_a_turn_runs_and_after_it(self, store: SessionStore, session: Session) -> None:
        store.acquire(session, lease_of(1), over=None)
        store.change(OWNER, session.id, SessionChanges(metadata=PAIRS), START_MS)
        assert store.read(OWNER, session.id, START_MS, newest=1).running == lease_of(1)
        assert store.commit(session, turn_of(lease_of(1))) == turn_of(lease_of(1))
        store.change(OWNER, session.id, SessionChanges(metadata=PAIRS[:1]), START_MS)
        view = store.read(OWNER, session.id, START_MS, newest=1)
        assert (view.metadata, view.running, view.count) == (PAIRS[:1], None, 1)

    @pytest.mark.parametrize("why", ["unknown", "foreign", "expired", "deleted", "moved"])
    def test_a_session_that_is_not_there_cannot_be_renamed(
        self, store: SessionStore, session: Session, why: str
    ) -> None:
        owner, session_id, now = OWNER, session.id, START_MS + 200
        if why == "unknown":
            session_id = new_session_id()
        if why == "foreign":
            owner = EVE
        if why == "expired":
            now = START_MS + session.idle_ms
        if why == "deleted":
            store.delete(OWNER, session.id, START_MS)
        if why == "moved":
            store.move(move_of(session))
        with pytest.raises(SessionNotFound):
            store.change(owner, session_id, SessionChanges("New", PAIRS), now)
        if why in ("deleted", "moved"):
            assert is_gone(store, session)
        else:
            assert store.read(OWNER, session.id, START_MS, newest=1).title == "A title"


def move_of(session: Session, *, at_ms: int = START_MS + 100) -> Move:
    """To another owner and another id."""
    return Move(
        session.owner,
        session.id,
        EVE,
        new_session_id(),
        b"m" * 32,
        "mover",
        at_ms=at_ms,
        lease_expires_ms=at_ms + LEASE_MS,
    )


class Moving(Facts):
    def test_a_moved_session_has_another_owner_and_id_and_all_else_is_kept(
        self, store: SessionStore, session: Session
    ) -> None:
        turns = take_all(store, session, 5)
        move = move_of(session)
        moved = store.move(move)
        assert moved == replace(session, owner=EVE, id=move.to_id)
        view = store.read(EVE, move.to_id, START_MS + 100, newest=9)
        assert (view.session, view.title, view.running) == (moved, "A title", None)
        assert (list(view.turns), view.totals) == (turns, turns[-1].totals)
        assert store.turns(moved, 1, 9) == turns
        assert take(store, moved, 6, at_ms=START_MS + 200).number == 6

    def test_a_session_without_turns_can_be_moved(self, store: SessionStore, session: Session) -> None:
        moved = store.move(move_of(session))
        assert store.read(EVE, moved.id, START_MS + 100, newest=1).count == 0

    @pytest.mark.parametrize("same", ["owner", "id"])
    def test_only_the_owner_or_only_the_id_may_change(self, store: SessionStore, session: Session, same: str) -> None:
        turn = take(store, session, 1)
        move = move_of(session)
        move = replace(move, to_owner=OWNER) if same == "owner" else replace(move, to_id=session.id)
        moved = store.move(move)
        assert store.turns(moved, 1, 9) == [turn]
        assert is_gone(store, session, START_MS + 100)

    def test_a_large_turn_is_moved_whole(self, store: SessionStore, session: Session) -> None:
        store.acquire(session, lease_of(1), over=None)
        large = with_content(turn_of(lease_of(1)), message=Message.of_text(random_text(MAX_TURN_BYTES - 100_000)))
        store.commit(session, large)
        assert store.turns(store.move(move_of(session)), 1, 1) == [large]

    def test_the_old_id_is_dead(self, store: SessionStore, session: Session) -> None:
        take(store, session, 1)
        move = move_of(session)
        store.move(move)
        assert is_gone(store, session, START_MS + 100)
        with pytest.raises(SessionNotFound):
            store.read(EVE, session.id, START_MS + 100, newest=1)
        with pytest.raises(SessionNotFound):
            store.read(OWNER, move.to_id, START_MS + 100, newest=1)
        assert isinstance(store.acquire(session, lease_of(2), over=None), Tombstone)
        assert store.delete(OWNER, session.id, START_MS + 100) is False
        with pytest.raises(SessionNotFound):
            store.create(session, "")
        assert store.read(EVE, move.to_id, START_MS + 100, newest=1).count == 1

    def test_a_repeat_returns_the_session_again(self, store: SessionStore, session: Session) -> None:
        take(store, session, 1)
        move = move_of(session)
        moved = store.move(move)
        take(store, moved, 2)
        assert store.move(replace(move, token="another try", at_ms=move.at_ms + 9)) == moved
        assert store.read(EVE, moved.id, START_MS, newest=9).count == 2

    @pytest.mark.parametrize("other", ["key", "owner", "id"])
    def test_a_repeat_with_another_key_or_target_finds_nothing(
        self, store: SessionStore, session: Session, other: str
    ) -> None:
        move = move_of(session)
        store.move(move)
        changed = {
            "key": replace(move, key=b"o" * 32),
            "owner": replace(move, to_owner="somebody else"),
            "id": replace(move, to_id=new_session_id()),
        }
        with pytest.raises(SessionNotFound):
            store.move(changed[other])

    def test_a_repeat_after_the_session_was_deleted_finds_nothing(self, store: SessionStore, session: Session) -> None:
        take(store, session, 1)
        move = move_of(session)
        moved = store.move(move)
        store.delete(EVE, moved.id, START_MS + 100)
        with pytest.raises(SessionNotFound):
            store.move(move)
        assert is_gone(store, moved, START_MS + 100)

    def test_a_session_is_not_moved_while_its_turn_runs(self, store: SessionStore, session: Session) -> None:
        take(store, session, 1)
        lease = lease_of(2)
        store.acquire(session, lease, over=None)
        move = move_of(session)
        with pytest.raises(TurnInProgress) as refused:
            store.move(move)
        assert 1 <= (refused.value.retry_after_s or 0) <= 7
        assert store.commit(session, turn_of(lease)) == turn_of(lease)
        assert store.move(move).id == move.to_id

    def test_an_expired_lease_does_not_move(self, store: SessionStore, session: Session) -> None:
        turn = take(store, session, 1)
        dead = lease_of(2, "dead", lease_expires_ms=START_MS + 50)
        store.acquire(session, dead, over=None)
        moved = store.move(move_of(session))
        view = store.read(EVE, moved.id, START_MS + 100, newest=9)
        assert (view.turns, view.running) == ((turn,), None)
        assert isinstance(store.commit(session, turn_of(dead)), Tombstone)
        assert take(store, moved, 2, at_ms=START_MS + 100).number == 2

    def test_a_move_to_a_taken_id_leaves_both_sessions(self, store: SessionStore, session: Session) -> None:
        turn = take(store, session, 1)
        other = store.create(new_session(EVE), "Eve's")
        eves = take(store, other, 1)
        with pytest.raises(LeaseLost):
            store.move(replace(move_of(session), to_id=other.id))
        view = store.read(OWNER, session.id, START_MS + 200, newest=9)
        assert view.turns == (turn,)
        lease = lease_of(2, at_ms=START_MS + 200)
        assert store.acquire(session, lease, over=view.running) == lease
        view = store.read(EVE, other.id, START_MS + 200, newest=9)
        assert (view.title, view.turns) == ("Eve's", (eves,))

    @pytest.mark.parametrize("why", ["unknown", "foreign", "expired", "deleted"])
    def test_a_session_that_is_not_there_cannot_be_moved(self, store: SessionStore, session: Session, why: str) -> None:
        turn = take(store, session, 1)
        move = move_of(session)
        if why == "unknown":
            move = replace(move, session_id=new_session_id())
        if why == "foreign":
            move = replace(move, owner=EVE)
        if why == "expired":
            move = move_of(session, at_ms=turn.at_ms + session.idle_ms)
        if why == "deleted":
            store.delete(OWNER, session.id, START_MS)
        with pytest.raises(SessionNotFound):
            store.move(move)
        with pytest.raises(SessionNotFound):
            store.read(EVE, move.to_id, START_MS + 100, newest=1)


class Deleting(Facts):
    def test_a_deleted_session_is_gone_and_cannot_be_deleted_again(self, store: SessionStore, session: Session) -> None:
        take(store, session, 1)
        assert store.delete(OWNER, session.id, START_MS) is True
        assert is_gone(store, session)
        assert store.delete(OWNER, session.id, START_MS) is False

    def test_a_session_without_turns_can_be_deleted(self, store: SessionStore, session: Session) -> None:
        assert store.delete(OWNER, session.id, START_MS) is True
        assert is_gone(store, session)

    def test_a_session_that_never_was_is_not_deleted(self, store: SessionStore) -> None:
        assert store.delete(OWNER, new_session_id(), START_MS) is False

    def test_more_turns_than_one_batch_are_all_removed(self, store: SessionStore, session: Session) -> None:
        take_all(store, session, 60)
        store.delete(OWNER, session.id, START_MS)
        assert store.turns(session, 1, 60) == []

    def test_a_running_turn_cannot_bring_a_deleted_session_back(self, store: SessionStore, session: Session) -> None:
        take(store, session, 1)
        store.acquire(session, lease_of(2), over=None)
        assert store.delete(OWNER, session.id, START_MS) is True
        assert isinstance(store.commit(session, turn_of(lease_of(2))), Tombstone)
        assert is_gone(store, session)

    @pytest.mark.parametrize("number", [1, 2, 3])
    def test_no_slot_of_a_deleted_session_can_be_leased(
        self, store: SessionStore, session: Session, number: int
    ) -> None:
        take_all(store, session, 2)
        store.delete(OWNER, session.id, START_MS)
        assert isinstance(store.acquire(session, lease_of(number), over=None), Tombstone)
        assert is_gone(store, session)

    def test_an_expired_session_is_emptied_though_it_is_not_found(self, store: SessionStore, session: Session) -> None:
        take(store, session, 1)
        assert store.delete(OWNER, session.id, session.expires_ms) is False
        assert store.turns(session, 1, 1) == []

    def test_another_owner_deletes_nothing(self, store: SessionStore, session: Session) -> None:
        turn = take(store, session, 1)
        assert store.delete(EVE, session.id, START_MS) is False
        assert store.read(OWNER, session.id, START_MS, newest=1).turns == (turn,)


class Listing(Facts):
    def test_an_owner_s_sessions_are_named_and_nobody_else_s(self, store: SessionStore, session: Session) -> None:
        mine, eves = new_session(), new_session(EVE)
        store.create(mine, "")
        store.create(eves, "")
        assert sorted(store.session_ids(OWNER)) == sorted([session.id, mine.id])
        assert store.session_ids(EVE) == [eves.id]
        assert store.session_ids("nobody") == []

    def test_a_deleted_session_is_not_named(self, store: SessionStore, session: Session) -> None:
        store.delete(OWNER, session.id, START_MS)
        assert store.session_ids(OWNER) == []

    def test_a_moved_session_is_named_where_it_is(self, store: SessionStore, session: Session) -> None:
        moved = store.move(move_of(session))
        assert (store.session_ids(OWNER), store.session_ids(EVE)) == ([], [moved.id])

    def test_a_fork_is_named(self, store: SessionStore, session: Session) -> None:
        take(store, session, 1)
        child = new_session()
        store.fork(session, 1, child, "")
        assert sorted(store.session_ids(OWNER)) == sorted([session.id, child.id])

    def test_sessions_are_listed_with_the_times_of_their_creation(self, store: SessionStore, session: Session) -> None:
        later = new_session(created_ms=START_MS + 5)
        store.create(later, "")
        take(store, session, 1)
        expected = {ListedSession(session.id, START_MS), ListedSession(later.id, START_MS + 5)}
        assert set(store.listed(OWNER)) == expected
        assert store.listed("nobody") == []

    def test_a_moved_session_is_listed_with_its_first_creation(self, store: SessionStore, session: Session) -> None:
        moved = store.move(move_of(session))
        assert store.listed(EVE) == [ListedSession(moved.id, session.created_ms)]


class Erasing(Facts):
    def test_nothing_of_an_erased_owner_is_left_and_all_of_another_s_is(
        self, store: SessionStore, session: Session
    ) -> None:
        take_all(store, session, 2)
        mine, eves = store.create(new_session(), "Another"), store.create(new_session(EVE), "Eve's")
        turn = take(store, eves, 1)
        assert store.erase(OWNER, START_MS) == 2
        assert is_gone(store, session)
        assert is_gone(store, mine)
        assert store.session_ids(OWNER) == []
        assert store.read(EVE, eves.id, START_MS, newest=1).turns == (turn,)
        assert store.session_ids(EVE) == [eves.id]

    def test_a_running_turn_brings_nothing_back(self, store: SessionStore, session: Session) -> None:
        store.acquire(session, lease_of(1), over=None)
        store.erase(OWNER, START_MS)
        assert isinstance(store.commit(session, turn_of(lease_of(1))), Tombstone)
        assert is_gone(store, session)

    def test_an_expired_session_is_erased_too(self, store: SessionStore, session: Session) -> None:
        take(store, session, 1)
        assert store.erase(OWNER, session.expires_ms) == 1
        assert store.turns(session, 1, 1) == []

    @pytest.mark.parametrize("over", [True, False])
    def test_erasing_forgets_quotas_whose_window_is_over(
        self, store: SessionStore, session: Session, over: bool
    ) -> None:
        charged = replace(lease_of(1), charges=(charge("10"),))
        assert store.acquire(session, charged, over=None) == charged
        store.erase(OWNER, charged.charges[0].resets_ms - (not over))
        again = store.create(new_session(), "")
        if over:
            assert store.acquire(again, charged, over=None) == charged
        else:
            with pytest.raises(QuotaExceeded):
                store.acquire(again, charged, over=None)

    def test_an_erasure_can_be_repeated_and_the_owner_begin_anew(self, store: SessionStore, session: Session) -> None:
        assert store.erase(OWNER, START_MS) == 1
        assert store.erase(OWNER, START_MS) == 0
        anew = store.create(new_session(), "Anew")
        turn = take(store, anew, 1)
        view = store.read(OWNER, anew.id, START_MS, newest=1)
        assert (view.title, view.turns) == ("Anew", (turn,))
        assert store.session_ids(OWNER) == [anew.id]

    def test_an_erasure_without_more_time_says_what_is_left_and_a_repeat_goes_on(
        self, store: SessionStore, session: Session
    ) -> None:
        sessions = [session, *(store.create(new_session(), "") for _ in range(4))]
        take_all(store, session, 2)
        time_for_two = iter([True, True])
        with pytest.raises(ErasureUnfinished) as unfinished:
            store.erase(OWNER, START_MS, has_time=lambda: next(time_for_two, False))
        assert (unfinished.value.erased, unfinished.value.left) == (2, 3)
        assert sum(is_gone(store, each) for each in sessions) >= 2
        with pytest.raises(ErasureUnfinished) as stopped:
            store.erase(OWNER, START_MS, has_time=lambda: False)
        assert (stopped.value.erased, stopped.value.left) == (0, 3)
        assert store.erase(OWNER, START_MS) == 3
        assert all(is_gone(store, each) for each in sessions)
        assert store.create(new_session(), "")

    def test_who_has_nothing_can_be_erased(self, store: SessionStore) -> None:
        assert store.erase("nobody", START_MS) == 0


class Sweeping(Facts):
    def test_content_goes_within_an_hour_of_the_end_and_not_before_the_margin(
        self, store: SessionStore, session: Session
    ) -> None:
        turn = take(store, session, 1)
        end_ms = turn.at_ms + session.idle_ms
        assert store.sweep(end_ms + MARGIN_MS - 1) == 0
        assert store.turns(session, 1, 1) == [turn]
        assert store.sweep(end_ms + HOUR_MS) == 1
        assert is_gone(store, session, end_ms)
        assert store.session_ids(OWNER) == []
        assert store.sweep(end_ms + HOUR_MS) == 0

    def test_a_session_goes_after_its_absolute_end_too(self, store: SessionStore) -> None:
        session = store.create(new_session(life_s=600), "")
        take(store, session, 1)
        assert store.sweep(session.expires_ms + HOUR_MS) == 1
        assert is_gone(store, session, session.expires_ms)

    def test_a_session_of_a_year_stays_for_all_of_it_and_then_goes(self, store: SessionStore) -> None:
        session = store.create(new_session(idle_s=YEAR_S, life_s=YEAR_S), "")
        turn, end_ms = take(store, session, 1), START_MS + YEAR_S * 1000
        assert store.sweep(end_ms - 1) == 0
        assert store.read(OWNER, session.id, end_ms - 1, newest=9).turns == (turn,)
        take(store, session, 2, at_ms=end_ms - 1)
        with pytest.raises(SessionNotFound):
            store.read(OWNER, session.id, end_ms, newest=9)
        assert store.sweep(end_ms + HOUR_MS) == 1
        assert is_gone(store, session, end_ms)
        assert store.session_ids(OWNER) == []

    def test_a_session_of_a_year_ends_when_it_was_idle_for_its_time(self, store: SessionStore) -> None:
        session = store.create(new_session(idle_s=YEAR_S // 2, life_s=YEAR_S), "")
        turn = take(store, session, 1, at_ms=START_MS + HOUR_MS)
        end_ms = turn.at_ms + session.idle_ms
        assert store.sweep(end_ms - 1) == 0  # it would have been due by now, had nobody used it
        assert store.read(OWNER, session.id, end_ms - 1, newest=9).turns == (turn,)
        with pytest.raises(SessionNotFound):
            store.read(OWNER, session.id, end_ms, newest=9)
        assert store.sweep(end_ms + HOUR_MS) == 1

    def test_a_year_is_kept_by_a_move_and_begins_anew_in_a_fork(self, store: SessionStore) -> None:
        session = store.create(new_session(idle_s=YEAR_S, life_s=YEAR_S), "")
        take(store, session, 1)
        now_ms = START_MS + YEAR_S * 900
        fork = replace(session, id=new_session_id(), created_ms=now_ms, expires_ms=now_ms + YEAR_S * 1000)
        child = forked(store, session, 1, fork)
        moved = store.move(move_of(session, at_ms=now_ms))
        for each, end_ms in ((moved, session.expires_ms), (child, now_ms + YEAR_S * 1000)):
            assert store.read(each.owner, each.id, end_ms - 1, newest=9).count == 1
            with pytest.raises(SessionNotFound):
                store.read(each.owner, each.id, end_ms, newest=9)

    def test_a_session_goes_though_a_handler_died_in_it(self, store: SessionStore, session: Session) -> None:
        store.acquire(session, lease_of(1), over=None)
        assert store.sweep(START_MS + session.idle_ms + HOUR_MS) == 1
        assert isinstance(store.commit(session, turn_of(lease_of(1))), Tombstone)
        assert is_gone(store, session)

    def test_only_the_dead_are_counted_and_the_living_are_left_alone(self, store: SessionStore) -> None:
        made = new_session(idle_s=600), new_session(), new_session(), new_session(idle_s=7200)
        now = START_MS + 600_000 + HOUR_MS
        dead, used, running, new = [store.create(session, "") for session in made]
        for session in (dead, used, running):
            take(store, session, 1)
        for session in (used, running):
            take(store, session, 2, at_ms=START_MS + 1_700_000)
        turn = take(store, used, 3, at_ms=START_MS + 3_000_000)
        lease = lease_of(3, at_ms=START_MS + 3_000_000)
        store.acquire(running, lease, over=None)
        assert store.sweep(now) == 1
        assert store.sweep(now) == 0
        assert is_gone(store, dead, now)
        assert sorted(store.session_ids(OWNER)) == sorted([used.id, running.id, new.id])
        assert store.read(OWNER, used.id, now, newest=1).turns == (turn,)
        assert store.commit(running, turn_of(lease)) == turn_of(lease)
        assert store.read(OWNER, new.id, now, newest=1).count == 0

    def test_a_session_that_was_used_again_goes_after_its_new_end(self, store: SessionStore, session: Session) -> None:
        take(store, session, 1, at_ms=START_MS + session.idle_ms - 10)
        end_ms = START_MS + 2 * session.idle_ms - 5
        assert store.sweep(end_ms + MARGIN_MS - 1) == 0
        assert store.sweep(end_ms + HOUR_MS) == 1
        assert is_gone(store, session)

    def test_a_deleted_session_is_not_swept_again(self, store: SessionStore, session: Session) -> None:
        store.delete(OWNER, session.id, START_MS)
        assert store.sweep(START_MS + session.idle_ms + HOUR_MS) == 0

    def test_a_moved_session_is_swept_where_it_is(self, store: SessionStore, session: Session) -> None:
        turn = take(store, session, 1)
        moved = store.move(move_of(session))
        end_ms = turn.at_ms + session.idle_ms
        assert store.sweep(end_ms + MARGIN_MS - 1) == 0
        assert store.turns(moved, 1, 1) == [turn]
        assert store.sweep(end_ms + HOUR_MS) == 1
        assert is_gone(store, moved, end_ms)


class Racing(Facts):
    """Real threads. Each turn names the turn before it, which proves the order."""

    def test_of_many_creations_one_is_stored_and_all_find_it(self, store: SessionStore) -> None:
        first = new_session()
        tries = [replace(first, fingerprint=b"%d" % number) for number in range(8)]
        found = at_once(*(lambda session=session: store.create(session, "") for session in tries))
        assert len(set(found)) == 1
        assert store.read(OWNER, first.id, START_MS, newest=1).session == found[0]

    @pytest.mark.asvs("15.4.2")
    def test_one_of_many_leases_gets_the_slot_and_all_see_it(self, store: SessionStore, session: Session) -> None:
        for number in range(1, 6):
            tries = [lease_of(number, f"{number}-{each}") for each in range(8)]
            found = at_once(*(lambda lease=lease: store.acquire(session, lease, over=None) for lease in tries))
            winner = found[0]
            assert found == [winner] * 8
            assert isinstance(winner, Lease)
            assert store.commit(session, turn_of(winner)) == turn_of(winner)

    def test_one_of_many_heirs_takes_an_expired_lease_over(self, store: SessionStore, session: Session) -> None:
        dead = lease_of(1, "dead")
        store.acquire(session, dead, over=None)
        heirs = [lease_of(1, f"heir-{each}", at_ms=dead.lease_expires_ms + 1) for each in range(8)]
        found = at_once(*(lambda heir=heir: store.acquire(session, heir, over=dead) for heir in heirs))
        assert found == [found[0]] * 8
        assert found[0] in heirs

    def test_turns_that_race_have_one_order_and_each_saw_all_before_it(
        self, store: SessionStore, session: Session
    ) -> None:
        taken = at_once(*(lambda name=name: take_in_race(store, session, name, 4) for name in "abcdef"))
        view = store.read(OWNER, session.id, START_MS, newest=100)
        tokens = [turn.token for turn in view.turns]
        assert view.count == 24
        assert sorted(tokens) == sorted(token for each in taken for token in each)
        assert [turn.message.blocks[0]["text"] for turn in view.turns] == ["", *tokens[:-1]]

    def test_a_delete_during_turns_leaves_nothing_and_nothing_comes_after_it(
        self, store: SessionStore, session: Session
    ) -> None:
        begun = threading.Event()

        def delete() -> list[str]:
            begun.wait(60)
            for _ in range(MOST_ROUNDS):
                with suppress(StoreUnavailable):  # turns that cost no model's time can get in again and again
                    return ["deleted"] if store.delete(OWNER, session.id, START_MS) else []
            return []

        takers = [lambda name=name: take_in_race(store, session, name, 30, begun) for name in "abc"]
        assert at_once(*takers, delete)[-1] == ["deleted"]
        assert is_gone(store, session)

    def test_a_move_during_turns_takes_along_just_those_that_were_stored(
        self, store: SessionStore, session: Session
    ) -> None:
        begun = threading.Event()
        move = move_of(session, at_ms=START_MS)

        def move_it() -> list[str]:
            begun.wait(60)
            for _ in range(MOST_ROUNDS):
                with suppress(TurnInProgress):
                    return [store.move(move).id]
            raise AssertionError("the move never gets in")

        *taken, moved = at_once(
            *(lambda name=name: take_in_race(store, session, name, 8, begun) for name in "ab"), move_it
        )
        assert moved == [move.to_id]
        assert is_gone(store, session)
        tokens = [turn.token for turn in store.read(EVE, move.to_id, START_MS, newest=100).turns]
        assert sorted(tokens) == sorted(token for each in taken for token in each)

    def test_one_of_two_rival_moves_wins_and_the_other_learns_nothing(
        self, store: SessionStore, session: Session
    ) -> None:
        turn = take(store, session, 1)
        moves = [replace(move_of(session), to_owner=name, token=name) for name in ("eve", "mallory")]

        def moved(move: Move) -> Session | None:
            with suppress(SessionNotFound, TurnInProgress, LeaseLost):
                return store.move(move)
            return None

        found = at_once(*(lambda move=move: moved(move) for move in moves))
        assert sum(each is not None for each in found) == 1
        for move, each in zip(moves, found, strict=True):
            if each:
                assert store.move(replace(move, token="a repeat")) == each
                assert store.turns(each, 1, 9) == [turn]
            else:
                with pytest.raises(SessionNotFound):
                    store.move(replace(move, token="a repeat"))
                assert store.session_ids(move.to_owner) == []


def take_in_race(
    store: SessionStore, session: Session, name: str, turns: int, begun: threading.Event | None = None
) -> list[str]:
    """Takes `turns` turns, fewer if the session goes before. Returns the tokens of those that were stored."""
    stored: list[str] = []
    for _ in range(MOST_ROUNDS):
        if len(stored) == turns:
            return stored
        try:
            view = store.read(session.owner, session.id, START_MS, newest=3)
        except SessionNotFound:
            return stored
        lease = lease_of(view.count + 1, f"{name}-{len(stored)}")
        if store.acquire(session, lease, over=None) != lease:
            continue
        turn = turn_of(lease, view.turns[-1].token if view.turns else "")
        if store.commit(session, turn) == turn:
            stored.append(lease.token)
            if begun:
                begun.set()
    raise AssertionError("nobody gets on")


class SessionStoreContract(
    Creating,
    Reading,
    Leasing,
    Charging,
    Releasing,
    Committing,
    SharedQuotas,
    Billing,
    Forking,
    Renaming,
    Moving,
    Deleting,
    Listing,
    Erasing,
    Sweeping,
    Racing,
):
    """The whole contract. Derive a class whose name begins with Test, and give it a fixture `store`."""
