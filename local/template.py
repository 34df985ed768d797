"""template.yaml as data, for whoever needs its parameters or functions before SAM has read it."""

from __future__ import annotations

from functools import cache
from typing import Any

import yaml

from local.state import ROOT


class _Loader(yaml.SafeLoader):
    """Reads CloudFormation's short tags, such as !Ref, as None."""


_Loader.add_multi_constructor("!", lambda *_: None)


@cache
def _template() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.load((ROOT / "template.yaml").read_text(), _Loader)
    return parsed


def declared_parameters() -> dict[str, dict[str, Any]]:
    """The parameters as the template declares them, by name."""
    found: dict[str, dict[str, Any]] = _template()["Parameters"]
    return found


def function_names() -> list[str]:
    """The logical names of the functions."""
    return [name for name, each in _template()["Resources"].items() if each["Type"] == "AWS::Serverless::Function"]
