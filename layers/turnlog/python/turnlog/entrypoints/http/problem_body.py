"""The body of every error (RFC 9457): one model, for the JSON that is sent and for the API's document."""

from __future__ import annotations

from typing import Annotated, Literal

from turnlog.entrypoints.http import problems
from turnlog.entrypoints.http.fields import count, described
from turnlog.entrypoints.http.replies import ResponseBody

_FIELD = "The number of the field among those of its object, where its name is the caller's text."


class RefusedPart(ResponseBody):
    """A part of the request that is refused, and what would do there."""

    reason: Annotated[str, described("The code of the rule that is broken.", "wrong_type")]
    pointer: Annotated[str | None, described("The place in the body (RFC 6901).", "/message")] = None
    field: Annotated[int | None, count(_FIELD, 2, minimum=1)] = None
    line: Annotated[int | None, count("The line at which the body stops being JSON.", 1, minimum=1)] = None
    column: Annotated[int | None, count("The byte of that line, from 1; 0 for its beginning.", 17)] = None
    parameter: Annotated[str | None, described("The query parameter.", "limit")] = None
    allowed: Annotated[list[str] | None, described("The names or values that would do, if any.")] = None
    minimum: Annotated[int | None, count("The smallest number that would do.", 1)] = None
    maximum: Annotated[int | None, count("The largest number that would do.", 16_000)] = None
    min_length: Annotated[int | None, count("The fewest characters of a text.", 10)] = None
    max_length: Annotated[int | None, count("The most characters of a text, or items of an array or object.", 200)] = (
        None
    )
    pattern: Annotated[
        str | None, described("The form of a text or a name, as a regular expression.", "^[0-9a-f]{64}$")
    ] = None


class StartOver(ResponseBody):
    """The request that begins a new session, for such a caller."""

    method: Annotated[Literal["POST"], described("The request's method.")]
    href: Annotated[Literal["/v1/sessions", "/v1/anonymous/sessions"], described("The request's path.")]


_TYPE = "urn:turnlog:problem:"
_DETAIL = "The reason, in words for people; a fixed text for each code."
_RETRY = (
    "The request can be repeated: `same-key`, under its Idempotency-Key if it has one; `again`, as it is, since it has "
    "none."
)

_STORED = "False: nothing of the request was kept. True: its turn was, and the same key gets it."


class Problem(ResponseBody):
    """The form of every error (RFC 9457)."""

    type: Annotated[str, described("The reason as a URI.", _TYPE + "internal_error", pattern=f"^{_TYPE}[a-z0-9_]+$")]
    title: Annotated[str, described("The reason in short.", "Internal error")]
    status: Annotated[int, described("The HTTP status.", minimum=400, maximum=599)]
    detail: Annotated[str, described(_DETAIL, "The request failed inside the service.")]
    instance: Annotated[str, described("The request's id, as in the log.", "urn:req:7f5d0ab5", pattern="^urn:req:")]
    code: Annotated[str, described("The reason, for programs.", "internal_error")]
    errors: Annotated[list[RefusedPart] | None, described("The parts of the request that are refused.")] = None
    stored: Annotated[bool | None, described(_STORED, False)] = None
    retry: Annotated[Literal["same-key", "again"] | None, described(_RETRY)] = None
    limit: Annotated[str | None, described("The limit that was reached.", "session_turns")] = None
    most: Annotated[str | None, described("All that the limit allows in its period, as a decimal.", "100")] = None
    needed: Annotated[str | None, described("The most that the request could use of it, as a decimal.", "193")] = None
    start_over: Annotated[StartOver | None, described("The request that begins a new session.")] = None
    successor: Annotated[str | None, described("The model to name instead.", "claude-sonnet-5-5")] = None
    next_turn: Annotated[int | None, count("The number that the next turn gets.", 3, minimum=1)] = None
    stop_reason: Annotated[
        str | None, described("The reason why the reply ended, in Claude's words.", "max_tokens")
    ] = None
    missing: Annotated[list[str] | None, described("The ids of the calls whose results are missing.")] = None
    retry_after: Annotated[int | None, count("Seconds after which a repeat may succeed.", 2, minimum=1)] = None


def problem_body(
    problem: problems.Problem, request_id: str, retry_after_s: int | None = None, *, has_key: bool = True
) -> Problem:
    """Returns the problem as it is sent, for a request with (`has_key`) or without an Idempotency-Key."""
    more = dict(problem.more)
    if "retry" in more and not has_key:
        more["retry"] = "again"
    if retry_after_s is not None:
        more["retry_after"] = retry_after_s
    return Problem(
        type=_TYPE + problem.code,
        title=problem.title,
        status=problem.status,
        detail=problem.detail,
        instance=f"urn:req:{request_id}",
        code=problem.code,
        **more,
    )
