"""Replies as the Messages API gives them, whole or as the events of a stream."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from local.claude_stand_in.answers import answer
from local.claude_stand_in.tokens import input_tokens, tokens_of

_DELTA_CHARACTERS = 16


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply to one valid request. `stop_reason` is None only when a fault takes it away."""

    id: str
    model: str
    text: str
    stop_reason: str | None
    stop_sequence: str | None
    usage: dict[str, int]

    def message(self) -> dict[str, Any]:
        """The body of a plain answer. A reply that stopped before its first character has no content."""
        content = [{"type": "text", "text": self.text}] if self.text else []
        return self._frame(content, self.stop_reason, self.stop_sequence, self.usage)

    def events(self) -> list[dict[str, Any]]:
        """The events of a streamed answer, in the API's order. Their texts joined are the text of the plain one."""
        start = self._frame([], None, None, self.usage | {"output_tokens": 1})
        end = {"stop_reason": self.stop_reason, "stop_sequence": self.stop_sequence}
        return [
            {"type": "message_start", "message": start},
            *self._block_events(),
            {"type": "message_delta", "delta": end, "usage": self.usage},
            {"type": "message_stop"},
        ]

    def _frame(
        self, content: list[dict[str, str]], reason: str | None, sequence: str | None, usage: dict[str, int]
    ) -> dict[str, Any]:
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": reason,
            "stop_sequence": sequence,
            "usage": usage,
        }

    def _block_events(self) -> list[dict[str, Any]]:
        if not self.text:
            return []
        pieces = [self.text[at : at + _DELTA_CHARACTERS] for at in range(0, len(self.text), _DELTA_CHARACTERS)]
        return [
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "ping"},
            *(
                {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
                for piece in pieces
            ),
            {"type": "content_block_stop", "index": 0},
        ]


def reply_to(body: dict[str, Any]) -> Reply:
    """The reply to a valid request. Equal requests have equal replies, streamed or not."""
    text, stop_reason, stop_sequence = _stopped(answer(body), body["max_tokens"], body.get("stop_sequences", []))
    usage = {
        "input_tokens": input_tokens(body),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": max(1, tokens_of(text)),
    }
    return Reply(_message_id(body), body["model"], text, stop_reason, stop_sequence, usage)


def _stopped(text: str, max_tokens: int, stop_sequences: list[str]) -> tuple[str, str, str | None]:
    """The text up to its stop, the stop reason, and the stop sequence when that is the reason."""
    allowed = text.encode()[: max_tokens * 4].decode(errors="ignore")
    found = [(allowed.find(each), each) for each in stop_sequences if each in allowed]
    if found:
        at, sequence = min(found)
        return allowed[:at], "stop_sequence", sequence
    return allowed, "end_turn" if allowed == text else "max_tokens", None


def _message_id(body: dict[str, Any]) -> str:
    """An id derived from the whole request except `stream`."""
    asked = {name: value for name, value in body.items() if name != "stream"}
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    return f"msg_{digest[:24]}"
