"""A line for each answered request, document and sweep: its outcome and its cost, but never its content."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

MOST_READ_BYTES = 1024 * 1024  # an answer with a usage of its own is far smaller
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
    ms: int
    tokens: int | None = None
    cost_usd: str | None = None
    code: str | None = None
    count: int | None = None

    @classmethod
    def read(cls, logged: Mapping[str, Any], ms: int) -> Noted:
        """Reads a line of a function's log."""
        tokens, count = logged.get("tokens"), logged.get("count")
        return cls(
            event=str(logged.get("message", "")),
            ms=ms,
            tokens=tokens if type(tokens) is int else None,
            cost_usd=_dollars(logged.get("cost_usd")),
            code=_code(logged.get("code")),
            count=count if type(count) is int else None,
        )


def problem_code(content_type: str, body: bytes) -> str | None:
    """The code of an answer that is a problem; None of any other."""
    if not content_type.startswith("application/problem+json"):
        return None
    try:
        problem = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return _code(problem.get("code")) if isinstance(problem, dict) else None


def _code(found: object) -> str | None:
    return found if isinstance(found, str) and _CODE.fullmatch(found) else None


def _dollars(found: object) -> str | None:
    return found if isinstance(found, str) and _DOLLARS.fullmatch(found) else None


def spent(content_type: str, body: bytes) -> tuple[int | None, str | None]:
    """Tokens and dollars from the JSON of an answer that has a usage; each is None when the answer does not name it."""
    if not content_type.startswith("application/json") or len(body) > MOST_READ_BYTES:
        return None, None
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None, None
    if not isinstance(answer, dict):
        return None, None
    usage = answer.get("usage")
    return (_sum_of(usage), _dollars(answer.get("cost_usd"))) if isinstance(usage, dict) else (None, None)


def _sum_of(usage: dict[str, Any]) -> int | None:
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
    dollars = None if fact.cost_usd is None else f"${fact.cost_usd}"
    return [each for each in (f"{fact.ms:,} ms", fact.code, tokens, dollars) if each]
