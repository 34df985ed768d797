"""The tools that a request asks for: the service's own by name, the caller's own, and Claude's web tools."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from turnlog.domain.json_schemas import require_object_schema
from turnlog.domain.messages import has_foreign_controls, to_json
from turnlog.errors import InvalidRequest, ValueRefused

MOST_TOOLS = 64
MOST_BYTES = 100_000
"""The most bytes of all definitions as JSON: each call sends them, and a session holds them beside its settings."""

_MOST_STRICT = 20  # in a request ("Structured outputs", limits of complexity)
_MOST_USES = 10
_USES = 5  # of a web tool in one call of the model, where nobody asks for another number
_MOST_DOMAINS = 50
_LONGEST_DESCRIPTION = 10_000

WEB_TOOLS = {"web_search": "web_search_20260318", "web_fetch": "web_fetch_20260318"}
"""Claude's own tools by the names that requests give them: the newest versions that the SDK 2.12 knows."""

WEB_USE_TOKENS = 20_000
"""Tokens of what one use of a web tool brings, as a budget reserves them. A fetch is bound to it, about; a search has
no bound, and brings less.
"""

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_DOMAIN = re.compile(r"[a-zA-Z0-9-]+(\.[a-zA-Z0-9-]+)+(/[a-zA-Z0-9._~/-]*)?")
_OF_A_CLIENT_TOOL = ("name", "description", "input_schema", "strict", "type")
_OF_A_WEB_TOOL = ("type", "max_uses", "allowed_domains", "blocked_domains")


@dataclass(frozen=True, slots=True)
class OfferedTools:
    """The tools that a deployment offers: the definitions of its own by name, as JSON text, and Claude's web tools."""

    definitions: Mapping[str, str] = field(default_factory=dict)
    web: bool = False

    @property
    def names(self) -> list[str]:
        """All names that a request may give."""
        return [*self.definitions, *(WEB_TOOLS if self.web else ())]


@dataclass(frozen=True, slots=True)
class ChosenTools:
    """The tools of a query or a session.

    `asked` is what the request says, as JSON text. `definitions` is what is sent to the model, as JSON text of a list,
    empty without tools: it is kept with the session, so that it stays the same to the byte whatever is offered later.
    `own` are the names of those that the service runs.
    """

    asked: str
    definitions: str = ""
    own: tuple[str, ...] = ()


def resolve_tools(asked: Sequence[object], offered: OfferedTools) -> ChosenTools:
    """Returns the tools that a request names or brings. Raises InvalidRequest at the first that cannot be sent.

    An entry is the name of a tool that is offered, a tool of the caller's in the Messages API's form, or an object with
    the `type` `web_search` or `web_fetch`.
    """
    if len(asked) > MOST_TOOLS:
        raise ValueRefused("tools_range", "/tools", {"max_length": MOST_TOOLS})
    sent, own, taken = [], [], {*offered.definitions, *WEB_TOOLS}
    named: set[str] = set()
    strict = 0
    for number, entry in enumerate(asked):
        pointer = f"/tools/{number}"
        if isinstance(entry, str) and entry in offered.definitions:
            name, definition = entry, offered.definitions[entry]
            own.append(name)
            strict += 1
        elif isinstance(entry, str) or (isinstance(entry, dict) and _is_web(entry)):
            name, definition = _web_tool(entry, offered, pointer)
        elif isinstance(entry, dict):
            name, definition = _client_tool(entry, pointer)
            strict += entry.get("strict") is True
            if name in taken:
                raise ValueRefused("tool_name_taken", f"{pointer}/name")
        else:
            raise InvalidRequest("wrong_type", pointer)
        if name in named:
            raise ValueRefused("tool_name_taken", pointer)
        named.add(name)
        sent.append(definition)
    definitions = f"[{','.join(sent)}]" if sent else ""
    if len(definitions.encode()) > MOST_BYTES or strict > _MOST_STRICT:
        raise ValueRefused("tools_too_large", "/tools")
    return ChosenTools(to_json(list(asked)), definitions, tuple(own))


def web_uses(definitions: str) -> tuple[int, int]:
    """The most searches and fetches in one call with these definitions, which are those of ChosenTools."""
    if "web_" not in definitions:
        return 0, 0
    uses = {
        tool["type"]: tool["max_uses"] for tool in json.loads(definitions) if tool.get("type") in WEB_TOOLS.values()
    }
    return uses.get(WEB_TOOLS["web_search"], 0), uses.get(WEB_TOOLS["web_fetch"], 0)


def without_web_tools(definitions: str) -> str:
    """These definitions without Claude's web tools, for a deployment that no longer allows them."""
    if web_uses(definitions) == (0, 0):
        return definitions
    kept = [tool for tool in json.loads(definitions) if tool.get("type") not in WEB_TOOLS.values()]
    return to_json(kept) if kept else ""


def _is_web(entry: dict[str, Any]) -> bool:
    return "type" in entry and entry["type"] != "custom"


def _web_tool(entry: object, offered: OfferedTools, pointer: str) -> tuple[str, str]:
    """The name and definition of one of Claude's own tools."""
    given = entry if isinstance(entry, dict) else {"type": entry}
    _require_fields(given, _OF_A_WEB_TOOL, pointer)
    name = given["type"]
    if not isinstance(name, str):
        raise InvalidRequest("wrong_type", f"{pointer}/type")
    if not offered.web or name not in WEB_TOOLS:
        raise ValueRefused("tool_unknown", pointer, {"allowed": offered.names})
    uses = given.get("max_uses", _USES)
    if type(uses) is not int:
        raise InvalidRequest("wrong_type", f"{pointer}/max_uses")
    if not 1 <= uses <= _MOST_USES:
        raise ValueRefused("max_uses_range", f"{pointer}/max_uses", {"minimum": 1, "maximum": _MOST_USES})
    domains = {each: _domains(given[each], f"{pointer}/{each}") for each in _OF_A_WEB_TOOL[2:] if each in given}
    if len(domains) == 2:
        raise ValueRefused("tool_domains_range", pointer)
    # Called by the model itself alone: else it may run code in a container, which no session can keep.
    direct: dict[str, Any] = {"type": WEB_TOOLS[name], "name": name, "max_uses": uses, "allowed_callers": ["direct"]}
    if name == "web_fetch":
        direct["max_content_tokens"] = WEB_USE_TOKENS
    return name, to_json(direct | domains)


def _domains(value: object, pointer: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise InvalidRequest("wrong_type", pointer)
    if not 1 <= len(value) <= _MOST_DOMAINS or not all(len(each) <= 255 and _DOMAIN.fullmatch(each) for each in value):
        raise ValueRefused("tool_domains_range", pointer, {"max_length": _MOST_DOMAINS})
    return value


def _client_tool(entry: dict[str, Any], pointer: str) -> tuple[str, str]:
    """The name and definition of a tool that the caller runs."""
    _require_fields(entry, _OF_A_CLIENT_TOOL, pointer)
    for name in ("name", "input_schema"):
        if name not in entry:
            raise InvalidRequest("field_missing", f"{pointer}/{name}")
    kinds = {"name": str, "description": str, "input_schema": dict, "strict": bool}
    for name, kind in kinds.items():
        if name in entry and not isinstance(entry[name], kind):
            raise InvalidRequest("wrong_type", f"{pointer}/{name}")
    if not _NAME.fullmatch(entry["name"]):
        raise ValueRefused("tool_name_range", f"{pointer}/name", {"pattern": "^[a-zA-Z0-9_-]{1,64}$"})
    description = entry.get("description", "")
    if has_foreign_controls(description):
        raise InvalidRequest("control_character", f"{pointer}/description")
    if len(description) > _LONGEST_DESCRIPTION:
        raise ValueRefused("tool_description_range", f"{pointer}/description", {"max_length": _LONGEST_DESCRIPTION})
    require_object_schema(entry["input_schema"], f"{pointer}/input_schema", strict=entry.get("strict", False))
    if has_foreign_controls(_texts(entry["input_schema"])):
        raise InvalidRequest("control_character", f"{pointer}/input_schema")
    sent = {name: entry[name] for name in kinds if entry.get(name) not in (None, "")}
    return entry["name"], to_json(sent)


def _texts(value: object) -> str:
    """All texts within a value, names included."""
    if isinstance(value, dict):
        return "".join(name + _texts(each) for name, each in value.items())
    if isinstance(value, list):
        return "".join(map(_texts, value))
    return value if isinstance(value, str) else ""


def _require_fields(entry: dict[str, Any], allowed: tuple[str, ...], pointer: str) -> None:
    """Raises InvalidRequest for a field that is not allowed: its number is said, since its name is the caller's."""
    for number, name in enumerate(entry, start=1):
        if name not in allowed:
            raise InvalidRequest("unknown_field", pointer, {"allowed": list(allowed), "field": number})
