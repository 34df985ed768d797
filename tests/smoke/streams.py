"""Checks of what streams, and of the Messages API at our own door: the function behind AWS's Lambda Web Adapter.

Nothing of that adapter can be run elsewhere, so what this sees is the only proof that it streams.
"""

from __future__ import annotations

import secrets

from tests.smoke.api import Api, Reply
from tests.smoke.conversation import MOST_TOKENS, QUESTION, Conversation
from tests.smoke.hearing import Heard
from tests.smoke.outcome import LeftOut, Unexpected

LATEST_FIRST = 0.4
"""The part of a stream's time in which its first event must be there; whatever buffers it shows it at the end."""

SHORTEST_MS = 1000
"""The shortest stream whose times prove anything: one of a stand-in is over at once."""

_VERSION = {"anthropic-version": "2023-06-01"}  # which Claude asks for
_TRIES = 2  # the first one may wait for a cold start
_LONG = {"message": "Count from one to ninety in English words, one a line.", "max_tokens": 300}


class Streams:
    """The streams of one question and of the conversation's session, and its turns at the Messages API."""

    def __init__(self, api: Api, conversation: Conversation) -> None:
        self._api = api
        self._conversation = conversation
        self._key = secrets.token_hex(8)
        self._turn: Heard | None = None

    def question(self) -> str:
        """A reply is heard while it is written."""
        heard = self._heard_question()
        for _ in range(1, _TRIES):
            if _is_early(heard):
                break
            heard = self._heard_question()
        cost = self._api.charge(heard.done)
        times = f"the first of {len(heard.events)} events after {heard.first_ms} of {heard.took_ms} ms"
        if heard.took_ms < SHORTEST_MS:
            return f"{times}, which is too short to tell, {cost}"
        if not _is_early(heard):
            raise Unexpected(
                f"{times}: something holds the stream back; is the route's integration response-streaming-invocations, "
                "and AWS_LWA_INVOKE_MODE response_stream?"
            )
        return f"{times}, {cost}"

    def _heard_question(self) -> Heard:
        heard = self._api.hear("/query/stream", _LONG)
        heard.require_whole()
        return heard

    def turn(self) -> str:
        """The session takes a turn that streams."""
        heard = self._take()
        cost = self._api.charge(heard.done)
        self._conversation.said.append(heard.text)
        self._turn = heard
        return f"turn {heard.done.get('turn')} in {heard.took_ms} ms, {len(heard.events)} events, {cost}"

    def replay(self) -> str:
        """The same key gets the same reply as a stream, unpaid."""
        if self._turn is None:
            raise LeftOut("there is no streamed turn to try it with")
        again = self._take()
        if again.text != self._turn.text:
            raise Unexpected("another reply than the first time: the turn was not stored as it was sent")
        if again.done.get("replayed") is not True:
            raise Unexpected("the same reply, which does not say that it was replayed: was it paid again?")
        return f"the same {len(again.text)} characters in {again.took_ms} ms, replayed"

    def _take(self) -> Heard:
        headers = {"Idempotency-Key": self._key}
        heard = self._api.hear(f"{self._conversation.path}/turns/stream", {"message": QUESTION}, headers)
        heard.require_whole()
        return heard

    def message(self) -> str:
        """A client of the Messages API is answered, by a base URL with and without the stage."""
        body = self._body()
        counting = {name: body[name] for name in ("model", "messages")}
        counted = self._api.ask("POST", "/v1/messages/count_tokens", counting, headers=_VERSION)
        counted.require(200)
        reply = self._api.ask("POST", "/messages", body, headers=_VERSION)
        _require_message(reply)
        return f"{reply} in {reply.took_ms} ms, {reply.text('id')}, {counted.body.get('input_tokens')} tokens counted"

    def message_in_session(self) -> str:
        """Such a client takes a turn of the session, and the same key gets it again."""
        path = self._conversation.path
        headers = _VERSION | {"Turnlog-Session": path.rpartition("/")[2], "Idempotency-Key": f"{self._key}-message"}
        reply, again = (self._api.ask("POST", "/messages", self._body(), headers=headers) for _ in range(2))
        text = _require_message(reply)
        self._conversation.said.append(text)
        number = reply.headers.get("turnlog-turn")
        if number != str(len(self._conversation.said)):
            raise Unexpected(f"{reply} with Turnlog-Turn {number or 'missing'}, not {len(self._conversation.said)}")
        if _require_message(again) != text or again.headers.get("idempotent-replayed") != "true":
            raise Unexpected(f"{again} to the same key with another message, or paid again")
        return f"{reply} in {reply.took_ms} ms, turn {number}, {self._api.charge(reply.body.get('turnlog', {}))}"

    def api_key(self) -> str:
        """A token as x-api-key alone is refused, in words that tell where it belongs."""
        reply = self._api.ask_without_token("POST", "/messages", {}, headers={"x-api-key": self._api.token})
        reply.require(401)
        error = reply.body.get("error")
        said = error if isinstance(error, dict) else {}
        if "ANTHROPIC_AUTH_TOKEN" not in str(said.get("message")):
            raise Unexpected(f"{reply} that does not name ANTHROPIC_AUTH_TOKEN: are the GatewayResponses deployed?")
        if reply.headers.get("x-should-retry") != "false":
            raise Unexpected(f"{reply} without x-should-retry: false, so clients try it again")
        return f"{reply.status}, which names ANTHROPIC_AUTH_TOKEN and is not tried again"

    def _body(self) -> dict[str, object]:
        offered = self._api.ask("GET", "/v1/models")
        offered.require(200)
        model = next((str(each["id"]) for each in offered.body.get("data", []) if "id" in each), "")
        if not model:
            raise Unexpected("no model is on offer: are the names in ClaudeModels right?")
        return {"model": model, "max_tokens": MOST_TOKENS, "messages": [{"role": "user", "content": QUESTION}]}


def _is_early(heard: Heard) -> bool:
    return heard.first_ms <= LATEST_FIRST * heard.took_ms


def _require_message(reply: Reply) -> str:
    """Returns the text of a message. Raises Unexpected when it is none."""
    reply.require(200)
    content = reply.body.get("content")
    if reply.body.get("type") != "message" or not isinstance(content, list):
        raise Unexpected(f"{reply} without a message")
    return "".join(str(each.get("text", "")) for each in content if isinstance(each, dict))
