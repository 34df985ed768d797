"""The template as SAM hands it to CloudFormation, which is what is really deployed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from samcli.yamlhelper import yaml_parse
from samtranslator.translator import transform as translator

SOURCE = Path("template.yaml")
Resource = dict[str, Any]
OfType = Callable[[str], dict[str, Resource]]


class _ManagedPolicies:
    """Stands in for IAM, which the transform asks for the ARNs of AWS's own policies."""

    def load(self) -> dict[str, str]:
        name = "service-role/AWSLambdaBasicExecutionRole"
        names = {"AWSLambdaBasicExecutionRole": name, "AWSXrayWriteOnlyAccess": "AWSXrayWriteOnlyAccess"}
        return {short: f"arn:aws:iam::aws:policy/{long}" for short, long in names.items()}


@pytest.fixture(scope="session")
def source() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml_parse(SOURCE.read_text())
    return parsed


def transform(*changes: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Returns the template after SAM's transform; `changes` are applied before it."""
    template = yaml_parse(SOURCE.read_text())
    for change in changes:
        change(template)
    for resource in template["Resources"].values():
        properties = resource.get("Properties", {})
        for name in ("CodeUri", "ContentUri"):  # after the build these are places in a bucket
            if name in properties:
                properties[name] = f"s3://bucket/{properties[name]}"
    result: dict[str, Any] = translator.transform(template, {}, _ManagedPolicies())
    return result


@pytest.fixture(scope="session")
def transformed() -> dict[str, Any]:
    return transform()


@pytest.fixture(scope="session")
def of_type(transformed: dict[str, Any]) -> OfType:
    def pick(kind: str) -> dict[str, Resource]:
        return {name: each for name, each in transformed["Resources"].items() if each["Type"] == kind}

    return pick
