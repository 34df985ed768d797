"""A user with thousands of sessions: exports in parts, and erasures in as many requests as they take."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.contract.session_store import take_all
from tests.fakes import OWNER, START_MS, new_session
from tests.usecases.conftest import ADA, Service
from turnlog.domain.sessions import SessionView
from turnlog.domain.turns import Turn
from turnlog.usecases.account import MOST_SESSIONS, ExportPart, Receipt
from turnlog.usecases.turn_pages import READ_AT_ONCE


@pytest.fixture
def calls(service: Service, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the calls that read a session or its turns."""
    names: list[str] = []

    def noted(name: str, method: Callable[..., SessionView | list[Turn]]) -> Callable[..., SessionView | list[Turn]]:
        def call(*given: object, **more: object) -> SessionView | list[Turn]:
            names.append(name)
            return method(*given, **more)

        return call

    for name in ("read", "turns"):
        monkeypatch.setattr(service.store, name, noted(name, getattr(service.store, name)))
    return names


def make(service: Service, count: int, *, turns: int = 0, idle_s: int = 1800) -> set[str]:
    """The ids of so many new sessions."""
    sessions = [service.store.create(new_session(idle_s=idle_s), "") for _ in range(count)]
    for session in sessions:
        take_all(service.store, session, turns)
    return {session.id for session in sessions}


def parts_of(service: Service, between: Callable[[ExportPart], None] = lambda _: None) -> list[ExportPart]:
    """All parts of an export; `between` is done after each."""
    parts = [service.export(ADA)]
    while parts[-1].next:
        between(parts[-1])
        parts.append(service.export(ADA, parts[-1].next))
    return parts


def ids_in(parts: list[ExportPart]) -> list[str]:
    return [view.session.id for part in parts for view, _ in part.sessions]


def test_ten_thousand_sessions_are_exported_in_parts_of_a_bounded_number_of_reads(
    service: Service, calls: list[str]
) -> None:
    ids = make(service, 10_000)
    parts = parts_of(service)
    assert sorted(ids_in(parts)) == sorted(ids)
    assert [len(part.sessions) for part in parts] == [MOST_SESSIONS] * (10_000 // MOST_SESSIONS)
    assert len(calls) == 10_000


@pytest.mark.parametrize("turns", [0, 1, 2, READ_AT_ONCE])
def test_a_session_that_one_read_holds_is_exported_by_one_read(service: Service, calls: list[str], turns: int) -> None:
    make(service, 3, turns=turns)
    calls.clear()
    (part,) = parts_of(service)
    assert [[turn.number for turn in each] for _, each in part.sessions] == [list(range(1, turns + 1))] * 3
    assert calls == ["read"] * 3


def test_expired_sessions_make_parts_empty_and_hide_none(service: Service) -> None:
    alive = make(service, 5, turns=1)
    make(service, 3 * MOST_SESSIONS, idle_s=2)
    service.clock.tick(seconds=60)
    parts = parts_of(service)
    assert len(parts) == 4
    assert set(ids_in(parts)) == alive


def test_an_export_holds_each_session_once_whatever_happens_meanwhile(service: Service) -> None:
    ids = make(service, 3 * MOST_SESSIONS)
    deleted: set[str] = set()

    def disturb(part: ExportPart) -> None:
        shown, waiting = part.sessions[-1][0].session, max(ids - deleted)
        for session_id in (shown.id, waiting):
            service.store.delete(OWNER, session_id, START_MS)
            deleted.add(session_id)
        take_all(service.store, part.sessions[0][0].session, 1)
        make(service, 10)

    found = ids_in(parts_of(service, disturb))
    assert len(found) == len(set(found))
    assert ids - deleted <= set(found)


def test_ten_thousand_sessions_are_erased_in_as_many_requests_as_there_is_time_for(service: Service) -> None:
    make(service, 10_000)
    ms_left = 0

    def answer_s() -> float:
        """Each deletion takes 5 ms."""
        nonlocal ms_left
        ms_left -= 5
        return ms_left / 1000

    receipts: list[Receipt] = []
    while not receipts or receipts[-1].left:
        ms_left = 29_000
        receipts.append(service.erase(ADA, answer_s))
        assert ms_left > 9_000
    assert [receipt.left for receipt in receipts] == [6201, 2402, 0]
    assert sum(receipt.sessions for receipt in receipts) == 10_000
    assert service.store.session_ids(OWNER) == []
