"""Every use case works without an entry point: no HTTP event, no Lambda, no environment."""

from __future__ import annotations

import hashlib
import secrets

import pytest

from tests.fakes import OWNER, SERVER_KEY, audit_of, expected_text
from tests.usecases.conftest import ADA, EVE, STRANGER, Service
from turnlog.domain.limits import OwnerLimits
from turnlog.domain.messages import Message
from turnlog.domain.owners import anonymous_owner, owner_hash
from turnlog.domain.sessions import SessionChanges
from turnlog.errors import (
    AlreadyOwned,
    Forbidden,
    InvalidRequest,
    KeyReused,
    QuotaExceeded,
    SessionLimitReached,
    SessionNotFound,
    TurnInProgress,
    TurnNotFound,
    Unauthorized,
    ValueRefused,
)
from turnlog.usecases.caller import Caller
from turnlog.usecases.policy import AnonymousLimits
from turnlog.usecases.read_turns import export_session, get_turn, list_turns
from turnlog.usecases.sessions import NewSession, change_session, delete_session, read_session
from turnlog.usecases.sweep import sweep
from turnlog.usecases.turn_request import TurnPolicy


def hash_of(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


class TestTakingATurn:
    def test_each_reply_is_computed_from_all_turns_before(self, service: Service) -> None:
        session_id = service.create().session.id
        first, second = service.take(ADA, session_id, "one"), service.take(ADA, session_id, "two")
        history = (first.turn.message, first.turn.reply.message, Message.of_text("two"))
        assert second.turn.reply.text == expected_text(history)

    def test_a_repeat_under_its_key_returns_the_stored_turn(self, service: Service) -> None:
        session_id = service.create().session.id
        first, again = service.take(ADA, session_id, "one", "k"), service.take(ADA, session_id, "one", "k")
        assert (again.turn, again.replayed, len(service.model.requests)) == (first.turn, True, 1)

    def test_another_body_under_a_key_is_refused(self, service: Service) -> None:
        session_id = service.create().session.id
        service.take(ADA, session_id, "one", "k")
        with pytest.raises(KeyReused):
            service.take(ADA, session_id, "two", "k")

    def test_a_key_and_its_fingerprint_are_those_of_every_version(self, service: Service) -> None:
        """Stored turns keep both hashes, so a retry after an update must make the same ones."""
        session_id = service.create().session.id
        turn = service.take(ADA, session_id, "héllo", "k", number=1).turn
        body = '[{"type":"text","text":"héllo"}]'.encode()
        assert turn.key == SERVER_KEY.keyed_hash("idempotency-key", b"k")
        assert turn.fingerprint == SERVER_KEY.keyed_hash("fingerprint", body, b"1")

    def test_a_busy_session_is_waited_for_and_the_wait_is_charged(self, service: Service) -> None:
        service.turns = TurnPolicy(owner=OwnerLimits(turns_a_minute=5))
        session_id = service.create().session.id
        service.model.during = lambda: self.interrupt(service, session_id)
        service.take(ADA, session_id, "one")

    @staticmethod
    def interrupt(service: Service, session_id: str) -> None:
        service.model.during = None
        before = service.clock()
        with pytest.raises(TurnInProgress):
            service.take(ADA, session_id, "two", wait_s=3)
        assert service.clock() == before + 3000
        for _ in range(4):
            with pytest.raises(TurnInProgress):
                service.take(ADA, session_id, "two", wait_s=1)
        with pytest.raises(QuotaExceeded) as refused:
            service.take(ADA, session_id, "two", wait_s=1)
        assert refused.value.limit == "waits"

    def test_nobody_takes_a_turn_of_anothers_session(self, service: Service) -> None:
        session_id = service.create().session.id
        with pytest.raises(SessionNotFound):
            service.take(EVE, session_id, "one")
        with pytest.raises(Unauthorized):
            service.take(STRANGER, session_id, "one")
        assert service.model.requests == []

    def test_an_anonymous_session_takes_fewer_turns(self, service: Service) -> None:
        service.anonymous = AnonymousLimits(turns=1)
        session_id = service.create_anonymous(hash_of("s")).session.id
        visitor = Caller(anonymous_owner(hash_of("s")), is_anonymous=True)
        service.take(visitor, session_id, "one")
        with pytest.raises(SessionLimitReached):
            service.take(visitor, session_id, "two")


class TestMakingSessions:
    def test_a_repeat_under_its_key_returns_the_session_as_it_went_on(self, service: Service) -> None:
        made = service.create(key="k", title="Herons")
        service.take(ADA, made.session.id, "one")
        again = service.create(key="k", title="Herons")
        assert (again.session, again.count) == (made.session, 1)
        with pytest.raises(KeyReused):
            service.create(key="k", title="Storks")
        assert service.actions == ["create", "create", "create"]

    def test_the_fingerprint_is_that_of_every_version(self) -> None:
        """Stored sessions keep its hash, so a retry after an update must make the same text."""
        asked = NewSession(system='Say "é".\n', model="m", max_tokens=7, title="", idle_timeout_s=120, lifetime_s=240)
        said = (
            '{"system":"Say \\"é\\".\\n","model":"m","max_tokens":7,"title":"","idle_timeout_s":120,"lifetime_s":240}'
        )
        assert asked.canonical == said.encode()
        assert NewSession().canonical == b"{}"
        assert NewSession(title="T", secret_sha256="ab").canonical == b'{"title":"T","secret_sha256":"ab"}'

    def test_a_life_beyond_the_policy_is_refused(self, service: Service) -> None:
        with pytest.raises(ValueRefused) as refused:
            service.create(idle_timeout_s=1801)
        assert (refused.value.pointer, refused.value.details) == ("/idle_timeout_s", {"maximum": 1800})
        assert service.create(idle_timeout_s=600, lifetime_s=700).session.idle_ms == 600_000

    def test_a_session_begins_with_a_continuation(self, service: Service) -> None:
        answer = service.ask(ADA, "What is a heron?", continuable=True)
        made = service.create(continuation=answer.continuation)
        assert (made.count, made.turns[0].reply) == (1, answer.reply)
        with pytest.raises(ValueRefused):
            service.create(EVE, continuation=answer.continuation)
        with pytest.raises(ValueRefused):
            service.create(continuation=answer.continuation, system="Another.")

    def test_sessions_are_charged_to_their_makers(self, service: Service) -> None:
        service.turns = TurnPolicy(owner=OwnerLimits(sessions_a_day=1))
        service.anonymous = AnonymousLimits(creations_an_hour=1)
        service.create()
        service.create_anonymous(hash_of("one"))
        with pytest.raises(QuotaExceeded):
            service.create()
        with pytest.raises(QuotaExceeded):
            service.create_anonymous(hash_of("two"))
        assert service.create(EVE).count == 0

    def test_no_anonymous_session_begins_without_the_hash_of_a_secret(self, service: Service) -> None:
        """Without it, strangers would share one owner."""
        with pytest.raises(ValueRefused) as refused:
            service.create_anonymous(None)
        assert (refused.value.pointer, service.actions) == ("/secret_sha256", [])

    def test_no_anonymous_session_begins_where_they_are_off(self, service: Service) -> None:
        service.anonymous = AnonymousLimits(may_begin=False)
        with pytest.raises(Forbidden):
            service.create_anonymous(hash_of("s"))
        assert service.actions == []


class TestOneSession:
    def test_it_is_read_changed_and_deleted_by_its_owner(self, service: Service) -> None:
        session_id, now = service.create(title="Herons").session.id, service.clock()
        changes = SessionChanges("Storks", (("topic", "birds"),))
        changed = change_session(
            ADA, session_id, changes, store=service.store, audit=audit_of(ADA, service.trail), now_ms=now
        )
        assert (changed.title, changed.metadata) == ("Storks", (("topic", "birds"),))
        assert read_session(ADA, session_id, store=service.store, now_ms=now) == changed
        delete_session(ADA, session_id, store=service.store, audit=audit_of(ADA, service.trail), now_ms=now)
        with pytest.raises(SessionNotFound):
            read_session(ADA, session_id, store=service.store, now_ms=now)
        with pytest.raises(SessionNotFound):
            delete_session(ADA, session_id, store=service.store, audit=audit_of(ADA, service.trail), now_ms=now)
        assert service.actions == ["create", "change", "delete", "delete"]

    def test_its_turns_are_read_by_page_one_by_one_and_all(self, service: Service) -> None:
        session_id = service.create().session.id
        taken = [service.take(ADA, session_id, f"{number}").turn for number in range(3)]
        reading = {"store": service.store, "now_ms": service.clock()}
        assert get_turn(ADA, session_id, 2, **reading) == taken[1]  # type: ignore[arg-type]
        with pytest.raises(TurnNotFound):
            get_turn(ADA, session_id, 4, **reading)  # type: ignore[arg-type]
        first = list_turns(
            ADA, session_id, limit=2, cursor=None, store=service.store, server_key=SERVER_KEY, now_ms=service.clock()
        )
        rest = list_turns(
            ADA,
            session_id,
            limit=2,
            cursor=first.next,
            store=service.store,
            server_key=SERVER_KEY,
            now_ms=service.clock(),
        )
        assert ([*first.turns, *rest.turns], rest.next) == (taken, None)
        whole = export_session(
            ADA,
            session_id,
            cursor=None,
            store=service.store,
            server_key=SERVER_KEY,
            audit=audit_of(ADA, service.trail),
            now_ms=service.clock(),
        )
        assert list(whole.turns) == taken
        with pytest.raises(InvalidRequest):  # each cursor is good for its own list
            export_session(
                ADA,
                session_id,
                cursor=first.next,
                store=service.store,
                server_key=SERVER_KEY,
                audit=audit_of(ADA, service.trail),
                now_ms=service.clock(),
            )

    def test_an_expired_one_is_swept(self, service: Service) -> None:
        service.create()
        service.clock.tick(seconds=3600)
        assert [sweep(store=service.store, now_ms=service.clock()) for _ in range(2)] == [1, 0]


class TestTransfers:
    def test_a_fork_has_the_turns_up_to_one_and_goes_on_apart(self, service: Service) -> None:
        parent_id = service.create(title="T").session.id
        taken = [service.take(ADA, parent_id, text).turn for text in ("one", "two")]
        fork = service.fork(ADA, parent_id, 1, key="f")
        assert (fork.title, fork.count, fork.turns[0].reply) == ("T", 1, taken[0].reply)
        service.take(ADA, fork.session.id, "another")
        assert service.fork(ADA, parent_id, 1, key="f").count == 2
        with pytest.raises(KeyReused):
            service.fork(ADA, parent_id, 2, key="f")
        with pytest.raises(TurnNotFound):
            service.fork(ADA, parent_id, 3)
        with pytest.raises(SessionNotFound):
            service.fork(EVE, parent_id, 1)

    def test_an_anonymous_session_is_rotated_and_then_claimed(self, service: Service) -> None:
        old, new = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        visitor = Caller(anonymous_owner(hash_of(old)), is_anonymous=True)
        begun = service.create_anonymous(hash_of(old)).session.id
        service.take(visitor, begun, "one")
        rotated = service.rotate(visitor, begun, hash_of(new)).session.id
        with pytest.raises(SessionNotFound):
            service.take(visitor, begun, "two")
        claimed = service.claim(ADA, rotated, new)
        assert (claimed.session.owner, claimed.count) == (OWNER, 1)
        with pytest.raises(AlreadyOwned):
            service.claim(ADA, claimed.session.id, new)
        with pytest.raises(Forbidden):
            service.rotate(ADA, claimed.session.id, hash_of(old))
        assert service.actions == ["create", "rotate", "claim", "claim"]


class TestAsking:
    def test_a_question_is_charged_as_turns_are(self, service: Service) -> None:
        limits = OwnerLimits(turns_a_minute=1)
        service.turns = TurnPolicy(owner=limits)
        answer = service.ask(ADA, "one", limits)
        assert (answer.reply.text, answer.continuation) == (expected_text((Message.of_text("one"),)), None)
        with pytest.raises(QuotaExceeded):
            service.ask(ADA, "two", limits)
        with pytest.raises(QuotaExceeded):
            service.take(ADA, service.create().session.id, "three")

    def test_only_a_user_asks(self, service: Service) -> None:
        with pytest.raises(Unauthorized):
            service.ask(STRANGER, "one")
        with pytest.raises(Forbidden):
            service.ask(Caller("anonymous:x", is_anonymous=True), "one")


class TestEverythingOfAUser:
    def test_it_is_exported_and_erased(self, service: Service) -> None:
        kept = service.create(EVE).session.id
        ids = sorted(service.create().session.id for _ in range(2))
        for session_id in ids:
            service.take(ADA, session_id, "one")
        part = service.export(ADA)
        assert [(view.session.id, len(turns)) for view, turns in part.sessions] == [(each, 1) for each in ids]
        assert part.next is None
        assert service.erase(ADA).sessions == 2
        assert service.export(ADA).sessions == []
        assert read_session(EVE, kept, store=service.store, now_ms=service.clock()).count == 0


class TestTheAuditTrail:
    def test_a_refused_act_is_noted_twice_and_a_failure_once(self, service: Service) -> None:
        audit = audit_of(ADA, service.trail)
        with pytest.raises(KeyReused), audit.refusals():
            audit.act("create", "ses_" + "a" * 22)
            raise KeyReused
        (_, act), (_, refusal) = service.trail.events
        assert service.actions == ["create", "refused"]
        assert act["owner"] == refusal["owner"] == owner_hash(OWNER)
        assert refusal["reason"] == "idempotency_key_reused"

    def test_a_text_that_is_no_id_names_no_session(self, service: Service) -> None:
        for named, noted in (("../x", []), ("ses_" + "a" * 22, ["denied"])):
            audit = audit_of(ADA, service.trail)
            with pytest.raises(SessionNotFound), audit.refusals(named):
                raise SessionNotFound
            assert service.actions == noted
