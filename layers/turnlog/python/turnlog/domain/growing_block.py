"""GrowingBlock: a content block of a reply that comes in pieces."""

from __future__ import annotations

from typing import Any

from turnlog.domain.messages import to_json
from turnlog.domain.received_reply import parsed

TEXTS = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}
"""The deltas of text, by their type, and the field with the piece of it."""


_SHOWN_AT_ONCE = {"text": "text", "tool_use": "name"}
"""The field of a block, by the block's type, that is looked at when the block begins to be shown."""


class GrowingBlock:
    """A content block that is not whole yet."""

    def __init__(self, start: dict[str, Any]) -> None:
        """Raises one of UNREADABLE for what is no block."""
        kind = _string(start["type"])
        if kind in _SHOWN_AT_ONCE:
            _string(start.get(_SHOWN_AT_ONCE[kind], ""))
        self._start = dict(start)
        self._pieces: dict[str, list[str]] = {}
        self._citations: list[Any] = []

    def add(self, delta: dict[str, Any]) -> int:
        """Takes a delta, and returns its size. Raises one of UNREADABLE for one of a kind that is not known."""
        kind = delta["type"]
        if kind == "citations_delta":
            self._citations.append(delta["citation"])
            return len(to_json(delta["citation"]))
        if kind == "signature_delta":
            self._start["signature"] = _string(delta["signature"])
            return len(delta["signature"])
        name = TEXTS.get(kind)
        if name is None:
            raise ValueError(kind)
        if piece := _string(delta[name]):
            self._pieces.setdefault(name, []).append(piece)
        return len(piece)

    def whole(self) -> dict[str, Any] | None:
        """The block; None if it is a call with an input that is no JSON."""
        block = self._so_far()
        given = "".join(self._pieces.get("partial_json", ())).strip()
        if given:
            try:
                block["input"] = parsed(given)
            except ValueError:
                return None
        elif block["type"].endswith("tool_use"):
            block.setdefault("input", {})
        return block

    def partial(self) -> dict[str, Any] | None:
        """The part of the block that can be kept as it is; None if there is none."""
        block = self._so_far()
        if block["type"] == "text":
            return block if block.get("text") else None
        return block if block["type"] == "thinking" and block.get("signature") else None

    def _so_far(self) -> dict[str, Any]:
        block = dict(self._start)
        for name, pieces in self._pieces.items():
            if name != "partial_json":
                block[name] = _string(block.get(name, "")) + "".join(pieces)
        if self._citations:
            block["citations"] = [*_list(block.get("citations")), *self._citations]
        return block


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list | None):
        raise TypeError("no list")
    return value or []
