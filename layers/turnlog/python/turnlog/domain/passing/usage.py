"""The usage that an answer tells in one place or several, and the calls that it stands for.

An answer is the provider's, and may be damaged: of each count the most that was ever said is taken.
"""

from __future__ import annotations

from datetime import date
from typing import Any

from turnlog.domain.messages import Usage, to_json
from turnlog.domain.prices import cost_usd
from turnlog.domain.received_reply import COUNTS, is_count
from turnlog.domain.turns import ModelCall, total_tokens

_TOLD = ("input_tokens", "output_tokens")  # without which nothing is known
_OF_ALL_CALLS = ("speed", "service_tier", "inference_geo")
_MOST_CALLS = 1_000
_OWN = ("message", "fallback_message")
"""The kinds of calls within an answer whose tokens are in its sums; those of the others are not."""


class SaidUsage:
    """All that one answer says of what it used."""

    def __init__(self) -> None:
        self._fields: dict[str, Any] = {}
        self._is_odd = False
        self.is_whole = False
        """Set once the answer has said the last of it; before, more may have been used."""

    def take(self, usage: object) -> None:
        """Takes what one place of the answer says."""
        if isinstance(usage, dict) and _is_sound(usage):
            self._fields = _most(self._fields, usage)
        elif usage is not None:
            self._is_odd = True

    def calls(self, answered: str, asked: str, on: date) -> tuple[ModelCall, ...]:
        """Returns the calls, with their prices on that day; () while it is not known what was used.

        `answered` is the model that the answer names, and `asked` the one of the request.
        """
        if not self.is_whole or self._is_odd or any(self._fields.get(name) is None for name in _TOLD):
            return ()
        common = {name: self._fields[name] for name in _OF_ALL_CALLS if name in self._fields}
        sums = _call(answered, {name: value for name, value in self._fields.items() if name != "iterations"}, asked, on)
        listed = self._fields.get("iterations") or []
        tools = {"server_tool_use": self._fields.get("server_tool_use")}
        each = [
            _call(one.get("model") or answered, one | common | ({} if number else tools), asked, on)
            for number, one in enumerate(listed)
        ]
        if total_tokens(each) >= sums.usage.tokens:
            return tuple(each) if each else (sums,)
        return sums, *(call for call, one in zip(each, listed, strict=True) if one.get("type") not in _OWN)


def _call(model: str, fields: dict[str, Any], asked: str, on: date) -> ModelCall:
    usage = Usage(to_json(fields))
    return ModelCall(model, usage, cost_usd(model, usage, on, asked))


def _most(before: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    merged = dict(before)
    for name, value in said.items():
        old = before.get(name)
        if type(value) is int and type(old) is int:
            merged[name] = max(value, old)
        elif isinstance(value, dict) and isinstance(old, dict):
            merged[name] = _most(old, value)
        elif name == "iterations" and isinstance(value, list) and isinstance(old, list):
            merged[name] = max(value, old, key=_tokens_of)
        elif value is not None:
            merged[name] = value
    return merged


def _tokens_of(listed: list[Any]) -> int:
    """The tokens of calls; 0 for a list of anything else, which may stand where nothing is read."""
    counts = (each.get(name) for each in listed if isinstance(each, dict) for name in COUNTS)
    return sum(count for count in counts if type(count) is int)


def _is_sound(usage: dict[str, Any]) -> bool:
    """True if every count that is read later is one."""
    listed = usage.get("iterations") or []
    if not isinstance(listed, list) or len(listed) > _MOST_CALLS or not all(isinstance(each, dict) for each in listed):
        return False
    return all(map(_is_sound_call, [usage, *listed]))


def _is_sound_call(fields: dict[str, Any]) -> bool:
    counts = [fields.get(name) for name in COUNTS]
    by_age = fields.get("cache_creation") or {}
    tools = fields.get("server_tool_use") or {}
    if not isinstance(by_age, dict) or not isinstance(tools, dict) or not isinstance(fields.get("model"), str | None):
        return False
    counts += [by_age.get("ephemeral_1h_input_tokens"), *tools.values()]
    return all(map(is_count, counts))
