"""A line for each answered request: its route, its outcome and its cost, but never its content."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

MOST_READ_BYTES = 1024 * 1024  # an answer with a usage of its own is far smaller
_TOKENS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")
_DOLLARS = re.compile(r"[0-9]{1,12}(\.[0-9]{1,18})?")


@dataclass(frozen=True, slots=True)
class Answered:
    """An answered request of the API. `tokens` and `cost_usd` are None when the answer names none."""

    method: str
    path: str
    status: int
    ms: int
    tokens: int | None = None
    cost_usd: str | None = None


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
    usage, cost = answer.get("usage"), answer.get("cost_usd")
    dollars = cost if isinstance(cost, str) and _DOLLARS.fullmatch(cost) else None
    return (_sum_of(usage), dollars) if isinstance(usage, dict) else (None, None)


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
    parts = [
        f"{at:%H:%M:%S}",
        f"{answered.method} {route_of(answered.path, routes)}",
        str(answered.status),
        f"{answered.ms:,} ms",
    ]
    if answered.tokens is not None:
        parts.append(f"{answered.tokens:,} tokens")
    if answered.cost_usd is not None:
        parts.append(f"${answered.cost_usd}")
    return "  ".join(parts)
