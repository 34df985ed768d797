"""The objects of a request whose fields the Messages API reads, wherever in the body they stand.

All else in it is data of the caller or of a model, in which a field may have any name: the input of a tool, given or as
an example, the schema of a tool or a reply, and what a reply says of how it came about.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_DATA = ("input_schema", "metadata", "caller")
"""Fields whose values are data wherever they stand; a `caller` says which code called a tool in an earlier reply."""


@dataclass(frozen=True, slots=True)
class ApiObject:
    """One object of a request: the request itself (`is_top`), the definition of a tool (`is_tool`), or any other."""

    fields: dict[str, Any]
    is_top: bool = False
    is_tool: bool = False

    def pointer(self, name: str) -> str | None:
        """Returns the pointer to one of the fields; None below the top: a pointer there holds the caller's text."""
        return f"/{name}" if self.is_top else None


class PassedBody:
    """A request's body: its `fields`, and all `objects` whose fields are read, itself the first.

    It may be any object that was parsed from JSON. The objects are looked up once, since there may be many.
    """

    def __init__(self, fields: dict[str, Any]) -> None:
        self.fields = fields
        self.objects = tuple(_objects(fields))


def _objects(body: dict[str, Any]) -> Iterator[ApiObject]:
    waiting: list[tuple[Any, str]] = [(body, "")]
    while waiting:
        value, name = waiting.pop()
        if isinstance(value, dict):
            found = ApiObject(value, is_top=value is body, is_tool=name in ("tools", "definition"))
            yield found
            below = [(each, field) for field, each in value.items() if not _is_data(field, found)]
        else:
            below = [(each, name) for each in value]
        waiting += [each for each in reversed(below) if isinstance(each[0], dict | list)]


def _is_data(name: str, holder: ApiObject) -> bool:
    kind = holder.fields.get("type")
    if name == "input_examples":
        return holder.is_tool
    if name == "input":
        return isinstance(kind, str) and kind.endswith("tool_use")
    if name == "schema":
        return kind == "json_schema"
    return name in _DATA or (kind == "fallback" and name in ("from", "to", "trigger"))
