"""A question that goes on as a session: encrypted for the caller alone, and paid for once."""

from __future__ import annotations

import io
import random
import string
from typing import Any

import pytest

from tests.fakes import OWNER, expected_text
from tests.handlers.conftest import Answered, Backstage, Call
from tests.handlers.test_anonymous import begin, new_secret
from tests.handlers.test_session import EVE, create, get, take
from turnlog import runtime
from turnlog.domain.messages import Message
from turnlog.domain.server_key import DecryptionFailed, ServerKey
from turnlog.errors import SecretUnavailable

ASKED = {"message": "hello", "system": "Be kind.", "model": "claude-haiku-5-5", "max_tokens": 77, "continuable": True}


def ask(call: Call, body: dict[str, Any] | None = None, **more: Any) -> Answered:
    return call("query", "POST", "/query", ASKED | (body or {}), **more)


def go_on(call: Call, continuation: str, body: dict[str, Any] | None = None, key: str = "", **more: Any) -> Answered:
    named = {"Idempotency-Key": key} if key else {}
    return create(call, {"continuation": continuation} | (body or {}), headers=named, **more)


@pytest.fixture
def continuation(call: Call) -> str:
    return str(ask(call).body["continuation"])


class TestGoingOn:
    def test_the_question_is_turn_1_and_the_model_is_shown_it_before_turn_2(
        self, call: Call, backstage: Backstage
    ) -> None:
        asked = ask(call).body
        begun = go_on(call, asked["continuation"], {"title": "T", "idle_timeout_s": 300})
        assert begun.status == 201
        session_id = str(begun.body["session_id"])
        said = {name: begun.body[name] for name in ("title", "system", "model", "max_tokens", "turns", "tokens")}
        assert said == {
            "title": "T",
            "system": "Be kind.",
            "model": "claude-haiku-5-5",
            "max_tokens": 77,
            "turns": 1,
            "tokens": 15,
        }
        (turn,) = get(call, session_id, "/turns").body["items"]
        same = ("text", "content", "model", "stop_reason", "usage", "cost_usd")
        assert {name: turn[name] for name in same} == {name: asked[name] for name in same}
        assert len(backstage.model.requests) == 1
        assert take(call, session_id, "and then?").body["turn"] == 2
        shown = backstage.model.requests[-1]
        assert [message.role for message in shown.messages] == ["user", "assistant", "user"]
        assert shown.messages[0] == Message.of_text("hello")
        assert shown.messages[1].blocks[0]["text"] == expected_text((Message.of_text("hello"),))

    def test_a_creation_under_a_key_can_be_repeated_after_the_continuation_s_time(
        self, call: Call, backstage: Backstage, continuation: str
    ) -> None:
        first = go_on(call, continuation, key="k")
        take(call, str(first.body["session_id"]), "on")
        backstage.clock.tick(seconds=16 * 60)
        again = go_on(call, continuation, key="k")
        assert (again.status, again.body["session_id"], again.body["turns"]) == (201, first.body["session_id"], 2)
        other = go_on(call, continuation, {"title": "Another"}, key="k")
        assert (other.status, other.body["code"]) == (422, "idempotency_key_reused")

    def test_the_session_is_as_long_as_any_new_one(self, call: Call, backstage: Backstage, continuation: str) -> None:
        backstage.clock.tick(seconds=600)
        assert go_on(call, continuation).body["idle_expires_at"] == "2026-09-21T14:53:20.000Z"

    @pytest.mark.asvs("2.2.3")
    @pytest.mark.parametrize("field", [{"system": ""}, {"model": "claude-haiku-5-5"}, {"max_tokens": 77}], ids=str)
    def test_what_the_question_settled_cannot_be_said_again(
        self, call: Call, backstage: Backstage, continuation: str, field: dict[str, Any]
    ) -> None:
        answer = go_on(call, continuation, field)
        assert (answer.status, answer.body["code"]) == (422, "continuation_settles")
        assert backstage.store.session_ids(OWNER) == []


class TestRefusing:
    def test_it_is_good_for_15_minutes(self, call: Call, backstage: Backstage, continuation: str) -> None:
        backstage.clock.tick(seconds=15 * 60, ms=-1)
        assert go_on(call, continuation).status == 201
        backstage.clock.tick(ms=1)
        require_refused(go_on(call, continuation))

    def test_it_is_good_for_its_caller_alone(self, call: Call, backstage: Backstage, continuation: str) -> None:
        require_refused(go_on(call, continuation, owner=EVE))
        assert backstage.store.session_ids(EVE) == []

    @pytest.mark.parametrize("index", [0, 5, 20, -40, -2])
    def test_it_cannot_be_changed(self, call: Call, continuation: str, index: int) -> None:
        changed = list(continuation)
        changed[index] = "A" if changed[index] != "A" else "B"
        require_refused(go_on(call, "".join(changed)))

    @pytest.mark.parametrize("text", ["", "x", "=", "AAAA", "A" * 1000, "\u2603", "a b", "a" * 200_001])
    def test_what_is_none_is_refused(self, call: Call, backstage: Backstage, text: str) -> None:
        require_refused(go_on(call, text))
        assert backstage.store.session_ids(OWNER) == []

    def test_a_cut_one_is_refused(self, call: Call, continuation: str) -> None:
        require_refused(go_on(call, continuation[:-4]))
        require_refused(go_on(call, continuation[:16]))

    def test_an_anonymous_session_begins_with_none(self, call: Call, continuation: str) -> None:
        answer = begin(call, new_secret(), {"continuation": continuation})
        assert (answer.status, answer.body["code"]) == (400, "unknown_field")


class TestAsking:
    def test_a_question_has_none_unless_it_is_asked_for(self, call: Call) -> None:
        for body in ({"continuable": False}, {"message": "hello"}):
            assert "continuation" not in call("query", "POST", "/query", {"message": "hi"} | body).body
        answer = call("summarize", "POST", "/summarize", {"message": "hi", "continuable": True})
        assert (answer.status, answer.body["code"]) == (400, "unknown_field")

    def test_nothing_of_the_question_can_be_seen_in_it_or_in_the_log(
        self, call: Call, backstage: Backstage, logged: io.StringIO
    ) -> None:
        first, second = (str(ask(call, {"message": "a canary"}).body["continuation"]) for _ in range(2))
        assert first[:20] != second[:20]
        assert set(first) <= set(string.ascii_letters + string.digits + "-_")
        assert "canary" not in logged.getvalue()
        assert first not in logged.getvalue()
        assert backstage.store.session_ids(OWNER) == []

    def test_one_that_no_request_could_bring_back_is_not_given(self, call: Call) -> None:
        letters = random.Random(1).choices(string.ascii_letters + string.digits, k=240_000)
        answer = ask(call, {"message": "".join(letters)})
        assert (answer.status, answer.body["continuation"]) == (200, None)
        most = ask(call, {"message": "x" * 250_000}).body["continuation"]
        assert go_on(call, most).status == 201

    def test_nothing_is_paid_when_the_server_key_cannot_be_read(
        self, call: Call, backstage: Backstage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def unavailable() -> None:
            raise SecretUnavailable

        monkeypatch.setattr(runtime, "server_key", unavailable)
        assert ask(call).status == 503
        assert backstage.model.requests == []
        assert ask(call, {"continuable": False}).status == 200


def require_refused(answer: Answered) -> None:
    assert (answer.status, answer.body["code"]) == (422, "continuation_invalid")
    assert answer.body["errors"] == [{"pointer": "/continuation", "reason": "continuation_invalid"}]


def test_a_text_is_decrypted_for_its_own_purpose_parts_and_key_alone() -> None:
    key = ServerKey("one key")
    encrypted = key.encrypt("a", b"text", b"x", b"y")
    assert key.decrypt("a", encrypted, b"x", b"y") == b"text"
    for other, purpose, parts in (
        (key, "b", (b"x", b"y")),
        (key, "a", (b"xy",)),
        (key, "a", (b"y", b"x")),
        (ServerKey("another key"), "a", (b"x", b"y")),
    ):
        with pytest.raises(DecryptionFailed):
            other.decrypt(purpose, encrypted, *parts)
    for broken in (b"", encrypted[:5], encrypted[:-1], encrypted + b"\0"):
        with pytest.raises(DecryptionFailed):
            key.decrypt("a", broken, b"x", b"y")
