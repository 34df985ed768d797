"""Checks of what a signed-in user does: a question, and a session from its first turn to its end."""

from __future__ import annotations

import secrets

from tests.smoke.api import Api, Reply
from tests.smoke.outcome import LeftOut, Unexpected

MOST_TOKENS = 32  # a reply costs a fraction of a cent
_LIFETIME_S = 600  # so that the session expires soon if it cannot be deleted
QUESTION = "Answer with one word: ok."


class Conversation:
    """One question and one session. `erase` deletes the session, whatever happened before."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._key = secrets.token_hex(8)
        self._may_exist = False
        self._session_id = ""
        self._turn: Reply | None = None
        self.said: list[str] = []
        """The texts of the replies in the session, which whoever takes a turn of it adds to."""

    def query(self) -> str:
        """A question is answered, and nothing is stored."""
        reply = self._api.ask("POST", "/query", {"message": QUESTION, "max_tokens": MOST_TOKENS})
        reply.require(200)
        reply.text("text")
        return f"{reply} in {reply.took_ms} ms, {reply.text('model')}, {self._api.charge(reply.body)}"

    def session(self) -> str:
        """A session is created."""
        reply = self._create()
        return f"{reply} in {reply.took_ms} ms, until {reply.text('expires_at')}"

    def _create(self) -> Reply:
        body = {"title": "Smoke test", "max_tokens": MOST_TOKENS, "lifetime_s": _LIFETIME_S}
        headers = {"Idempotency-Key": self._key}
        self._may_exist = True
        reply = self._api.ask("POST", "/sessions", body, headers=headers)
        self._may_exist = reply.status == 201 or reply.status >= 500
        reply.require(201)
        self._session_id = reply.text("session_id")
        return reply

    def turn(self) -> str:
        """The session takes its first turn."""
        reply = self._take()
        reply.require(200)
        cost = self._api.charge(reply.body)
        if reply.body.get("turn") != 1:
            raise Unexpected(f"{reply} with turn {reply.body.get('turn')}, not 1: the session is new")
        self.said.append(reply.text("text"))
        self._turn = reply
        return f"{reply} in {reply.took_ms} ms, turn 1, {cost}"

    def replay(self) -> str:
        """The same key gets the same bytes, unpaid."""
        first, again = self._taken, self._take()
        again.require(200)
        if again.content != first.content:
            raise Unexpected(f"{again} with other bytes than the first time: the turn was not stored as it was sent")
        replayed = again.headers.get("idempotent-replayed")
        if replayed != "true":
            raise Unexpected(f"{again} with Idempotent-Replayed {replayed or 'missing'}, not true: was it paid again?")
        return f"{again} in {again.took_ms} ms, the same {len(again.content)} bytes, Idempotent-Replayed: {replayed}"

    def _take(self) -> Reply:
        headers = {"Idempotency-Key": self._key}
        return self._api.ask("POST", f"{self.path}/turns", {"message": QUESTION}, headers=headers)

    def unknown_session(self) -> str:
        """A session that never was is not found."""
        reply = self._api.ask("GET", f"/sessions/ses_{secrets.token_urlsafe(16)}")
        reply.require_problem(404, "session_not_found")
        return str(reply)

    def export(self) -> str:
        """All that is kept of the session can be taken along."""
        reply = self._api.ask("GET", f"{self.path}/export")
        reply.require(200)
        kind, turns = reply.text("format"), reply.body.get("turns")
        kept = [each.get("text") for each in turns if isinstance(each, dict)] if isinstance(turns, list) else []
        if kept != self.said:
            raise Unexpected(f"{reply} with {len(kept)} turns, which are not the {len(self.said)} that were taken")
        return f"{reply}, {kind} with {len(kept)} turn{'' if len(kept) == 1 else 's'}"

    def delete(self) -> str:
        """The session can be deleted, and then is not found."""
        path = self.path
        deleted = self._api.ask("DELETE", path)
        deleted.require(204)
        reply = self._api.ask("GET", path)
        reply.require_problem(404, "session_not_found")
        self._session_id, self._may_exist = "", False
        return f"{deleted}, then {reply}"

    def erase(self) -> int:
        """Deletes the session if there still is one. Returns how many that were. Raises Unexpected if one may stay."""
        if not self._may_exist:
            return 0
        if not self._session_id:
            self._create()  # its answer was lost or strange; the key finds it
        deleted = self._api.ask("DELETE", self.path)
        if deleted.status != 404:
            deleted.require(204)
        self._may_exist = False
        return 1

    @property
    def path(self) -> str:
        """The session's route. Raises LeftOut when there is none."""
        if not self._session_id:
            raise LeftOut("there is no session to try it with")
        return f"/sessions/{self._session_id}"

    @property
    def _taken(self) -> Reply:
        """The answer of the first turn. Raises LeftOut when there is none."""
        if self._turn is None:
            raise LeftOut("there is no turn to try it with")
        return self._turn
