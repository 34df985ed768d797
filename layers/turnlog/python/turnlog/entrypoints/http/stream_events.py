"""The events of ours in a stream, beside those of the Messages API: one model for each."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import create_model

from turnlog.entrypoints.http import document_replies, replies
from turnlog.entrypoints.http.fields import count, described
from turnlog.entrypoints.http.problem_body import Problem
from turnlog.entrypoints.http.replies import AnyReply, ResponseBody

SHOWN = ("text", "content", "steps", "results")
"""The fields of a whole answer that its stream has shown before the last event."""

_KEY = "The request's Idempotency-Key."
_REPLAYED = "True if the turn was stored before, under the same key."
_WORK = "The state of it."


def _type(name: str) -> Any:
    return described("The event's name.", name)


class TurnEvent(ResponseBody):
    """The first event. A stored turn, which comes at once, says so."""

    type: Annotated[Literal["turnlog.turn"], _type("turnlog.turn")]
    model: Annotated[str | None, described("The model that is asked, of a question.", "claude-sonnet-5-5")] = None
    session_id: Annotated[str | None, described("The session's id.", "ses_Zm9yIGV4YW1wbGUgb25seQ")] = None
    turn: Annotated[int | None, count("The turn's number.", 1, minimum=1)] = None
    replayed: Annotated[bool | None, described(_REPLAYED, False)] = None
    idempotency_key: Annotated[str | None, described(_KEY, "4b1f")] = None


class ToolEvent(ResponseBody):
    """A tool of the service begins to run, or has ended."""

    type: Annotated[Literal["turnlog.tool"], _type("turnlog.tool")]
    id: Annotated[str, described("The id of its call, as in the block that was shown.", "toolu_01A09q90")]
    name: Annotated[str, described("The tool's name.", "current_time")]
    status: Annotated[Literal["running", "done", "failed"], described(_WORK, "running")]


class PartEvent(ResponseBody):
    """A part of a long document has been read."""

    type: Annotated[Literal["turnlog.part"], _type("turnlog.part")]
    number: Annotated[int, count("The part's number.", 1, minimum=1)]
    count: Annotated[int, count("The number of parts.", 3, minimum=1)]
    status: Annotated[Literal["done"], described(_WORK, "done")]


class LeftOutEvent(ResponseBody):
    """A block that was shown is not kept: the reply was stopped, or ended, within it."""

    type: Annotated[Literal["turnlog.left_out"], _type("turnlog.left_out")]
    index: Annotated[int, count("The block's index.", 2)]


class StreamError(ResponseBody):
    """An error in the form of the Messages API."""

    type: Annotated[str, described("The kind of error.", "api_error")]
    message: Annotated[str, described("The reason, in words for people.", "The model's provider failed.")]
    details: Annotated[dict[str, str], described("The problem's code.", {"error_code": "model_failed"})]


class ErrorEvent(ResponseBody):
    """The last event of a stream that fails, in place of `message_stop` and `turnlog.done`."""

    type: Annotated[Literal["error"], _type("error")]
    error: Annotated[StreamError, described("The error, as the Messages API tells of errors.")]
    request_id: Annotated[str, described("The request's id, as in the log.", "7f5d0ab5")]
    problem: Annotated[Problem, described("The answer that the request would have got before its first event.")]


def _done(reply: type[AnyReply], name: str, **more: Any) -> type[ResponseBody]:
    """Returns the model of the last event of a stream: its whole answer without what was shown."""
    parts: dict[str, Any] = {"type": (Annotated[Literal["turnlog.done"], _type("turnlog.done")], ...)}
    parts |= {field: (each.annotation, each) for field, each in reply.model_fields.items() if field not in SHOWN}
    said = f"The last event: what a {reply.__name__} says beside `text`, `content`, `steps` and `results`."
    return create_model(name, __base__=ResponseBody, __doc__=said, __module__=__name__, **parts, **more)


QueryDone = _done(replies.Reply, "QueryDone")
AnalyzeDone = _done(document_replies.AnalyzeReply, "AnalyzeDone")
SummarizeDone = _done(document_replies.SummarizeReply, "SummarizeDone")
TurnDone = _done(replies.TakenTurn, "TurnDone", replayed=(Annotated[bool, described(_REPLAYED, False)], ...))

_ALWAYS: dict[str, type[ResponseBody]] = {"turnlog.turn": TurnEvent, "error": ErrorEvent}
_WITH_TOOLS: dict[str, type[ResponseBody]] = {
    **_ALWAYS,
    "turnlog.tool": ToolEvent,
    "turnlog.left_out": LeftOutEvent,
}
_IN_PARTS: dict[str, type[ResponseBody]] = {**_ALWAYS, "turnlog.part": PartEvent}

OF_QUERY = _WITH_TOOLS | {"turnlog.done": QueryDone}
OF_ANALYZE = _IN_PARTS | {"turnlog.done": AnalyzeDone}
OF_SUMMARIZE = _IN_PARTS | {"turnlog.done": SummarizeDone}
OF_TURN = _WITH_TOOLS | {"turnlog.done": TurnDone}
"""The events of each stream, by name."""
