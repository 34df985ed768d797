"""A body that goes on to the byte: it is read strictly, so that what is checked is what the provider reads.

A repeated key would let a client show one model here and another one there, and a body that is nested without end, or
has a million small values, would cost more to look at than to send.
"""

from __future__ import annotations

import re
from typing import Any

from turnlog.domain.blocks.media import MOST_MESSAGE_BYTES
from turnlog.entrypoints.http.request import Request
from turnlog.entrypoints.http.strict_json import strict_json
from turnlog.errors import InvalidRequest

MOST_DEPTH = 200
"""Values within values, as in the bodies of all other routes."""

MOST_VALUES = 100_000
"""Objects and lists of one body: the longest conversations have some thousands."""

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)


def raw_body(request: Request) -> tuple[bytes, dict[str, Any]]:
    """Returns the body's bytes and what they say. Raises an InvalidRequest that names the first rule it breaks."""
    raw = request.raw_body(MOST_MESSAGE_BYTES)
    # Before they are made: a million of them take a hundred times their size, and seconds.
    if _openings(raw) > MOST_VALUES and _openings(_STRING.sub(b"", raw)) > MOST_VALUES:
        raise InvalidRequest("json_too_many_values", details={"maximum": MOST_VALUES})
    try:
        parsed = strict_json(raw)
    except RecursionError as error:
        raise InvalidRequest("json_too_deep", details={"maximum": MOST_DEPTH}) from error
    if not isinstance(parsed, dict):
        raise InvalidRequest("wrong_type", "")
    _require_shallow(parsed)
    return raw, parsed


def _openings(text: bytes) -> int:
    return text.count(b"{") + text.count(b"[")


def _require_shallow(parsed: dict[str, Any]) -> None:
    """Raises InvalidRequest for a body that is nested too deep."""
    level: list[Any] = [parsed]
    for _ in range(MOST_DEPTH):
        level = [
            each
            for value in level
            for each in (value.values() if isinstance(value, dict) else value)
            if isinstance(each, dict | list)
        ]
    if level:
        raise InvalidRequest("json_too_deep", details={"maximum": MOST_DEPTH})
