"""What the audit trail is told of a request: each act before it takes effect, each refusal before it is answered.

Turns and reads of one's own session are in the log of requests alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from turnlog import runtime
from turnlog.domain.owners import owner_hash
from turnlog.domain.sessions import is_session_id
from turnlog.entrypoints.http.naming import logged, source_of
from turnlog.entrypoints.http.problems import problem_of
from turnlog.entrypoints.http.request import Request
from turnlog.errors import Forbidden, LimitReached, SessionNotFound, TurnlogError, Unauthorized


def note(request: Request, action: str, session_id: str = "", **more: str) -> None:
    """Raises AuditUnavailable, and then the act must not be done. `more` are fields of AuditTrail.note."""
    runtime.audit_trail().note(
        action,
        request_id=request.id,
        route=" ".join(request.route),
        owner=owner_hash(request.caller) if request.caller else "",
        session=logged(session_id) if session_id else "",
        **more,
    )
    request.is_audited = True


@contextmanager
def refusals_noted(request: Request) -> Iterator[None]:
    """Notes whom a route does not let in, which limit it holds to, and an act that was noted and is refused after all.

    What has not the form of a session's id was never one: nobody was kept from anything, and it costs no call. What
    fails (5xx) is no refusal: its status is in the log of requests.
    """
    named = request.path_parameters.get("id", "")
    session_id = named if is_session_id(named) else ""
    try:
        yield
    except LimitReached as error:
        source = "" if request.caller else source_of(request)  # a stranger's, who makes an anonymous session
        note(request, "limit", session_id, reason=error.limit, source=source)
        raise
    except (Unauthorized, Forbidden, SessionNotFound) as error:
        if session_id == named or not isinstance(error, SessionNotFound):
            note(request, "denied", session_id, reason=problem_of(error).code)
        raise
    except TurnlogError as error:
        problem = problem_of(error)
        if request.is_audited and problem.status < 500:
            note(request, "refused", session_id, reason=problem.code)
        raise
