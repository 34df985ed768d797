"""Streams over time, and what a fault makes of them in the middle."""

from __future__ import annotations

import http.client
import json
import time
from itertools import pairwise
from typing import Any

import anthropic
import pytest

from local.claude_stand_in import StandIn
from tests.unit.claude_stand_in.asking import (
    MARK,
    WELL_FORMED,
    Streamed,
    body_of,
    ends,
    http_answer,
    posted,
    streamed,
    with_content,
)

HELLO = WELL_FORMED | {"messages": [{"role": "user", "content": "Hello there"}]}
USUAL = [
    "message_start",
    "content_block_start",
    "ping",
    *["content_block_delta"] * 8,
    "content_block_stop",
    "message_delta",
    "message_stop",
]
FIRST_TEXT = 4  # events up to the first text


def asked(text: str, **more: Any) -> dict[str, Any]:
    return with_content(text) | {"max_tokens": 2_000} | more


def faulty(claude: StandIn, kind: str, body: dict[str, Any] | None = None, **how: Any) -> Streamed:
    """The stream with a fault."""
    claude.fail(kind, **how)
    return streamed(claude, body or dict(HELLO))


def text_of(answer: dict[str, Any]) -> str:
    return "".join(block.get("text", "") for block in answer["content"])


class TestPace:
    @pytest.mark.parametrize("how", ["words", "fault"])
    def test_events_come_one_by_one_over_the_time(self, claude: StandIn, how: str) -> None:
        if how == "fault":
            claude.fail("paced", seconds=0.4)
        stream = streamed(claude, asked("Write 60 words" + (" over 0.4 seconds" if how == "words" else "")))
        assert (stream.is_whole, stream.kinds[-1]) == (True, "message_stop")
        assert stream.seconds[-1] >= 0.4
        first_token_s, in_all_s = (
            stream.seconds[number] - stream.seconds[0] for number in (stream.kinds.index("content_block_delta"), -1)
        )
        assert first_token_s < 0.4 * in_all_s
        assert len(set(stream.seconds)) > 5

    @pytest.mark.parametrize("how", ["words", "fault"])
    def test_a_plain_reply_takes_as_long(self, claude: StandIn, how: str) -> None:
        if how == "fault":
            claude.fail("paced", seconds=0.3)
        begun = time.monotonic()
        status, answer = posted(claude, asked("Answer over 0.3 seconds" if how == "words" else "Hello"))
        assert status == 200
        assert text_of(answer).startswith(MARK)
        assert time.monotonic() - begun >= 0.3

    def test_it_says_the_same_at_any_pace(self, claude: StandIn) -> None:
        body = asked("Answer over 0.1 seconds")
        assert streamed(claude, body).text == text_of(posted(claude, body)[1])

    def test_pings_come_while_it_thinks(self, claude: StandIn) -> None:
        stream = streamed(claude, asked("Think for 0.3 seconds", thinking={"type": "adaptive", "display": "omitted"}))
        begin = stream.kinds.index("content_block_start")
        end = stream.kinds.index("content_block_delta")
        assert stream.events[begin]["content_block"]["type"] == "thinking"
        assert stream.kinds[begin + 1 : end].count("ping") >= 4
        assert stream.seconds[end] - stream.seconds[begin] >= 0.29
        assert stream.seconds[-1] - stream.seconds[end] < stream.seconds[end] - stream.seconds[begin]

    def test_a_plain_reply_thinks_as_long_and_both_times_add_up(self, claude: StandIn) -> None:
        begun = time.monotonic()
        kinds = [
            block["type"]
            for block in posted(claude, asked("Think for 0.2 seconds, answer over 0.1 seconds"))[1]["content"]
        ]
        assert kinds == ["thinking", "text"]
        assert time.monotonic() - begun >= 0.3

    @pytest.mark.parametrize("said", ["My tests take 20 seconds", "The heron flew for 20 seconds", "20 seconds"])
    def test_a_time_that_is_only_told_is_no_wish(self, claude: StandIn, said: str) -> None:
        begun = time.monotonic()
        posted(claude, asked(said))
        assert time.monotonic() - begun < 15

    def test_who_leaves_a_slow_stream_ends_it(self, claude: StandIn) -> None:
        connection = http.client.HTTPConnection(claude.url.removeprefix("http://"), timeout=5)
        headers = {"x-api-key": "k", "anthropic-version": "2026-10-21"}
        body = asked("Write 100 words over 60 seconds", stream=True)
        connection.request("POST", "/v1/messages", json.dumps(body).encode(), headers)
        response = connection.getresponse()
        assert response.readline() == b"event: message_start\n"
        assert claude.stats.running == 1
        response.close()
        connection.close()
        assert ends(claude, within_s=10)


class TestFaultsInTheMiddle:
    def test_a_stream_can_be_cut_at_every_boundary(self, claude: StandIn) -> None:
        assert streamed(claude, dict(HELLO)).kinds == USUAL
        for events in range(len(USUAL) + 1):
            stream = faulty(claude, "cut", events=events)
            assert (stream.kinds, stream.is_whole) == (USUAL[:events], False)
        assert not faulty(claude, "cut", events=1_000).is_whole

    def test_an_error_comes_after_some_text(self, claude: StandIn) -> None:
        stream = faulty(claude, "error_after_text")
        assert stream.kinds == [*USUAL[:FIRST_TEXT], "error"]
        assert stream.is_whole
        error = stream.events[-1]
        assert error["error"] == {"type": "overloaded_error", "message": "Overloaded"}
        assert error["request_id"].startswith("req_")
        assert MARK.startswith(stream.text)
        assert stream.text

    @pytest.mark.parametrize(
        ("kind", "status"), [("api_error", 500), ("timeout_error", 504), ("rate_limit_error", 429)]
    )
    def test_the_type_of_the_error_can_be_chosen(self, claude: StandIn, kind: str, status: int) -> None:
        assert faulty(claude, "error_after_text", error_type=kind, events=7).events[7]["error"]["type"] == kind
        claude.fail("error_after_text", error_type=kind)
        answered, answer = posted(claude, HELLO)
        assert (answered, answer["error"]["type"]) == (status, kind)

    def test_the_sdk_raises_an_error_that_comes_after_text(self, claude: StandIn, sdk: anthropic.Anthropic) -> None:
        claude.fail("error_after_text")
        with pytest.raises(anthropic.APIStatusError) as raised, sdk.messages.stream(**WELL_FORMED) as stream:
            for _ in stream:
                pass
        assert raised.value.status_code == 200
        assert body_of(raised.value)["error"]["type"] == "overloaded_error"

    def test_the_first_text_counts_and_not_thinking(self, claude: StandIn) -> None:
        stream = faulty(claude, "error_after_text", asked("Think hard"))
        blocks = [each["content_block"]["type"] for each in stream.events if each["type"] == "content_block_start"]
        assert (blocks, bool(stream.text)) == (["thinking", "text"], True)

    def test_without_any_text_it_comes_after_the_last_block(self, claude: StandIn) -> None:
        stream = faulty(claude, "error_after_text", asked("Reply with nothing"))
        assert stream.kinds == ["message_start", "error"]

    def test_a_stream_never_ends(self, claude: StandIn) -> None:
        stream = faulty(claude, "never_ends", seconds=0.5)
        assert (stream.is_whole, stream.seconds[-1] >= 0.4) == (False, True)
        assert stream.kinds[FIRST_TEXT:] == ["content_block_delta", "ping"] * 5
        assert stream.text.endswith(" more more more more more")

    def test_who_leaves_ends_it(self, claude: StandIn, sdk: anthropic.Anthropic) -> None:
        claude.fail("never_ends")
        with sdk.messages.create(**WELL_FORMED, stream=True) as stream:
            for event in stream:
                if (
                    event.type == "content_block_delta"
                    and event.delta.type == "text_delta"
                    and event.delta.text == " more"
                ):
                    break
        assert ends(claude, within_s=10)

    def test_outside_a_block_there_are_pings_alone(self, claude: StandIn) -> None:
        assert set(faulty(claude, "never_ends", seconds=0.2, events=1).kinds[1:]) == {"ping"}

    def test_a_plain_reply_that_never_ends_is_a_hang_up(self, claude: StandIn, sdk: anthropic.Anthropic) -> None:
        claude.fail("never_ends", seconds=0.1)
        with pytest.raises(anthropic.APIConnectionError):
            sdk.messages.create(**WELL_FORMED)

    @pytest.mark.parametrize("events", [None, 0, 1, 6, len(USUAL) - 1, 1_000])
    def test_a_stream_is_silent_in_the_middle(self, claude: StandIn, events: int | None) -> None:
        stream = faulty(claude, "stall", seconds=0.2, events=events)
        assert (stream.kinds, stream.is_whole) == (USUAL, True)
        silences = [after - before for before, after in pairwise([0.0, *stream.seconds])]
        assert silences[min(FIRST_TEXT if events is None else events, len(USUAL) - 1)] >= 0.19

    def test_a_plain_reply_is_late_by_the_silence(self, claude: StandIn) -> None:
        claude.fail("stall", seconds=0.2)
        begun = time.monotonic()
        assert posted(claude, HELLO)[0] == 200
        assert time.monotonic() - begun >= 0.2

    def test_a_stream_starts_twice(self, claude: StandIn) -> None:
        stream = faulty(claude, "two_starts")
        assert stream.kinds == [*USUAL[:FIRST_TEXT], "message_start", *USUAL[FIRST_TEXT:]]
        assert stream.events[0] == stream.events[FIRST_TEXT]

    def test_a_stream_has_events_and_deltas_that_nobody_knows(self, claude: StandIn) -> None:
        usual, stream = streamed(claude, dict(HELLO)), faulty(claude, "unknown_event")
        event, delta = stream.events[FIRST_TEXT : FIRST_TEXT + 2]
        assert event["type"] not in USUAL
        assert (delta["type"], delta["index"], delta["delta"]["type"]) == ("content_block_delta", 0, "hologram_delta")
        assert (stream.text, stream.is_whole) == (usual.text, True)
        between = faulty(claude, "unknown_event", events=1).kinds
        assert between == [USUAL[0], event["type"], *USUAL[1:]]

    def test_the_sdk_reads_past_what_it_does_not_know(self, claude: StandIn, sdk: anthropic.Anthropic) -> None:
        claude.fail("unknown_event")
        with sdk.messages.stream(**WELL_FORMED) as stream:
            assert stream.get_final_message().stop_reason == "end_turn"

    def test_a_message_stops_without_a_reason(self, claude: StandIn) -> None:
        stream = faulty(claude, "no_stop_reason")
        assert (stream.kinds, stream.is_whole) == (USUAL, True)
        assert stream.events[-2]["delta"]["stop_reason"] is None
        claude.fail("no_stop_reason")
        assert posted(claude, HELLO)[1]["stop_reason"] is None

    @pytest.mark.parametrize("kind", ["two_starts", "unknown_event"])
    def test_what_only_a_stream_can_have_leaves_a_plain_reply_whole(self, claude: StandIn, kind: str) -> None:
        usual = posted(claude, HELLO)[1]
        claude.fail(kind)
        assert posted(claude, HELLO)[1]["content"] == usual["content"]

    @pytest.mark.parametrize(
        "wrong", [{"events": -1}, {"events": True}, {"events": 1.5}, {"error_type": "moon_rise"}, {"error_type": []}]
    )
    def test_what_is_no_fault_is_refused(self, claude: StandIn, wrong: dict[str, Any]) -> None:
        listed = [{"fault": "cut"} | wrong]
        assert http_answer(claude, "POST", "/_stand_in/faults", listed)[0] == 400
        assert http_answer(claude, "POST", "/_stand_in/faults", [{"fault": "cut", "events": None}])[0] == 200
