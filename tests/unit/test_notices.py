"""Notices: a reply without text says why, and one that speaks for itself has none."""

from __future__ import annotations

from typing import Any

import pytest

from turnlog.domain.messages import Reply, Usage, to_json
from turnlog.domain.notices import notice_of

THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": "c2lnbmVk"}
HIDDEN = {"type": "redacted_thinking", "data": "b3BhcXVl"}
BLANK = {"type": "text", "text": " \n"}
TEXT = {"type": "text", "text": "Yes."}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "look_up", "input": {}}


def code(stop_reason: str, *blocks: dict[str, Any], thinking_tokens: object = None) -> str | None:
    details = {"output_tokens_details": {"thinking_tokens": thinking_tokens}} if thinking_tokens is not None else {}
    found = notice_of(Reply("m", to_json(blocks), stop_reason, Usage(to_json({"output_tokens": 5} | details))))
    assert found is None or found.detail
    return found.code if found else None


@pytest.mark.parametrize(
    "blocks", [(THOUGHT,), (HIDDEN,), (THOUGHT, BLANK)], ids=["thinking", "redacted", "blank text"]
)
def test_thinking_that_used_up_max_tokens_is_noticed(blocks: tuple[dict[str, Any], ...]) -> None:
    assert code("max_tokens", *blocks) == "thinking_used_max_tokens"


def test_thinking_that_is_only_counted_is_noticed() -> None:
    assert code("max_tokens", thinking_tokens=5) == "thinking_used_max_tokens"
    assert code("max_tokens", thinking_tokens=0) == "empty_reply"


@pytest.mark.parametrize("stop_reason", ["end_turn", "stop_sequence", "max_tokens", "tool_use", "later"])
def test_an_empty_reply_is_noticed(stop_reason: str) -> None:
    assert code(stop_reason) == code(stop_reason, BLANK) == "empty_reply"


def test_thinking_alone_is_an_empty_reply() -> None:
    assert code("end_turn", THOUGHT) == "empty_reply"


@pytest.mark.parametrize("blocks", [(), (TEXT,)], ids=["empty", "text"])
def test_a_full_context_is_noticed(blocks: tuple[dict[str, Any], ...]) -> None:
    assert code("model_context_window_exceeded", *blocks) == "context_window_exceeded"


@pytest.mark.parametrize("stop_reason", ["refusal", "pause_turn", "interrupted", "stopped"])
def test_a_stop_reason_that_explains_itself_has_no_notice(stop_reason: str) -> None:
    assert code(stop_reason) is None


@pytest.mark.parametrize("blocks", [(TEXT,), (THOUGHT, TEXT), (CALL,), (THOUGHT, CALL), ({"type": "later"},)], ids=str)
def test_a_reply_that_speaks_for_itself_has_no_notice(blocks: tuple[dict[str, Any], ...]) -> None:
    assert code("max_tokens", *blocks) is None
    assert code("tool_use", *blocks) is None


@pytest.mark.parametrize("odd", ["many", [], {"a": 1}, 1.5], ids=str)
def test_an_odd_count_of_thinking_is_none(odd: object) -> None:
    assert code("max_tokens", thinking_tokens=odd) == "empty_reply"
