"""The API's document as a judge: holds an answer to the description of its route.

The document lets objects in answers gain fields. Here they may not, so that a field that nobody described is seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from turnlog.entrypoints.http.openapi import document

Response = tuple[str, str, int, str]
"""Method, path, status, and the code of a problem."""

seen: set[Response] = set()
"""Every answer that was held to the document."""

_ROOT = "urn:openapi"


@cache
def written() -> dict[str, Any]:
    """The document as it is served."""
    return document()


def operation(method: str, path: str) -> dict[str, Any]:
    found: dict[str, Any] = written()["paths"][path][method.lower()]
    return found


def is_written(method: str, path: str) -> bool:
    return method.isupper() and method.lower() in written()["paths"].get(path, {})


def expect(method: str, path: str, status: int, headers: Mapping[str, str], body: object) -> None:
    """Fails when the document does not allow this answer of the route."""
    allowed, media_type = operation(method, path)["responses"], ""
    assert str(status) in allowed, f"{method} {path} answers {status}, which is not documented: {body}"
    answer = allowed[str(status)]
    assert ("content" in answer) == (body is not None)
    sent = {name.lower(): value for name, value in headers.items()}
    if "content" in answer:
        media_type, _, charset = sent["content-type"].partition("; ")
        assert media_type in answer["content"]
        assert charset in ("charset=utf-8", "") if path.startswith("/messages") else charset == "charset=utf-8"
        if media_type == "text/event-stream":
            _expect_events(answer["content"][media_type].get("x-events"), body)
            media_type = ""
    if media_type:
        pointer = f"#/paths/{path.replace('/', '~1')}/{method.lower()}/responses/{status}/content"
        wrong = [
            error.message for error in _validator(f"{pointer}/{media_type.replace('/', '~1')}/schema").iter_errors(body)
        ]
        assert not wrong, f"{method} {path} {status}: {wrong}"
    plain = {"content-type"}
    assert set(sent) - plain <= {name.lower() for name in answer["headers"]}, f"{method} {path} {status}"
    for name in answer["headers"]:
        schema = written()["components"]["headers"][name]["schema"]
        if schema.get("type") != "integer" and name.lower() in sent:
            Draft202012Validator(schema).validate(sent[name.lower()])
    # Errors of the Messages API have no code there.
    seen.add((method, path, status, body.get("code", "") if status >= 400 and isinstance(body, dict) else ""))


def _expect_events(described: Mapping[str, Any] | None, body: Any) -> None:
    """Fails when an event of ours is not as described, or the whole is not one message between two of them."""
    kinds = [event["type"] for event in body]
    if described is None:  # Claude's own, as they come
        return
    ends = ["error"] if "error" in kinds else ["message_stop", "turnlog.done"]
    assert kinds[0] == "turnlog.turn"
    assert kinds[-len(ends) :] == ends
    assert kinds.count("message_start") == 1 - ("message_start" not in kinds and "error" in kinds)
    for event in body:
        if event["type"].startswith("turnlog.") or event["type"] == "error":
            wrong = [error.message for error in _validator(described[event["type"]]["$ref"]).iter_errors(event)]
            assert not wrong, f"{event['type']}: {wrong}"


def is_valid(value: object, pointer: str) -> bool:
    """Returns True if the value is valid by the schema at `pointer`, a fragment of the document."""
    return bool(_validator(pointer).is_valid(value))


@cache
def _validator(pointer: str) -> Draft202012Validator:
    return Draft202012Validator({"$ref": _ROOT + pointer}, registry=_registry(), format_checker=FormatChecker())


@cache
def _registry() -> Registry[Any]:
    closed = Resource.from_contents(_closed(written()), default_specification=DRAFT202012)
    registry: Registry[Any] = Registry[Any]().with_resource(_ROOT, closed)
    return registry


def _closed(value: Any) -> Any:
    if isinstance(value, list):
        return [_closed(each) for each in value]
    if not isinstance(value, dict):
        return value
    closed = {name: _closed(each) for name, each in value.items()}
    is_object = value.get("type") == "object" and isinstance(value.get("properties"), dict)
    return {"additionalProperties": False, **closed} if is_object else closed
