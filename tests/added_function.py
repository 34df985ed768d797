"""A function that was added: what tests derive for one by `single_turn`, and the lines to paste for the rest."""

from __future__ import annotations

import re
from pathlib import Path

from samcli.yamlhelper import yaml_parse

_SINGLE_TURN = re.compile(r'^handler = single_turn\(\s*"(/[^"]+)"', re.MULTILINE)


def single_turn_paths() -> dict[str, str]:
    """The path of each function that `single_turn` makes whole, by the function's folder."""
    found = {
        file.parent.name: _SINGLE_TURN.search(file.read_text()) for file in sorted(Path().glob("functions/*/app.py"))
    }
    return {folder: match[1] for folder, match in found.items() if match}


def single_turn_functions() -> dict[str, str]:
    """The same by the function's name in template.yaml."""
    resources = yaml_parse(Path("template.yaml").read_text())["Resources"].items()
    folders = {each["Properties"]["CodeUri"]: name for name, each in resources if name.endswith("Function")}
    return {folders[f"functions/{folder}"]: path for folder, path in single_turn_paths().items()}


def alarm_line(function: str, metric: str) -> str:
    """The line of template.yaml for a function's alarm; `metric` is Errors or Throttles."""
    name, dimension = function.removesuffix("Function"), f"{{Name: FunctionName, Value: !Ref {function}}}"
    properties = f"{{<<: *{metric.lower()}, Dimensions: [{dimension}]}}"
    return f"  {name}{metric}: {{Type: AWS::CloudWatch::Alarm, Properties: {properties}}}"


def preflight_line(path: str) -> str:
    """The line of template.yaml for a path's preflight, among the events of ConsoleFunction."""
    name = "Of" + "".join(word.capitalize() for word in re.findall(r"[a-z]+", path))
    return f'        {name}: {{Type: Api, Properties: {{<<: *preflight, Path: "{path}"}}}}'


def operation_lines(path: str) -> str:
    """The lines of OPERATIONS for a path of `single_turn`, with a summary and an example to be written."""
    return (
        f'    ("POST", "{path}"): _question(\n'
        f'        "{path.strip("/")}", "One sentence about it.", bodies.SingleTurnBody, "An example of a message."\n'
        "    ),"
    )
