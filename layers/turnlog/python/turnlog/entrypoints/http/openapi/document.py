"""The document: routes and their answers, put together from the models of bodies and the tables beside it."""

from __future__ import annotations

import re
from typing import Annotated, Any

import turnlog
from turnlog.domain.owners import MAX_USER
from turnlog.entrypoints.http import fields
from turnlog.entrypoints.http.bodies import TurnNumber
from turnlog.entrypoints.http.fields import described
from turnlog.entrypoints.http.openapi import messages
from turnlog.entrypoints.http.openapi.components import EVENT, Schema, example_of, ref, schema_of, schemas
from turnlog.entrypoints.http.openapi.operations import ANONYMOUS, OPERATIONS, USER, Operation
from turnlog.entrypoints.http.openapi.refusals import Example, refusals
from turnlog.entrypoints.http.problem_body import Problem
from turnlog.entrypoints.http.replies import ResponseBody
from turnlog.entrypoints.http.request import DEFAULT_LIMIT, MAX_KEY, MOST_LIMIT, MOST_WAIT_S

_DESCRIPTION = """Claude on Lambda: stateless questions, and sessions that never lose a turn.

JSON in and out; every error is a problem of RFC 9457. A field or query parameter that is not named here is refused.
Objects in answers may gain fields. What exceeds the gateway's own limits, such as 10,240 bytes of headers, it refuses
with a status of its own and the code `bad_request`; what it does not route, with 404 and `route_not_found`. The
gateway's own problems also have `error` and `request_id`, as errors of Anthropic's Messages API have them.
"""

_SECURITY = {
    USER: {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A token of the deployment's issuer.",
    },
    ANONYMOUS: {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "`Session <secret>`, the secret being 43 characters of base64url.",
    },
}

_OWNER = (
    "A user: the base64url, without padding, of the token's iss, a bar and its sub. For a user whom a back end names: "
    "of `user:`, the name, a space and the back end's iss, bar and sub."
)
_CURSOR = "The `next` of the page before, as it came. It is good for this list and caller alone."
_LIMIT = {"minimum": 1, "maximum": MOST_LIMIT, "default": DEFAULT_LIMIT}
_PARAMETERS = {
    "id": fields.SessionId,
    "ref": fields.Ref,
    "owner": Annotated[str, described(_OWNER, "aHR0cHM6Ly9pc3N1ZXIuZXhhbXBsZS98YWRh", pattern="^[A-Za-z0-9_-]+$")],
    "n": Annotated[TurnNumber, described("The turn's number.", 1)],
    "limit": Annotated[int, described("The most items of a page.", 20, **_LIMIT)],
    "model_id": fields.Model,
    "after_id": Annotated[str, described("The page after this model.", "claude-sonnet-5-5")],
    "before_id": Annotated[str, described("The page before this model.", "claude-sonnet-5-5")],
    "cursor": Annotated[str, described(_CURSOR, "c2VhbGVkIGJ5IHRoZSBzZXJ2aWNl", minLength=1)],
}
_SCHEMAS = {name: schema_of(kind) for name, kind in _PARAMETERS.items()}
_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Your name for this request, the same at each retry.",
    "schema": {"type": "string", "pattern": f"^[\\x21-\\x7e]{{1,{MAX_KEY}}}$", "examples": ["turn-1"]},
}
_PREFER = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "description": f"`wait=N` waits up to N seconds, at most {MOST_WAIT_S}, for a turn that runs; all else is ignored.",
    "schema": {"type": "string", "examples": ["wait=10"]},
}

_USER = {
    "name": "Turnlog-User",
    "in": "header",
    "required": False,
    "description": "One of a back end's own people, whose request this is; for tokens with the role `delegate`.",
    "schema": {"type": "string", "pattern": f"^[\\x21-\\x7e]{{1,{MAX_USER}}}$", "examples": ["ada"]},
}

_TAGS = {
    "Questions": "One question, one reply; nothing is stored.",
    "Messages API": "Claude's own API at this address, for Anthropic's clients.",
    "Sessions": "Conversations that survive cold starts, races and retries.",
    "Anonymous": "Sessions of whoever holds a secret.",
    "Account": "All that is kept of the caller.",
    "Administration": "Sessions of other users, for administrators.",
    "Service": "The service itself, and the models that it offers.",
}
_TAG_OF = {
    "sessions": "Sessions",
    "anonymous": "Anonymous",
    "me": "Account",
    "admin": "Administration",
    "health": "Service",
    "openapi.json": "Service",
    "models": "Service",
}
"""The tag of a path, by its first word; any other path is that of a function that answers questions."""

_SERVER = {
    "url": "https://{api}.execute-api.{region}.amazonaws.com/v1",
    "description": "A deployment, by its stack's output `ApiUrl`.",
    "variables": {
        "api": {"default": "a1b2c3d4e5", "description": "The id of the API."},
        "region": {"default": "us-east-1", "description": "The Region of the stack."},
    },
}
"""Absolute, so that tools take it, and without a request's Host, which is the caller's text."""

_EVERY_ANSWER = ("Cache-Control", "Strict-Transport-Security", "X-Content-Type-Options")
_HEADERS: dict[str, tuple[str, Schema]] = {
    "Cache-Control": ("No answer is kept.", {"const": "no-store"}),
    "Strict-Transport-Security": ("HTTPS only.", {"type": "string", "examples": ["max-age=63072000"]}),
    "X-Content-Type-Options": ("A type is never guessed.", {"const": "nosniff"}),
    "Location": ("The session's path.", {"type": "string", "examples": ["/v1/sessions/ses_Zm9yIGV4YW1wbGUgb25seQ"]}),
    "Retry-After": ("Seconds after which a repeat may succeed.", {"type": "integer", "minimum": 1, "examples": [2]}),
    "WWW-Authenticate": (
        "The schemes by which callers are known, on every route. A token that expired since it was verified gets none.",
        {"const": "Bearer, Session"},
    ),
    "Idempotent-Replayed": ("The answer was given before, under the same key.", {"const": "true"}),
    "X-Accel-Buffering": ("A proxy passes on what comes as it comes.", {"const": "no"}),
    "Preference-Applied": (
        "The longest time for which the request would have waited.",
        {"type": "string", "pattern": "^wait=[0-9]+$", "examples": ["wait=10"]},
    ),
}

_EVENTS = (
    "Events in the form of the Messages API, from one `message_start` to one `message_stop`, between those of ours. "
    "`x-events` has the schemas of our events' data, by their names."
)
_EXAMPLE_OF_EVENTS = {"event": "turnlog.turn", "data": '{"type":"turnlog.turn","model":"claude-sonnet-5-5"}'}


def document() -> dict[str, Any]:
    """Returns the whole API as OpenAPI 3.1."""
    requests = {each.body for each in OPERATIONS.values() if each.body}
    answers = {each.reply for each in OPERATIONS.values() if each.reply}
    answers |= {event for each in OPERATIONS.values() for event in each.events.values()}
    components = schemas(requests, {*answers, Problem})
    examples: dict[str, Example] = {}
    paths: dict[str, dict[str, Any]] = {}
    for (method, path), operation in OPERATIONS.items():
        written = _operation(path, operation)
        good = {str(operation.status): _good(operation, components)}
        if operation.unfinished:
            good[str(operation.unfinished)] = _good(operation, components)
        paths.setdefault(path, {})[method.lower()] = written | {"responses": good | _problems(operation, examples)}
    paths |= messages.paths(_headers(), [_KEY | {"required": False}, _PREFER, _USER])
    return {
        "openapi": "3.1.1",
        "info": {"title": "Turnlog", "version": turnlog.__version__, "description": _DESCRIPTION}
        | {"license": {"name": "MIT", "identifier": "MIT"}},
        "servers": [_SERVER],
        "tags": [{"name": name, "description": said} for name, said in _TAGS.items()],
        "paths": paths,
        "components": {
            "securitySchemes": _SECURITY,
            "schemas": components,
            "headers": {
                name: {"description": said, "schema": schema}
                for name, (said, schema) in (_HEADERS | messages.HEADERS).items()
            },
            "examples": {name: {"value": value} for name, value in sorted(examples.items())},
        },
    }


def _operation(path: str, operation: Operation) -> dict[str, Any]:
    written: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [_TAG_OF.get(path.split("/")[1], "Questions")],
        "security": [{caller: list(operation.roles)} for caller in operation.callers],
        "parameters": _parameters(path, operation),
    }
    if operation.body:
        content = {"schema": ref(operation.body), "example": operation.example}
        written["requestBody"] = {"required": True, "content": {"application/json": content}}
    return written


def _parameters(path: str, operation: Operation) -> list[dict[str, Any]]:
    named = [("path", name) for name in re.findall(r"{(\w+)}", path)] + [("query", name) for name in operation.asks]
    written: list[dict[str, Any]] = []
    for location, name in named:
        schema = dict(_SCHEMAS[name]) | ({"maximum": operation.most} if name == "limit" else {})
        described = {"name": name, "in": location, "required": location == "path"}
        written.append(described | {"description": schema.pop("description"), "schema": schema})
    if operation.key is not None:
        written.append(_KEY | {"required": operation.key})
    if operation.waits:
        written.append(_PREFER)
    if operation.takes_user:
        written.append(_USER)
    return written


def _good(operation: Operation, components: dict[str, Schema]) -> dict[str, Any]:
    written: dict[str, Any] = {"description": "Done.", "headers": _headers(*operation.headers)}
    if operation.events:
        return _stream(operation)
    if operation.reply:
        schema = components[operation.reply.__name__]
        content = {"schema": ref(operation.reply), "example": example_of(schema, components)}
        written |= {"description": schema["description"], "content": {"application/json": content}}
    return written


def _stream(operation: Operation) -> dict[str, Any]:
    content = {"schema": EVENT | {"description": _EVENTS}, "example": _EXAMPLE_OF_EVENTS}
    return {
        "description": "Events, as they come.",
        "headers": _headers("X-Accel-Buffering", *operation.headers),
        "content": {"text/event-stream": content | {"x-events": {name: ref(each) for name, each in named(operation)}}},
    }


def named(operation: Operation) -> list[tuple[str, type[ResponseBody]]]:
    """Returns the operation's events of ours, each with its name."""
    return sorted(operation.events.items())


def _problems(operation: Operation, examples: dict[str, Example]) -> dict[str, Any]:
    by_status: dict[int, list[Example]] = {}
    for problem in refusals(operation):
        by_status.setdefault(problem["status"], []).append(problem)
    return {str(status): _problem(status, problems, examples) for status, problems in sorted(by_status.items())}


def _problem(status: int, problems: list[Example], examples: dict[str, Example]) -> dict[str, Any]:
    named = {_named(problem, examples): problem for problem in problems}
    codes = sorted({problem["code"] for problem in problems})
    said = {"properties": {"status": {"const": status}, "code": {"enum": codes}}}
    content = {
        "schema": {"allOf": [ref(Problem), said]},
        "examples": {name: {"$ref": f"#/components/examples/{name}"} for name in sorted(named)},
    }
    headers = ["WWW-Authenticate"] if status == 401 else []
    if any("retry_after" in problem for problem in problems):
        headers.append("Retry-After")
    return {
        "description": "; ".join(sorted({problem["title"] for problem in problems})) + ".",
        "headers": _headers(*headers),
        "content": {"application/problem+json": content},
    }


def _named(problem: Example, examples: dict[str, Example]) -> str:
    """Returns the example's name among all of them: its code, with the pointer or a number to tell it from others."""
    pointer = problem["errors"][0].get("pointer", "") if "errors" in problem else ""
    name = str(problem["code"]) + pointer.replace("/", ".")
    count = 1
    while examples.setdefault(name, problem) != problem:
        count += 1
        name = f"{problem['code']}-{count}"
    return name


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in (*_EVERY_ANSWER, *names)}
