"""A line for each answered request, document and sweep: its outcome and its cost, but never its content."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

MOST_READ_BYTES = 1024 * 1024  # an answer with a usage of its own is far smaller
_JSON = "application/json"
_PROBLEM = "application/problem+json"
_TOKENS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")
_CODE = re.compile(r"[a-zA-Z0-9_]{1,64}")
_DOLLARS = re.compile(r"[0-9]{1,12}(\.[0-9]{1,18})?")


@dataclass(frozen=True, slots=True)
class Answered:
    """An answered request of the API. `tokens`, `cost_usd` and a problem's `code` are None when the answer has none."""

    method: str
    path: str
    status: int
    ms: int
    tokens: int | None = None
    cost_usd: str | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Noted:
    """An event that a function logs beside its requests, such as a sweep; None and 0 are what it does not name."""

    event: str
    ms: int | None
    tokens: int | None = None
    cost_usd: str | None = None
    code: str | None = None
    count: int | None = None

    @classmethod
    def read(cls, logged: Mapping[str, Any], ms: int | None) -> Noted:
        """Reads a line of a function's log."""
        tokens, count = logged.get("tokens"), logged.get("count")
        return cls(
            event=str(logged.get("message", "")),
            ms=ms,
            tokens=tokens if type(tokens) is int else None,
            cost_usd=dollars(logged.get("cost_usd")),
            code=code_of(logged.get("code")),
            count=count if type(count) is int else None,
        )


def problem_code(content_type: str, body: bytes) -> str | None:
    """The code of an answer that is a problem, or an error of the Messages API; None of any other."""
    if not content_type.startswith((_PROBLEM, _JSON)) or len(body) > MOST_READ_BYTES:
        return None
    try:
        problem = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(problem, dict):
        return None
    return code_of(problem.get("code")) if content_type.startswith(_PROBLEM) else error_code(problem)


def error_code(answer: Mapping[str, Any]) -> str | None:
    """The code of an error in the form of the Messages API: ours if there is one, else the provider's type."""
    match answer:
        case {"type": "error", "error": {"details": {"error_code": str(found)}}}:
            return code_of(found)
        case {"type": "error", "error": {"type": found}}:
            return code_of(found)
    return None


def code_of(found: object) -> str | None:
    """The text, if it is a single word."""
    return found if isinstance(found, str) and _CODE.fullmatch(found) else None


def dollars(found: object) -> str | None:
    """The text, if it is an exact amount."""
    return found if isinstance(found, str) and _DOLLARS.fullmatch(found) else None


def spent(content_type: str, body: bytes) -> tuple[int | None, str | None]:
    """Tokens and dollars from the JSON of an answer that has a usage; each is None when the answer does not name it."""
    if not content_type.startswith(_JSON) or len(body) > MOST_READ_BYTES:
        return None, None
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None, None
    if not isinstance(answer, dict):
        return None, None
    usage = answer.get("usage")
    return (sum_of(usage), dollars(answer.get("cost_usd"))) if isinstance(usage, dict) else (None, None)


def sum_of(usage: Mapping[str, Any]) -> int | None:
    """The tokens of a usage; None if it counts none."""
    counts = [count for name in _TOKENS if type(count := usage.get(name)) is int]
    return sum(counts) if counts else None


def route_of(path: str, routes: Iterable[str]) -> str:
    """The template's route for a path; `-` for none. A route without braces goes first."""
    for route in sorted(routes, key=lambda route: route.count("{")):
        if re.fullmatch(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(route)), path):
            return route
    return "-"


def request_line(answered: Answered, routes: Iterable[str], at: datetime) -> str:
    """Returns a line such as `14:03:22  POST /v1/query  200  412 ms  1,203 tokens  $0.002106`."""
    parts = [f"{answered.method} {route_of(answered.path, routes)}", str(answered.status), *_outcome(answered)]
    return "  ".join([f"{at:%H:%M:%S}", *parts])


def event_line(noted: Noted, at: datetime) -> str:
    """Returns a line such as `14:03:22  upload summarized  412 ms  1,203 tokens  $0.002106`."""
    counted = [] if noted.count is None else [str(noted.count)]
    return "  ".join([f"{at:%H:%M:%S}", noted.event, *counted, *_outcome(noted)])


def _outcome(fact: Answered | Noted) -> list[str]:
    tokens = None if fact.tokens is None else f"{fact.tokens:,} tokens"
    cost = None if fact.cost_usd is None else f"${fact.cost_usd}"
    ms = None if fact.ms is None else f"{fact.ms:,} ms"
    return [each for each in (ms, fact.code, tokens, cost) if each]
