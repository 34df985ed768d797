"""Wishes about the form of a reply that the user says in plain words: how it stops, and what it is made of."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

STOP_REASONS = (
    "end_turn",
    "max_tokens",
    "stop_sequence",
    "tool_use",
    "pause_turn",
    "refusal",
    "model_context_window_exceeded",
)

_STOP = re.compile(
    rf"\bstop(?:ping)? with (?:a |the )?[`\"“]?(?:({'|'.join(STOP_REASONS)})\b|unknown reason [`\"“]?(\w+))"
    r"(?:[`\"”]?,? (\d{1,2}) times)?",
    re.IGNORECASE,
)
_SECONDS = r"(\d{1,3}(?:\.\d{1,3})?) seconds?\b"
_NOTHING = re.compile(r"\b(?:reply|answer)(?: me)? with nothing\b", re.IGNORECASE)
_BLANK = re.compile(r"\b(?:reply|answer)(?: me)? with (?:a )?blank(?: text)?\b", re.IGNORECASE)
_BLOCK = re.compile(r"\b(?:reply|answer)(?: me)? with a block of (?:the )?type [`\"“]?(\w+)", re.IGNORECASE)
_JSON = re.compile(r"\b(?:reply|answer)(?: me)? with\s+(?=\{)", re.IGNORECASE)
_REPLY_S = re.compile(rf"\b(?:reply|answer|words)(?: me)? over {_SECONDS}", re.IGNORECASE)
_THINK_S = re.compile(rf"\bthink for {_SECONDS}", re.IGNORECASE)
_WORDS = re.compile(r"\bwrite (\d{1,6}) words\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Wishes:
    """The wishes of one message. `stop_reason` is "" when it names none; `pauses` counts those before the end.

    `content` is "nothing", "blank" or "" for the usual one; `block` names the type of a block to add; `value` is the
    JSON to answer with, None for none; `words` is the length of the text, 0 for the usual one.
    `think_s` and `reply_s` are the seconds that it thinks, and that the rest takes.
    """

    stop_reason: str = ""
    pauses: int = 0
    content: str = ""
    block: str = ""
    value: Any = None
    words: int = 0
    think_s: float = 0.0
    reply_s: float = 0.0


def wishes_in(text: str) -> Wishes:
    """The wishes that a text says."""
    stop, block, words = _STOP.search(text), _BLOCK.search(text), _WORDS.search(text)
    reason = (stop[1] or stop[2]).lower() if stop else ""
    paused = reason == "pause_turn"
    return Wishes(
        stop_reason="" if paused else reason,
        pauses=int(stop[3] or 1) if stop and paused else 0,
        content="nothing" if _NOTHING.search(text) else "blank" if _BLANK.search(text) else "",
        block=block[1] if block else "",
        value=_value_in(text),
        words=int(words[1]) if words else 0,
        think_s=float(think[1]) if (think := _THINK_S.search(text)) else 0.0,
        reply_s=float(reply[1]) if (reply := _REPLY_S.search(text)) else 0.0,
    )


def _value_in(text: str) -> Any:
    if not (found := _JSON.search(text)):
        return None
    try:
        return json.JSONDecoder().raw_decode(text, found.end())[0]
    except ValueError:
        return None
