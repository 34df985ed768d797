"""Failures on demand."""

from __future__ import annotations

import json
import time

import anthropic
import httpx2
import pytest

from local.claude_stand_in import StandIn
from tests.unit.claude_stand_in.asking import (
    MARK,
    WELL_FORMED,
    body_of,
    conversation,
    ends,
    http_answer,
    posted,
    text_of,
    with_messages,
    without,
)


class TestFaults:
    @pytest.mark.parametrize("streamed", [False, True])
    @pytest.mark.parametrize(
        ("fault", "error", "status", "kind"),
        [
            ("rate_limit", anthropic.RateLimitError, 429, "rate_limit_error"),
            ("overloaded", anthropic.InternalServerError, 529, "overloaded_error"),
            ("server_error", anthropic.InternalServerError, 500, "api_error"),
        ],
    )
    def test_an_error_of_the_api_reaches_the_sdk_as_one(
        self,
        claude: StandIn,
        sdk: anthropic.Anthropic,
        fault: str,
        error: type[anthropic.APIStatusError],
        status: int,
        kind: str,
        streamed: bool,
    ) -> None:
        claude.fail(fault)
        with pytest.raises(error) as raised:
            sdk.messages.create(**WELL_FORMED, stream=streamed)
        assert raised.value.status_code == status
        assert body_of(raised.value)["error"]["type"] == kind
        assert raised.value.request_id == body_of(raised.value)["request_id"]
        assert sdk.messages.create(**WELL_FORMED).stop_reason == "end_turn"

    @pytest.mark.parametrize(("asked_s", "sent"), [(None, "1"), (7, "7"), (0, "0"), (0.25, "0.25")])
    def test_a_rate_limit_says_when_to_come_again(
        self, claude: StandIn, sdk: anthropic.Anthropic, asked_s: float | None, sent: str
    ) -> None:
        claude.fail("rate_limit", retry_after_s=asked_s)
        with pytest.raises(anthropic.RateLimitError) as raised:
            sdk.messages.create(**WELL_FORMED)
        assert raised.value.response.headers["retry-after"] == sent

    @pytest.mark.parametrize(("asked_s", "sent"), [(None, None), (3, "3")])
    def test_an_overloaded_server_says_it_only_when_told(
        self, claude: StandIn, sdk: anthropic.Anthropic, asked_s: float | None, sent: str | None
    ) -> None:
        claude.fail("overloaded", retry_after_s=asked_s)
        with pytest.raises(anthropic.InternalServerError) as raised:
            sdk.messages.create(**WELL_FORMED)
        assert raised.value.response.headers.get("retry-after") == sent

    def test_a_cut_answer_is_a_connection_error(self, claude: StandIn, sdk: anthropic.Anthropic) -> None:
        claude.fail("cut")
        with pytest.raises(anthropic.APIConnectionError) as raised:
            sdk.messages.create(**WELL_FORMED)
        assert "without sending complete message body" in str(raised.value.__cause__)

    def test_a_cut_stream_breaks_after_a_few_events(self, claude: StandIn, sdk: anthropic.Anthropic) -> None:
        claude.fail("cut")
        kinds = []
        with pytest.raises(httpx2.RemoteProtocolError), sdk.messages.create(**WELL_FORMED, stream=True) as stream:
            for event in stream:
                kinds.append(event.type)  # noqa: PERF401 (it must keep what came before the break)
        assert kinds == ["message_start", "content_block_start", "content_block_delta"]

    def test_a_stream_that_ends_early_ends_without_a_stop_reason(
        self, claude: StandIn, sdk: anthropic.Anthropic
    ) -> None:
        claude.fail("early_end")
        with sdk.messages.stream(**WELL_FORMED) as stream:
            kinds = [event.type for event in stream]
            assert stream.get_final_message().stop_reason is None
        assert kinds[-1] == "content_block_stop"

    def test_a_plain_answer_that_ends_early_has_no_stop_reason(self, claude: StandIn, sdk: anthropic.Anthropic) -> None:
        claude.fail("early_end")
        reply = sdk.messages.create(**WELL_FORMED)
        assert reply.stop_reason is None
        assert text_of(reply).startswith(MARK)

    @pytest.mark.parametrize("streamed", [False, True])
    def test_silence_lasts_until_the_client_gives_up(
        self, claude: StandIn, sdk: anthropic.Anthropic, streamed: bool
    ) -> None:
        claude.fail("silence")
        with pytest.raises(anthropic.APITimeoutError):
            sdk.messages.create(**WELL_FORMED, stream=streamed, timeout=0.1)
        assert ends(claude)

    def test_silence_ends_by_hanging_up(self, claude: StandIn, sdk: anthropic.Anthropic) -> None:
        claude.fail("silence", seconds=0.05)
        with pytest.raises(anthropic.APIConnectionError) as raised:
            sdk.messages.create(**WELL_FORMED)
        assert not isinstance(raised.value, anthropic.APITimeoutError)

    @pytest.mark.parametrize("streamed", [False, True])
    def test_a_slow_answer_comes_after_its_time(
        self, claude: StandIn, sdk: anthropic.Anthropic, streamed: bool
    ) -> None:
        claude.fail("slow", seconds=0.2)
        begun = time.monotonic()
        answer = sdk.messages.create(**WELL_FORMED, stream=streamed)
        if streamed:
            assert isinstance(answer, anthropic.Stream)
            assert list(answer)[-1].type == "message_stop"
        assert time.monotonic() - begun >= 0.2

    def test_garbage_is_no_json(self, claude: StandIn, sdk: anthropic.Anthropic) -> None:
        claude.fail("garbage", times=2)
        assert sdk.messages.with_raw_response.create(**WELL_FORMED).status_code == 200
        with pytest.raises(json.JSONDecodeError):
            sdk.messages.create(**WELL_FORMED)

    def test_a_stream_of_garbage_is_no_json(self, claude: StandIn, sdk: anthropic.Anthropic) -> None:
        claude.fail("garbage")
        with pytest.raises(json.JSONDecodeError), sdk.messages.create(**WELL_FORMED, stream=True) as stream:
            next(stream)

    def test_faults_come_in_order_and_as_often_as_asked(self, claude: StandIn) -> None:
        claude.fail("overloaded", times=2)
        claude.fail("rate_limit")
        assert [posted(claude, WELL_FORMED)[0] for _ in range(4)] == [529, 529, 429, 200]

    def test_a_fault_waits_for_the_message_it_matches(self, claude: StandIn) -> None:
        claude.fail("overloaded", match="heron")
        claude.fail("rate_limit")
        heron = with_messages(*conversation("Hello", "Hello", "A heron!"))
        past_heron = with_messages(*conversation("A heron!", "Hello", "Hello"))
        assert [posted(claude, each)[0] for each in (past_heron, past_heron, heron, heron)] == [429, 200, 529, 200]

    def test_neither_a_refused_request_nor_a_count_uses_up_a_fault(self, claude: StandIn) -> None:
        claude.fail("overloaded")
        assert posted(claude, without("max_tokens"), "/v1/messages/count_tokens")[0] == 200
        assert [posted(claude, without("model"))[0], posted(claude, WELL_FORMED)[0]] == [400, 529]

    def test_faults_are_ordered_and_cleared_over_http(self, claude: StandIn) -> None:
        listed = [{"fault": "overloaded", "times": 5}, {"fault": "rate_limit", "retry_after_s": 2, "match": None}]
        assert http_answer(claude, "POST", "/_stand_in/faults", listed)[:2] == (200, {"added": 2})
        assert posted(claude, WELL_FORMED)[0] == 529
        assert http_answer(claude, "DELETE", "/_stand_in/faults")[0] == 200
        assert posted(claude, WELL_FORMED)[0] == 200

    @pytest.mark.parametrize(
        "listed",
        [
            b"{",
            {"fault": "cut"},
            ["cut"],
            [{"times": 2}],
            [{"fault": "flood"}],
            [{"fault": ["cut"]}],
            [{"fault": "cut", "colour": "green"}],
            [{"fault": "cut", "times": 0}],
            [{"fault": "cut", "times": True}],
            [{"fault": "slow", "seconds": 0}],
            [{"fault": "slow", "seconds": "1"}],
            [{"fault": "rate_limit", "retry_after_s": -1}],
            [{"fault": "cut", "match": 5}],
            [{"fault": "overloaded"}, {"fault": "flood"}],
        ],
    )
    def test_what_is_no_fault_is_refused_and_none_is_added(self, claude: StandIn, listed: object) -> None:
        status, answer, _ = http_answer(claude, "POST", "/_stand_in/faults", listed)
        assert (status, answer["error"]["type"]) == (400, "invalid_request_error")
        assert posted(claude, WELL_FORMED)[0] == 200
