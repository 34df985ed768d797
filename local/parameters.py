"""Values of template.yaml's parameters, given by hand: judged as CloudFormation would, and written for SAM."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from local.template import declared_parameters


def read(text: str) -> dict[str, str]:
    """Returns the values of `Name=value Other='two words'`. Raises ValueError for what has another form."""
    values = {}
    for word in shlex.split(text):
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise ValueError(f"{word!r} has not the form Name=value")
        values[name] = value
    return values


def faults(values: Mapping[str, str]) -> Iterator[str]:
    """Yields one sentence for each value that the template does not take."""
    declared = declared_parameters()
    for name, value in values.items():
        if name not in declared:
            yield f"There is no parameter {name}; there are {', '.join(sorted(declared))}"
        elif fault := _fault(declared[name], value):
            yield f"{name} is {value!r}, and must be {fault}"


def _fault(parameter: Mapping[str, Any], value: str) -> str:
    """The rule that the value breaks; empty when it breaks none."""
    allowed = [str(each) for each in parameter.get("AllowedValues", [])]
    if allowed and value not in allowed:
        return f"one of {', '.join(allowed)}"
    if parameter["Type"] == "Number":
        least, most = parameter.get("MinValue"), parameter.get("MaxValue")
        if not re.fullmatch(r"-?\d{1,18}(\.\d{1,9})?", value):
            return "a number"
        if least is not None and float(value) < least:
            return f"{least} or more"
        if most is not None and float(value) > most:
            return f"{most} or less"
    if len(value) < parameter.get("MinLength", 0):
        return "given"
    pattern = parameter.get("AllowedPattern")
    if pattern and not re.fullmatch(pattern, value):
        return f"like {pattern}"
    return ""


def overrides(values: Mapping[str, str]) -> list[str]:
    """Returns the arguments of SAM's --parameter-overrides: quoted, since SAM itself cuts a value at a space."""
    return [f'{name}="{_escaped(value)}"' for name, value in values.items()]


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')
