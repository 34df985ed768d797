"""The Messages API at our own door: its form is Claude's, so the document describes what is Turnlog's own in it."""

from __future__ import annotations

from typing import Any

from turnlog.entrypoints.http.openapi.components import Schema
from turnlog.entrypoints.http.openapi.operations import USER

_ERRORS = {
    400: "The request is refused.",
    401: "Nobody is verified.",
    403: "This caller may not.",
    404: "There is no such model, or no such session.",
    409: "The session is busy, or waits for results of tools.",
    413: "The request is too large.",
    415: "The body is no JSON in UTF-8.",
    422: "A value is refused.",
    429: "A limit is reached.",
    500: "The service failed, or what it stored is damaged.",
    502: "Claude gave no usable answer.",
    503: "Something that is needed cannot be had now.",
    504: "There was no time for an answer.",
    529: "Claude is overloaded.",
}
_SESSION = {
    "name": "Turnlog-Session",
    "in": "header",
    "required": False,
    "description": "The session whose next turn this is, or `new` to begin one. Without it Claude gets the request as "
    "it is.",
    "schema": {"type": "string", "pattern": "^(new|ses_[A-Za-z0-9_-]{22})$", "examples": ["new"]},
}
_BETA = {
    "name": "beta",
    "in": "query",
    "required": False,
    "description": "Of the SDKs; it changes nothing.",
    "schema": {"type": "string", "examples": ["true"]},
}
_REQUEST: Schema = {
    "type": "object",
    "description": "A request of the Messages API. In a session `messages` is what is new, or the whole conversation.",
    "required": ["model", "messages"],
    "properties": {
        "model": {"type": "string", "description": "One of the deployment's models."},
        "max_tokens": {"type": "integer", "minimum": 1, "description": "The most tokens of the reply."},
        "messages": {
            "type": "array",
            "description": "The conversation, in Claude's own form.",
            "items": {"type": "object", "additionalProperties": True},
        },
        "stream": {"type": "boolean", "description": "True asks for events."},
    },
    "additionalProperties": True,
}
_ASKED = {
    "model": "claude-sonnet-5-5",
    "max_tokens": 1000,
    "messages": [{"role": "user", "content": "What is a heron?"}],
}
_FACTS: Schema = {
    "type": "object",
    "description": "In a session: the facts that the Messages API has no field for.",
    "additionalProperties": True,
}
_MESSAGE: Schema = {
    "type": "object",
    "description": "Claude's message.",
    "properties": {"turnlog": _FACTS},
    "additionalProperties": True,
}
_REPLIED = {
    "id": "msg_01XFDUDYJgAACzvnptvVoYEL",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-5-5",
    "content": [{"type": "text", "text": "A heron is a long-legged bird."}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 9, "output_tokens": 20},
}
_EVENTS: Schema = {
    "type": "string",
    "description": "The events of a Messages API's stream; in a session between `turnlog.turn` and `turnlog.done`.",
}
_COUNT: Schema = {"type": "object", "description": "The count.", "additionalProperties": True}
_ERROR: Schema = {
    "type": "object",
    "required": ["type", "error"],
    "properties": {
        "type": {"const": "error"},
        "error": {
            "type": "object",
            "required": ["type", "message"],
            "properties": {
                "type": {"type": "string", "description": "The kind of error."},
                "message": {"type": "string", "description": "The reason, in words for people."},
            },
            "additionalProperties": True,
        },
        "request_id": {"type": ["string", "null"], "description": "The request's id."},
    },
    "additionalProperties": True,
}
_FAILED = {
    "type": "error",
    "error": {
        "type": "invalid_request_error",
        "message": "A field has the wrong JSON type. See /messages.",
        "details": {"error_code": "wrong_type", "pointer": "/messages"},
    },
    "request_id": "7f5d0ab5-6a4e-4c55-a2f5-3c1c0e4e7f10",
}
OWN_HEADERS: dict[str, tuple[str, Schema]] = {
    "Request-Id": ("The request's id, as in the log.", {"type": "string", "examples": ["7f5d0ab5"]}),
    "X-Should-Retry": ("A client's repeat would be of no use.", {"const": "false"}),
    "Turnlog-Session": ("The session.", {"type": "string", "examples": ["ses_Zm9yIGV4YW1wbGUgb25seQ"]}),
    "Turnlog-Turn": ("The turn's number.", {"type": "string", "pattern": "^[0-9]+$", "examples": ["1"]}),
    "Turnlog-Expires": ("The time at which the session ends.", {"type": "string", "format": "date-time"}),
}
"""The headers that no other route has."""

_OF_A_TURN = ("Turnlog-Session", "Turnlog-Turn", "Turnlog-Expires", "Idempotent-Replayed", "Preference-Applied")


def paths(every_answer: tuple[str, ...], key: Schema, prefer: Schema, user: Schema) -> dict[str, Any]:
    """Returns the routes by their paths. `every_answer` are the headers of each answer; the others are parameters."""
    message = {"application/json": {"schema": _MESSAGE, "example": _REPLIED}}
    events = {"text/event-stream": {"schema": _EVENTS, "example": "event: message_stop\ndata: {}\n\n"}}
    count = {"application/json": {"schema": _COUNT, "example": {"input_tokens": 9}}}

    def post(name: str, summary: str, parameters: list[Schema], content: Schema) -> dict[str, Any]:
        return {
            "post": {
                "operationId": name,
                "summary": summary,
                "tags": ["Questions"],
                "security": [{USER: []}],
                "parameters": [_BETA, *parameters, user],
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": _REQUEST, "example": _ASKED}},
                },
                "responses": {
                    "200": _answer("Done.", content, every_answer, "X-Accel-Buffering", *_OF_A_TURN),
                    **{str(status): _refusal(status, said, every_answer) for status, said in _ERRORS.items()},
                },
            }
        }

    return {
        "/messages": post(
            "createMessage",
            "Ask Claude by its own Messages API, or take a session's next turn by it.",
            [_SESSION, key | {"required": False}, prefer],
            message | events,
        ),
        "/messages/count_tokens": post(
            "countTokens", "Count a request's tokens by Claude's own Messages API.", [], count
        ),
    }


def _refusal(status: int, said: str, every_answer: tuple[str, ...]) -> dict[str, Any]:
    content = {"application/json": {"schema": _ERROR, "example": _FAILED}}
    more = ["WWW-Authenticate"] if status == 401 else []
    return _answer(said, content, every_answer, "X-Should-Retry", "Retry-After", *more)


def _answer(said: str, content: Schema, every_answer: tuple[str, ...], *headers: str) -> dict[str, Any]:
    names = (*every_answer, "Request-Id", *headers)
    refs = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
    return {"description": said, "headers": refs, "content": content}
