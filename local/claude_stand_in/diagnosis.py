"""Diagnoses of the prompt cache: what of a prompt differs from that of an earlier reply, so that it cannot be read."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from local.claude_stand_in.prompt import Prompt

KEPT_PROMPTS = 200


@dataclass(frozen=True, slots=True)
class _Kept:
    """The part of a prompt that is kept: the digests of its parts, and its tokens."""

    model: str
    tools: tuple[str, ...]
    system: tuple[str, ...]
    messages: tuple[str, ...]
    tokens: int

    @classmethod
    def of(cls, prompt: Prompt) -> _Kept:
        def digests(*names: str) -> tuple[str, ...]:
            return tuple(part.digest for part in prompt.parts if part.path.startswith(names))

        return cls(prompt.model.id, digests("tools"), digests("system"), digests("messages"), prompt.tokens)

    def changed_in(self, later: _Kept) -> str | None:
        """The first thing that is not in `later` as it is here; None when the messages only go on."""
        for name in ("model", "tools", "system"):
            if getattr(self, name) != getattr(later, name):
                return name
        return None if later.messages[: len(self.messages)] == self.messages else "messages"


class Diagnoses:
    """The prompts of the last replies, by the ids of these. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._prompts: OrderedDict[tuple[str, str], _Kept] = OrderedDict()

    def diagnosis(self, account: str, prompt: Prompt, reply_id: str) -> dict[str, Any] | None:
        """The answer's `diagnostics`; None when none was asked for or nothing has changed. Keeps this prompt too."""
        kept = _Kept.of(prompt)
        asked = (prompt.body.get("diagnostics") or {}).get("previous_message_id")
        with self._lock:
            before = self._prompts.get((account, asked)) if asked else None
            self._prompts[account, reply_id] = kept
            while len(self._prompts) > KEPT_PROMPTS:
                self._prompts.popitem(last=False)
        if not asked:
            return None
        if not before:
            return {"cache_miss_reason": {"type": "previous_message_not_found"}}
        changed = before.changed_in(kept)
        if not changed:
            return None
        return {"cache_miss_reason": {"type": f"{changed}_changed", "cache_missed_input_tokens": before.tokens}}
