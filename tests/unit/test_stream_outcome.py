"""The line of a streamed answer: its cost and its error are read as the events pass by, and nothing else is kept."""

from __future__ import annotations

import json
from typing import Any

import pytest

from local.request_line import MOST_READ_BYTES
from local.stream_outcome import StreamOutcome

START = {
    "type": "message_start",
    "message": {"usage": {"input_tokens": 10, "cache_read_input_tokens": 90, "output_tokens": 1}},
}
TEXT = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "event: error"}}
DELTA = {"type": "message_delta", "usage": {"output_tokens": 25}}
DONE = {"type": "turnlog.done", "usage": {"input_tokens": 11, "output_tokens": 25}, "cost_usd": "0.002106"}
ERROR = {"type": "error", "error": {"type": "api_error", "details": {"error_code": "model_failed"}}}


def stream(*events: dict[str, Any], end: str = "\n") -> bytes:
    return "".join(f"event: {each['type']}{end}data: {json.dumps(each)}{end}{end}" for each in events).encode()


def outcome(content: bytes, size: int = 1 << 20) -> StreamOutcome:
    found = StreamOutcome()
    for at in range(0, len(content), size):
        found.feed(content[at : at + size])
    return found


@pytest.mark.parametrize("size", [1, 2, 7, 1 << 20])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_turn_costs_what_its_last_event_says(size: int, end: str) -> None:
    found = outcome(stream(START, TEXT, DELTA, DONE, end=end), size)
    assert (found.tokens, found.cost_usd, found.code, found.is_replayed) == (126, "0.002106", None, False)


def test_a_message_without_events_of_ours_counts_what_it_says_last_of_each() -> None:
    found = outcome(stream(START, TEXT, DELTA))
    assert (found.tokens, found.cost_usd) == (125, None)


def test_an_error_in_the_stream_has_its_code() -> None:
    assert outcome(stream(START, ERROR)).code == "model_failed"
    assert outcome(stream({"type": "error", "error": {"type": "overloaded_error"}})).code == "overloaded_error"


def test_a_turn_that_was_stored_before_says_so() -> None:
    assert outcome(stream({"type": "turnlog.turn", "replayed": True}, DONE)).is_replayed


def test_content_is_neither_read_nor_kept() -> None:
    content = b"event: content_block_delta\ndata: " + json.dumps(ERROR).encode()
    found = outcome(content + b"x" * MOST_READ_BYTES, 4096)
    assert len(found._line) <= 100
    found.feed(b"\n\n" + stream(DONE))
    assert (found.code, found.cost_usd) == (None, "0.002106")


@pytest.mark.parametrize(
    "data", ["not json", "[1]", '{"usage": 3, "cost_usd": "\\u001b[2J"}', '{"type": "error", "error": 3}', "[" * 9999]
)
def test_an_event_of_another_form_says_nothing(data: str) -> None:
    found = outcome(f"event: turnlog.done\ndata: {data}\n\n".encode())
    assert (found.tokens, found.cost_usd, found.code) == (None, None, None)


def test_a_line_without_an_end_fills_no_memory() -> None:
    found = outcome(b"event: turnlog.done\ndata: " + b"x" * (3 * MOST_READ_BYTES), 65_536)
    assert len(found._line) <= MOST_READ_BYTES
