"""strict_json(): JSON that all parsers read alike: no repeated key, NaN, Infinity or half of a surrogate pair."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from pydantic_core import from_json

from turnlog.errors import InvalidRequest

_POSITION = re.compile(r" at line (\d+) column (\d+)$")
_HALF_OF_A_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")


def strict_json(raw: bytes) -> Any:
    """Returns the parsed text. Raises InvalidRequest that names the rule it breaks, and RecursionError if it is nested
    deeper than this process can read.

    Half of a surrogate pair, written as an escape, is refused for what it is: text that has no encoding.
    """
    try:
        parsed = json.loads(raw.decode(), object_pairs_hook=_distinct, parse_constant=_no_constant)
        if _HALF_OF_A_PAIR.search(raw):
            json.dumps(parsed, ensure_ascii=False).encode()
    except UnicodeError as error:
        raise InvalidRequest("encoding_invalid") from error
    except ValueError as error:
        raise InvalidRequest("json_invalid", details=where_json_breaks(raw)) from error
    return parsed


def where_json_breaks(raw: bytes) -> dict[str, int]:
    """Returns the position at which the text stops being JSON; {} if it does not."""
    try:
        from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        return position_in(str(error))
    return {}


def position_in(said: str) -> dict[str, int]:
    """Returns the position that ends the parser's own text, of which nothing else is passed on; {} without one."""
    found = _POSITION.search(said)
    return {"line": int(found[1]), "column": int(found[2])} if found else {}


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise InvalidRequest("json_duplicate_key")
    return found


def _no_constant(_: str) -> NoReturn:
    raise ValueError
