"""POST /messages with Turnlog-Session: a request of the Messages API as the next turn of a session.

The caller sends what is new; Turnlog brings the conversation, the settings and the marks of what is to be cached.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from turnlog import runtime
from turnlog.domain.turn_stream import Emit, TurnStream, own_event
from turnlog.entrypoints.http import turns
from turnlog.entrypoints.http.answers import Response
from turnlog.entrypoints.http.api import Invocation
from turnlog.entrypoints.http.request import NEW_SESSION, Request
from turnlog.entrypoints.stream.messages.conversation import Conversation
from turnlog.entrypoints.stream.messages.session_body import SessionTurnBody
from turnlog.entrypoints.stream.messages.session_message import SessionMessage, facts_of
from turnlog.entrypoints.stream.streamed import LONGEST_SILENCE_S, QUIET_S, KeptAlive, Streamed
from turnlog.errors import InvalidRequest
from turnlog.usecases.caller import Caller
from turnlog.usecases.known_session import KnownSession
from turnlog.usecases.sessions import session_id_under
from turnlog.usecases.turn_protocol import TakenTurn


def take_session_turn(request: Request, invocation: Invocation) -> Streamed | KeptAlive:
    """The session's next turn, or the stored one when the key has been used for the same message before."""
    caller = request.caller
    request.query("beta")  # of the SDKs' beta routes, which are these
    named, key = request.named_session, request.idempotency_key
    if named is None:
        raise InvalidRequest("turnlog_session_invalid")
    body = request.body(SessionTurnBody)
    conversation = body.conversation
    known = body.known(conversation)
    is_new = named == NEW_SESSION
    session_id = session_id_under(key, caller.require_user(), runtime.server_key()) if is_new else named
    invocation.audit.session_id = session_id
    told = invocation if body.stream else _with_status(invocation)
    turn = _SessionTurn(request, told, caller, session_id, key, conversation, known, is_new)
    if not body.stream:
        return KeptAlive(turn.answer, headers=turn.headers)
    # A busy session is waited for before the stream begins, so that it can still be told by the status.
    return Streamed(turn.stream, turn.headers, QUIET_S + (request.wait_s or 0))


def _with_status(invocation: Invocation) -> Invocation:
    """The invocation for a whole answer, which has a status of its own only until it has to begin.

    So long a model that refuses is asked again: clients take an error without its status for a message.
    """
    later_s = max(0.0, invocation.answer_s() - LONGEST_SILENCE_S)
    return replace(invocation, answer_s=lambda: invocation.answer_s() - later_s)


@dataclass(frozen=True)
class _SessionTurn:
    """One request that has been read, on its way to its turn. `is_new` if it begins a session of this id."""

    request: Request
    invocation: Invocation
    caller: Caller
    session_id: str
    key: str
    conversation: Conversation
    known: KnownSession
    is_new: bool

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the answer that are known before the turn is taken."""
        named = {"request-id": self.request.id, "Turnlog-Session": self.session_id}
        return {**named, **turns.preference_applied(self.request)}

    def answer(self) -> Response:
        """The turn as one message."""
        taken = self._take()
        body = SessionMessage.of(taken)
        headers = {
            **self.headers,
            "Turnlog-Turn": str(taken.turn.number),
            "Turnlog-Expires": body.turnlog.expires_at,
            **({"Idempotent-Replayed": "true"} if taken.replayed else {}),
        }
        return Response(200, body, headers, turns.noted_of(taken))

    def stream(self, emit: Emit) -> Response:
        """The turn as it comes; its end is told once it is stored."""
        taken = self._take(TurnStream(emit, shows_own_calls=False, facts={"idempotency_key": self.key}))
        facts = facts_of(taken).fields_but()
        emit(own_event("done", usage=taken.turn.usage.fields, replayed=taken.replayed, **facts))
        return Response(200, noted=turns.noted_of(taken))

    def _take(self, stream: TurnStream | None = None) -> TakenTurn:
        if self.is_new:
            self.known.begin(
                self.caller,
                key=self.key,
                store=runtime.session_store(),
                server_key=runtime.server_key(),
                audit=self.invocation.audit,
                policy=runtime.creation_policy(),
                now_ms=runtime.now_ms(),
            )
            self.invocation.audit.acted = False  # it was done, whatever becomes of the turn
        return turns.run(
            self.request,
            self.invocation,
            self.session_id,
            self.conversation.message,
            key=self.key,
            system=self.conversation.system,
            require=self.known.require,
            stream=stream,
        )
