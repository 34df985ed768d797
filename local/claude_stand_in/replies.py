"""Replies as the Messages API gives them, whole or as the events of a stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from local.claude_stand_in.cache import CacheUse
from local.claude_stand_in.drafts import draft_of
from local.claude_stand_in.limits import limited, written_tokens
from local.claude_stand_in.prompt import Prompt
from local.claude_stand_in.server_tools import uses_in
from local.claude_stand_in.signatures import signed
from local.claude_stand_in.stream import events_of
from local.claude_stand_in.thinking import shows_thinking
from local.claude_stand_in.turns import Block
from local.claude_stand_in.wishes import Wishes


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply to one valid request. `stop_reason` is None only when a fault takes it away.

    `wishes` say how long it takes. `context_management` is None unless the request has it. With `counts_thinking` its
    stream estimates how much it thinks.
    """

    id: str
    model: str
    content: list[Block]
    stop_reason: str | None
    stop_sequence: str | None
    stop_details: dict[str, Any] | None
    usage: dict[str, Any]
    wishes: Wishes
    diagnostics: dict[str, Any] | None = None
    context_management: dict[str, Any] | None = None
    counts_thinking: bool = False

    def message(self) -> dict[str, Any]:
        """The body of a plain answer. A reply that stopped before its first character has no content."""
        asked = {"diagnostics": self.diagnostics, "context_management": self.context_management}
        return {name: each for name, each in asked.items() if each} | {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": self.content,
            "stop_reason": self.stop_reason,
            "stop_sequence": self.stop_sequence,
            "stop_details": self.stop_details,
            "usage": self.usage,
        }

    def events(self) -> list[dict[str, Any]]:
        """The events of a streamed answer."""
        return events_of(self.message(), counts_thinking=self.counts_thinking)


def reply_to(prompt: Prompt, cached: CacheUse) -> Reply:
    """The reply to a valid request. Equal requests have equal replies, streamed or not, but for what is `cached`."""
    body, model = prompt.body, prompt.model
    digest = prompt.digest()
    draft = draft_of(body, digest)
    stops = body.get("stop_sequences", [])
    left = model.context - prompt.tokens
    written, limit, sequence = limited(draft.blocks, min(body["max_tokens"], left), stops)
    if limit == "max_tokens" and left < body["max_tokens"]:
        limit = "model_context_window_exceeded"
    content = signed(written, prompt, shows=shows_thinking(body, model))
    reason = limit or draft.stop_reason
    if reason == "stop_sequence" and limit is None:
        sequence = next(iter(stops), None)
    usage = cached.usage() | _output_usage(written, body["max_tokens"])
    return Reply(
        f"msg_{digest}",
        body["model"],
        content,
        reason,
        sequence,
        _details_of(reason),
        usage,
        draft.wishes,
        context_management={"applied_edits": []} if body.get("context_management") else None,
        counts_thinking=prompt.dialect.has("estimated_tokens"),
    )


def _details_of(reason: str) -> dict[str, Any] | None:
    if reason != "refusal":
        return None
    return {"type": "refusal", "category": None, "explanation": "The stand-in was asked to refuse."}


def _output_usage(written: list[Block], max_tokens: int) -> dict[str, Any]:
    usage: dict[str, Any] = {"output_tokens": max(min(1, max_tokens), sum(map(written_tokens, written)))}
    if thinking := sum(written_tokens(block) for block in written if block["type"] == "thinking"):
        usage["output_tokens_details"] = {"thinking_tokens": thinking}
    if uses := uses_in(written):
        usage["server_tool_use"] = uses
    return usage
