"""The problem of each error: one table from its class to status, code and words (RFC 9457).

The words are fixed, so that no input, id or exception text can leave with them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from turnlog import errors


@dataclass(frozen=True, slots=True)
class Problem:
    """One answer. `more` are members beside those of the RFC."""

    status: int
    code: str
    title: str
    detail: str
    more: dict[str, Any] = field(default_factory=dict)


_NOT_STORED = {"stored": False, "retry": "same-key"}

INTERNAL = Problem(500, "internal_error", "Internal error", "The request failed inside the service.")
ROUTE_NOT_FOUND = Problem(404, "route_not_found", "Not found", "There is no such route or method.")

PROBLEMS: dict[type[errors.TurnlogError], Problem] = {
    errors.Unauthorized: Problem(
        401,
        "unauthorized",
        "Unauthorized",
        "Send a valid token as Authorization: Bearer, or an anonymous session's secret as Authorization: Session.",
    ),
    errors.Forbidden: Problem(403, "forbidden", "Forbidden", "This caller may not use this route."),
    errors.SessionNotFound: Problem(
        404,
        "session_not_found",
        "Session not found",
        "There is no such session, or it has ended. Start a new one with POST /v1/sessions.",
        {"start_over": {"method": "POST", "href": "/v1/sessions"}},
    ),
    errors.NameUsedUp: Problem(
        404,
        "session_not_found",
        "Session not found",
        "The session that was made under this key or secret has ended, and no other is made under it: take another.",
    ),
    errors.TurnNotFound: Problem(404, "turn_not_found", "Turn not found", "The session has no such turn."),
    errors.TurnInProgress: Problem(
        409,
        "turn_in_progress",
        "Turn in progress",
        "A turn of this session is running, maybe by this very request. Repeat it with the same Idempotency-Key; "
        "nothing was paid for this try.",
        {"retry": "same-key"},
    ),
    errors.LeaseLost: Problem(
        409,
        "claim_lost",
        "Turn overtaken",
        "The turn took longer than its lease and another one took its place; it was not stored.",
        _NOT_STORED,
    ),
    errors.MoveLost: Problem(
        409,
        "move_lost",
        "Session not moved",
        "Another request took the session meanwhile, and it is where it was; try again under a new key.",
    ),
    errors.AlreadyOwned: Problem(409, "already_owned", "Already owned", "The session is the caller's own already."),
    errors.KeyReused: Problem(
        422,
        "idempotency_key_reused",
        "Idempotency key reused",
        "This key, or the secret of an anonymous session, already stands for a request with another body.",
    ),
    errors.TurnNumberTaken: Problem(
        409,
        "turn_number_taken",
        "Another turn is next",
        "The next turn of this session has another number than the request expects; nothing was paid.",
        {"stored": False},
    ),
    errors.SessionLimitReached: Problem(
        429, "session_limit", "Session limit reached", "The session has used up what it may.", {"stored": False}
    ),
    errors.QuotaExceeded: Problem(
        429, "allowance_used_up", "Allowance used up", "The caller has used up what it may for now.", {"stored": False}
    ),
    errors.TurnTooLarge: Problem(
        413, "turn_too_large", "Turn too large", "A turn holds at most 3.9 MB of message and reply.", {"stored": False}
    ),
    errors.ErasureInProgress: Problem(
        409, "erasure_in_progress", "Erasure in progress", "All that is yours is being erased.", {"stored": False}
    ),
    errors.ClockBehind: Problem(
        503, "dependency_unavailable", "Service unavailable", "A clock of the service is wrong.", _NOT_STORED
    ),
    errors.AttemptsExhausted: Problem(
        502,
        "attempts_exhausted",
        "Attempts exhausted",
        "Three tries under this key ended without a reply; send the turn under a new key.",
        {"stored": False},
    ),
    errors.SessionCorrupt: Problem(
        500, "session_corrupt", "Session damaged", "The stored conversation cannot be read; nothing was changed."
    ),
    errors.StoreUnavailable: Problem(
        503,
        "dependency_unavailable",
        "Service unavailable",
        "The store cannot be reached. Whether the request took effect is not known: repeat it under its key, if any.",
        {"retry": "same-key"},
    ),
    errors.QuotaUnavailable: Problem(
        503,
        "dependency_unavailable",
        "Service unavailable",
        "What the caller has used cannot be looked up; nothing was asked.",
        {"stored": False},
    ),
    errors.KeysUnavailable: Problem(
        503, "dependency_unavailable", "Service unavailable", "The keys of content cannot be had now.", _NOT_STORED
    ),
    errors.SecretUnavailable: Problem(
        503,
        "dependency_unavailable",
        "Service unavailable",
        "A secret cannot be read; nothing was attempted.",
        _NOT_STORED,
    ),
    errors.AuditUnavailable: Problem(
        503,
        "dependency_unavailable",
        "Service unavailable",
        "The request cannot be written into the audit trail, so it was not done.",
        _NOT_STORED,
    ),
    errors.ModelUnavailable: Problem(
        503, "model_unavailable", "Model unavailable", "The model takes no more requests now.", _NOT_STORED
    ),
    errors.ModelAccessDenied: Problem(
        503, "model_unavailable", "Model unavailable", "The model's provider refuses this service.", _NOT_STORED
    ),
    errors.ContextTooLong: Problem(
        422,
        "context_too_long",
        "Context too long",
        "The messages do not fit into the model's context.",
        {"stored": False},
    ),
    errors.ModelRejected: Problem(
        502,
        "model_rejected",
        "Model refused the request",
        "The model's provider refuses the request.",
        {"stored": False},
    ),
    errors.ModelTimeout: Problem(
        504, "model_timeout", "Model timeout", "The model did not answer within the time there was.", _NOT_STORED
    ),
    errors.ModelFailed: Problem(502, "model_failed", "Model failed", "The model's provider failed.", _NOT_STORED),
    errors.ModelProtocolError: Problem(
        502, "model_protocol_error", "Model answered badly", "The model's answer was not whole.", _NOT_STORED
    ),
}

_NOT_FOUND_BY_SECRET = replace(
    PROBLEMS[errors.SessionNotFound],
    detail="There is no such session, or it has ended. Start a new one under another secret with "
    "POST /v1/anonymous/sessions.",
    more={"start_over": {"method": "POST", "href": "/v1/anonymous/sessions"}},
)

_NOT_FOUND_BY_ADMIN = replace(
    PROBLEMS[errors.SessionNotFound], detail="There is no such session, or it has ended.", more={}
)

_INVALID_STATUSES: dict[type, int] = {
    errors.InvalidRequest: 400,
    errors.ValueRefused: 422,
    errors.BodyTooLarge: 413,
    errors.MediaTypeUnsupported: 415,
}

_INVALID_TITLES = {
    400: "Bad request",
    413: "Content too large",
    415: "Unsupported media type",
    422: "Value refused",
}

_INVALID_DETAILS = {
    "base64_invalid": "The body is not valid base64.",
    "body_missing": "Send a JSON object as the body.",
    "body_too_large": "The body is larger than 262144 bytes.",
    "continuation_invalid": "The continuation is not one that this caller was given within the last 15 minutes.",
    "continuation_settles": "The continuation brings its own system prompt, model and max_tokens.",
    "control_character": "Text may hold no control characters but tab, line feed and carriage return; "
    "one line, such as a title, may hold none, nor invisible format characters.",
    "cursor_invalid": "The cursor is not one that this list gave.",
    "encoding_invalid": "The body is not UTF-8.",
    "field_missing": "A required field is missing.",
    "header_duplicate": "A header that has one value is given twice.",
    "idempotency_key_invalid": "An Idempotency-Key consists of the visible ASCII characters 0x21 to 0x7E.",
    "idempotency_key_missing": "Name the request with an Idempotency-Key header, the same at each retry.",
    "idempotency_key_too_long": "An Idempotency-Key has at most 255 characters.",
    "json_duplicate_key": "An object has the same key twice.",
    "json_invalid": "The body is not valid JSON.",
    "media_type_unsupported": "Send application/json in UTF-8, without content encoding.",
    "message_empty": "The message has no text.",
    "model_unknown": "The model is not one of those that this service offers.",
    "owner_invalid": "The path names a user by the base64url of the token's iss, a bar and its sub, without padding.",
    "parameter_duplicate": "A query parameter is given twice.",
    "parameter_invalid": "A query parameter has no valid value.",
    "parameter_unknown": "There is no such query parameter here; those that there are stand in errors.",
    "secret_not_new": "The new secret is the old one.",
    "secret_range": "The secret has not the form that the API's document says.",
    "secret_sha256_range": "The hash of the secret has not the form that the API's document says.",
    "stop_sequences_range": "There are too many stop sequences, or one of them is too long or blank.",
    "unknown_field": "There is no such field here; those that there are stand in errors.",
    "wrong_type": "A field has the wrong JSON type.",
}


def problem_of(error: errors.TurnlogError, *, is_anonymous: bool = False, is_admin: bool = False) -> Problem:
    """Returns the problem of the error's class, or of its nearest base that has one.

    A session that is not found says how to begin another one, as this kind of caller can.
    """
    if isinstance(error, errors.InvalidRequest):
        detail = _INVALID_DETAILS.get(error.code, "A field is out of its range.")
        where = {**({} if error.pointer is None else {"pointer": error.pointer}), **error.details}
        more = {"errors": [{"reason": error.code, **where}]} if where else {}
        status = next(_INVALID_STATUSES[kind] for kind in type(error).__mro__ if kind in _INVALID_STATUSES)
        return Problem(status, error.code, _INVALID_TITLES[status], detail, more)
    problem = next((PROBLEMS[kind] for kind in type(error).__mro__ if kind in PROBLEMS), INTERNAL)
    if problem is PROBLEMS[errors.SessionNotFound] and (is_admin or is_anonymous):
        return _NOT_FOUND_BY_ADMIN if is_admin else _NOT_FOUND_BY_SECRET
    if isinstance(error, errors.LimitReached):
        return replace(problem, more={**problem.more, "limit": error.limit})
    return problem
