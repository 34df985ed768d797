"""Audit: what one request tells the audit trail, each act before it takes effect, each refusal before it is answered.

Turns and reads of one's own session, lists and exports excepted, are in the log of requests alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from turnlog.domain.owners import owner_hash
from turnlog.domain.server_key import ServerKey
from turnlog.domain.sessions import is_session_id
from turnlog.errors import Forbidden, LimitReached, Refusal, SessionNotFound, Unauthorized
from turnlog.ports.audit_trail import AuditTrail
from turnlog.usecases.caller import Caller


def session_hash(server_key: ServerKey, session_id: str) -> str:
    """Returns a session's name in logs and the audit trail: enough to follow it, not to find it."""
    return server_key.keyed_hash("log", session_id.encode()).hex()[:10]


@dataclass(slots=True)
class Audit:
    """The audit notes of one request through one entry point.

    `trail` and `server_key` are called when they are first needed, since many requests need neither. `caller` is who
    acts, for the record: also one whose token has expired since. `acted` is true once an act was noted, and
    `session_id` is that of the request's session, where its path does not name it.
    """

    trail: Callable[[], AuditTrail]
    server_key: Callable[[], ServerKey]
    request_id: str
    route: str
    caller: Caller
    acted: bool = False
    session_id: str = ""

    def act(self, action: str, session_id: str = "", *, subject: str = "", to_id: str = "", reason: str = "") -> None:
        """Notes an act. Raises AuditUnavailable, and then the act must not be done.

        `subject` is the owner whose things are acted on, where that may be another; `to_id` is the session's new id, or
        that of the session that comes of it.
        """
        self._note(action, session_id, subject=subject, to_id=to_id, reason=reason)
        self.acted = True

    def act_from_source(self, action: str, session_id: str) -> None:
        """Notes an act of a stranger, who is known by the source address alone. Raises AuditUnavailable."""
        self._note(action, session_id, source=self.caller.source_hash(self.server_key()))
        self.acted = True

    @contextmanager
    def refusals(self, named_id: str = "") -> Iterator[None]:
        """Notes who is not let in, which limit is reached, and an act that was noted and is refused after all.

        `named_id` is the session id of the request, as it came. A text that has not the form of an id never named a
        session, so its SessionNotFound is not noted and costs no call. A failure is no refusal: the log has its status.
        """
        try:
            yield
        except Refusal as error:
            self._note_refusal(error, named_id or self.session_id)
            raise

    def _note_refusal(self, error: Refusal, named_id: str) -> None:
        session_id = named_id if is_session_id(named_id) else ""
        if isinstance(error, LimitReached):
            source = "" if self.caller.owner else self.caller.source_hash(self.server_key())
            self._note("limit", session_id, reason=error.limit, source=source)
        elif isinstance(error, Unauthorized | Forbidden | SessionNotFound):
            if session_id == named_id or not isinstance(error, SessionNotFound):
                self._note("denied", session_id, reason=error.code)
        elif self.acted:
            self._note("refused", session_id, reason=error.code)

    def _note(
        self, action: str, session_id: str, *, subject: str = "", to_id: str = "", source: str = "", reason: str = ""
    ) -> None:
        self.trail().note(
            action,
            request_id=self.request_id,
            route=self.route,
            owner=owner_hash(self.caller.owner) if self.caller.owner else "",
            delegate=owner_hash(self.caller.delegate) if self.caller.delegate else "",
            subject=owner_hash(subject) if subject else "",
            session=session_hash(self.server_key(), session_id) if session_id else "",
            to=session_hash(self.server_key(), to_id) if to_id else "",
            source=source,
            reason=reason,
        )
