"""The service's own tools: one file each, with the function of the same name. A deployment says which it offers."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module

from turnlog.domain.tool_functions import Tool


def tools_named(names: Iterable[str]) -> list[Tool]:
    """The tools of these names, in order. Raises ModuleNotFoundError, AttributeError or TypeError if one is none."""
    found = [getattr(import_module(f"{__name__}.{name}"), name) for name in names]
    if not all(isinstance(each, Tool) for each in found):
        raise TypeError("no tool has this name")
    return found
