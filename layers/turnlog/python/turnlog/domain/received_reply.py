"""The Reply in an answer of the Messages API: kept as it came, if all that is read of it later has its right form."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from turnlog.domain.blocks.reading import TOOL_USE_ID_PATTERN
from turnlog.domain.messages import Reply, Usage, to_json
from turnlog.errors import ModelProtocolError

UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""The errors of reading what is not what it should be."""

COUNTS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")
"""The counts of tokens in a usage."""

_MOST_TOKENS = 10**9  # of one call; far more than any model takes, and what every reader of a number can hold
_LONGEST_NAME = 200  # of a model, a stop reason or an id
_LONGEST_STOP = 4_000  # characters of what the provider says about a stop; longer ones are not kept


def parsed(text: str | bytes) -> Any:
    """The value of a JSON text of the provider. Raises one of UNREADABLE for any other text, and for NaN."""
    return json.loads(text, parse_constant=_no_constant)


def reply_in(body: bytes, request_id: str = "") -> Reply:
    """The reply that is the body of an answer. Raises ModelProtocolError if it is none."""
    try:
        received = parsed(body)
    except UNREADABLE as error:
        raise ModelProtocolError from error
    return reply_of(received, request_id)


def reply_of(received: Any, request_id: str = "") -> Reply:
    """The reply in the API's fields as they came. Raises ModelProtocolError if it is none."""
    try:
        _require_whole(received)
        kept = [to_json(received[name]) for name in ("model", "content", "stop_reason", "usage")]
        details = received.get("stop_details")
        stopped_by, said = _text(received.get("stop_sequence")), to_json(details) if isinstance(details, dict) else ""
        "".join([*kept, stopped_by, said]).encode()  # a lone surrogate cannot be stored or sent on
    except UNREADABLE as error:
        raise ModelProtocolError from error
    return Reply(
        received["model"],
        kept[1],
        received["stop_reason"],
        Usage(kept[3]),
        id=short_name(received.get("id")),
        request_id=request_id,
        stop_sequence=stopped_by if len(stopped_by) <= _LONGEST_STOP else "",
        stop_details=said if len(said) <= _LONGEST_STOP else "",
    )


def short_name(name: object) -> str:
    """A name that the provider gave, for logs; empty if it is none that can be written into one line."""
    is_name = isinstance(name, str) and len(name) <= _LONGEST_NAME and name.isascii() and name.isprintable()
    return str(name) if is_name else ""


def is_count(value: object) -> bool:
    """True for a count that can be read later; None is one that is not told."""
    return value is None or (type(value) is int and 0 <= value <= _MOST_TOKENS)


def _require_whole(received: Any) -> None:
    content, stop_reason, usage = received["content"], received["stop_reason"], received["usage"]
    for name in (received["model"], stop_reason):
        if not (isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME):
            raise ValueError(name)
    # It may be empty: a model that has nothing to say has nothing in its reply, and is paid all the same.
    if not isinstance(content, list) or not all(map(_is_block, content)):
        raise ValueError("content")
    counts = [usage.get(name) for name in COUNTS]
    by_age = usage.get("cache_creation")
    counts += [] if by_age is None else [by_age.get("ephemeral_1h_input_tokens")]
    if not all(map(is_count, counts)):
        raise ValueError("usage")


def _is_block(block: Any) -> bool:
    if not (isinstance(block, dict) and isinstance(block.get("type"), str)):
        return False
    if block["type"] == "tool_use":
        return _is_call(block.get("id"), block.get("name"), block.get("input"))
    return block["type"] != "text" or isinstance(block.get("text"), str)


def _is_call(call_id: Any, name: Any, given: Any) -> bool:
    """True for a call that can be run, and whose result a message can bring: by an id of the API's form."""
    if not isinstance(call_id, str) or not re.fullmatch(TOOL_USE_ID_PATTERN, call_id):
        return False
    return isinstance(name, str) and isinstance(given, dict)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _no_constant(name: str) -> NoReturn:
    """Raises ValueError: NaN and Infinity are no JSON."""
    raise ValueError(name)
