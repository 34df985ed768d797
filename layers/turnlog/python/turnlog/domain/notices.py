"""Notices: what a reader of a reply would not understand by its text and stop reason alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from turnlog.domain.messages import Reply
from turnlog.domain.turns import INTERRUPTED, PAUSED, STOPPED

NoticeCode = Literal["empty_reply", "thinking_used_max_tokens", "context_window_exceeded"]

_THINKING = ("thinking", "redacted_thinking")
_SAY_ENOUGH = ("refusal", PAUSED, INTERRUPTED, STOPPED)  # stop reasons that explain why there is no text

_DETAILS: dict[NoticeCode, str] = {
    "empty_reply": "The model had nothing to say. Ask for what is missing, or go on.",
    "thinking_used_max_tokens": (
        "The model thought until max_tokens was used up, and wrote nothing. Ask with more max_tokens or less effort."
    ),
    "context_window_exceeded": "The reply ends where the model's context is full.",
}


@dataclass(frozen=True, slots=True)
class Notice:
    """A fact about a reply, for programs (`code`) and in words for people."""

    code: NoticeCode
    detail: str


def notice_of(reply: Reply) -> Notice | None:
    """The notice of a reply; None for one that speaks for itself. The same for a stored reply at any time."""
    code = _code_of(reply)
    return Notice(code, _DETAILS[code]) if code else None


def _code_of(reply: Reply) -> NoticeCode | None:
    if reply.stop_reason == "model_context_window_exceeded":
        return "context_window_exceeded"
    types = {block["type"] for block in reply.message.blocks}
    if reply.text.strip() or types - {"text", *_THINKING} or reply.stop_reason in _SAY_ENOUGH:
        return None
    thought = types.intersection(_THINKING) or reply.usage.thinking_tokens
    return "thinking_used_max_tokens" if thought and reply.stop_reason == "max_tokens" else "empty_reply"
