"""The accounts of the prompt cache: what of a prompt is read from it, what is written into it, and for how long.

A mark asks for the prefix up to its part. It reads the longest prefix that was written before and is alive, if that
ends among the LOOK_BACK blocks up to the mark; a run of calls of tools, or of their results, is one block. What follows
is written, up to the last mark. A prefix below the model's smallest is neither. A lifetime counts from the start of the
request that wrote or last read it. Each account has a cache of its own, for each model.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from local.claude_stand_in.prompt import THINKING, Part, Prompt, after, digest

LOOK_BACK = 20
MOST_PREFIXES = 10_000  # of all accounts: the ones used longest ago are forgotten
_LIFETIME_S = {"5m": 300.0, "1h": 3_600.0}
_RUNS = ("tool_use", "tool_result")


@dataclass(frozen=True, slots=True)
class CacheUse:
    """Tokens of one prompt: read from the cache, written for five minutes or an hour, and all the others."""

    read: int = 0
    written_5m: int = 0
    written_1h: int = 0
    rest: int = 0

    def usage(self) -> dict[str, Any]:
        """The counts of the input in `usage`."""
        return {
            "input_tokens": self.rest,
            "cache_creation_input_tokens": self.written_5m + self.written_1h,
            "cache_read_input_tokens": self.read,
            "cache_creation": {
                "ephemeral_5m_input_tokens": self.written_5m,
                "ephemeral_1h_input_tokens": self.written_1h,
            },
        }


@dataclass(slots=True)
class _Prefix:
    """A prefix in the cache."""

    lifetime_s: float
    dies_s: float


class PromptCache:
    """The entries in the caches of all accounts. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._prefixes: OrderedDict[str, _Prefix] = OrderedDict()

    def use(self, account: str, prompt: Prompt, now_s: float) -> CacheUse:
        """Reads and writes as the marks of a request say that started at `now_s`."""
        model, parts = prompt.model, prompt.parts
        sums = list(accumulate(part.tokens for part in parts))
        marks = {at: ttl for at, ttl in _marks(prompt.body, parts) if sums[at] >= model.least_cached}
        if not marks:
            return CacheUse(rest=sums[-1])
        names = list(accumulate(parts, after, initial=digest(f"{account}\n{model.id}")))[1:]
        with self._lock:
            hit = self._nearest(parts, names, list(marks), now_s)
            for at in [hit, *marks] if hit is not None else []:
                self._refresh(names[at], now_s)
            read = sums[hit] if hit is not None else 0
            written = {"5m": 0, "1h": 0}
            done = read
            for at, ttl in sorted(marks.items()):
                if hit is None or at > hit:
                    written[ttl] += sums[at] - done
                    done = sums[at]
                    self._write(names[at], ttl, now_s)
        return CacheUse(read, written["5m"], written["1h"], sums[-1] - done)

    def _nearest(self, parts: list[Part], names: list[str], marks: list[int], now_s: float) -> int | None:
        """The end of the longest prefix that one of the marks finds; None when none finds any."""
        found = (at for mark in marks for at in _looked_at(parts, mark) if self._lives(names[at], now_s))
        return max(found, default=None)

    def _lives(self, name: str, now_s: float) -> bool:
        prefix = self._prefixes.get(name)
        return prefix is not None and now_s < prefix.dies_s

    def _refresh(self, name: str, now_s: float) -> None:
        if self._lives(name, now_s):
            prefix = self._prefixes[name]
            prefix.dies_s = now_s + prefix.lifetime_s
            self._prefixes.move_to_end(name)

    def _write(self, name: str, ttl: str, now_s: float) -> None:
        self._prefixes[name] = _Prefix(_LIFETIME_S[ttl], now_s + _LIFETIME_S[ttl])
        self._prefixes.move_to_end(name)
        while len(self._prefixes) > MOST_PREFIXES:
            self._prefixes.popitem(last=False)


def _looked_at(parts: list[Part], mark: int) -> Iterator[int]:
    """The ends of prefixes that a mark looks at, from its own back."""
    blocks = 0
    for at in range(mark, -1, -1):
        goes_on = at < mark and parts[at].type in _RUNS and parts[at].type == parts[at + 1].type
        blocks += 0 if goes_on else 1
        if blocks > LOOK_BACK:
            return
        yield at


def _marks(body: dict[str, Any], parts: list[Part]) -> Iterator[tuple[int, str]]:
    """The marked parts with their lifetimes. A mark at top level is on the last part that can have one."""
    if body.get("cache_control"):
        yield max(at for at, part in enumerate(parts) if part.type not in THINKING), _ttl(body)
    for at, part in enumerate(parts):
        content = part.block.get("content")
        inner = content if part.type == "tool_result" and isinstance(content, list) else []
        for block in (*inner, part.block):
            if block.get("cache_control"):
                yield at, _ttl(block)


def _ttl(holder: dict[str, Any]) -> str:
    return str(holder["cache_control"].get("ttl") or "5m")
