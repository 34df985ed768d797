"""The runtime with a store that needs no AWS: turns and questions share its counters, and no client is made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from tests.fakes import MODEL, OWNER, START_MS, HashModel, HeldClock, new_session
from turnlog import runtime
from turnlog.domain.limits import OwnerLimits
from turnlog.domain.messages import Message, ModelRequest, ModelSettings
from turnlog.domain.sessions import Session
from turnlog.errors import QuotaExceeded
from turnlog.usecases.ask import ask
from turnlog.usecases.caller import Caller
from turnlog.usecases.turn_protocol import run_turn
from turnlog.usecases.turn_request import TurnPolicy, TurnRequest

TWO_A_MINUTE = OwnerLimits(turns_a_minute=2)


@pytest.fixture(params=["memory", "filesystem", "write_behind"], autouse=True)
def local_store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    def no_client(*_: object, **__: object) -> None:
        raise AssertionError("a client of AWS was made")

    monkeypatch.setattr(boto3, "client", no_client)
    monkeypatch.setenv("SESSION_STORE", request.param)
    monkeypatch.setenv("SESSIONS_FOLDER", str(tmp_path / "sessions"))
    caches = (runtime.session_store, runtime.quota_store, runtime._local_store)
    for cached in caches:
        cached.cache_clear()
    yield request.param
    for cached in caches:
        cached.cache_clear()


def take_turn(session: Session, number: int) -> None:
    run_turn(
        TurnRequest(OWNER, session.id, b"k%015d" % number, b"f" * 16, Message.of_text(f"turn {number}")),
        store=runtime.session_store(),
        model=HashModel(),
        clock=HeldClock(),
        remaining_s=lambda: 60.0,
        policy=TurnPolicy(owner=TWO_A_MINUTE),
    )


def ask_question() -> None:
    ask(
        Caller(OWNER),
        ModelRequest(ModelSettings(MODEL, 100), (Message.of_text("why?"),)),
        model=HashModel(),
        quotas=runtime.quota_store(),
        limits=TWO_A_MINUTE,
        seconds=lambda: 60.0,
        clock=HeldClock(),
    )


def test_a_turn_and_a_question_are_charged_to_one_counter() -> None:
    session = runtime.session_store().create(new_session(), "")
    take_turn(session, 1)
    ask_question()
    with pytest.raises(QuotaExceeded):
        take_turn(session, 2)
    with pytest.raises(QuotaExceeded):
        ask_question()
    assert runtime.session_store().read(OWNER, session.id, START_MS, newest=9).count == 1


def test_the_quota_store_is_the_session_store() -> None:
    assert id(runtime.quota_store()) == id(runtime.session_store())
