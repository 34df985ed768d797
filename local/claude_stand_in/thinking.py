"""Thinking: when the stand-in thinks, and what it thinks."""

from __future__ import annotations

import re
from typing import Any

from local.claude_stand_in.models import Model
from local.claude_stand_in.turns import Block, last_user_text

_ASKED = re.compile(
    r"\bthink (?:first|hard(?:er)?|twice|for \d|about (?:it|this|that)|it over|step by step|before)\b"
    r"|\b(?:reply|answer) with (?:redacted )?thinking\b|\bredacted thinking\b",
    re.IGNORECASE,
)
_TWICE = re.compile(r"\bthink twice\b", re.IGNORECASE)
_REDACTED = re.compile(r"\bredacted thinking\b", re.IGNORECASE)
_ALONE = re.compile(r"\b(?:reply|answer) with (?:redacted )?thinking alone\b", re.IGNORECASE)
_THINKING_EFFORTS = ("high", "xhigh", "max")  # what makes it think without being told to
_THOUGHTS = (  # one more for each effort from low to max
    "The user wrote: “{quoted}”.",
    "I know nothing but the words of this conversation.",
    "So I look for what was told earlier, and for what is asked now.",
    "Nothing in it may be made up.",
    "I check once more that nothing was left out.",
)
_LENGTH = {"low": 1, "medium": 2, "high": 3, "xhigh": 4, "max": 5}
_QUOTED_WORDS = 12


def with_thinking(blocks: list[Block], body: dict[str, Any], text: str) -> list[Block]:
    """The blocks of a draft with thinking before them, and between them too when it was asked to think twice."""
    if not _thinks(body, text):
        return blocks
    if _ALONE.search(text):
        return [_thought(body, text)]
    if not _TWICE.search(text):
        return [_thought(body, text), *blocks]
    return [_thought(body, text), *blocks[:1], _thought(body, text, "I think once more."), *(blocks[1:] or blocks[:1])]


def shows_thinking(body: dict[str, Any], model: Model) -> bool:
    """True when the text of thinking is shown. The models that bind it leave it out unless told otherwise."""
    display = (body.get("thinking") or {}).get("display")
    return display != "omitted" if display else not model.binds_thinking


def effort_of(body: dict[str, Any]) -> str | None:
    """The effort asked for: by the last message of the system that names one, else for the whole request."""
    asked = [each for each in body["messages"] if each["role"] == "system"]
    configs = [each.get("output_config") for each in reversed(asked)] + [body.get("output_config")]
    return next((config["effort"] for config in configs if config and config.get("effort")), None)


def _thinks(body: dict[str, Any], text: str) -> bool:
    kind = (body.get("thinking") or {}).get("type")
    effort = effort_of(body)
    if kind == "between_tools":
        return not last_user_text(body)
    return kind in ("adaptive", "enabled") or (
        kind is None and (effort in _THINKING_EFFORTS or bool(_ASKED.search(text)))
    )


def _thought(body: dict[str, Any], text: str, more: str = "") -> Block:
    effort = effort_of(body) or "high"
    words = text.split()
    quoted = " ".join(words[:_QUOTED_WORDS]) + (" …" if len(words) > _QUOTED_WORDS else "")
    thought = " ".join(_THOUGHTS[: _LENGTH[effort]]).format(quoted=quoted)
    block: Block = {"type": "thinking", "thinking": f"{thought} {more}".rstrip(), "signature": ""}
    return block | ({"redacted": True} if _REDACTED.search(text) else {})
