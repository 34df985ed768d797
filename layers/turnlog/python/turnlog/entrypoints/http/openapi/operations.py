"""Every route: its purpose, the values that it takes, and each answer that it can give.

A test fails for a route without a line here, and for an answer that the line does not name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from turnlog import errors
from turnlog.entrypoints.http import bodies, document_replies, model_info, replies, stream_events
from turnlog.entrypoints.http.replies import ResponseBody
from turnlog.entrypoints.http.request import MOST_LIMIT, Body
from turnlog.errors import InvalidRequest, TurnlogError, ValueRefused
from turnlog.usecases.list_sessions import MOST_READS

USER, ANONYMOUS = "Bearer", "Session"
"""The security schemes by which a caller is known."""

_PAGE = ("limit", "cursor")

Errors = tuple[TurnlogError, ...]

_STORE: Errors = (
    errors.StoreUnavailable(),
    errors.KeysUnavailable(),
    errors.SecretUnavailable(),
    errors.AuditUnavailable(),
    errors.ClockBehind(),
    errors.SessionCorrupt(),
    errors.ItemVersionUnknown(),
)
_MODEL: Errors = (
    errors.ModelUnavailable(7),
    errors.ModelAccessDenied(),
    errors.ModelFailed(),
    errors.ModelProtocolError(),
    errors.ModelRejected(),
    errors.ModelTimeout(),
    errors.ModelCreditUsedUp(),
    errors.ModelRetired("claude-sonnet-5-5"),
    errors.ModelNotServed("claude-sonnet-5-5"),
    errors.ContextTooLong(),
    errors.SecretUnavailable(),
)
_QUOTA: Errors = (
    errors.QuotaExceeded("tokens", 3600),
    errors.QuotaTooSmall("tokens", Decimal(100), Decimal(193)),
    errors.QuotaUnavailable(),
)
_TYPED: Errors = (errors.OutputInvalid("max_tokens"), ValueRefused("citations_with_output", "/message/0"))
_QUESTION: Errors = (errors.Forbidden(), errors.AuditUnavailable(), *_QUOTA, *_MODEL)
_SESSION: Errors = (errors.SessionNotFound(), *_STORE)
_CREATION: Errors = (errors.KeyReused(), errors.KeyUsedUp(), errors.QuotaExceeded("sessions", 3600), *_STORE)
_ERASED: Errors = (errors.ErasureInProgress(),)  # where something of a user begins: nobody else can be erased
_MOVE: Errors = (errors.Forbidden(), errors.TurnInProgress(2), errors.MoveLost(), *_SESSION)

_TURN: Errors = (
    errors.TurnInProgress(2),
    errors.LeaseLost(),
    errors.TurnNumberTaken(3),
    errors.TurnUnfinished(),
    errors.TurnStopped(),
    errors.TurnTooLarge(),  # beside the longest reply that the session allows
    errors.ToolResultsExpected(["toolu_01A09q90qw90lq917835lq9"]),
    errors.ToolResultUnexpected(),
    errors.KeyReused(),
    errors.SessionLimitReached("session_turns"),
    errors.SessionLimitReached("session_turns_a_minute", 20),
    errors.AttemptsExhausted(),
    *_TYPED,
    *_QUOTA,
    *_MODEL,
    *_SESSION,
)

_OF_A_USER: Errors = (errors.Forbidden(), InvalidRequest("owner_invalid"), *_STORE)

_SECRET = "Zm9yIGV4YW1wbGUgb25seSwgdGhpcyBpcyBubyBzZWM"  # noqa: S105 (an example)
_HASH = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


@dataclass(frozen=True, slots=True)
class Operation:
    """One route. `errors` are its own; those that its body, its headers and the gateway add are added for it.

    `key` is True where an Idempotency-Key is needed, False where it may be left out, and None where the route takes
    none. `asks` are the query parameters, `headers` those of the good answer. A route with no `callers` is public; one
    with `roles` is for signed-in callers who have all of them. `unfinished` is the status under which the same reply
    says that there was no time for all, and that a repeat goes on. `most` is the largest `limit` of a page. `events`,
    where the answer is a stream, are those of ours, by name.
    """

    name: str
    summary: str
    reply: type[ResponseBody] | None
    errors: Errors
    status: int = 200
    callers: tuple[str, ...] = (USER, ANONYMOUS)
    body: type[Body] | None = None
    example: Mapping[str, Any] = field(default_factory=dict)
    key: bool | None = None
    asks: tuple[str, ...] = ()
    waits: bool = False
    headers: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    unfinished: int | None = None
    most: int = MOST_LIMIT
    events: Mapping[str, type[ResponseBody]] = field(default_factory=dict)

    @property
    def takes_user(self) -> bool:
        """True where a back end may name one of its people: on each route of people who are signed in."""
        return USER in self.callers and not self.roles


def _question(
    name: str,
    summary: str,
    body: type[Body],
    message: str,
    reply: type[ResponseBody] = replies.Reply,
    events: Mapping[str, type[ResponseBody]] | None = None,
) -> Operation:
    return Operation(
        name,
        summary,
        None if events else reply,
        (*_QUESTION, *_TYPED),
        callers=(USER,),
        body=body,
        example={"message": message},
        events=events or {},
    )


OPERATIONS: dict[tuple[str, str], Operation] = {
    ("POST", "/query"): _question(
        "query", "Ask one question; nothing is stored.", bodies.QueryBody, "What is a heron?"
    ),
    ("POST", "/query/stream"): _question(
        "streamQuery",
        "Ask one question, and read the reply as it comes.",
        bodies.StreamedQueryBody,
        "What is a heron?",
        events=stream_events.OF_QUERY,
    ),
    ("POST", "/analyze"): _question(
        "analyze",
        "Have a source file reviewed.",
        bodies.SingleTurnBody,
        "print('hi'",
        document_replies.AnalyzeReply,
    ),
    ("POST", "/analyze/stream"): _question(
        "streamAnalyze",
        "Have a source file reviewed, and read the findings as they come.",
        bodies.StreamedDocumentBody,
        "print('hi'",
        events=stream_events.OF_ANALYZE,
    ),
    ("POST", "/summarize"): _question(
        "summarize",
        "Have a document summarized.",
        bodies.SingleTurnBody,
        "Herons nest …",
        document_replies.SummarizeReply,
    ),
    ("POST", "/summarize/stream"): _question(
        "streamSummarize",
        "Have a document summarized, and read the summary as it comes.",
        bodies.StreamedDocumentBody,
        "Herons nest …",
        events=stream_events.OF_SUMMARIZE,
    ),
    ("POST", "/sessions"): Operation(
        "createSession",
        "Begin a session.",
        replies.Session,
        (
            errors.Forbidden(),
            ValueRefused("continuation_invalid", "/continuation"),
            ValueRefused("continuation_settles", "/system"),
            *_ERASED,
            *_CREATION,
        ),
        status=201,
        callers=(USER,),
        body=bodies.NewSessionBody,
        example={"system": "Answer in one sentence.", "title": "Herons", "metadata": {"topic": "birds"}},
        key=False,
        headers=("Location",),
    ),
    ("GET", "/sessions"): Operation(
        "listSessions",
        f"List your sessions, the one used last first; of more than {MOST_READS}, the one created last first.",
        replies.Sessions,
        (errors.Forbidden(), *_STORE),
        callers=(USER,),
        asks=_PAGE,
    ),
    ("GET", "/sessions/{id}"): Operation(
        "getSession", "Read what a session is; no content.", replies.Session, _SESSION
    ),
    ("PATCH", "/sessions/{id}"): Operation(
        "changeSession",
        "Give a session another title, other metadata or both; metadata replaces all that there was.",
        replies.Session,
        _SESSION,
        body=bodies.SessionChangesBody,
        example={"title": "Herons and storks", "metadata": {"topic": "birds"}},
    ),
    ("DELETE", "/sessions/{id}"): Operation(
        "deleteSession", "End a session; answered once all its content is gone.", None, _SESSION, status=204
    ),
    ("GET", "/sessions/{id}/export"): Operation(
        "exportSession",
        "Read all that is kept of a session, in as many parts as it takes.",
        replies.Export,
        _SESSION,
        asks=("cursor",),
    ),
    ("POST", "/sessions/{id}/fork"): Operation(
        "forkSession",
        "Begin a session with another's turns up to one of them, its title, metadata and settings; or with another "
        "model.",
        replies.Session,
        (errors.Forbidden(), errors.SessionNotFound(), errors.TurnNotFound(), *_ERASED, *_CREATION),
        status=201,
        body=bodies.ForkBody,
        example={"turn": 1},
        key=False,
        headers=("Location",),
    ),
    ("POST", "/sessions/{id}/rotate"): Operation(
        "rotateSecret",
        "Move an anonymous session under a new secret and id.",
        replies.Session,
        (ValueRefused("secret_not_new", "/secret_sha256"), errors.QuotaExceeded("anonymous_creations", 1800), *_MOVE),
        callers=(ANONYMOUS,),
        body=bodies.NewSecretBody,
        example={"secret_sha256": _HASH},
        key=True,
        headers=("Location",),
    ),
    ("POST", "/sessions/{id}/claim"): Operation(
        "claimSession",
        "Make an anonymous session your own, under a new id.",
        replies.Session,
        (errors.AlreadyOwned(), errors.QuotaExceeded("sessions", 3600), *_ERASED, *_MOVE),
        callers=(USER,),
        body=bodies.ClaimBody,
        example={"secret": _SECRET},
        key=True,
        headers=("Location",),
    ),
    ("POST", "/sessions/{id}/turns"): Operation(
        "takeTurn",
        "Take the session's next turn; the stored one, when its key was used before.",
        replies.TakenTurn,
        _TURN,
        body=bodies.TurnBody,
        example={"message": "What is a heron?"},
        key=True,
        waits=True,
        headers=("Idempotent-Replayed", "Preference-Applied"),
    ),
    ("POST", "/sessions/{id}/turns/stream"): Operation(
        "streamTurn",
        "Take the session's next turn, or the stored one, and read it as it comes.",
        None,
        (*_TURN, errors.StreamOvertaken()),
        body=bodies.TurnBody,
        example={"message": "What is a heron?"},
        key=True,
        waits=True,
        headers=("Preference-Applied",),
        events=stream_events.OF_TURN,
    ),
    ("GET", "/sessions/{id}/turns"): Operation(
        "listTurns", "List a session's finished turns, oldest first.", replies.Turns, _SESSION, asks=_PAGE
    ),
    ("GET", "/sessions/{id}/turns/{n}"): Operation(
        "getTurn", "Read one finished turn.", replies.Turn, (errors.TurnNotFound(), *_SESSION)
    ),
    ("POST", "/sessions/{id}/turns/{n}/cancel"): Operation(
        "cancelTurn",
        "Stop a running turn; what there is of it stays.",
        replies.Stopping,
        (errors.TurnNotRunning(), *_SESSION),
        status=202,
    ),
    ("GET", "/me/export"): Operation(
        "exportEverything",
        "Read all that is kept of you, in as many parts as it takes.",
        replies.UserExport,
        (errors.Forbidden(), *_STORE),
        callers=(USER,),
        asks=("cursor",),
    ),
    ("DELETE", "/me"): Operation(
        "eraseEverything",
        "Have all that is kept of you erased; repeat it until nothing is left, which is 200.",
        replies.Erasure,
        (errors.Forbidden(), *_STORE),
        callers=(USER,),
        unfinished=202,
    ),
    ("POST", "/anonymous/sessions"): Operation(
        "createAnonymousSession",
        "Begin a session for whoever holds a secret.",
        replies.Session,
        (errors.Forbidden(), *_CREATION),
        status=201,
        callers=(),
        body=bodies.NewAnonymousSessionBody,
        example={"secret_sha256": _HASH},
        headers=("Location",),
    ),
    ("GET", "/admin/users/{owner}/sessions"): Operation(
        "listUsersSessions",
        "List a user's sessions in the order of their list: that they are there, and nothing that was said or named.",
        replies.UsersSessions,
        _OF_A_USER,
        callers=(USER,),
        asks=_PAGE,
        roles=("admin",),
    ),
    ("POST", "/admin/users/{owner}/terminate"): Operation(
        "terminateUsersSessions",
        "End all sessions of a user, as many as there is time for; a repeat goes on with those that are left.",
        replies.Terminated,
        _OF_A_USER,
        callers=(USER,),
        roles=("admin",),
    ),
    ("POST", "/admin/sessions/{ref}/terminate"): Operation(
        "terminateSession",
        "End somebody's session; answered once all its content is gone.",
        None,
        (errors.Forbidden(), *_SESSION),
        status=204,
        callers=(USER,),
        roles=("admin",),
    ),
    ("POST", "/admin/sessions/{ref}/content"): Operation(
        "showContent",
        "Read the turns of somebody's session, for a reason that is audited and raises an alarm before.",
        replies.Turns,
        (errors.Forbidden(), *_SESSION),
        callers=(USER,),
        body=bodies.ReasonBody,
        example={"reason": "Ticket 4711: the user asks for help."},
        asks=_PAGE,
        roles=("admin", "admin:content"),
    ),
    ("GET", "/models"): Operation(
        "listModels",
        "List the models on offer, in the form of the Models API: limits, abilities, prices, and when each retires.",
        model_info.Models,
        (InvalidRequest("parameter_invalid", details={"parameter": "after_id", "allowed": ["claude-sonnet-5-5"]}),),
        asks=("limit", "after_id", "before_id"),
        most=model_info.MOST_MODELS,
    ),
    ("GET", "/models/{model_id}"): Operation(
        "getModel", "Read what one model is.", model_info.Model, (errors.ModelNotFound(),)
    ),
    ("GET", "/health"): Operation("health", "Learn whether the service answers.", replies.Health, (), callers=()),
    ("GET", "/openapi.json"): Operation("openapi", "Read this document.", replies.Document, (), callers=()),
}
