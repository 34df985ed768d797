"""The error envelope of the Messages API: every problem in the one form that Anthropic's clients read.

They look at the status, at `error.type`, and for our own code at `error.details.error_code`, which their SDKs show as
`error_code`. They repeat what has failed by themselves unless `x-should-retry` says that it is of no use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from turnlog.domain.reply_events import ReplyEvent
from turnlog.entrypoints.http.fields import described
from turnlog.entrypoints.http.problems import INTERNAL, Problem
from turnlog.entrypoints.http.replies import ResponseBody

LONGEST_WAIT_S = 60
"""The longest wait for which a client should try again by itself: its SDKs take no longer one either."""

_STATUSES = {
    # A model that is not on offer is one that is not found, for whoever asks Anthropic.
    "model_unknown": 404,
    "model_retired": 404,
    "context_too_long": 413,
}
"""The status of a code where the Messages API has another one for it than our own routes."""

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    415: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    504: "timeout_error",
}
_OTHER_TYPE = "api_error"
_OVERLOADED = {"model_unavailable": "overloaded_error"}

_SIGN_IN = (
    "Send the token of your sign-in as Authorization: Bearer. In Anthropic's SDKs it is auth_token, in the environment "
    "ANTHROPIC_AUTH_TOKEN; x-api-key and ANTHROPIC_API_KEY are for Anthropic's own keys, and are not read here."
)
_TOO_LARGE = "It is more than the context window here takes: send less."  # some clients shorten a conversation at this
_WORDS = {
    "unknown_field": "Extra inputs are not permitted: the fields that there are here stand in details.",
}
"""Words that some clients look for, in the place of our own."""

_MORE = {
    "turn_in_progress": "Anthropic's SDKs repeat it for about ten seconds; max_retries makes that longer.",
}
"""Words for what these clients do."""

_NOT_REPEATED = {"x-should-retry": "false"}


class ErrorFields(ResponseBody):
    """The kind of an error, its words, and what programs should know of it."""

    type: Annotated[str, described("The kind of error, in the Messages API's words.", "invalid_request_error")]
    message: Annotated[str, described("The reason, in words for people.", "A field has the wrong JSON type.")]
    details: Annotated[
        dict[str, Any], described("Our code as `error_code`, and what belongs to it.", {"error_code": "wrong_type"})
    ]


class ErrorEnvelope(ResponseBody):
    """The body of every error of the Messages API."""

    type: Annotated[Literal["error"], described("Always `error`.")]
    error: Annotated[ErrorFields, described("The error.")]
    request_id: Annotated[str, described("The request's id, as in the log.", "7f5d0ab5")]


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """An error as an answer: its status, its body and the headers that belong to it."""

    status: int
    body: ErrorEnvelope
    headers: dict[str, str]


def problem_answer(
    problem: Problem, request_id: str, retry_after_s: int | None = None, *, has_key: bool = False
) -> ErrorAnswer:
    """Returns the answer to a request with (`has_key`) or without an Idempotency-Key that has this problem."""
    status = _STATUSES.get(problem.code, problem.status)
    fields = ErrorFields(
        type=error_type(problem.code, status),
        message=_message(problem, status),
        details=_details(problem, retry_after_s, has_key=has_key),
    )
    body = ErrorEnvelope(type="error", error=fields, request_id=request_id)
    headers = {"request-id": request_id}
    if retry_after_s is not None:
        headers["Retry-After"] = str(retry_after_s)
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if not _is_worth_repeating(problem, status, retry_after_s):
        headers |= _NOT_REPEATED
    return ErrorAnswer(status, body, headers)


def error_type(code: str, status: int) -> str:
    """Returns the kind of error, in the Messages API's words, of the problem with this code and status."""
    return _OVERLOADED.get(code) or _TYPES.get(status, _OTHER_TYPE)


def error_event(answer: ErrorAnswer) -> ReplyEvent:
    """Returns the event that tells of an error after the first byte, when no status can say it any more."""
    return ReplyEvent("error", answer.body.to_json())


def _message(problem: Problem, status: int) -> str:
    if status == 401:
        return _SIGN_IN
    refused = _refused(problem)
    pointer, allowed = refused.get("pointer"), refused.get("allowed")
    where = f" See {pointer}." if pointer else ""
    which = f" Here it is {allowed[0]}." if allowed and problem.code == "setting_settled" else ""
    more = _TOO_LARGE if status == 413 else _MORE.get(problem.code, "")
    # Problems have what would do in `errors`, and this form has it in `details`.
    said = _WORDS.get(problem.code) or problem.detail.replace("stand in errors", "stand in details")
    return f"{said}{where}{which}{more and ' '}{more}"


def _details(problem: Problem, retry_after_s: int | None, *, has_key: bool) -> dict[str, Any]:
    """The problem's members, with those of the part that is refused among them."""
    more = {name: value for name, value in problem.more.items() if name != "errors"}
    if "retry" in more and not has_key:
        more["retry"] = "again"
    if retry_after_s is not None:
        more["retry_after"] = retry_after_s
    refused = {name: value for name, value in _refused(problem).items() if name != "reason"}
    return {"error_code": problem.code, **refused, **more}


def _refused(problem: Problem) -> dict[str, Any]:
    parts: list[dict[str, Any]] = problem.more.get("errors") or [{}]
    return parts[0]


def _is_worth_repeating(problem: Problem, status: int, retry_after_s: int | None) -> bool:
    """False if the client should not repeat the request by itself.

    Nothing is said against a repeat of what no client repeats as it is; some send it again with less in it.
    """
    if retry_after_s is not None:
        return retry_after_s <= LONGEST_WAIT_S
    if status in (401, 409, 422, 429):  # of these only what says when may pass
        return False
    return status < 500 or "retry" in problem.more or problem is INTERNAL
