"""template.yaml as data, for whoever needs its parameters or functions before SAM has read it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import yaml

from local.state import ROOT


class _Loader(yaml.CSafeLoader):
    """Reads CloudFormation's short tags, such as !Ref, as None."""


_Loader.add_multi_constructor("!", lambda *_: None)


def _template() -> dict[str, Any]:
    return _parsed((ROOT / "template.yaml").read_text())


@lru_cache(maxsize=1)  # a deploy asks for it many times, and somebody may save another meanwhile
def _parsed(text: str) -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.load(text, _Loader)
    return parsed


def declared_parameters() -> dict[str, dict[str, Any]]:
    """The parameters as the template declares them, by name."""
    found: dict[str, dict[str, Any]] = _template()["Parameters"]
    return found


def known_models() -> str:
    """The models that this version offers where ClaudeModels names none, separated by commas."""
    return str(_template()["Mappings"]["Release"]["Claude"]["Models"])


def adapter_layer(partition: str, region: str) -> str:
    """The ARN of AWS's own layer of the Lambda Web Adapter, as a stack there names it; empty where there is none."""
    mappings = _template()["Mappings"]
    accounts = mappings["Adapter"]
    account = accounts.get(region, accounts.get(partition, {})).get("Account", "none")
    version = mappings["Release"]["Adapter"]["Version"]
    name = f"LambdaAdapterLayerArm64:{version}"
    return "" if account == "none" else f"arn:{partition}:lambda:{region}:{account}:layer:{name}"


def folders_as_they_are() -> dict[str, str]:
    """The folders of the functions, and of the layers that need no build, by logical name."""
    found = {}
    for name, each in _template()["Resources"].items():
        if each["Type"] == "AWS::Serverless::Function":
            found[name] = str(each["Properties"]["CodeUri"])
        elif each["Type"] == "AWS::Serverless::LayerVersion" and "BuildMethod" not in each.get("Metadata", {}):
            found[name] = str(each["Properties"]["ContentUri"])
    return found


def function_names() -> list[str]:
    """The logical names of the functions."""
    return [name for name, each in _template()["Resources"].items() if each["Type"] == "AWS::Serverless::Function"]
