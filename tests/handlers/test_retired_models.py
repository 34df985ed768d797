"""A model that has retired is refused before anything is paid, and the answer names its successor."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime

import pytest

from tests.handlers.conftest import Answered, Backstage, Call
from tests.handlers.test_anonymous import begin
from tests.handlers.test_session import create, get, take
from turnlog import runtime
from turnlog.errors import ModelCreditUsedUp, ModelNotServed

RETIRING, SUCCESSOR = "claude-sonnet-4-5-20250929", "claude-sonnet-5-5"
SECRET = "s" * 43


@pytest.fixture(autouse=True)
def last_day(backstage: Backstage, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the last day of a model that the deployment offers, and that answers when none is named."""
    monkeypatch.setattr(runtime, "models", lambda: (RETIRING, SUCCESSOR))
    backstage.clock.now_ms = round(datetime(2026, 11, 29, 23, 59, tzinfo=UTC).timestamp() * 1000)


def pass_midnight(backstage: Backstage) -> None:
    backstage.clock.tick(seconds=60)


def is_refused(answer: Answered) -> bool:
    said = [answer.status, *(answer.body.get(name) for name in ("code", "successor", "stored"))]
    return said == [422, "model_retired", SUCCESSOR, False]


@pytest.mark.parametrize(
    ("function", "path"), [("query", "/query"), ("analyze_code", "/analyze"), ("summarize", "/summarize")]
)
@pytest.mark.parametrize("body", [{"message": "a"}, {"message": "a", "model": RETIRING}], ids=["default", "named"])
def test_a_question_to_it_is_answered_until_the_day(
    call: Call, backstage: Backstage, function: str, path: str, body: dict[str, str]
) -> None:
    assert call(function, "POST", path, body).status == 200
    pass_midnight(backstage)
    assert is_refused(call(function, "POST", path, body))
    assert len(backstage.model.requests) == 1
    assert call(function, "POST", path, body | {"model": SUCCESSOR}).status == 200


def test_no_session_begins_with_it_but_a_repeat_gets_its_own(call: Call, backstage: Backstage) -> None:
    named = {"Idempotency-Key": "my-session"}
    made = create(call, headers=named)
    pass_midnight(backstage)
    assert is_refused(create(call))
    assert is_refused(create(call, {"model": RETIRING}))
    assert is_refused(begin(call, SECRET))
    assert create(call, headers=named).body["session_id"] == made.body["session_id"]
    assert create(call, {"model": SUCCESSOR}).status == 201


def test_a_session_of_it_takes_no_turn_but_replays_and_goes_on_as_a_fork(call: Call, backstage: Backstage) -> None:
    session_id = str(create(call).body["session_id"])
    first = take(call, session_id, "hello", "k")
    pass_midnight(backstage)
    assert is_refused(take(call, session_id, "and now?"))
    assert take(call, session_id, "hello", "k").body == first.body
    assert not get(call, session_id).body["turn_in_progress"]
    forked = fork(call, session_id, {"turn": 1, "model": SUCCESSOR})
    assert (forked.status, forked.body["model"], forked.body["turns"]) == (201, SUCCESSOR, 1)
    assert take(call, str(forked.body["session_id"]), "and now?").body["turn"] == 2
    assert [request.settings.model for request in backstage.model.requests] == [RETIRING, SUCCESSOR]


def test_no_fork_changes_to_it(call: Call, backstage: Backstage) -> None:
    session_id = str(create(call, {"model": SUCCESSOR}).body["session_id"])
    take(call, session_id, "hello", "k")
    pass_midnight(backstage)
    assert is_refused(fork(call, session_id, {"turn": 1, "model": RETIRING}))
    assert fork(call, session_id, {"turn": 1, "model": "claude-next"}).body["code"] == "model_unknown"


def test_a_fork_under_a_key_is_another_one_with_another_model(call: Call) -> None:
    session_id = str(create(call).body["session_id"])
    take(call, session_id, "hello", "k")
    made = fork(call, session_id, {"turn": 1, "model": SUCCESSOR}, key="f")
    again = fork(call, session_id, {"turn": 1, "model": SUCCESSOR}, key="f")
    assert again.body["session_id"] == made.body["session_id"]
    assert fork(call, session_id, {"turn": 1}, key="f").body["code"] == "idempotency_key_reused"


def fork(call: Call, session_id: str, body: dict[str, object], key: str = "") -> Answered:
    headers = {"Idempotency-Key": key} if key else {}
    return call("session", "POST", "/sessions/{id}/fork", body, parameters={"id": session_id}, headers=headers)


@pytest.mark.parametrize("successor", [None, SUCCESSOR])
def test_a_model_that_the_provider_does_not_serve_is_a_clear_answer(
    call: Call, backstage: Backstage, logged: io.StringIO, successor: str | None
) -> None:
    backstage.model.fail_with = [ModelNotServed(successor)]
    answer = call("query", "POST", "/query", {"message": "a"})
    assert json.loads(logged.getvalue())["code"] == "model_retired"
    assert (answer.status, answer.body["code"], answer.body["stored"]) == (502, "model_retired", False)
    assert answer.body.get("successor") == successor
    assert "retry" not in answer.body


def test_an_account_without_credit_is_a_clear_answer_and_frees_the_slot(call: Call, backstage: Backstage) -> None:
    session_id = str(create(call).body["session_id"])
    backstage.model.fail_with = [ModelCreditUsedUp()]
    answer = take(call, session_id, "hello", "k")
    assert (answer.status, answer.body["code"], answer.body["retry"]) == (503, "model_credit_used_up", "same-key")
    assert answer.headers["Retry-After"] == "300"
    assert take(call, session_id, "hello", "k").body["turn"] == 1
