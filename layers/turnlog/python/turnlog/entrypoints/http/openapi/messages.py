"""The routes of the Messages API in the document: their bodies are Claude's own, which its API's document describes."""

from __future__ import annotations

from typing import Any

from turnlog.entrypoints.http.openapi.components import EVENT, Schema

_CLAUDES = "https://platform.claude.com/docs/en/api/messages"
_STATUSES = (400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 500, 502, 503, 504, 529)
_EXAMPLE = {
    "model": "claude-sonnet-5-5",
    "max_tokens": 1024,
    "messages": [{"role": "user", "content": "What is a heron?"}],
}
_BODY: Schema = {
    "type": "object",
    "required": ["model", "messages"],
    "properties": {
        "model": {"type": "string", "description": "One of the deployment's models."},
        "messages": {
            "type": "array",
            "description": "The conversation; in a session what is new of it, or all.",
            "items": {"type": "object"},
        },
        "stream": {"type": ["boolean", "null"], "description": "True for server-sent events."},
    },
    "additionalProperties": True,
}
_ERROR: Schema = {
    "type": "object",
    "required": ["type", "error"],
    "properties": {
        "type": {"const": "error"},
        "error": {
            "type": "object",
            "required": ["type", "message"],
            "properties": {
                "type": {"type": "string"},
                "message": {"type": "string"},
                "details": {"type": "object", "additionalProperties": True},
            },
            "additionalProperties": True,
        },
        "request_id": {"type": ["string", "null"]},
    },
    "additionalProperties": True,
}
_EXAMPLE_OF_AN_ERROR = {
    "type": "error",
    "error": {
        "type": "authentication_error",
        "message": "Send the token of your sign-in as Authorization: Bearer.",
        "details": {"error_code": "unauthorized"},
    },
    "request_id": "7f5d0ab5",
}
_EVENT = {"event": "message_stop", "data": '{"type":"message_stop"}'}
_ANY = {"type": "object", "additionalProperties": True}

HEADERS: dict[str, tuple[str, Schema]] = {
    "request-id": ("The provider's name of the request, or ours.", {"type": "string", "examples": ["7f5d0ab5"]}),
    "x-should-retry": ("False where no repeat helps.", {"enum": ["true", "false"]}),
    "Turnlog-Session": ("The session's id.", {"type": "string", "examples": ["ses_Zm9yIGV4YW1wbGUgb25seQ"]}),
    "Turnlog-Turn": ("The turn's number.", {"type": "string", "examples": ["1"]}),
    "Turnlog-Expires": ("The time at which the session ends.", {"type": "string"}),
}
"""Headers of these answers alone, with their meaning."""

_OWN = ("Idempotent-Replayed", "Preference-Applied", "Retry-After", "WWW-Authenticate", "X-Accel-Buffering")


def paths(headers: dict[str, Any], parameters: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns these paths as the document has them. `headers` are those of every answer; `parameters` those of a turn
    and the user whom a back end names.
    """
    own = headers | {name: {"$ref": f"#/components/headers/{name}"} for name in (*HEADERS, *_OWN)}
    beta = {"name": "beta", "in": "query", "required": False, "description": "As Claude's SDKs send it."}
    named = {"name": "Turnlog-Session", "in": "header", "required": False, "schema": {"type": "string"}}
    session = named | {"description": "A session whose next turn this is, or `new`; without it, Claude is asked as is."}
    more = [*parameters, beta | {"schema": {"enum": ["true"]}}]
    events = {"text/event-stream": {"schema": EVENT, "example": _EVENT}}
    return {
        "/messages": {
            "post": _operation("message", "Have Claude answer, or take a turn.", own, [session, *more], events)
        },
        "/messages/count_tokens": {
            "post": _operation("countTokens", "Count the tokens of a request.", own, more, {}),
        },
    }


def _operation(
    name: str, summary: str, headers: dict[str, Any], parameters: list[dict[str, Any]], events: dict[str, Any]
) -> dict[str, Any]:
    whole = {"application/json": {"schema": _ANY, "example": {"input_tokens": 14}}}
    error = {"schema": _ERROR, "example": _EXAMPLE_OF_AN_ERROR}
    return {
        "operationId": name,
        "summary": summary,
        "tags": ["Messages API"],
        "externalDocs": {"url": _CLAUDES},
        "security": [{"Bearer": []}],
        "parameters": parameters,
        "requestBody": {"required": True, "content": {"application/json": {"schema": _BODY, "example": _EXAMPLE}}},
        "responses": {
            "200": {"description": "Claude's answer.", "headers": headers, "content": {**whole, **events}},
            **{
                str(status): {
                    "description": "An error in the Messages API's form.",
                    "headers": headers,
                    "content": {"application/json": error},
                }
                for status in _STATUSES
            },
        },
    }
