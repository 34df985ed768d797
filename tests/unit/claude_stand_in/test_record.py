"""The record of what was asked."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

import anthropic
import pytest

from local.claude_stand_in import StandIn, record
from local.claude_stand_in.record import Record
from tests.unit.claude_stand_in.asking import (
    MODEL,
    WELL_FORMED,
    http_answer,
    posted,
)


class TestRecord:
    def test_requests_are_kept_with_their_body_but_without_the_key(
        self, claude: StandIn, sdk: anthropic.Anthropic
    ) -> None:
        sdk.messages.create(**WELL_FORMED)
        sdk.messages.count_tokens(model=MODEL, messages=WELL_FORMED["messages"])
        _, listed, _ = http_answer(claude, "GET", "/_stand_in/requests")
        assert [each["path"] for each in listed] == ["/v1/messages", "/v1/messages/count_tokens"]
        assert listed[0]["body"] == WELL_FORMED
        assert listed[0]["authorised"] is True
        assert listed[0]["headers"]["anthropic-version"] == "2026-10-21"
        assert "a-secret-key" not in json.dumps(listed)
        assert [each.path for each in claude.requests] == [each["path"] for each in listed]

    def test_a_refused_request_is_kept_too(self, claude: StandIn) -> None:
        posted(claude, b"{")
        posted(claude, WELL_FORMED, x_api_key="")
        assert [(each.authorised, each.body) for each in claude.requests] == [(True, None), (False, None)]

    def test_requests_can_be_forgotten(self, claude: StandIn) -> None:
        posted(claude, WELL_FORMED)
        assert http_answer(claude, "DELETE", "/_stand_in/requests")[0] == 200
        assert claude.requests == []

    def test_the_last_two_hundred_are_kept(self, claude: StandIn) -> None:
        for number in range(203):
            posted(claude, WELL_FORMED | {"max_tokens": number + 1})
        assert [each.body["max_tokens"] for each in claude.requests if each.body] == list(range(4, 204))

    def test_large_requests_are_forgotten_earlier(self, claude: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(record, "KEPT_BYTES", 2_500)
        for number in range(1, 5):
            posted(claude, WELL_FORMED | {"max_tokens": number, "system": "x" * 1_000})
        assert [each.body["max_tokens"] for each in claude.requests if each.body] == [3, 4]
        posted(claude, WELL_FORMED | {"max_tokens": 5, "system": "x" * 10_000})
        assert len(claude.requests) == 1

    def test_it_counts_how_many_calls_ran_at_once(self) -> None:
        with StandIn() as claude:
            claude.fail("slow", times=4, seconds=0.3)
            with ThreadPoolExecutor(4) as pool:
                answers = list(pool.map(lambda _: posted(claude, WELL_FORMED)[0], range(4)))
            posted(claude, WELL_FORMED)
            assert answers == [200] * 4
            assert http_answer(claude, "GET", "/_stand_in/stats")[1] == {"calls": 5, "running": 0, "most_running": 4}

    @pytest.mark.parametrize("streamed", [False, True])
    def test_who_has_read_the_answer_sees_the_call_as_ended(
        self, claude: StandIn, monkeypatch: pytest.MonkeyPatch, sdk: anthropic.Anthropic, streamed: bool
    ) -> None:
        count = Record._count

        def count_down_late(record: Record, calls: int, running: int) -> None:
            time.sleep(0.05 if running < 0 else 0)
            count(record, calls, running)

        monkeypatch.setattr(Record, "_count", count_down_late)
        answer = sdk.messages.create(**WELL_FORMED, stream=streamed)
        assert not streamed or list(answer)
        assert claude.stats.running == 0
