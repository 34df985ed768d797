"""What the shapes of answers look like from outside: a JSON Schema for each, which tests hold to real answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from turnlog.entrypoints.http.openapi.fields import FIELDS

Schema = dict[str, Any]


def fields(properties: Mapping[str, Schema]) -> dict[str, Schema]:
    """The properties, each with its meaning: one of its own, or what the name means everywhere."""
    return {
        name: schema if "description" in schema else {"description": FIELDS[name], **schema}
        for name, schema in properties.items()
    }


def shape(said: str, always: Mapping[str, Schema], sometimes: Mapping[str, Schema] | None = None) -> Schema:
    """An object. It may gain fields in a later version, so that it forbids none."""
    properties = fields({**always, **(sometimes or {})})
    return {"type": "object", "description": said, "required": list(always), "properties": properties}


def example_of(schema: Schema) -> Any:
    """One value of the schema, made of the examples of its parts; without what is not always there."""
    if "examples" in schema:
        return schema["examples"][0]
    if "$ref" in schema:
        return example_of(REPLIES[schema["$ref"].rpartition("/")[2]])
    if schema["type"] == "array":
        return [example_of(schema["items"])]
    return {name: example_of(schema["properties"][name]) for name in schema["required"]}


def text(example: str, **more: Any) -> Schema:
    return {"type": "string", "examples": [example], **more}


def number(example: int, least: int = 0) -> Schema:
    return {"type": "integer", "minimum": least, "examples": [example]}


def time(example: str) -> Schema:
    return text(f"2026-11-25T{example}.000Z", format="date-time")


def _page_of(said: str, name: str, **more: Schema) -> Schema:
    return shape(said, {"items": {"type": "array", "items": ref(name)}, **more, "next": _NEXT})


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_NEXT: Schema = {"type": ["string", "null"], "examples": [None]}

SESSION_ID = text("ses_Zm9yIGV4YW1wbGUgb25seQ", pattern="^ses_[A-Za-z0-9_-]{22}$")

REF = text("c2VhbGVkIGJ5IHRoZSBzZXJ2aWNl", pattern="^[A-Za-z0-9_-]+$")

_TITLE = text("Herons", maxLength=200)
_DOLLARS = {"type": ["string", "null"], "pattern": r"^[0-9]+(\.[0-9]+)?$", "examples": ["0.000218"]}
_BLOCK = {
    "type": "object",
    "required": ["type"],
    "properties": {"type": {"type": "string"}},
    "additionalProperties": True,
}
_SAID = {"type": "array", "items": _BLOCK, "examples": [[{"type": "text", "text": "A heron is a long-legged bird."}]]}
_ASKED = {
    "type": "array",
    "description": "What was asked, as blocks.",
    "items": _BLOCK,
    "examples": [[{"type": "text", "text": "What is a heron?"}]],
}
_USAGE = {"input_tokens": 9, "output_tokens": 20}

_REPLY = {
    "text": text("A heron is a long-legged bird."),
    "content": _SAID,
    "model": text("claude-sonnet-5-5"),
    "stop_reason": text("end_turn"),
    "usage": {"type": "object", "additionalProperties": True, "examples": [_USAGE]},
    "cost_usd": _DOLLARS,
}
_ENDS = {"expires_at": time("10:00:00"), "idle_expires_at": time("09:30:00")}
_WARNING = shape(
    FIELDS["warning"],
    {
        "code": {"enum": ["expires_soon", "idle_expires_soon"], "examples": ["expires_soon"]},
        "at": time("10:00:00"),
        "detail": text("The session ends soon, whatever happens. A fork of it goes on."),
    },
)
_LISTED_SESSION = {
    "session_id": SESSION_ID,
    "title": _TITLE,
    "model": text("claude-sonnet-5-5"),
    "created_at": time("09:00:00"),
    "active_at": time("09:00:00"),
    **_ENDS,
    "turns": number(1),
    "turn_in_progress": {"type": "boolean", "examples": [False]},
    "tokens": number(29),
    "cost_usd": _DOLLARS,
}
_WHOLE_SESSION = {
    "session": ref("Session"),
    "turns": {"type": "array", "description": "Finished turns, oldest first.", "items": ref("Turn")},
}
_DAMAGED = {"type": "array", "items": {"type": "string"}, "examples": [[]]}

REPLIES: dict[str, Schema] = {
    "Reply": shape("Claude's reply.", _REPLY, {"continuation": {"type": ["string", "null"]}}),
    "TakenTurn": shape(
        "The reply of a turn, and when its session ends.",
        {**_REPLY, "session_id": SESSION_ID, "turn": number(1, 1), **_ENDS},
        {"warning": _WARNING},
    ),
    "Turn": shape("A finished turn.", {"turn": number(1, 1), "at": time("09:00:00"), "message": _ASKED, **_REPLY}),
    "Turns": _page_of("Finished turns, oldest first. A page of large turns is shorter than its limit.", "Turn"),
    "Session": shape(
        "A session, without the content of its turns.",
        {**_LISTED_SESSION, "system": text("Answer in one sentence."), "max_tokens": number(4096, 1)},
        {"warning": _WARNING},
    ),
    "ListedSession": shape("A session as lists show it.", _LISTED_SESSION),
    "Sessions": _page_of(
        "The caller's sessions, the one used last first.",
        "ListedSession",
        damaged=_DAMAGED,
        unnamed=number(0),
    ),
    "UsersSession": shape(
        "A session as administrators see it.",
        {"ref": REF, **{name: each for name, each in _LISTED_SESSION.items() if name not in ("session_id", "title")}},
    ),
    "UsersSessions": _page_of(
        "A user's sessions, the one used last first.",
        "UsersSession",
        damaged={
            "type": "array",
            "description": "Refs of sessions that cannot be read and can only be ended.",
            "items": REF,
            "examples": [[]],
        },
        unnamed=number(0),
    ),
    "Terminated": shape("What has become of a user's sessions.", {"ended": number(3), "left": number(0)}),
    "Export": shape(
        "All that is kept of a session, or a part of it: a `next` that is not null is the `cursor` of the next part.",
        {
            "format": {"const": "turnlog-session-1", "examples": ["turnlog-session-1"]},
            "exported_at": time("09:15:00"),
            **_WHOLE_SESSION,
            "next": _NEXT,
        },
    ),
    "UserExport": shape(
        "All that is kept of a user, or a part of it: a `next` that is not null is the `cursor` of the next part.",
        {
            "format": {"const": "turnlog-user-1", "examples": ["turnlog-user-1"]},
            "exported_at": time("09:15:00"),
            "sessions": {
                "type": "array",
                "items": shape(
                    "A session and its turns; one that goes on in the next part comes again.", _WHOLE_SESSION
                ),
            },
            "damaged": _DAMAGED,
            "unnamed": number(0),
            "documents": {
                "type": "array",
                "description": "What lies in the bucket; in the first part.",
                "items": shape(
                    "A document or a summary.",
                    {"key": text("inbox/q3S…/notes.txt"), "bytes": number(1024), "at": time("08:00:00")},
                ),
            },
            "next": _NEXT,
        },
    ),
    "Erasure": shape(
        "A receipt: nothing is left.",
        {
            "erased_at": time("09:20:00"),
            "sessions": number(2) | {"description": "How many sessions there were."},
            "documents": number(1) | {"description": "How many documents and summaries there were."},
        },
    ),
    "Health": shape("The service answers.", {"status": {"const": "ok", "examples": ["ok"]}, "version": text("0.1.0")}),
    "Document": {
        "type": "object",
        "description": "An OpenAPI document.",
        "required": ["openapi", "info", "paths"],
        "additionalProperties": True,
        "examples": [{"openapi": "3.1.1", "info": {"title": "Turnlog", "version": "0.1.0"}, "paths": {}}],
    },
}

PROBLEM = shape(
    "What every error looks like (RFC 9457).",
    {
        "type": text("urn:turnlog:problem:internal_error", pattern="^urn:turnlog:problem:[a-z0-9_]+$"),
        "title": text("Internal error"),
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": text("The request failed inside the service."),
        "instance": text("urn:req:7f5d0ab5", pattern="^urn:req:"),
        "code": text("internal_error"),
    },
    {
        "errors": {
            "type": "array",
            "items": shape(
                "A part of the request that is refused, and what would do there.",
                {"reason": text("wrong_type")},
                {
                    "pointer": text("/message"),
                    "parameter": text("limit"),
                    "allowed": {"type": "array", "items": {"type": "string"}},
                    "minimum": number(1),
                    "maximum": number(16_000),
                    "min_length": number(10),
                    "max_length": number(200),
                },
            ),
        },
        "retry_after": number(2, 1),
        "stored": {"const": False},
        "retry": {"enum": ["same-key", "again"]},
        "limit": text("session_turns", description="Which limit it is."),
        "start_over": shape(
            "The request that begins a new session, for such a caller.",
            {"method": {"const": "POST"}, "href": {"enum": ["/v1/sessions", "/v1/anonymous/sessions"]}},
        ),
    },
)
