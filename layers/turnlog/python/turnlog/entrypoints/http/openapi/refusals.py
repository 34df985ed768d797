"""Every problem that a route can answer with: its own, what its body and headers make possible, and the gateway's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from turnlog import errors
from turnlog.domain.blocks.images import IMAGE_TYPES
from turnlog.domain.blocks.media import MOST_IMAGES, MOST_PAGES, MOST_PIXELS
from turnlog.domain.blocks.reading import BLOCK_TYPES, MOST_TITLE, TOOL_USE_ID_PATTERN
from turnlog.domain.json_schemas import MAX_SCHEMA_BYTES
from turnlog.domain.output.sizes import MOST_OPTIONAL
from turnlog.entrypoints.http.bodies import TurnBody
from turnlog.entrypoints.http.openapi.components import Schema, schema_of
from turnlog.entrypoints.http.openapi.operations import ANONYMOUS, Operation
from turnlog.entrypoints.http.problem_body import problem_body
from turnlog.entrypoints.http.problems import INTERNAL, Problem, problem_of
from turnlog.entrypoints.http.request import MAX_BODY, Body
from turnlog.errors import InvalidRequest, TurnlogError, ValueRefused

Example = dict[str, Any]

_REQUEST_ID = "7f5d0ab5-6a4e-4c55-a2f5-3c1c0e4e7f10"
_TEXTS = {"message", "system", "title", "reason", "metadata"}
_BOUNDS = {
    "minimum": "minimum",
    "minLength": "min_length",
    "maximum": "maximum",
    "maxLength": "max_length",
    "maxItems": "max_length",
    "maxProperties": "max_length",
}
"""The bounds of a schema, by what a problem calls them."""


def _example(problem: Problem, retry_after_s: int | None = None, *, has_key: bool = True) -> Example:
    return problem_body(problem, _REQUEST_ID, retry_after_s, has_key=has_key).model_dump(exclude_unset=True)


def _by_gateway(status: int, code: str, title: str, detail: str, **more: Any) -> Example:
    return _example(Problem(status, code, title, detail, more))


_UNAVAILABLE = (503, "dependency_unavailable", "Service unavailable")
GATEWAY: tuple[Example, ...] = (
    _by_gateway(400, "bad_request", "Bad request", "The gateway refused the request."),
    _by_gateway(403, "forbidden", "Forbidden", "This caller may not use this route."),
    _by_gateway(
        413,
        "body_too_large",
        "Content too large",
        "The request is larger than the gateway takes, whatever the context window of a model is: send less.",
    ),
    _by_gateway(415, "media_type_unsupported", "Unsupported media type", "Send application/json in UTF-8."),
    _by_gateway(
        429, "too_many_requests", "Too many requests", "The service takes no more requests this second.", retry_after=1
    ),
    _by_gateway(
        *_UNAVAILABLE,
        "The service takes no more requests now. Repeat a turn with the same Idempotency-Key.",
        retry="same-key",
        retry_after=5,
    ),
    _by_gateway(
        504,
        "gateway_timeout",
        "Gateway timeout",
        "The answer takes longer than the gateway waits. A turn goes on: repeat it with the same Idempotency-Key.",
        retry="same-key",
    ),
)
"""The answers that the gateway gives by itself, as the template has them but for the members `error` and `request_id`;
those that a function gives in the same words are left out.
"""

TOKEN_UNCHECKED = _by_gateway(*_UNAVAILABLE, "The token could not be checked. Try again.", retry_after=5)
"""The gateway's answer where it has asked the authorizer in vain."""


def refusals(operation: Operation) -> list[Example]:
    """Returns each problem that the operation can answer with, once, by its status and code."""
    found: dict[str, Example] = {}
    kinds = [caller == ANONYMOUS for caller in operation.callers] or [True]  # nobody is signed in on a public route
    said = [
        _example_of(error, operation, is_anonymous=is_anonymous)
        for error in errors_of(operation)
        for is_anonymous in kinds
    ]
    for problem in [*said, _example(INTERNAL), *_gateway(operation)]:
        found.setdefault(repr(problem), problem)
    return sorted(found.values(), key=lambda problem: (problem["status"], problem["code"]))


def _example_of(error: TurnlogError, operation: Operation, *, is_anonymous: bool) -> Example:
    problem = problem_of(error, is_anonymous=is_anonymous, is_admin=bool(operation.roles))
    return _example(problem, error.retry_after_s, has_key=operation.key is not None)


def _gateway(operation: Operation) -> list[Example]:
    """Returns what can come on this route: without a body none is too large, and without a caller nobody is refused."""
    never = {*(() if operation.body else (413, 415)), *(() if operation.callers else (403,))}
    asked = [TOKEN_UNCHECKED] if operation.callers else []
    return [each for each in [*GATEWAY, *asked] if each["status"] not in never]


def errors_of(operation: Operation) -> Iterator[TurnlogError]:
    """Yields the errors that the function itself can raise."""
    yield from operation.errors
    unknown = {"allowed": list(operation.asks)}
    yield InvalidRequest("parameter_unknown", details=unknown)
    yield InvalidRequest("parameter_duplicate", details={"parameter": operation.asks[0]} if operation.asks else unknown)
    if "limit" in operation.asks:
        yield InvalidRequest(
            "parameter_invalid", details={"parameter": "limit", "minimum": 1, "maximum": operation.most}
        )
    if "cursor" in operation.asks:
        yield InvalidRequest("cursor_invalid", details={"parameter": "cursor"})
    if operation.callers:
        yield errors.Unauthorized()
    if operation.takes_user:
        yield errors.Forbidden()
        yield from map(InvalidRequest, ("turnlog_user_too_long", "turnlog_user_invalid", "header_duplicate"))
    if operation.key is not None:
        yield from map(InvalidRequest, ("idempotency_key_too_long", "idempotency_key_invalid", "header_duplicate"))
    if operation.key:
        yield InvalidRequest("idempotency_key_missing")
    if operation.events:  # where no gateway stands before the function, and reads the body
        yield errors.BodyStalled("body_stalled")
        yield InvalidRequest("body_incomplete")
    if operation.body:
        yield from _of_body(operation.body)


def _of_body(kind: type[Body]) -> Iterator[TurnlogError]:
    schema = schema_of(kind)
    first = next(iter(schema["properties"]))
    for code in ("body_missing", "json_duplicate_key", "encoding_invalid", "base64_invalid"):
        yield InvalidRequest(code)
    yield InvalidRequest("json_invalid", details={"line": 1, "column": 17})
    yield InvalidRequest("header_duplicate")
    yield errors.MediaTypeUnsupported("media_type_unsupported")
    yield errors.BodyTooLarge("body_too_large", details={"maximum": kind.most_bytes})
    yield InvalidRequest("unknown_field", "", {"allowed": list(schema["properties"]), "field": 2})
    yield InvalidRequest("wrong_type", f"/{first}")
    if "required" in schema:
        yield InvalidRequest("field_missing", f"/{schema['required'][0]}")
    if "minProperties" in schema:
        yield InvalidRequest("field_missing", "", {"allowed": list(schema["properties"])})
    if texts := [name for name in schema["properties"] if name in _TEXTS]:
        yield InvalidRequest("control_character", f"/{texts[0]}")
    if "message" in schema["properties"]:
        yield from _of_message(with_results=kind is TurnBody)
    if "model" in schema["properties"]:
        yield ValueRefused("model_unknown", "/model", {"allowed": ["claude-sonnet-5-5", "claude-haiku-5-5"]})
        yield errors.ModelRetired("claude-sonnet-5-5")
    if "tools" in schema["properties"]:
        yield from _of_tools()
    if "output" in schema["properties"]:
        yield from _of_output()
    yield from _of_values(schema)


def _of_values(schema: Schema) -> Iterator[TurnlogError]:
    if "thinking" in schema["properties"]:
        yield InvalidRequest("field_missing", "/thinking/type")
        yield ValueRefused("thinking_range", "/thinking/type", {"allowed": ["adaptive", "disabled"]})
    for name, each in schema["properties"].items():
        if "enum" in each:
            yield ValueRefused(f"{name}_range", f"/{name}", {"allowed": each["enum"]})
        bounds = [{said: each[bound]} for bound, said in _BOUNDS.items() if each.get(bound, MAX_BODY) != MAX_BODY]
        form = {"pattern": each["pattern"]} if "pattern" in each else {}
        if name != "message" and (bounds or form):
            yield ValueRefused(f"{name}_range", f"/{name}", bounds[-1] if bounds else form)


def _of_message(*, with_results: bool) -> Iterator[TurnlogError]:
    """Yields what only a message with blocks can break."""
    yield errors.BodyTooLarge("text_too_large", details={"maximum": MAX_BODY})
    yield ValueRefused("message_empty", "/message")
    yield ValueRefused("block_type_unknown", "/message/0/type", {"allowed": [*BLOCK_TYPES]})
    source = "/message/0/source"
    yield ValueRefused("source_type_unknown", f"{source}/type", {"allowed": ["base64"]})
    yield ValueRefused("source_not_fetched", f"{source}/type", {"allowed": ["base64"]})
    yield ValueRefused("media_type_unknown", f"{source}/media_type", {"allowed": [*IMAGE_TYPES]})
    yield ValueRefused("media_type_mismatch", f"{source}/media_type")
    yield ValueRefused("image_too_large", f"{source}/data", {"maximum": MOST_PIXELS})
    yield ValueRefused("images_too_many", "/message", {"maximum": MOST_IMAGES})
    yield ValueRefused("document_too_long", f"{source}/data", {"maximum": MOST_PAGES})
    yield ValueRefused("document_title_range", "/message/0/title", {"max_length": MOST_TITLE})
    for code in ("image_invalid", "document_encrypted", "document_invalid", "document_not_text"):
        yield ValueRefused(code, f"{source}/data")
    yield ValueRefused("citations_mixed", "/message/1/citations")
    if with_results:
        yield ValueRefused("tool_result_misplaced", "/message/1")
        yield ValueRefused("tool_result_duplicate", "/message/1/tool_use_id")
        yield ValueRefused("tool_use_id_range", "/message/0/tool_use_id", {"pattern": TOOL_USE_ID_PATTERN})
    else:
        yield ValueRefused("tool_result_unexpected", "/message/0")


def _of_tools() -> Iterator[TurnlogError]:
    yield InvalidRequest("field_missing", "/tools/0/input_schema")
    yield InvalidRequest("control_character", "/tools/0/description")
    yield ValueRefused("tool_unknown", "/tools/0", {"allowed": ["current_time", "list_documents", "read_document"]})
    yield ValueRefused("tool_name_taken", "/tools/1/name")
    yield ValueRefused("tool_name_range", "/tools/0/name", {"pattern": "^[a-zA-Z0-9_-]{1,64}$"})
    yield ValueRefused("tool_description_range", "/tools/0/description", {"max_length": 10_000})
    for code in ("schema_invalid", "schema_refers", "schema_not_strict"):
        yield ValueRefused(code, "/tools/0/input_schema")
    yield ValueRefused("schema_too_large", "/tools/0/input_schema", {"maximum": MAX_SCHEMA_BYTES})
    yield ValueRefused("tools_too_large", "/tools")
    yield ValueRefused("max_uses_range", "/tools/0/max_uses", {"minimum": 1, "maximum": 10})
    yield ValueRefused("tool_domains_range", "/tools/0/allowed_domains", {"max_length": 50})


def _of_output() -> Iterator[TurnlogError]:
    yield InvalidRequest("control_character", "/output")
    yield ValueRefused("schema_too_large", "/output", {"maximum": MAX_SCHEMA_BYTES})
    yield ValueRefused("schema_too_complex", "/output", {"maximum": MOST_OPTIONAL})
    yield ValueRefused("schema_unsatisfiable", "/output/required")
    for code in ("schema_invalid", "schema_refers"):
        yield ValueRefused(code, "/output/properties", {"field": 1})
