"""The problem of each error: one table from its class to status and words (RFC 9457). Errors bring their own codes.

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


@dataclass(frozen=True, slots=True)
class Wording:
    """The HTTP side of an error, which brings its own code."""

    status: int
    title: str
    detail: str
    more: dict[str, Any] = field(default_factory=dict)


_NOT_STORED = {"stored": False, "retry": "same-key"}
_START_OVER = {"method": "POST", "href": "/v1/sessions"}
_START_OVER_BY_SECRET = {"method": "POST", "href": "/v1/anonymous/sessions"}

INTERNAL = Problem(500, "internal_error", "Internal error", "The request failed inside the service.")
ROUTE_NOT_FOUND = Problem(404, "route_not_found", "Not found", "There is no such route or method.")

WORDINGS: dict[type[errors.TurnlogError], Wording] = {
    errors.Unauthorized: Wording(
        401,
        "Unauthorized",
        "Send a valid token as Authorization: Bearer, or an anonymous session's secret as Authorization: Session. For "
        "Anthropic's clients the token is auth_token or ANTHROPIC_AUTH_TOKEN; x-api-key is not read.",
    ),
    errors.Forbidden: Wording(403, "Forbidden", "This caller may not use this route."),
    errors.SessionNotFound: Wording(
        404,
        "Session not found",
        "There is no such session, or it is gone. Start a new one with POST /v1/sessions.",
        {"start_over": _START_OVER},
    ),
    errors.KeyUsedUp: Wording(
        404,
        "Session not found",
        "The session that was made under this key or secret is gone, and no other is made under it: take another.",
    ),
    errors.TurnNotFound: Wording(404, "Turn not found", "The session has no such turn."),
    errors.TurnInProgress: Wording(
        409,
        "Turn in progress",
        "A turn of this session is running, maybe by this very request. Repeat it with the same Idempotency-Key; "
        "nothing was paid for this try.",
        {"retry": "same-key"},
    ),
    errors.LeaseLost: Wording(
        409,
        "Turn overtaken",
        "The turn took longer than its lease and another one took its place; it was not stored.",
        _NOT_STORED,
    ),
    errors.StreamOvertaken: Wording(
        409,
        "Turn overtaken",
        "Another request with the same Idempotency-Key stored this turn, and its reply is not the one that was shown "
        "here. Repeat the request with the same key to get the stored one.",
        {"stored": True, "retry": "same-key"},
    ),
    errors.MoveLost: Wording(
        409,
        "Session not moved",
        "Another request took the session meanwhile, and it is where it was; try again under a new key.",
    ),
    errors.AlreadyOwned: Wording(409, "Already owned", "The session is the caller's own already."),
    errors.KeyReused: Wording(
        422,
        "Idempotency key reused",
        "This key, or the secret of an anonymous session, already stands for a request with another body.",
    ),
    errors.TurnNumberTaken: Wording(
        409,
        "Another turn is next",
        "The request expects another number than next_turn, which the session's next turn has; nothing was paid.",
        {"stored": False},
    ),
    errors.TurnUnfinished: Wording(
        504,
        "Turn unfinished",
        "The turn needs more time than one request has. Its finished steps are kept and are not paid again: repeat the "
        "request with the same Idempotency-Key to go on.",
        {"retry": "same-key"},
    ),
    errors.TurnStopped: Wording(
        409, "Turn stopped", "The turn was stopped before anything of it was there.", {"stored": False}
    ),
    errors.TurnNotRunning: Wording(409, "Turn not running", "No turn of this number is running."),
    errors.ToolResultsExpected: Wording(
        409,
        "Tool results expected",
        "The last turn ended with calls of the caller's tools. The next message must have a tool_result for each; the "
        "ids of those without one stand in missing.",
        {"stored": False},
    ),
    errors.ToolResultUnexpected: Wording(
        422,
        "Tool result unexpected",
        "The message has a tool_result for which the last turn has no call, or two for one call.",
        {"stored": False},
    ),
    errors.SessionLimitReached: Wording(
        429,
        "Session limit reached",
        "The session has used up what it may. Fork it at an earlier turn with POST /v1/sessions/{id}/fork, or start a "
        "new one.",
        {"stored": False, "start_over": _START_OVER},
    ),
    errors.QuotaExceeded: Wording(429, "Quota used up", "The caller has used up its quota for now.", {"stored": False}),
    errors.QuotaTooSmall: Wording(
        422,
        "Quota too small",
        "The request could use more than this quota is in all, so waiting does not help: ask for a shorter reply or "
        "with a shorter message, or begin a new session.",
        {"stored": False},
    ),
    errors.TurnTooLarge: Wording(
        413,
        "Turn too large",
        "A turn holds at most 3.9 MB of message and reply, as JSON with its escapes, and an answer 5.6 MB, with the "
        "reply in it twice. A message has what the longest reply leaves, which is 16 bytes for each of max_tokens.",
        {"stored": False},
    ),
    errors.ErasureInProgress: Wording(
        409, "Erasure in progress", "All that is yours is being erased.", {"stored": False}
    ),
    errors.ClockBehind: Wording(503, "Service unavailable", "A clock of the service is wrong.", _NOT_STORED),
    errors.AttemptsExhausted: Wording(
        502,
        "Attempts exhausted",
        "Three tries under this key ended without a reply; send the turn under a new key.",
        {"stored": False},
    ),
    errors.SessionCorrupt: Wording(
        500, "Session damaged", "The stored conversation cannot be read; nothing was changed."
    ),
    errors.ItemVersionUnknown: Wording(
        503,
        "Stored by a later version",
        "A later version of the service stored this; it is whole, and nothing was changed. Try again later.",
        {"retry": "same-key"},
    ),
    errors.StoreUnavailable: Wording(
        503,
        "Service unavailable",
        "The store cannot be reached. Whether the request took effect is not known: repeat it under its key, if any.",
        {"retry": "same-key"},
    ),
    errors.QuotaUnavailable: Wording(
        503,
        "Service unavailable",
        "What the caller has used cannot be looked up; nothing was asked.",
        {"stored": False},
    ),
    errors.KeysUnavailable: Wording(503, "Service unavailable", "The keys of content cannot be had now.", _NOT_STORED),
    errors.SecretUnavailable: Wording(
        503,
        "Service unavailable",
        "A secret cannot be read; nothing was attempted.",
        _NOT_STORED,
    ),
    errors.IssuerUnavailable: Wording(503, "Service unavailable", "The token could not be checked. Try again."),
    errors.AuditUnavailable: Wording(
        503,
        "Service unavailable",
        "The request cannot be written into the audit trail, so it was not done.",
        _NOT_STORED,
    ),
    errors.ModelUnavailable: Wording(503, "Model unavailable", "The model takes no more requests now.", _NOT_STORED),
    errors.ModelAccessDenied: Wording(
        503, "Model unavailable", "The model's provider refuses this service.", _NOT_STORED
    ),
    errors.ModelCreditUsedUp: Wording(
        503,
        "Model unavailable",
        "The service's account with the model's provider has no credit; its owner must pay.",
        _NOT_STORED,
    ),
    errors.ModelNotFound: Wording(404, "Model not found", "This service offers no such model."),
    errors.ModelRetired: Wording(
        422,
        "Model retired",
        "The model has retired. Name another one, such as its successor; a session goes on with it as a fork, by "
        "POST /v1/sessions/{id}/fork.",
        {"stored": False},
    ),
    errors.ModelNotServed: Wording(
        502,
        "Model not served",
        "The model's provider serves no such model, or none any more. Name another one; a session goes on with it as "
        "a fork, by POST /v1/sessions/{id}/fork.",
        {"stored": False},
    ),
    errors.ContextTooLong: Wording(
        422,
        "Context too long",
        "The messages do not fit into the model's context: send less. Where it is a session's last turn that fills it, "
        "fork the session at an earlier one, or begin a new one.",
        {"stored": False},
    ),
    errors.ModelRejected: Wording(
        502,
        "Model refused the request",
        "The model's provider refuses the request.",
        {"stored": False},
    ),
    errors.ModelTimeout: Wording(
        504,
        "Model timeout",
        "The model did not answer within the time there was. A stream (POST …/stream) has up to 15 minutes.",
        _NOT_STORED,
    ),
    errors.ModelFailed: Wording(502, "Model failed", "The model's provider failed.", _NOT_STORED),
    errors.OutputInvalid: Wording(
        502,
        "Output invalid",
        "The reply is no object that the schema allows; stop_reason says how it ended. After max_tokens ask for more "
        "of them, and after refusal for something else. It was paid, and is not stored.",
        {"stored": False},
    ),
    errors.ModelProtocolError: Wording(502, "Model answered badly", "The model's answer was not whole.", _NOT_STORED),
}

_NOT_FOUND_BY_SECRET = replace(
    WORDINGS[errors.SessionNotFound],
    detail="There is no such session, or it is gone. Start a new one under another secret with "
    "POST /v1/anonymous/sessions.",
    more={"start_over": _START_OVER_BY_SECRET},
)

_NOT_FOUND_BY_ADMIN = replace(
    WORDINGS[errors.SessionNotFound], detail="There is no such session, or it is gone.", more={}
)

_RATE_OF_SESSION = replace(
    WORDINGS[errors.SessionLimitReached],
    detail="The session has used up what it may for now. Repeat the turn after Retry-After.",
    more={"stored": False},
)

_INVALID_STATUSES: dict[type, int] = {
    errors.InvalidRequest: 400,
    errors.ValueRefused: 422,
    errors.BodyStalled: 408,
    errors.BodyTooLarge: 413,
    errors.MediaTypeUnsupported: 415,
}

_INVALID_TITLES = {
    400: "Bad request",
    408: "Request timeout",
    413: "Content too large",
    415: "Unsupported media type",
    422: "Value refused",
}

_INVALID_DETAILS = {
    "base64_invalid": "The body, or the data of a block, is not valid base64 in one piece with its padding.",
    "beta_denied": "Unexpected value for the `anthropic-beta` header: the service does not pass this beta on.",
    "body_incomplete": "The connection ended before the body did.",
    "body_stalled": "No more of the body has come for 30 seconds.",
    "body_missing": "Send a JSON object as the body.",
    "block_type_unknown": "There is no such block here; those that there are stand in errors.",
    "body_too_large": "The body is larger than 262144 bytes, or 4500000 where there is a message, as it is sent: an "
    "escape such as \\u00e9 counts as six.",
    "citations_mixed": "Citations are enabled for all documents and search results of a conversation, or for none.",
    "citations_with_output": "A reply by a schema cannot cite: send documents and search results without citations.",
    "continuation_invalid": "The continuation is not one that this caller was given within the last 15 minutes.",
    "continuation_settles": "The continuation brings the settings of its question.",
    "control_character": "Text may hold no control characters but tab, line ends, form feed and escape; one line, "
    "such as a title, may hold none, nor invisible format characters.",
    "cursor_invalid": "The cursor is not one that this list gave.",
    "document_encrypted": "The PDF has a password or restrictions, so it cannot be read.",
    "document_invalid": "The PDF is damaged, or too intricate for its pages to be counted.",
    "document_not_text": "The document is no text in UTF-8, UTF-16 with a byte order mark, Windows-1252 or Latin-1.",
    "document_title_range": "The title of a document has at most 500 characters.",
    "document_too_long": "A request has at most 100 pages of PDFs.",
    "encoding_invalid": "The body is not UTF-8, or an escape in it is half of a surrogate pair.",
    "fallbacks_unnamed": "Name the fallback models: those that the provider chooses need not be on offer here.",
    "field_denied": "Extra inputs are not permitted: the service does not pass this field on.",
    "field_missing": "A required field is missing.",
    "header_denied": "The service does not pass this header on.",
    "header_duplicate": "A header that has one value is given twice.",
    "history_differs": "The messages hold replies that are not the newest ones of this session: send only what is new, "
    "or leave out Turnlog-Session.",
    "idempotency_key_invalid": "An Idempotency-Key consists of the visible ASCII characters 0x21 to 0x7E.",
    "idempotency_key_missing": "Name the request with an Idempotency-Key header, the same at each retry.",
    "idempotency_key_too_long": "An Idempotency-Key has at most 255 characters.",
    "image_invalid": "The header of the image is damaged or cut off, or says that it has no pixels.",
    "image_too_large": "An image has at most 8000 pixels a side, and 2000 in a request with more than 20 images.",
    "images_too_many": "A request has at most 100 images.",
    "json_too_deep": "The body is nested too deep.",
    "json_too_many_values": "The body has too many objects and lists.",
    "max_uses_missing": "Say max_uses of this tool: where there is a budget, the most that it can cost is reserved.",
    "max_uses_range": "A web tool is used 1 to 10 times in one call of the model.",
    "json_duplicate_key": "An object has the same key twice.",
    "json_invalid": "The body is not valid JSON.",
    "media_type_mismatch": "The data is of another type than its media_type says.",
    "media_type_unknown": "There is no such media_type here; those that there are stand in errors.",
    "media_type_unsupported": "Send Content-Type: application/json, in UTF-8 and without content encoding.",
    "message_empty": "The message, or a text in it, is empty or blank.",
    "message_missing": "The messages end with a reply, or there are none: a turn begins with a message of the user.",
    "metadata_range": "Metadata has at most 16 names of 1 to 64 characters A to Z, a to z, 0 to 9, _, . and -, each "
    "with a text of at most 512 characters.",
    "model_unknown": "The model is not one of those that this service offers.",
    "owner_invalid": "The path names a user by the base64url of the owner, as the API's document says.",
    "parameter_duplicate": "A query parameter is given twice.",
    "parameter_invalid": "A query parameter has no valid value.",
    "parameter_unknown": "There is no such query parameter here; those that there are stand in errors.",
    "possible_calls_range": "The request names too many models, fallbacks and advisors included.",
    "previous_message_unknown": "The newest message of the session is another one: send only what is new, without a "
    "thread.",
    "role_unknown": "There is no such role here; those that there are stand in errors.",
    "schema_invalid": "The schema is not that of an object, in the form that Claude takes.",
    "schema_not_strict": "A strict schema has closed objects (additionalProperties: false) and no bounds of values.",
    "schema_refers": "A schema refers to its own definitions alone, and none of them to itself.",
    "schema_too_complex": "A schema has at most 24 properties that are not required, 16 unions, 8 patterns and 5000 "
    "parts, where each reference counts as all that it leads to.",
    "schema_too_large": "A schema has at most 32768 bytes, and 32 levels.",
    "schema_unsatisfiable": "No value can meet the schema.",
    "secret_not_new": "The new secret is the old one.",
    "secret_range": "The secret is 43 characters: A to Z, a to z, 0 to 9, - and _.",
    "secret_sha256_range": "The hash of the secret is SHA-256 as 64 digits 0 to 9 and a to f.",
    "effort_range": "The model has no such level of effort; those that it has stand in errors.",
    "thinking_range": "The model does not think like this; errors say what would do.",
    "setting_settled": "The session settled this when it began: leave it out, or name it as it is.",
    "source_not_fetched": "Send the data itself: nothing is fetched from a URL, and no file of an account is reached.",
    "source_type_unknown": "There is no such source here; those that there are stand in errors.",
    "stop_sequences_range": "There are too many stop sequences, or one of them is too long or blank.",
    "text_too_large": "The body without its images and PDFs is larger than 262144 bytes as it is sent: an escape such "
    "as \\u00e9 counts as six.",
    "thread_unknown": "A thread is created, or continues after a message that is named.",
    "thread_unsupported_request": "`thread` is not supported here: send whole conversations.",
    "tool_choice_range": "tool_choice is auto or none.",
    "tool_denied": "The service does not offer this kind of tool; those that it does stand in details.",
    "tool_description_range": "The description of a tool has at most 10000 characters.",
    "tool_domains_range": "Name 1 to 50 domains, such as example.com, either as allowed or as blocked.",
    "tool_name_range": "The name of a tool has 1 to 64 characters: A to Z, a to z, 0 to 9, _ and -.",
    "tool_name_taken": "Another tool of the request, or of the service, has this name.",
    "tool_result_duplicate": "A call of a tool has one result.",
    "tool_result_misplaced": "Results of tools come before all other blocks of a message.",
    "tool_result_unexpected": "The result belongs to no call of a tool.",
    "tool_unknown": "The service has no such tool; those that it has stand in errors.",
    "tool_use_id_range": "The id of a call of a tool is that of the tool_use block: 1 to 256 letters, digits, - and _.",
    "tools_range": "A request has at most 64 tools.",
    "tools_too_large": "All tools together are too large, or more than 20 of them are strict.",
    "turnlog_session_invalid": "Turnlog-Session is the id of a session, or the word new.",
    "turnlog_user_invalid": "A Turnlog-User consists of the visible ASCII characters 0x21 to 0x7E.",
    "turnlog_user_too_long": "A Turnlog-User has at most 128 characters.",
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
    wording = next((WORDINGS[kind] for kind in type(error).__mro__ if kind in WORDINGS), None)
    if wording is None:
        return INTERNAL
    if wording is WORDINGS[errors.SessionNotFound] and (is_admin or is_anonymous):
        wording = _NOT_FOUND_BY_ADMIN if is_admin else _NOT_FOUND_BY_SECRET
    if isinstance(error, errors.SessionLimitReached) and error.retry_after_s is not None:
        wording = _RATE_OF_SESSION
    members = {**wording.more, **_facts(error)}
    if "start_over" in members and is_anonymous:
        members["start_over"] = _START_OVER_BY_SECRET
    return Problem(wording.status, error.code, wording.title, wording.detail, members)


def _facts(error: errors.TurnlogError) -> dict[str, Any]:
    if isinstance(error, errors.QuotaTooSmall):
        return {"limit": error.limit, "most": f"{error.most:f}", "needed": f"{error.needed:f}"}
    if isinstance(error, errors.LimitReached):
        return {"limit": error.limit}
    if isinstance(error, errors.ModelRetired | errors.ModelNotServed):
        return {"successor": error.successor} if error.successor else {}
    if isinstance(error, errors.TurnNumberTaken):
        return {"next_turn": error.next_turn}
    if isinstance(error, errors.OutputInvalid):
        return {"stop_reason": error.stop_reason}
    if isinstance(error, errors.ToolResultsExpected):
        return {"missing": list(error.missing)}
    return {}
