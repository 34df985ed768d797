"""Each route of the session function has an example event, and each example is answered."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import MODEL, new_session
from tests.handlers.conftest import Backstage, Context, app
from turnlog.domain.messages import Message, Reply, Usage
from turnlog.domain.owners import anonymous_owner_of
from turnlog.domain.sessions import Session
from turnlog.domain.turns import Lease
from turnlog.domain.window import WindowPolicy
from turnlog.usecases.turn_protocol import first_turn

EXAMPLES = [Path("events/session.json"), *sorted(Path("events/session").glob("*.json"))]


def loaded(example: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(example.read_text())
    return found


def test_every_route_of_the_function_has_one_example() -> None:
    shown = [(event["httpMethod"], event["resource"]) for event in map(loaded, EXAMPLES)]
    assert sorted(shown) == sorted(app("session").handler._routes)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_the_example_is_answered(backstage: Backstage, example: Path) -> None:
    event = loaded(example)
    owner, body = event["requestContext"]["authorizer"]["owner"], json.loads(event["body"] or "{}")
    if "secret" in body:
        owner = anonymous_owner_of(body["secret"])
    if session_id := (event["pathParameters"] or {}).get("id"):
        session = begin(backstage, owner, session_id)
        if event["resource"].endswith("/cancel"):
            now_ms = backstage.clock()
            running = Lease(2, "token", now_ms + 60_000, b"k" * 16, b"f" * 16, now_ms)
            backstage.store.acquire(session, running, None)
    answer = app("session").handler(event, Context())
    assert answer["statusCode"] in (200, 201, 202, 204), answer


def begin(backstage: Backstage, owner: str, session_id: str) -> Session:
    """The session that the example names, with a turn."""
    new = new_session(owner)
    session = Session(owner, session_id, new.created_ms, new.expires_ms, new.idle_ms, new.settings)
    reply = Reply(MODEL, '[{"type":"text","text":"Good morning."}]', "end_turn", Usage("{}"))
    turn = first_turn(Message.of_text("Good morning."), reply, Decimal(0), new.created_ms, WindowPolicy())
    return backstage.store.create(session, "Harbour notes", first=turn)
