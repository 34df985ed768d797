"""P1: what was paid and stored fits into an answer of Lambda's size on every route that gives it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.fakes import MODEL
from tests.handlers.conftest import Backstage, Call
from tests.handlers.test_limits import query
from tests.handlers.test_session import change, create, get, take
from turnlog.domain.answers import MAX_ANSWER_BYTES, MOST_TURN_BYTES, bytes_in_answer
from turnlog.domain.messages import Message, Reply, Usage, to_json

CHARACTERS = {"plain": "a", "quotes": '"', "backslashes": "\\", "line ends": "\n", "two bytes": "é", "emoji": "😀"}
LONG = '"' * 130_000  # the message and the system prompt, each as long as a request can bring it
MOST_METADATA = {f"{number:064d}": '"' * 512 for number in range(16)}
USAGE = Usage('{"input_tokens":1,"output_tokens":1}')


class Verbose:
    """A model whose reply repeats one character, with all its bytes in an answer at `fraction` of the most."""

    def __init__(self, character: str, fraction: float = 1) -> None:
        frame = 2 * bytes_in_answer(to_json([{"type": "text", "text": ""}])) + bytes_in_answer(USAGE.received)
        rest = MOST_TURN_BYTES * fraction - 1_400 - bytes_in_answer(Message.of_text(LONG).content) - frame
        text = character * int(rest // (2 * (bytes_in_answer(to_json(character)) - 4)))
        self.answer = Reply(MODEL, to_json([{"type": "text", "text": text}]), "end_turn", USAGE)

    def reply(self, *_: object, **__: object) -> Reply:
        return self.answer


def size(raw: str) -> int:
    """The bytes of an answer with this body, as Lambda counts them, beside the status and the headers."""
    return len(json.dumps(raw, ensure_ascii=False).encode())


def asked(call: Call, backstage: Backstage, monkeypatch: pytest.MonkeyPatch, model: Any) -> str:
    monkeypatch.setattr(backstage, "model", model)
    session_id = str(create(call, {"system": LONG, "title": '"' * 200}).body["session_id"])
    assert change(call, session_id, {"metadata": MOST_METADATA}).status == 200
    return session_id


@pytest.mark.parametrize("character", CHARACTERS.values(), ids=CHARACTERS)
def test_the_largest_turn_is_answered_on_every_route(
    call: Call, backstage: Backstage, monkeypatch: pytest.MonkeyPatch, character: str
) -> None:
    session_id = asked(call, backstage, monkeypatch, Verbose(character))
    taken = take(call, session_id, LONG, key="k")
    answers = [taken, get(call, session_id, "/turns"), get(call, session_id, "/export")]
    answers += [call("account", "GET", "/me/export"), take(call, session_id, LONG, key="k")]
    assert [each.status for each in answers] == [200] * len(answers)
    assert max(size(each.raw) for each in answers) < MAX_ANSWER_BYTES - 20_000
    assert taken.body["text"] == answers[1].body["items"][0]["text"]


def test_a_larger_reply_is_refused_before_it_is_stored(
    call: Call, backstage: Backstage, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = asked(call, backstage, monkeypatch, Verbose('"', 1.001))
    refused = take(call, session_id, LONG, key="k")
    assert (refused.status, refused.body["code"], refused.body["stored"]) == (502, "model_protocol_error", False)
    assert get(call, session_id).body["turns"] == 0


@pytest.mark.parametrize(("fraction", "status"), [(0.95, 200), (1.2, 502)])
def test_a_question_is_answered_or_refused_with_its_continuation(
    call: Call, backstage: Backstage, monkeypatch: pytest.MonkeyPatch, fraction: float, status: int
) -> None:
    monkeypatch.setattr(backstage, "model", Verbose('"', fraction))
    answer = query(call, {"message": "hi", "continuable": True})
    assert (answer.status, size(answer.raw) < MAX_ANSWER_BYTES - 20_000) == (status, True)


def test_pages_get_shorter_by_bytes(call: Call, backstage: Backstage, monkeypatch: pytest.MonkeyPatch) -> None:
    session_id = asked(call, backstage, monkeypatch, Verbose("\\", 0.45))
    for number in range(3):
        assert take(call, session_id, LONG, key=str(number)).status == 200
    page = get(call, session_id, "/turns")
    assert (len(page.body["items"]), page.body["next"] is None) == (2, False)
    assert size(page.raw) < MAX_ANSWER_BYTES
