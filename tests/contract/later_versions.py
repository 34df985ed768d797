"""The contract about what a later version stored before a rollback, for every store that outlives its process.

A store that can hold nothing of a later version says so, and needs none of this. Compose it with SessionStoreContract,
and give it a `store_later` beside the `store`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from tests.contract.session_store import MARGIN_MS, is_gone, lease_of, move_of, take, take_all
from tests.fakes import OWNER, SERVER_KEY, START_MS, HashModel, HeldClock, new_session
from turnlog.domain.messages import Message
from turnlog.domain.sessions import Session, SessionChanges
from turnlog.errors import ItemVersionUnknown, SessionCorrupt, TurnlogError
from turnlog.ports.session_store import SessionStore
from turnlog.usecases.list_sessions import page_of_sessions
from turnlog.usecases.turn_protocol import run_turn
from turnlog.usecases.turn_request import TurnPolicy, TurnRequest

StoreLater = Callable[[Session], Callable[[], object]]
"""Makes a session one that a later version stored, and returns the function that makes it what it was."""


def require_unknown(act: Callable[[], object]) -> None:
    with pytest.raises(TurnlogError) as raised:
        act()
    assert isinstance(raised.value, ItemVersionUnknown)
    assert not isinstance(raised.value, SessionCorrupt)
    assert raised.value.retry_after_s


class LaterVersionContract:
    @pytest.fixture
    def store_later(self) -> StoreLater:
        raise NotImplementedError

    @pytest.fixture
    def later(self, store: SessionStore) -> Session:
        """A session of two turns, which `store_later` has not yet touched."""
        session = store.create(new_session(), "A title")
        take_all(store, session, 2)
        return session

    def test_a_session_of_a_later_version_is_whole_afterwards(
        self, store: SessionStore, later: Session, store_later: StoreLater
    ) -> None:
        before = store.read(OWNER, later.id, START_MS, newest=9)
        restore = store_later(later)
        acts = (
            lambda: store.read(OWNER, later.id, START_MS, newest=9),
            lambda: store.turns(later, 1, 2),
            lambda: store.change(OWNER, later.id, SessionChanges(title="New"), START_MS),
            lambda: store.move(move_of(later)),
            lambda: store.fork(later, 1, new_session(), ""),
            lambda: store.create(later, ""),
        )
        for act in acts:
            require_unknown(act)
        restore()
        assert store.read(OWNER, later.id, START_MS, newest=9) == before
        take(store, later, 3)

    def test_no_turn_of_a_session_of_a_later_version_is_paid(
        self, store: SessionStore, later: Session, store_later: StoreLater
    ) -> None:
        store_later(later)
        model = HashModel()

        def take_under(key: bytes) -> object:
            return run_turn(
                TurnRequest(OWNER, later.id, key, b"f" * 16, Message.of_text("next")),
                store=store,
                model=model,
                clock=HeldClock(),
                remaining_s=lambda: 29.0,
                policy=TurnPolicy(),
            )

        for key in (lease_of(1).key, b"n" * 16):
            require_unknown(partial(take_under, key))
        assert model.requests == []

    def test_a_session_of_a_later_version_hides_no_other(
        self, store: SessionStore, later: Session, store_later: StoreLater
    ) -> None:
        other = store.create(new_session(), "")
        store_later(later)
        page = page_of_sessions(
            OWNER, limit=9, after=None, store=store, server_key=SERVER_KEY, names=("x",), now_ms=START_MS
        )
        assert [view.session.id for view in page.sessions] == [other.id]
        assert (page.damaged, len(page.unavailable) + page.unnamed) == ([], 1)

    def test_a_session_of_a_later_version_can_be_deleted(
        self, store: SessionStore, later: Session, store_later: StoreLater
    ) -> None:
        store_later(later)
        assert store.delete(OWNER, later.id, START_MS) is True
        assert is_gone(store, later)
        assert store.session_ids(OWNER) == []

    def test_an_erasure_takes_a_session_of_a_later_version(
        self, store: SessionStore, later: Session, store_later: StoreLater
    ) -> None:
        store_later(later)
        assert store.erase(OWNER, START_MS) == 1
        assert is_gone(store, later)
        assert store.session_ids(OWNER) == []

    def test_a_sweep_leaves_what_a_later_version_stored(
        self, store: SessionStore, later: Session, store_later: StoreLater
    ) -> None:
        idle = store.create(new_session(), "")
        restore = store_later(later)
        ended_ms = later.expires_ms + MARGIN_MS
        assert store.sweep(ended_ms) == 1
        assert is_gone(store, idle)
        restore()
        assert store.turns(later, 1, 2)
        assert store.sweep(ended_ms + 3 * MARGIN_MS) == 1
        assert is_gone(store, later)
