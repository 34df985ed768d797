"""Draws docs/calls.svg: which function is called by what, and what each may reach, read from template.yaml."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from xml.sax.saxutils import escape

from samcli.yamlhelper import yaml_parse

from local.state import ROOT

PICTURE = ROOT / "docs" / "calls.svg"
TEMPLATE = ROOT / "template.yaml"

_CALLED = {
    "API Gateway": {
        "Authorizer": "asked first: is the token valid?",
        "Query": "POST /query",
        "AnalyzeCode": "POST /analyze",
        "Summarize": "POST /summarize",
        "Session": "/sessions…, and its turns",
        "Stream": "/messages, and …/stream",
        "Anonymous": "POST /anonymous/sessions",
        "Account": "/me: export, erase",
        "Admin": "/admin/…: list, end, read",
        "Console": "GET /health, GET /openapi.json",
    },
    "schedule": {"Sweep": "removes expired sessions"},
    "S3 event": {"SummarizeUpload": "a document in, a summary out"},
    "tool calls": {"DocumentsTool": "the caller's own documents"},
}
_REACHED = {  # a column, and what a policy names when a function reaches it
    "Claude": ["ClaudeKey"],
    "secrets": ["ClaudeKey", "ServerKey"],
    "sessions": ["SessionsTable"],
    "usage": ["UsageTable"],
    "keys": ["KeysTable"],
    "KMS": ["ContentKey"],
    "S3": ["DocumentsBucket"],
    "audit trail": ["Audit"],
}
_TABLES = ("sessions", "usage", "keys")
_WIDTH, _TOP, _ROW, _BOX = 860, 96, 44, 36
_CALLER_X, _CALLER_WIDTH, _TRUNK_X, _FUNCTION_X, _FUNCTION_WIDTH = 16, 122, 160, 182, 206
_COLUMN_X, _COLUMN = 430, 57
_STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; fill: #1f2328 }
.note { font-size: 11.5px; fill: #57606a } .name, .head { font-weight: 600 } .head { font-size: 12px }
.back { fill: #ffffff; stroke: #d0d7de }
.box { fill: #f6f8fa; stroke: #afb8c1 } .line { stroke: #d0d7de; fill: none } .call { stroke: #57606a; fill: none }
.tip { fill: #57606a } .dot { fill: #0a7d43 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .note { fill: #9da7b1 } .back { fill: #0d1117; stroke: #30363d }
.box { fill: #1c2128; stroke: #444c56 } .line { stroke: #30363d } .call { stroke: #9da7b1 }
.tip { fill: #9da7b1 } .dot { fill: #3fb950 }
}
"""


def reached(template: Mapping[str, Any]) -> dict[str, set[str]]:
    """Returns the columns that each function of the template reaches, by the policies of its role."""
    resources = template["Resources"]
    found = {}
    for name, resource in resources.items():
        if resource["Type"] == "AWS::Serverless::Function":
            policies = json.dumps([_expanded(each, resources) for each in resource["Properties"].get("Policies", [])])
            columns = {column for column, names in _REACHED.items() if any(_names(policies, each) for each in names)}
            found[name.removesuffix("Function")] = columns
    return found


def _expanded(policy: Any, resources: Mapping[str, Any]) -> Any:
    return resources[policy["Ref"]] if "Ref" in policy else policy


def _names(policies: str, name: str) -> bool:
    return name in policies if name.startswith("-") else f'"{name}' in policies or f"${{{name}" in policies


def drawn(template: Mapping[str, Any]) -> str:
    """Returns the SVG, readable on a light and on a dark page. Raises KeyError when a function has no row here."""
    reach = reached(template)
    called = {**_CALLED, "API Gateway": _CALLED["API Gateway"] | _added(template)}
    rows = [(caller, name, note) for caller, functions in called.items() for name, note in functions.items()]
    ungiven = reach.keys() - {name for _, name, _ in rows}
    if ungiven:
        raise KeyError(f"no row for {', '.join(sorted(ungiven))}")
    height = _TOP + _ROW * len(rows) + 12
    body = [f'<rect class="back" x="0.5" y="0.5" width="{_WIDTH - 1}" height="{height - 1}" rx="8"/>']
    body += _headers([reach[name] for _, name, _ in rows])
    for number, (_, name, note) in enumerate(rows):
        body += _function(number, name, note, reach[name])
    body += _callers(rows)
    size = f'width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="title">'
    title = '<title id="title">Who calls which function, and what each function may reach</title>'
    return "\n".join([head, title, f"<style>{_STYLE}</style>", *body, "</svg>", ""])


def _added(template: Mapping[str, Any]) -> dict[str, str]:
    """The route of each function that the API calls and that has no row here."""
    shown = {name for functions in _CALLED.values() for name in functions}
    found = {}
    for name, resource in template["Resources"].items():
        if resource["Type"] == "AWS::Serverless::Function" and name.removesuffix("Function") not in shown:
            events = resource["Properties"].get("Events", {}).values()
            routes = [each["Properties"] for each in events if each["Type"] == "Api"]
            if routes:
                note = ", ".join(f"{route['Method'].upper()} {route['Path']}" for route in routes)
                found[name.removesuffix("Function")] = note
    return found


def _headers(reach: list[set[str]]) -> Iterator[str]:
    yield f'<text class="name" x="{_FUNCTION_X}" y="{_TOP - 31}">functions</text>'
    yield f'<circle class="dot" cx="{_FUNCTION_X + 5}" cy="{_TOP - 20}" r="5"/>'
    yield f'<text class="note" x="{_FUNCTION_X + 16}" y="{_TOP - 16}">its IAM role may reach this</text>'
    for number, column in enumerate(_REACHED):
        x = _COLUMN_X + number * _COLUMN
        last = max(row for row, columns in enumerate(reach) if column in columns)
        yield f'<path class="line" d="M{x} {_TOP - 8}V{_middle(last)}"/>'
        for line, word in enumerate(reversed(column.split())):
            yield f'<text class="head" x="{x}" y="{_TOP - 16 - 15 * line}" text-anchor="middle">{word}</text>'
    first, last = (_COLUMN_X + list(_REACHED).index(name) * _COLUMN for name in (_TABLES[0], _TABLES[-1]))
    yield f'<path class="call" d="M{first - 22} {_TOP - 36}v-5H{last + 22}v5"/>'
    yield f'<text class="note" x="{(first + last) / 2}" y="{_TOP - 48}" text-anchor="middle">DynamoDB</text>'


def _function(row: int, name: str, note: str, columns: set[str]) -> Iterator[str]:
    y, middle = _middle(row) - _BOX / 2, _middle(row)
    dots = [_COLUMN_X + number * _COLUMN for number, column in enumerate(_REACHED) if column in columns]
    if dots:
        yield f'<path class="line" d="M{_FUNCTION_X + _FUNCTION_WIDTH} {middle}H{dots[-1]}"/>'
    yield f'<rect class="box" x="{_FUNCTION_X}" y="{y}" width="{_FUNCTION_WIDTH}" height="{_BOX}" rx="6"/>'
    yield f'<text class="name" x="{_FUNCTION_X + 10}" y="{y + 15}">{_folder(name)}</text>'
    yield f'<text class="note" x="{_FUNCTION_X + 10}" y="{y + 29}">{escape(note)}</text>'
    yield from (f'<circle class="dot" cx="{x}" cy="{middle}" r="5"/>' for x in dots)


def _callers(rows: list[tuple[str, str, str]]) -> Iterator[str]:
    for caller, functions in _CALLED.items():
        called = [_middle(row) for row, (each, _, _) in enumerate(rows) if each == caller]
        middle = (called[0] + called[-1]) / 2
        yield from _box(middle, caller)
        trunk = f"M{_CALLER_X + _CALLER_WIDTH} {middle}H{_TRUNK_X}M{_TRUNK_X} {called[0]}V{called[-1]}"
        yield f'<path class="call" d="{trunk}"/>'
        yield from (f'<path class="call" d="M{_TRUNK_X} {y}H{_FUNCTION_X - 6}"/>' for y in called)
        yield from (f'<path class="tip" d="M{_FUNCTION_X} {y}l-8 -4v8z"/>' for y in called)
        if len(functions) > 1:  # the one that people call
            client, x = middle - 3 * _ROW, _CALLER_X + _CALLER_WIDTH / 2
            yield from _box(client, "your client")
            yield f'<path class="call" d="M{x} {client + _BOX / 2}V{middle - _BOX / 2 - 6}"/>'
            yield f'<path class="tip" d="M{x} {middle - _BOX / 2}l-4 -8h8z"/>'
            for line, text in enumerate(("HTTPS,", "a token or", "a secret")):
                yield f'<text class="note" x="{x + 8}" y="{client + 44 + 15 * line}">{text}</text>'


def _box(middle: float, text: str) -> Iterator[str]:
    y = middle - _BOX / 2
    yield f'<rect class="box" x="{_CALLER_X}" y="{y}" width="{_CALLER_WIDTH}" height="{_BOX}" rx="6"/>'
    x = _CALLER_X + _CALLER_WIDTH / 2
    yield f'<text class="name" x="{x}" y="{middle + 5}" text-anchor="middle">{text}</text>'


def _middle(row: int) -> float:
    return _TOP + _ROW * row + _ROW / 2


def _folder(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


if __name__ == "__main__":
    PICTURE.write_text(drawn(yaml_parse(TEMPLATE.read_text())))
    print(f"drawn: {PICTURE.relative_to(ROOT)}")
