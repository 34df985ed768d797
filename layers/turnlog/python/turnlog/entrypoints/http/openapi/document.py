"""The document: routes and their answers, put together from the tables beside it."""

from __future__ import annotations

import re
from typing import Any

import turnlog
from turnlog.entrypoints.http.openapi.fields import FIELDS
from turnlog.entrypoints.http.openapi.operations import ANONYMOUS, OPERATIONS, USER, Operation
from turnlog.entrypoints.http.openapi.refusals import Example, refusals
from turnlog.entrypoints.http.openapi.replies import PROBLEM, REF, REPLIES, SESSION_ID, Schema, example_of, fields, ref
from turnlog.entrypoints.http.request import DEFAULT_LIMIT, MAX_BODY, MAX_KEY, MOST_LIMIT, MOST_WAIT_S, Body

_DESCRIPTION = """Claude on Lambda: stateless questions, and sessions that never lose a turn.

JSON in and out; every error is a problem of RFC 9457. A field or query parameter that is not named here is refused.
Objects in answers may gain fields. What exceeds the gateway's own limits, such as 10,240 bytes of headers, it refuses
with a status of its own and the code `bad_request`; what it does not route, with 404 and `route_not_found`.
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

_PATH = {
    "id": SESSION_ID,
    "owner": {"type": "string", "pattern": "^[A-Za-z0-9_-]+$", "examples": ["aHR0cHM6Ly9pc3N1ZXIuZXhhbXBsZS98YWRh"]},
    "ref": REF,
    "n": {"type": "integer", "minimum": 1, "maximum": 999_999_999, "examples": [1]},
}
_QUERY = {
    "limit": {"type": "integer", "minimum": 1, "maximum": MOST_LIMIT, "default": DEFAULT_LIMIT, "examples": [20]},
    "cursor": {"type": "string", "minLength": 1, "examples": ["c2VhbGVkIGJ5IHRoZSBzZXJ2aWNl"]},
}
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

_EVERY_ANSWER = ("Cache-Control", "Strict-Transport-Security", "X-Content-Type-Options")
_HEADERS: dict[str, tuple[str, Schema]] = {
    "Cache-Control": ("No answer is kept.", {"const": "no-store"}),
    "Strict-Transport-Security": ("HTTPS only.", {"type": "string", "examples": ["max-age=63072000"]}),
    "X-Content-Type-Options": ("A type is never guessed.", {"const": "nosniff"}),
    "Location": ("Where the session is.", {"type": "string", "examples": ["/v1/sessions/ses_Zm9yIGV4YW1wbGUgb25seQ"]}),
    "Retry-After": ("Seconds after which a repeat may succeed.", {"type": "integer", "minimum": 1, "examples": [2]}),
    "WWW-Authenticate": ("By which schemes callers are known, on every route.", {"const": "Bearer, Session"}),
    "Idempotent-Replayed": ("The answer was given before, under the same key.", {"const": "true"}),
    "Preference-Applied": (
        "For how long the request would have waited.",
        {"type": "string", "pattern": "^wait=[0-9]+$", "examples": ["wait=10"]},
    ),
}


def document() -> dict[str, Any]:
    """The whole API as OpenAPI 3.1."""
    examples: dict[str, Example] = {}
    paths: dict[str, dict[str, Any]] = {}
    for (method, path), operation in OPERATIONS.items():
        paths.setdefault(path, {})[method.lower()] = _operation(path, operation, examples)
    return {
        "openapi": "3.1.1",
        "info": {"title": "Turnlog", "version": turnlog.__version__, "description": _DESCRIPTION},
        "servers": [{"url": "/v1"}],
        "paths": paths,
        "components": {
            "securitySchemes": _SECURITY,
            "schemas": {**REPLIES, "Problem": PROBLEM, **{kind.__name__: _body_schema(kind) for kind in _bodies()}},
            "headers": {name: {"description": said, "schema": schema} for name, (said, schema) in _HEADERS.items()},
            "examples": {name: {"value": value} for name, value in sorted(examples.items())},
        },
    }


def _operation(path: str, operation: Operation, examples: dict[str, Example]) -> dict[str, Any]:
    written: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "security": [{caller: list(operation.roles)} for caller in operation.callers],
        "parameters": _parameters(path, operation),
        "responses": {str(operation.status): _good(operation), **_problems(operation, examples)},
    }
    if operation.body:
        content = {"schema": ref(operation.body.__name__), "example": operation.example}
        written["requestBody"] = {"required": True, "content": {"application/json": content}}
    return written


def _parameters(path: str, operation: Operation) -> list[dict[str, Any]]:
    named = [("path", name, _PATH[name]) for name in re.findall(r"{(\w+)}", path)]
    named += [("query", name, _QUERY[name]) for name in operation.asks]
    written: list[dict[str, Any]] = [
        {"name": name, "in": place, "required": place == "path", "description": FIELDS[name], "schema": schema}
        for place, name, schema in named
    ]
    if operation.key is not None:
        written.append(_KEY | {"required": operation.key})
    if operation.waits:
        written.append(_PREFER)
    return written


def _good(operation: Operation) -> dict[str, Any]:
    written: dict[str, Any] = {"description": "Done.", "headers": _headers(*operation.headers)}
    if operation.reply:
        content = {"schema": ref(operation.reply), "example": example_of(REPLIES[operation.reply])}
        written |= {"description": REPLIES[operation.reply]["description"], "content": {"application/json": content}}
    return written


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
        "schema": {"allOf": [ref("Problem"), said]},
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
    """The example's name among all of them: its code, and where that is not enough the place or a number."""
    pointer = problem["errors"][0].get("pointer", "") if "errors" in problem else ""
    name = str(problem["code"]) + pointer.replace("/", ".")
    count = 1
    while examples.setdefault(name, problem) != problem:
        count += 1
        name = f"{problem['code']}-{count}"
    return name


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in (*_EVERY_ANSWER, *names)}


def _bodies() -> list[type[Body]]:
    return sorted({each.body for each in OPERATIONS.values() if each.body}, key=lambda kind: kind.__name__)


def _body_schema(kind: type[Body]) -> Schema:
    """As pydantic says it, but that a field which may be left out may not be null, and that a text ends somewhere."""
    schema = kind.model_json_schema()
    del schema["title"]
    schema["properties"] = fields({name: _property(each) for name, each in schema["properties"].items()})
    return schema


def _property(schema: Schema) -> Schema:
    (only,) = [each for each in schema.get("anyOf", [schema]) if each != {"type": "null"}]
    kept = {name: value for name, value in only.items() if name not in ("title", "anyOf")}
    if kept.get("type") == "string" and not {"maxLength", "pattern"} & set(kept):
        kept["maxLength"] = MAX_BODY  # the whole body's
    return kept
