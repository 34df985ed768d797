"""The rules for a request that is passed on: everything may be in it, but for what a deployment denies.

Denied by default is what names the state, the payer or the key of the one account that all callers share. What the
provider would refuse is left to the provider, whose words its clients know.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from turnlog.domain.passing.fields import ApiObject, PassedBody
from turnlog.errors import InvalidRequest, ModelNotFound

DENIED_HEADERS = ("anthropic-workspace-id", "anthropic-user-profile-id")
"""Headers that name a part of the account. None of them would go on, so whoever sends one is told."""

_CLIENTS = ("custom", "bash", "text_editor", "computer", "computer_toolset", "browser_toolset", "memory")
_HARMLESS = ("tool_search_tool_bm25", "tool_search_tool_regex", "advisor")  # and those run by the provider
_WEB = ("web_search", "web_fetch")
_RUN_BY_PROVIDER = (*_WEB, "advisor", "code_execution")
_DATED = re.compile(r"([a-z][a-z0-9_]*)_\d{8}")


@dataclass(frozen=True, slots=True)
class PassingRules:
    """The rules of a deployment: the models that it serves, whether web tools may be used, and what it denies."""

    models: tuple[str, ...]
    web: bool = False
    denied_fields: frozenset[str] = frozenset()
    denied_betas: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NamedTool:
    """The definition of a tool that is not the caller's own to describe; `kind` is its type without the date."""

    kind: str
    fields: Mapping[str, Any]

    @property
    def most_uses(self) -> int | None:
        """The most uses in one request; None if nothing bounds it."""
        uses = self.fields.get("max_uses")
        return uses if type(uses) is int and uses >= 0 else None


def require_headers(betas: Iterable[str], sent: Iterable[str], rules: PassingRules) -> None:
    """Raises InvalidRequest for a beta or a header that is denied. `betas` are the values of `anthropic-beta`."""
    for name in DENIED_HEADERS:
        if name in sent:
            raise InvalidRequest("header_denied", details={"header": name})
    asked = [beta.strip() for value in betas for beta in value.split(",")]
    for denied in rules.denied_betas:
        if any(beta == denied or beta.startswith(f"{denied}-") for beta in asked):
            raise InvalidRequest("beta_denied", details={"beta": denied})


def require_passable(body: PassedBody, rules: PassingRules) -> None:
    """Raises InvalidRequest for what is denied, and ModelNotFound for a model that is not offered, wherever it is."""
    model = body.fields.get("model")
    if not isinstance(model, str):
        raise InvalidRequest("field_missing" if model is None else "wrong_type", "/model")
    if body.fields.get("fallbacks") == "default":  # which would be models of the provider's choice
        raise InvalidRequest("fallbacks_unnamed", "/fallbacks")
    for part in body.objects:
        _require_fields(part, rules)
        if any(name not in rules.models for name in _models_in(part)):
            raise ModelNotFound
        if (tool := named_tool(part)) and not _may_use(tool, rules):
            allowed = [*_CLIENTS, *_HARMLESS, *(_WEB if rules.web else ())]
            raise InvalidRequest("tool_denied", part.pointer("tools"), {"allowed": allowed})


def models_in(body: PassedBody) -> list[str]:
    """Returns the names of all models that the request names, that of the request itself first."""
    found = [name for part in body.objects for name in _models_in(part)]
    return list(dict.fromkeys([body.fields["model"], *found]))


def named_tools(body: PassedBody) -> list[NamedTool]:
    """Returns the tools of the request that are of a kind of the provider's."""
    return [tool for part in body.objects if (tool := named_tool(part))]


def named_tool(part: ApiObject) -> NamedTool | None:
    """Returns the tool that is defined there; None if there is none, or one that the caller describes and runs."""
    kind = part.fields.get("type")
    dated = _DATED.fullmatch(kind) if isinstance(kind, str) else None
    name = dated[1] if dated else str(kind)
    if part.is_tool:  # one of a kind that is not known is not allowed, since nobody knows what it costs
        return None if kind in (None, "custom") else NamedTool(name, part.fields)
    # In a place that is not known yet, what the provider runs is found by its name.
    return NamedTool(name, part.fields) if dated and name in _RUN_BY_PROVIDER else None


def _require_fields(part: ApiObject, rules: PassingRules) -> None:
    for name, value in part.fields.items():
        if name not in rules.denied_fields or value is None:
            continue
        if name == "thread":  # by this code a client knows that it must send whole conversations
            raise InvalidRequest("thread_unsupported_request", part.pointer(name), {"unsupported": ["thread"]})
        raise InvalidRequest("field_denied", part.pointer(name), {"denied": name})


def _models_in(part: ApiObject) -> Sequence[str]:
    """The names that an object gives to models. A field of a later version that ends in the word counts too."""
    found: list[str] = []
    for name, value in part.fields.items():
        if (name == "model" or name.endswith("_model")) and isinstance(value, str):
            found.append(value)
        elif (name == "models" or name.endswith("_models")) and isinstance(value, list):
            found += [each for each in value if isinstance(each, str)]
    return found


def _may_use(tool: NamedTool, rules: PassingRules) -> bool:
    return tool.kind in _CLIENTS or tool.kind in _HARMLESS or (rules.web and tool.kind in _WEB)
