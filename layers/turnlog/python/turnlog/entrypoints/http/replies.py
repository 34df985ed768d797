"""The bodies of answers. One model for each: the JSON that is sent and the API's document both come from it.

A field whose default is None may be missing, and is then left out of the JSON; null is sent only where the type of a
field without a default allows it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict

from turnlog.clock import rfc3339
from turnlog.domain import documents, messages, sessions, turns
from turnlog.domain.notices import NoticeCode, notice_of
from turnlog.domain.output.replies import output_in
from turnlog.domain.turns import Turn as StoredTurn
from turnlog.entrypoints.http import fields
from turnlog.entrypoints.http.fields import count, described, time
from turnlog.errors import OutputInvalid
from turnlog.usecases import turn_protocol

SHOWN = ("text", "content", "steps", "results")
"""The fields of a reply that a stream has shown before its last event."""

_SOON_MS = 5 * 60 * 1000
_EXPIRES_SOON = "The session ends soon, whatever happens. A fork of it goes on."
_IDLE_EXPIRES_SOON = "The session ends soon unless another turn begins."
_ANSWER = "A heron is a long-legged bird."
_BLOCKS = [{"type": "text", "text": _ANSWER}]
_ASKED = [{"type": "text", "text": "What is a heron?"}]
_USAGE = {"input_tokens": 9, "output_tokens": 20}
_NOTHING_SAID = "The model had nothing to say. Ask for what is missing, or go on."
_PROVIDER_REQUEST = "The provider's name of the call, for which its support asks; not that of the request to Turnlog."
_CALLED = [{"type": "tool_use", "id": "toolu_01A09q90", "name": "current_time", "input": {"zone": "Europe/Zurich"}}]
_RESULTS = [{"type": "tool_result", "tool_use_id": "toolu_01A09q90", "content": '{"time":"2026-11-25T10:00:00+01:00"}'}]
_LAST_RESULTS = "The results of the reply's own tools, where the model has not been asked again after them."
_OUTPUT = "The object that the reply is, which fits the `output` of the request; missing while tools are called."
_TURN_OUTPUT = (
    "The object that the reply is, if the session has a schema; missing in a turn that did not end by itself."
)
_CONTINUATION = (
    "Question and reply, encrypted for the caller alone and good for 15 minutes, with which a session can begin; null "
    "when it would be too large for a request."
)


class ResponseBody(BaseModel):
    """The body of an answer. Objects in answers may gain fields, so that the document forbids none."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    def to_json(self) -> str:
        """Compact JSON of the fields that were set. Content from Claude comes out equal to what was received."""
        return json.dumps(self, default=_set_fields, ensure_ascii=False, separators=(",", ":"))

    def fields_but(self, *names: str) -> dict[str, Any]:
        """The fields that were set, but for these, as plain JSON values."""
        left = {name: value for name, value in _set_fields(self).items() if name not in names}
        plain: dict[str, Any] = json.loads(json.dumps(left, default=_set_fields))
        return plain


def _set_fields(body: ResponseBody) -> dict[str, Any]:
    # Not model_dump: it would walk through the content, and refuse what is nested more than 255 deep.
    return {name: value for name, value in vars(body).items() if name in body.model_fields_set}


class Notice(ResponseBody):
    """A fact about a reply that its text and stop reason do not say."""

    code: Annotated[NoticeCode, described("The fact, for programs.")]
    detail: Annotated[str, described("The fact, in words for people.", _NOTHING_SAID)]


class Step(ResponseBody):
    """A call of the model before the last one, after which it went on by itself."""

    content: Annotated[fields.Blocks, described("The blocks of its reply, as Claude sent them.", _CALLED)]
    results: Annotated[fields.Blocks | None, described("The results of its tools, as blocks.", _RESULTS)] = None
    model: fields.Model
    usage: Annotated[dict[str, Any], described("The tokens that it used, in Claude's own fields.", _USAGE)]
    cost_usd: fields.Dollars
    message_id: Annotated[
        str | None, described("The provider's name of its reply.", "msg_01XFDUDYJgAACzvnptvVoYEL")
    ] = None


class AnyReply(ResponseBody):
    text: Annotated[str, described("The text of the reply.", _ANSWER)]
    content: Annotated[fields.Blocks, described("The reply's blocks, as Claude sent them.", _BLOCKS)]
    model: fields.Model
    stop_reason: Annotated[str, described("The reason why the reply ends, in Claude's words.", "end_turn")]
    usage: Annotated[dict[str, Any], described("The tokens that the reply used, in Claude's own fields.", _USAGE)]
    cost_usd: fields.Dollars
    message_id: Annotated[str | None, described("Claude's own name of the reply.", "msg_01XFDUDYJgAACzvnptvVoYEL")] = (
        None
    )
    provider_request_id: Annotated[str | None, described(_PROVIDER_REQUEST, "req_018EeWyXxfu5pfWkrYcMdjWG")] = None
    stop_sequence: Annotated[str | None, described("The text at which the reply stopped.", "END")] = None
    stop_details: Annotated[dict[str, Any] | None, described("What Claude says about the stop, in its own fields.")] = (
        None
    )
    notice: Annotated[Notice | None, described("What the text and the stop reason do not say.")] = None
    results: Annotated[fields.Blocks | None, described(_LAST_RESULTS, _RESULTS)] = None
    steps: Annotated[list[Step] | None, described("The calls before, when the model used tools and went on.")] = None

    @classmethod
    def of_reply(cls, reply: messages.Reply, usage: messages.Usage, cost_usd: Decimal | None, **more: Any) -> Self:
        return cls(
            content=reply.message.blocks,
            model=reply.model,
            stop_reason=reply.stop_reason,
            usage=usage.fields,
            cost_usd=decimal_text(cost_usd),
            **_if_any(message_id=reply.id, provider_request_id=reply.request_id, stop_sequence=reply.stop_sequence),
            **_if_any(stop_details=json.loads(reply.stop_details or "null"), notice=_notice(reply)),
            **{"text": reply.text, **more},
        )


class Reply(AnyReply):
    """Claude's reply."""

    output: Annotated[dict[str, Any] | None, described(_OUTPUT, {"legs": 2})] = None
    continuation: Annotated[str | None, described(_CONTINUATION, type=["string", "null"])] = None

    @classmethod
    def of(
        cls, reply: messages.Reply, cost_usd: Decimal | None, *, steps: Sequence[turns.Step] = (), **more: Any
    ) -> Self:
        """The reply after these steps, at the cost of all; what is given of `more` is sent, also if it is None."""
        usage = messages.total_usage([*(step.call.usage for step in steps), reply.usage])
        said = [message for step in steps for message in step.messages]
        before = {"steps": _steps(said, [step.call for step in steps])} if steps else {}
        return cls.of_reply(reply, usage, cost_usd, **before, **more)


class ExpiryWarning(ResponseBody):
    """A hint for people that the session ends soon."""

    code: Annotated[Literal["expires_soon", "idle_expires_soon"], described("The reason, for programs.")]
    at: Annotated[str, time("The time at which it happens.", "10:00")]
    detail: Annotated[str, described("The reason, in words for people.", _EXPIRES_SOON)]


WarningOfExpiry = Annotated[ExpiryWarning, described("A hint for people, when less than five minutes are left.")]


class TakenTurn(AnyReply):
    """The reply of a turn, and the times at which its session ends."""

    output: Annotated[dict[str, Any] | None, described(_TURN_OUTPUT, {"legs": 2})] = None
    session_id: fields.SessionId
    turn: fields.TurnNumber
    expires_at: fields.ExpiresAt
    idle_expires_at: fields.IdleExpiresAt
    warning: WarningOfExpiry | None = None

    @classmethod
    def of(cls, taken: turn_protocol.TakenTurn) -> Self:
        """The turn as it was taken, so that a replay says the same."""
        session, turn = taken.view.session, taken.turn
        return cls.of_reply(
            turn.reply,
            turn.usage,
            turn.cost_usd,
            session_id=session.id,
            turn=turn.number,
            expires_at=rfc3339(session.expires_ms),
            idle_expires_at=rfc3339(taken.idle_expires_ms),
            **_output(turn.reply, session.settings.output_schema),
            **_before_the_end(turn),
            **_warning(session.expires_ms, taken.idle_expires_ms, turn.at_ms),
        )


class Stopping(ResponseBody):
    """A running turn that was asked to stop; read the turn to see what there is of it."""

    session_id: fields.SessionId
    turn: fields.TurnNumber
    status: Annotated[Literal["stopping"], described("Always `stopping`.")]


class _Question(ResponseBody):
    turn: fields.TurnNumber
    at: Annotated[str, time("The time of the turn.", "09:00")]
    message: Annotated[fields.Blocks, described("The caller's message, as blocks.", _ASKED)]
    system: Annotated[str | None, described("The instructions from this turn on, if it changed them.")] = None


class Turn(AnyReply, _Question):
    """A finished turn."""

    @classmethod
    def of(cls, turn: StoredTurn) -> Self:
        """The turn as it is stored."""
        return cls.of_reply(
            turn.reply,
            turn.usage,
            turn.cost_usd,
            turn=turn.number,
            at=rfc3339(turn.at_ms),
            message=turn.message.blocks,
            **_if_any(system=next((each.text for each in turn.messages if each.role == "system"), "")),
            **_before_the_end(turn),
        )


class Turns(ResponseBody):
    """Finished turns, oldest first. A page of large turns is shorter than its limit."""

    items: Annotated[list[Turn], fields.Items]
    next: fields.Next


class _State(ResponseBody):
    model: fields.Model
    created_at: Annotated[str, time("The time at which the session was created.", "09:00")]
    active_at: Annotated[str, time("The time at which the session was last used.", "09:00")]
    expires_at: fields.ExpiresAt
    idle_expires_at: fields.IdleExpiresAt
    turns: Annotated[int, count("The number of finished turns.", 1)]
    turn_in_progress: Annotated[bool, described("True while a turn is running.", False)]
    tokens: Annotated[int, count("All tokens that the session's turns have used.", 29)]
    cost_usd: fields.Dollars

    @classmethod
    def _of(cls, view: sessions.SessionView, now_ms: int, **more: Any) -> Self:
        return cls(
            model=view.session.settings.model,
            created_at=rfc3339(view.session.created_ms),
            active_at=rfc3339(view.active_ms),
            expires_at=rfc3339(view.session.expires_ms),
            idle_expires_at=rfc3339(view.idle_expires_ms),
            turns=view.count,
            turn_in_progress=view.running_at(now_ms),
            tokens=view.totals.tokens,
            cost_usd=decimal_text(view.totals.cost_usd),
            **more,
        )


class _Name(ResponseBody):
    session_id: fields.SessionId
    title: Annotated[str, described("The session's title, one line.", "Herons", maxLength=200)]
    metadata: Annotated[dict[str, str], described("The caller's own names and values.", {"topic": "birds"})]


class ListedSession(_State, _Name):
    """A session as lists show it: without the system prompt, which may be as long as a request."""

    @classmethod
    def of(cls, view: sessions.SessionView, now_ms: int) -> Self:
        """The session as it stands at `now_ms`."""
        return cls._of(view, now_ms, session_id=view.session.id, title=view.title, metadata=dict(view.metadata))


class Session(_State, _Name):
    """A session, without the content of its turns."""

    system: Annotated[str, described("The system prompt.", "Answer in one sentence.")]
    max_tokens: Annotated[int, count("The most tokens of a reply.", 4096, minimum=1)]
    cache: Annotated[str, described("How long the provider caches after each turn.", "5m")]
    stop_sequences: Annotated[list[str] | None, described("Texts at which a reply ends.")] = None
    thinking: Annotated[dict[str, Any] | None, described("How the model thinks, in the API's own form.")] = None
    effort: Annotated[str | None, described("How much work the model puts into a reply.", "high")] = None
    tools: Annotated[list[str] | None, described("The names of the tools that it may use.", ["current_time"])] = None
    output: Annotated[dict[str, Any] | None, described("The schema of every reply, in Turnlog's form.")] = None
    tool_choice: Annotated[str | None, described("Whether it uses them.", "auto")] = None
    warning: WarningOfExpiry | None = None

    @classmethod
    def of(cls, view: sessions.SessionView, now_ms: int) -> Self:
        """The session as it stands at `now_ms`."""
        session = view.session
        return cls._of(
            view,
            now_ms,
            session_id=session.id,
            title=view.title,
            metadata=dict(view.metadata),
            system=session.settings.system,
            max_tokens=session.settings.max_tokens,
            cache=session.settings.cache,
            **_if_any(
                stop_sequences=list(session.settings.stop_sequences),
                thinking=json.loads(session.settings.thinking or "null"),
                effort=session.settings.effort,
                tools=[each["name"] for each in json.loads(session.settings.tools or "[]")],
                output=json.loads(session.settings.output_schema or "null"),
                tool_choice=session.settings.tool_choice,
            ),
            **_warning(session.expires_ms, view.idle_expires_ms, now_ms),
        )


class Sessions(ResponseBody):
    """The caller's sessions: by last use or, of many, by creation, newest first."""

    items: Annotated[list[ListedSession], fields.Items]
    damaged: fields.DamagedIds
    unavailable: fields.UnavailableIds
    unnamed: fields.Unnamed
    next: fields.Next


class _RefName(ResponseBody):
    ref: fields.Ref


class UsersSession(_State, _RefName):
    """A session as administrators see it."""

    @classmethod
    def of(cls, ref: str, view: sessions.SessionView, now_ms: int) -> Self:
        """The session as it stands at `now_ms`; neither its id nor its title and metadata."""
        return cls._of(view, now_ms, ref=ref)


class UsersSessions(ResponseBody):
    """A user's sessions: by last use or, of many, by creation, newest first."""

    items: Annotated[list[UsersSession], fields.Items]
    damaged: Annotated[list[fields.Ref], described("Refs of sessions that cannot be read and can only be deleted.", [])]
    unavailable: Annotated[list[fields.Ref], described(f"Refs of sessions {fields.STORED_LATER}", [])]
    unnamed: fields.Unnamed
    next: fields.Next


class Terminated(ResponseBody):
    """The outcome for a user's sessions."""

    ended: Annotated[int, count("The number of sessions that were deleted.", 3)]
    left: Annotated[
        int, count("The number of sessions that are left for want of time: repeat the request until it is 0.", 0)
    ]


WholeSession = Annotated[Session, described("The session.")]
FinishedTurns = Annotated[list[Turn], described("Finished turns, oldest first.")]


class ExportedSession(ResponseBody):
    """A session and its turns; one that goes on in the next part comes again."""

    session: WholeSession
    turns: FinishedTurns

    @classmethod
    def of(cls, view: sessions.SessionView, stored: Sequence[StoredTurn], now_ms: int) -> Self:
        """The session as it stands at `now_ms`, with these turns."""
        return cls(session=Session.of(view, now_ms), turns=[Turn.of(turn) for turn in stored])


class Export(ResponseBody):
    """All that is kept of a session, or a part of it: a `next` that is not null is the `cursor` of the next part."""

    format: Annotated[Literal["turnlog-session-1"], fields.Format]
    exported_at: fields.ExportedAt
    session: WholeSession
    turns: FinishedTurns
    next: fields.Next


class ExportedDocument(ResponseBody):
    """A document or a summary."""

    key: Annotated[str, described("The name in the bucket.", "inbox/q3S…/notes.txt")]
    bytes: Annotated[int, count("The size in bytes.", 1024)]
    at: Annotated[str, time("The time at which it was written.", "08:00")]

    @classmethod
    def of(cls, document: documents.Document) -> Self:
        """The document without its content."""
        return cls(key=document.key, bytes=document.size, at=rfc3339(document.at_ms))


class UserExport(ResponseBody):
    """All that is kept of a user, or a part of it: a `next` that is not null is the `cursor` of the next part."""

    format: Annotated[Literal["turnlog-user-1"], fields.Format]
    exported_at: fields.ExportedAt
    sessions: Annotated[list[ExportedSession], described("Sessions, each with its turns.")]
    damaged: fields.DamagedIds
    unavailable: fields.UnavailableIds
    unnamed: fields.Unnamed
    documents: Annotated[list[ExportedDocument], described("The contents of the bucket; in the first part.")]
    next: fields.Next


class Erasure(ResponseBody):
    """A receipt, once nothing is left; until then the progress of an erasure that a repeat goes on with."""

    erased_at: Annotated[str | None, time("The time at which nothing was left; null before.", "09:20")]
    sessions: Annotated[int, count("The number of sessions that this request removed.", 2)]
    documents: Annotated[int, count("The number of documents and summaries that this request removed.", 1)]
    left: Annotated[
        int, count("The number of sessions that are left for want of time: repeat the request until it is 0.", 0)
    ]


class Health(ResponseBody):
    """The service answers."""

    status: Annotated[Literal["ok"], described("Always `ok`.")]
    version: Annotated[str, described("The version of the service.", "0.1.0")]


class Document(ResponseBody):
    """An OpenAPI document."""

    openapi: Annotated[str, described("The version of OpenAPI.", "3.1.1")]
    info: Annotated[dict[str, Any], described("The API's name and version.", {"title": "Turnlog", "version": "0.1.0"})]
    servers: Annotated[
        list[dict[str, Any]],
        described("The addresses of the API.", [{"url": "https://{api}.execute-api.{region}.amazonaws.com/v1"}]),
    ]
    tags: Annotated[list[dict[str, Any]], described("The groups of routes.", [{"name": "Sessions"}])]
    paths: Annotated[dict[str, Any], described("The routes.", {})]
    components: Annotated[dict[str, Any], described("The parts to which the routes refer.", {})]


def _if_any(**given: Any) -> dict[str, Any]:
    """Returns the fields that have a value, since others are left out of the JSON."""
    return {name: value for name, value in given.items() if value}


def _output(reply: messages.Reply, schema: str) -> dict[str, Any]:
    """Returns the object of a turn's reply; nothing where there is no schema, or the turn was stopped before."""
    try:
        output = output_in(reply, schema) if schema else None
    except OutputInvalid:
        output = None
    return {} if output is None else {"output": output}


def _notice(reply: messages.Reply) -> Notice | None:
    found = notice_of(reply)
    return Notice(code=found.code, detail=found.detail) if found else None


def _steps(said: Sequence[messages.Message], calls: Sequence[turns.ModelCall]) -> list[Step]:
    """The steps in these messages, of which each one of the model begins one; `calls` has its call."""
    found: list[dict[str, Any]] = []
    for message in said:
        if message.role == "assistant":
            call = calls[len(found)]
            named = {"message_id": call.id} if call.id else {}
            of_call = {"model": call.model, "usage": call.usage.fields, "cost_usd": decimal_text(call.cost_usd)}
            found.append({"content": message.blocks, **of_call, **named})
        elif found and message.role == "user":
            found[-1].setdefault("results", []).extend(message.blocks)
    return [Step(**each) for each in found]


def _before_the_end(turn: StoredTurn) -> dict[str, Any]:
    """The turn's steps, and the results of its last reply; neither where there are none."""
    *steps, last = _steps(turn.messages, turn.calls)
    return {**({"steps": steps} if steps else {}), **({"results": last.results} if last.results else {})}


def decimal_text(amount: Decimal | None) -> str | None:
    """Returns dollars as an exact decimal: a string, since many readers would round a JSON number."""
    return None if amount is None else f"{amount:f}"


def _warning(expires_ms: int, idle_expires_ms: int, now_ms: int) -> dict[str, ExpiryWarning]:
    """Returns the warning when the session ends soon: first of the end that no turn can put off."""
    if expires_ms - now_ms < _SOON_MS:
        return {"warning": ExpiryWarning(code="expires_soon", at=rfc3339(expires_ms), detail=_EXPIRES_SOON)}
    if idle_expires_ms - now_ms < _SOON_MS:
        return {
            "warning": ExpiryWarning(code="idle_expires_soon", at=rfc3339(idle_expires_ms), detail=_IDLE_EXPIRES_SOON)
        }
    return {}
