"""The object that a reply is, held to the schema of its request."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from turnlog.domain.answers import bytes_in_answer
from turnlog.domain.messages import Message, Reply, to_json
from turnlog.domain.output.paths import refuse
from turnlog.domain.output.values import fits
from turnlog.errors import OutputInvalid

Schema = dict[str, Any]

MOST_OUTPUT_BYTES = 500_000
"""The most bytes that an object takes in an answer, beside the reply itself; 16,000 tokens of prose are 64,000."""

_WHOLE_REPLIES = ("end_turn", "stop_sequence")


def require_uncited(message: Message) -> None:
    """Raises ValueRefused for a message with citations, which no reply by a schema can give."""
    for number, block in enumerate(message.blocks):
        within = block.get("content") if block["type"] == "tool_result" else None
        for each in (block, *(within if isinstance(within, list) else ())):
            if (each.get("citations") or {}).get("enabled"):
                refuse("citations_with_output", ("message", number))


def output_of(text: str, schema: str) -> Schema | None:
    """Returns the object that the text is; None unless the schema, in its form, allows it."""
    form = json.loads(schema)
    try:
        value = json.loads(text, parse_constant=_no_number, parse_float=_finite)
        to_json(value).encode()  # half of a surrogate pair cannot be sent
        return value if isinstance(value, dict) and fits(value, form, form.get("$defs", {})) else None
    except (ValueError, RecursionError):
        return None


def output_in(reply: Reply, schema: str) -> Schema | None:
    """Returns the object that the reply is; None for one that calls the caller's tools, and so is not the last.

    The stop reason comes first: a reply that was cut off or refused is no answer, even if what there is of it fits.
    Raises OutputInvalid for a last reply that is no such object.
    """
    if reply.stop_reason == "tool_use":
        return None
    texts = [block["text"] for block in reply.message.blocks if block["type"] == "text"]
    # What is said before a search is a text of its own, and only the last one is the answer then.
    for text in ("".join(texts), *texts[-1:]) if reply.stop_reason in _WHOLE_REPLIES else ():
        if bytes_in_answer(text) <= MOST_OUTPUT_BYTES and (output := output_of(text, schema)) is not None:
            return output
    raise OutputInvalid(reply.stop_reason)


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError
    return number
