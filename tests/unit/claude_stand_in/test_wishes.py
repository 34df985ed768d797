"""Wishes for a reply in plain words: how it stops and what it is made of; and how a paused turn goes on."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest

from local.claude_stand_in import StandIn
from local.claude_stand_in.wishes import STOP_REASONS
from tests.unit.claude_stand_in.asking import MARK, MODEL, WELL_FORMED, posted

SEARCH = {"type": "web_search_20250305", "name": "web_search"}
FETCH = {"type": "web_fetch_20250910", "name": "web_fetch"}


def reply_to(claude: StandIn, *messages: str | dict[str, Any], **more: Any) -> dict[str, Any]:
    """The reply to messages; a text is the user's."""
    asked = [{"role": "user", "content": each} if isinstance(each, str) else each for each in messages]
    status, answer = posted(claude, WELL_FORMED | {"messages": asked} | more)
    assert status == 200, answer
    assert isinstance(answer, dict)
    return answer


def kinds_in(reply: dict[str, Any]) -> list[str]:
    return [block["type"] for block in reply["content"]]


def back(reply: dict[str, Any]) -> dict[str, Any]:
    """The reply as a message of the next request."""
    return {"role": "assistant", "content": reply["content"]}


class TestStopReasons:
    @pytest.mark.parametrize("reason", STOP_REASONS)
    def test_every_stop_reason_can_be_asked_for(self, claude: StandIn, reason: str) -> None:
        assert reply_to(claude, f"Please stop with {reason}.")["stop_reason"] == reason

    def test_a_stop_reason_that_nobody_knows_can_be_asked_for(self, claude: StandIn) -> None:
        assert reply_to(claude, "Stop with the unknown reason moon_rise")["stop_reason"] == "moon_rise"

    def test_a_refusal_has_details_and_nothing_else(self, claude: StandIn) -> None:
        """Page Stop reasons and fallback; types RefusalStopDetails."""
        reply = reply_to(claude, "Stop with refusal")
        assert (reply["content"], reply["stop_details"]["type"]) == ([], "refusal")
        assert reply["usage"]["output_tokens"] > 0

    def test_a_stop_sequence_names_one_of_the_request(self, claude: StandIn) -> None:
        reply = reply_to(claude, "Stop with stop_sequence", stop_sequences=["never said"])
        assert (reply["stop_reason"], reply["stop_sequence"]) == ("stop_sequence", "never said")

    def test_a_word_about_stopping_is_no_wish(self, claude: StandIn) -> None:
        assert reply_to(claude, "Stop with the jokes")["stop_reason"] == "end_turn"


class TestContent:
    @pytest.mark.parametrize("reason", ["end_turn", "max_tokens", "tool_use"])
    def test_a_reply_can_be_empty_for_any_reason(self, claude: StandIn, reason: str) -> None:
        """Page Stop reasons and fallback: empty responses."""
        reply = reply_to(claude, f"Reply with nothing and stop with {reason}")
        assert (reply["content"], reply["stop_reason"]) == ([], reason)

    def test_a_reply_can_be_blank(self, claude: StandIn) -> None:
        assert reply_to(claude, "Reply with blank text")["content"] == [{"type": "text", "text": " "}]

    def test_a_reply_can_have_a_block_that_nobody_knows(self, claude: StandIn) -> None:
        assert kinds_in(reply_to(claude, "Answer with a block of type hologram")) == ["text", "hologram"]

    def test_a_reply_can_be_long(self, claude: StandIn) -> None:
        text = reply_to(claude, "Write 3000 words", max_tokens=20_000)["content"][0]["text"]
        assert len(text.removeprefix(MARK).split()) == 3000


class TestPausedTurns:
    def test_a_paused_turn_goes_on_when_it_is_sent_back(self, claude: StandIn) -> None:
        """Page Stop reasons and fallback: send the content back to continue."""
        first = reply_to(claude, "Stop with pause_turn")
        assert (kinds_in(first), first["stop_reason"]) == (["text", "server_tool_use"], "pause_turn")
        second = reply_to(claude, "Stop with pause_turn", back(first))
        assert (kinds_in(second), second["stop_reason"]) == (["web_search_tool_result", "text"], "end_turn")
        assert second["content"][0]["tool_use_id"] == first["content"][1]["id"]
        reply_to(claude, "Stop with pause_turn", back(first), back(second), "Thank you")

    def test_a_turn_can_pause_more_than_once(self, claude: StandIn) -> None:
        messages: list[Any] = ["Stop with pause_turn 3 times"]
        reasons = []
        for _ in range(4):
            reply = reply_to(claude, *messages)
            messages.append(back(reply))
            reasons.append(reply["stop_reason"])
        assert reasons == ["pause_turn"] * 3 + ["end_turn"]

    def test_a_turn_that_was_not_paused_cannot_be_continued(self, claude: StandIn) -> None:
        """Page Errors: prefill not supported."""
        first = reply_to(claude, "Hello")
        assert posted(claude, WELL_FORMED | {"messages": [*WELL_FORMED["messages"], back(first)]})[0] == 400


class TestServerTools:
    def test_a_search_has_its_results_and_is_counted(self, claude: StandIn) -> None:
        """Page Web search tool."""
        reply = reply_to(claude, "Search the web for grey herons.", tools=[SEARCH])
        assert kinds_in(reply) == ["text", "server_tool_use", "web_search_tool_result", "text"]
        assert reply["content"][1]["input"] == {"query": "grey herons"}
        assert reply["content"][3]["citations"][0]["type"] == "web_search_result_location"
        assert reply["usage"]["server_tool_use"] == {"web_search_requests": 1, "web_fetch_requests": 0}

    def test_a_fetch_has_its_document_and_is_counted(self, claude: StandIn) -> None:
        """Page Web fetch tool."""
        reply = reply_to(claude, "Fetch https://example.org/a.", tools=[FETCH])
        assert reply["content"][2]["content"]["url"] == "https://example.org/a"
        assert reply["usage"]["server_tool_use"] == {"web_search_requests": 0, "web_fetch_requests": 1}

    def test_nothing_is_searched_without_the_tool(self, claude: StandIn) -> None:
        reply = reply_to(claude, "Search the web for grey herons.")
        assert kinds_in(reply) == ["text"]
        assert "server_tool_use" not in reply["usage"]


ASKED: list[tuple[str, dict[str, Any]]] = [
    ("Stop with pause_turn", {}),
    ("Stop with refusal", {}),
    ("Stop with stop_sequence", {"stop_sequences": ["x!"]}),
    ("Search the web for herons", {"tools": [SEARCH]}),
    ("Fetch https://example.org/a", {"tools": [FETCH]}),
    ("Reply with nothing", {}),
    ("Reply with blank text", {}),
]


@pytest.mark.parametrize(("text", "more"), ASKED)
def test_a_streamed_reply_of_any_kind_equals_the_plain_one(
    sdk: anthropic.Anthropic, text: str, more: dict[str, Any]
) -> None:
    asked: dict[str, Any] = {"model": MODEL, "max_tokens": 500, "messages": [{"role": "user", "content": text}]} | more
    with sdk.messages.stream(**asked) as stream:
        streamed = stream.get_final_message()
    assert streamed.model_dump() == sdk.messages.create(**asked).model_dump()
