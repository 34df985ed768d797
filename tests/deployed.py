"""The environment that a function gets from the template's defaults, the one place where default values stand."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml


class _Template(yaml.SafeLoader):
    """Reads CloudFormation's short tags as mappings, as in `{"Ref": "Name"}`."""


def _tag(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        return {suffix: loader.construct_scalar(node)}
    if isinstance(node, yaml.SequenceNode):
        return {suffix: loader.construct_sequence(node, deep=True)}
    assert isinstance(node, yaml.MappingNode)
    return {suffix: loader.construct_mapping(node, deep=True)}


_Template.add_multi_constructor("!", _tag)


@cache
def _template(path: Path = Path("template.yaml")) -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.load(path.read_text(), _Template)  # noqa: S506 (a SafeLoader)
    return parsed


def folders() -> list[str]:
    """The folders of all functions."""
    return sorted(path.parent.name for path in Path("functions").glob("*/app.py"))


def logical_name(folder: str) -> str:
    """The name in the template of the function whose code is in `functions/<folder>`."""
    resources: dict[str, Any] = _template()["Resources"]
    return next(name for name, each in resources.items() if each["Properties"].get("CodeUri") == f"functions/{folder}")


def memory_mb(function: str) -> int:
    """The function's memory, by itself or as all have it."""
    template = _template()
    default: int = template["Globals"]["Function"]["MemorySize"]
    own: int = template["Resources"][function]["Properties"].get("MemorySize", default)
    return own


def environment(function: str, path: Path = Path("template.yaml")) -> dict[str, str]:
    """The function's environment: each variable whose value the template's own defaults decide."""
    template = _template(path)
    variables = dict(template["Globals"]["Function"]["Environment"]["Variables"])
    properties = template["Resources"][function]["Properties"]
    variables |= properties.get("Environment", {}).get("Variables", {})
    resolved = {name: _resolved(value, template) for name, value in variables.items()}
    return {name: str(value) for name, value in resolved.items() if value is not None}


def _resolved(value: Any, template: dict[str, Any]) -> Any:
    """The value as a deploy with nothing but defaults has it; None if another resource, or AWS, decides it."""
    match value:
        case {"Ref": name}:
            return template["Parameters"].get(name, {}).get("Default")
        case {"If": [condition, then, otherwise]}:
            holds = _resolved(template["Conditions"][condition], template)
            return _resolved(then if holds else otherwise, template)
        case {"FindInMap": [name, first, second]}:
            return template["Mappings"][name][str(_resolved(first, template))][str(_resolved(second, template))]
        case {"Equals": [one, other]}:
            return str(_resolved(one, template)) == str(_resolved(other, template))
        case {"Not": [condition]}:
            return not _resolved(condition, template)
        case dict():
            return None
    return value
