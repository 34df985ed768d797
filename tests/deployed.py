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
    """The function's environment: each variable that is a parameter with a default, or a text."""
    template = _template(path)
    variables = dict(template["Globals"]["Function"]["Environment"]["Variables"])
    properties = template["Resources"][function]["Properties"]
    variables |= properties.get("Environment", {}).get("Variables", {})
    found = {}
    for name, value in variables.items():
        parameter = template["Parameters"].get(value["Ref"], {}) if isinstance(value, dict) and "Ref" in value else {}
        if isinstance(value, str):
            found[name] = value
        elif "Default" in parameter:
            found[name] = str(parameter["Default"])
    return found
