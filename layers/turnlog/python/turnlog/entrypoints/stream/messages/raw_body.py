"""A body that goes on to the byte: it is read strictly, so that what is checked is what the provider reads.

A repeated key would let a client show one model here and another one there, and a body that is nested without end, or
has a million small values, would cost more to look at than to send.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from turnlog.domain.blocks.media import MOST_MESSAGE_BYTES
from turnlog.entrypoints.http.request import Request
from turnlog.errors import InvalidRequest

MOST_DEPTH = 200
"""Values within values, as in the bodies of all other routes."""

MOST_VALUES = 100_000
"""Objects and lists of one body: the longest conversations have some thousands."""

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_HALF_OF_A_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")


def raw_body(request: Request) -> tuple[bytes, dict[str, Any]]:
    """Returns the body's bytes and what they say. Raises an InvalidRequest that names the first rule it breaks."""
    raw = request.raw_body(MOST_MESSAGE_BYTES)
    # Before they are made: a million of them take a hundred times their size, and seconds.
    if _openings(raw) > MOST_VALUES and _openings(_STRING.sub(b"", raw)) > MOST_VALUES:
        raise InvalidRequest("json_too_many_values", details={"maximum": MOST_VALUES})
    try:
        parsed = json.loads(raw.decode(), object_pairs_hook=_distinct, parse_constant=_no_constant)
        if _HALF_OF_A_PAIR.search(raw):  # one without its other half has no encoding
            json.dumps(parsed, ensure_ascii=False).encode()
    except UnicodeError as error:
        raise InvalidRequest("encoding_invalid") from error
    except RecursionError as error:
        raise InvalidRequest("json_too_deep", details={"maximum": MOST_DEPTH}) from error
    except ValueError as error:
        raise InvalidRequest("json_invalid") from error
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


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise InvalidRequest("json_duplicate_key")
    return found


def _no_constant(_: str) -> NoReturn:
    raise ValueError
