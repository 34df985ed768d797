"""Turns of a session through Anthropic's own SDK, as people use it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import pytest

from tests.fakes import MODEL, OWNER
from tests.stream.conftest import Backstage, Served, running
from tests.stream.sessions import SESSIONS, NamedModel
from turnlog.domain.sessions import SessionView
from turnlog.entrypoints.stream import make_app

HELLO: Any = [{"role": "user", "content": "hello"}]
ASKED: dict[str, Any] = {"model": MODEL, "max_tokens": 1000}


@pytest.fixture
def model(backstage: Backstage) -> NamedModel:
    backstage.model = NamedModel()
    return backstage.model


@pytest.fixture
def door(backstage: Backstage, model: NamedModel) -> Iterator[Served]:
    yield from running(make_app(SESSIONS))


@pytest.fixture
def client(door: Served) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=door.url, auth_token="ada", max_retries=0) as made:
        yield made


def headers(key: str, session: str = "new") -> dict[str, str]:
    return {"Turnlog-Session": session, "Idempotency-Key": key}


def stored(stage: Backstage, session_id: str) -> SessionView:
    return stage.store.read(OWNER, session_id, stage.clock(), newest=25)


def begin(client: anthropic.Anthropic, key: str = "first", **more: Any) -> str:
    """A new session with one turn; its id."""
    answer = client.messages.with_raw_response.create(
        messages=HELLO, **ASKED | more, extra_headers=headers(key)
    )
    return answer.headers["turnlog-session"]


def test_a_session_begins_and_its_message_is_claudes(client: anthropic.Anthropic, backstage: Backstage) -> None:
    answer = client.messages.with_raw_response.create(
        messages=HELLO, system="Be brief.", **ASKED, extra_headers=headers("a")
    )
    message, session_id = answer.parse(), answer.headers["turnlog-session"]
    turn = stored(backstage, session_id).turns[0]
    assert message.id == "msg_1"
    assert (message.type, message.role, message.model, message.stop_reason) == ("message", "assistant", MODEL, "end_turn")
    assert [block.to_dict() for block in message.content] == turn.reply.message.blocks
    assert message.usage.to_dict() == turn.usage.fields
    assert answer.headers["turnlog-turn"] == "1"
    assert answer.headers["turnlog-expires"] == message.to_dict()["turnlog"]["expires_at"]  # type: ignore[index]
    assert "idempotent-replayed" not in answer.headers
