"""What every SessionStore promises, whatever it keeps its sessions in."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal

import pytest

from tests.fakes import OWNER, START_MS, new_session
from turnlog.errors import SessionNotFound
from turnlog.messages import Message, Reply, Usage, to_json
from turnlog.sessions import Claim, Ended, Session, SessionStore, Totals, Turn, new_session_id

LEASE_MS = 65_000
STRANGE_BLOCKS = [
    {"type": "thinking", "thinking": "…", "signature": "Zm9v/+=="},
    {"type": "from_the_future", "nested": {"z": 1, "a": [1.5, None, True, 12345678901234567890]}, "empty": {}},
    {"type": "text", "text": 'snow ☃, family 👩‍👩‍👧, quote " backslash \\ line\nend'},
]


def claim_of(number: int, token: str = "", *, at_ms: int = START_MS, until_ms: int | None = None) -> Claim:
    lease = at_ms + LEASE_MS if until_ms is None else until_ms
    return Claim(number, token or f"token-{number}", lease, b"k%015d" % number, b"f" * 16, at_ms)


def turn_of(claim: Claim, text: str = "hello") -> Turn:
    return Turn(
        number=claim.number,
        token=claim.token,
        key=claim.key,
        fingerprint=claim.fingerprint,
        message=Message.of_text(text),
        reply=Reply(
            "claude-sonnet-5-5", to_json(STRANGE_BLOCKS), "end_turn", Usage('{"input_tokens":3,"new":{"a":null}}')
        ),
        cost_usd=Decimal("0.000012"),
        totals=Totals(12 * claim.number, Decimal("0.00012") * claim.number),
        at_ms=claim.at_ms + 5,
        window_from=1,
        older_keys=b"abcdef" * (claim.number - 1),
    )


def take(store: SessionStore, session: Session, number: int) -> Turn:
    claim = claim_of(number)
    assert store.claim(session, claim, over=None) == claim
    turn = turn_of(claim, f"turn {number}")
    assert store.commit(session, turn) == turn
    return turn


@pytest.fixture
def session(store: SessionStore) -> Session:
    session = new_session()
    store.create(session, "A title")
    return session


class TestReading:
    def test_a_new_session_has_no_turns(self, store: SessionStore, session: Session) -> None:
        log = store.read(OWNER, session.id, START_MS, newest=5)
        assert (log.session, log.title, log.count, log.turns, log.running) == (session, "A title", 0, (), None)

    def test_turns_come_back_as_they_were_stored_oldest_first(self, store: SessionStore, session: Session) -> None:
        turns = tuple(take(store, session, number) for number in range(1, 8))
        assert store.read(OWNER, session.id, START_MS, newest=7).turns == turns
        assert store.read(OWNER, session.id, START_MS, newest=100).turns == turns

    def test_only_the_newest_turns_are_read_when_fewer_are_asked_for(
        self, store: SessionStore, session: Session
    ) -> None:
        turns = [take(store, session, number) for number in range(1, 8)]
        log = store.read(OWNER, session.id, START_MS, newest=3)
        assert (log.count, list(log.turns)) == (7, turns[-3:])

    def test_the_window_is_whole_while_a_claim_is_the_newest_item(self, store: SessionStore, session: Session) -> None:
        turns = [take(store, session, number) for number in range(1, 6)]
        store.claim(session, claim_of(6), over=None)
        log = store.read(OWNER, session.id, START_MS, newest=3)
        assert (log.count, list(log.turns), log.running) == (5, turns[-3:], claim_of(6))

    def test_content_survives_json_equal_whatever_blocks_it_has(self, store: SessionStore, session: Session) -> None:
        take(store, session, 1)
        reply = store.read(OWNER, session.id, START_MS, newest=1).turns[0].reply
        assert json.loads(reply.content) == STRANGE_BLOCKS
        assert reply.usage.fields == {"input_tokens": 3, "new": {"a": None}}

    def test_an_unknown_and_a_foreign_session_are_not_found(self, store: SessionStore, session: Session) -> None:
        for owner, session_id in [(OWNER, new_session_id()), ("https://issuer.example/|eve", session.id)]:
            with pytest.raises(SessionNotFound):
                store.read(owner, session_id, START_MS, newest=1)

    @pytest.mark.parametrize("late_ms", [-1, 0, 1])
    def test_a_session_ends_at_its_millisecond_without_any_sweep(
        self, store: SessionStore, session: Session, late_ms: int
    ) -> None:
        turn = take(store, session, 1)
        for end_ms in (turn.at_ms + session.idle_ms, session.dies_ms):
            now = min(end_ms, turn.at_ms + session.idle_ms) + late_ms
            if late_ms < 0:
                assert store.read(OWNER, session.id, now, newest=1).count == 1
            else:
                with pytest.raises(SessionNotFound):
                    store.read(OWNER, session.id, now, newest=1)

    def test_a_running_turn_keeps_an_idle_session_alive(self, store: SessionStore, session: Session) -> None:
        at_ms = START_MS + session.idle_ms - 1
        store.claim(session, claim_of(1, at_ms=at_ms), over=None)
        assert store.read(OWNER, session.id, at_ms + 60_000, newest=1).running

    def test_a_range_of_turns_leaves_out_what_is_not_finished(self, store: SessionStore, session: Session) -> None:
        turns = [take(store, session, number) for number in range(1, 6)]
        store.claim(session, claim_of(6), over=None)
        assert store.turns(session, 2, 4) == turns[1:4]
        assert store.turns(session, 5, 9) == turns[4:]
        assert store.turns(session, 6, 6) == []


class TestClaiming:
    def test_one_of_two_claims_gets_the_slot_and_the_other_sees_it(self, store: SessionStore, session: Session) -> None:
        mine, other = claim_of(1, "mine"), claim_of(1, "other")
        assert store.claim(session, mine, over=None) == mine
        assert store.claim(session, other, over=None) == mine

    def test_a_claim_repeated_after_a_lost_answer_is_still_ones_own(
        self, store: SessionStore, session: Session
    ) -> None:
        mine = claim_of(1, "mine")
        store.claim(session, mine, over=None)
        assert store.claim(session, mine, over=None) == mine

    @pytest.mark.parametrize(("late_ms", "taken"), [(-1, False), (0, False), (1, True)])
    def test_a_claim_is_taken_over_only_after_its_lease(
        self, store: SessionStore, session: Session, late_ms: int, taken: bool
    ) -> None:
        dead = claim_of(1, "dead")
        store.claim(session, dead, over=None)
        heir = claim_of(1, "heir", at_ms=dead.until_ms + late_ms)
        assert store.claim(session, heir, over=dead) == (heir if taken else dead)

    def test_only_the_claim_that_was_seen_can_be_taken_over(self, store: SessionStore, session: Session) -> None:
        dead = claim_of(1, "dead")
        store.claim(session, dead, over=None)
        first = claim_of(1, "first", at_ms=dead.until_ms + 1)
        assert store.claim(session, first, over=dead) == first
        second = claim_of(1, "second", at_ms=first.until_ms + 1)
        assert store.claim(session, second, over=dead) == first

    def test_a_claim_over_one_that_was_released_finds_an_empty_slot(
        self, store: SessionStore, session: Session
    ) -> None:
        dead = claim_of(1, "dead")
        store.claim(session, dead, over=None)
        store.release(session, dead, billed=False, now_ms=START_MS)
        assert store.claim(session, claim_of(1, "heir", at_ms=dead.until_ms + 1), over=dead) is None

    def test_a_slot_with_a_turn_cannot_be_claimed(self, store: SessionStore, session: Session) -> None:
        turn = take(store, session, 1)
        assert store.claim(session, claim_of(1, "late"), over=None) == turn


class TestReleasing:
    def test_an_unbilled_claim_disappears(self, store: SessionStore, session: Session) -> None:
        store.claim(session, claim_of(1), over=None)
        store.release(session, claim_of(1), billed=False, now_ms=START_MS)
        assert store.read(OWNER, session.id, START_MS, newest=1).running is None

    def test_a_billed_claim_stays_with_its_lease_over(self, store: SessionStore, session: Session) -> None:
        store.claim(session, claim_of(1), over=None)
        store.release(session, claim_of(1), billed=True, now_ms=START_MS + 7)
        log = store.read(OWNER, session.id, START_MS + 7, newest=1)
        assert log.running == replace(claim_of(1), until_ms=START_MS + 6)

    @pytest.mark.parametrize("billed", [True, False])
    def test_another_handlers_claim_is_left_alone(self, store: SessionStore, session: Session, billed: bool) -> None:
        other = claim_of(1, "other")
        store.claim(session, other, over=None)
        store.release(session, claim_of(1, "mine"), billed=billed, now_ms=START_MS)
        assert store.read(OWNER, session.id, START_MS, newest=1).running == other

    @pytest.mark.parametrize("billed", [True, False])
    def test_a_stored_turn_is_left_alone(self, store: SessionStore, session: Session, billed: bool) -> None:
        turn = take(store, session, 1)
        store.release(session, claim_of(1), billed=billed, now_ms=START_MS)
        assert store.read(OWNER, session.id, START_MS, newest=1).turns == (turn,)


class TestCommitting:
    def test_a_commit_without_the_claim_stores_nothing(self, store: SessionStore, session: Session) -> None:
        assert store.commit(session, turn_of(claim_of(1))) is None
        other = claim_of(1, "other")
        store.claim(session, other, over=None)
        assert store.commit(session, turn_of(claim_of(1, "mine"))) == other
        assert store.read(OWNER, session.id, START_MS, newest=1).count == 0

    def test_a_commit_repeated_after_a_lost_answer_finds_its_own_turn(
        self, store: SessionStore, session: Session
    ) -> None:
        turn = take(store, session, 1)
        assert store.commit(session, turn) == turn

    def test_a_price_that_is_not_known_stays_unknown(self, store: SessionStore, session: Session) -> None:
        store.claim(session, claim_of(1), over=None)
        turn = replace(turn_of(claim_of(1)), cost_usd=None)
        store.commit(session, turn)
        assert store.read(OWNER, session.id, START_MS, newest=1).turns == (turn,)


class TestDeleting:
    def test_a_deleted_session_is_gone_and_cannot_be_deleted_again(self, store: SessionStore, session: Session) -> None:
        take(store, session, 1)
        assert store.delete(OWNER, session.id, START_MS) is True
        with pytest.raises(SessionNotFound):
            store.read(OWNER, session.id, START_MS, newest=1)
        assert store.turns(session, 1, 9) == []
        assert store.delete(OWNER, session.id, START_MS) is False

    def test_a_session_without_turns_can_be_deleted(self, store: SessionStore, session: Session) -> None:
        assert store.delete(OWNER, session.id, START_MS) is True

    def test_more_turns_than_one_batch_are_all_removed(self, store: SessionStore, session: Session) -> None:
        for number in range(1, 61):
            take(store, session, number)
        store.delete(OWNER, session.id, START_MS)
        assert store.turns(session, 1, 60) == []

    def test_a_running_turn_cannot_bring_a_deleted_session_back(self, store: SessionStore, session: Session) -> None:
        take(store, session, 1)
        store.claim(session, claim_of(2), over=None)
        assert store.delete(OWNER, session.id, START_MS) is True
        assert isinstance(store.commit(session, turn_of(claim_of(2))), Ended)
        with pytest.raises(SessionNotFound):
            store.read(OWNER, session.id, START_MS, newest=1)

    def test_no_slot_of_a_deleted_session_can_be_claimed(self, store: SessionStore, session: Session) -> None:
        take(store, session, 1)
        store.delete(OWNER, session.id, START_MS)
        assert isinstance(store.claim(session, claim_of(2), over=None), Ended)

    def test_an_expired_session_is_emptied_though_it_is_not_found(self, store: SessionStore, session: Session) -> None:
        take(store, session, 1)
        assert store.delete(OWNER, session.id, session.dies_ms) is False
        assert store.turns(session, 1, 1) == []

    def test_another_owner_deletes_nothing(self, store: SessionStore, session: Session) -> None:
        turn = take(store, session, 1)
        assert store.delete("https://issuer.example/|eve", session.id, START_MS) is False
        assert store.read(OWNER, session.id, START_MS, newest=1).turns == (turn,)
