"""The size of a turn in an answer, which bounds what may be stored: a reply that was paid must be fetchable.

Lambda passes on an answer of so many bytes. The body is JSON, and stands as a text within the JSON that Lambda passes
on, so each quotation mark and backslash takes a byte more. A reply is in it twice, as blocks and as text.
"""

from __future__ import annotations

from collections.abc import Iterable

from turnlog.domain.messages import Message, Reply
from turnlog.domain.turns import Turn
from turnlog.errors import TurnTooLarge

MAX_ANSWER_BYTES = 6_291_556
"""The most bytes of a function's answer (quota of Lambda)."""

MOST_TURN_BYTES = MAX_ANSWER_BYTES - 600_000
"""The most bytes of turns in an answer: beside them are a system prompt, which may be as long as a request, a title,
metadata, a continuation, and headers.
"""

_FRAME_BYTES = 1_400  # of a turn's other fields and their names, two names of the provider and a notice among them

_STEP_BYTES = 800  # of the other fields of a step and their names


def bytes_in_answer(json_text: str) -> int:
    """Returns the bytes that the JSON text takes in an answer."""
    return len(json_text.encode()) + json_text.count('"') + json_text.count("\\")


def turn_bytes(turn: Turn) -> int:
    """Returns the most bytes that the turn takes in an answer: each message, the usage of each call, the last reply."""
    said = [*(message.content for message in turn.messages), turn.reply.content]
    said += [text for call in turn.calls for text in (call.usage.received, call.stop_sequence, call.stop_details)]
    return _bytes_of(said) + _STEP_BYTES * (len(turn.calls) - 1)


def require_answerable(turn: Turn) -> None:
    """Raises TurnTooLarge unless every answer with this turn can be given."""
    if turn_bytes(turn) > MOST_TURN_BYTES:
        raise TurnTooLarge


def require_reply_answerable(message: Message, reply: Reply) -> None:
    """Raises TurnTooLarge unless every answer with this message and reply can be given."""
    said = [message.content, reply.content, reply.content, reply.usage.received]
    if _bytes_of([*said, reply.stop_sequence, reply.stop_details]) > MOST_TURN_BYTES:
        raise TurnTooLarge


def _bytes_of(texts: Iterable[str]) -> int:
    return _FRAME_BYTES + sum(map(bytes_in_answer, texts))
