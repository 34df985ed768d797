"""The form of a reply, plain and streamed."""

from __future__ import annotations

import json

import anthropic

from tests.unit.claude_stand_in.asking import (
    MARK,
    MODEL,
    WELL_FORMED,
    text_of,
)


class TestReplies:
    def test_a_reply_has_the_shape_of_claudes_and_says_that_it_is_a_stand_in(self, sdk: anthropic.Anthropic) -> None:
        raw = sdk.messages.with_raw_response.create(**WELL_FORMED)
        reply = json.loads(raw.http_response.content)
        assert reply.keys() == {
            "id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "stop_details",
            "usage",
        }  # fmt: skip
        assert reply["id"].startswith("msg_")
        assert (reply["type"], reply["role"], reply["model"]) == ("message", "assistant", MODEL)
        assert (reply["stop_reason"], reply["stop_sequence"]) == ("end_turn", None)
        assert reply["content"][0]["text"].startswith(MARK)
        assert raw.headers["x-turnlog-stand-in"] == "1"
        assert raw.headers["request-id"].startswith("req_")

    def test_the_same_request_gets_the_same_reply(self, sdk: anthropic.Anthropic) -> None:
        first, second = (sdk.messages.create(**WELL_FORMED) for _ in range(2))
        assert first.to_dict() == second.to_dict()

    def test_another_request_gets_another_id(self, sdk: anthropic.Anthropic) -> None:
        assert sdk.messages.create(**WELL_FORMED).id != sdk.messages.create(**WELL_FORMED | {"max_tokens": 201}).id

    def test_a_streamed_reply_equals_the_plain_one(self, sdk: anthropic.Anthropic) -> None:
        plain = sdk.messages.create(**WELL_FORMED)
        with sdk.messages.stream(**WELL_FORMED) as stream:
            text = "".join(stream.text_stream)
            streamed = stream.get_final_message()
        assert text == text_of(plain)
        assert streamed.model_dump() == plain.model_dump()

    def test_a_stream_has_the_events_of_the_api_in_its_order(self, sdk: anthropic.Anthropic) -> None:
        kinds = [event.type for event in sdk.messages.create(**WELL_FORMED, stream=True)]
        assert kinds[:2] == ["message_start", "content_block_start"]
        assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
        assert len(kinds[2:-3]) > 2
        assert set(kinds[2:-3]) == {"content_block_delta"}

    def test_a_stream_begins_without_content_or_stop_reason(self, sdk: anthropic.Anthropic) -> None:
        with sdk.messages.create(**WELL_FORMED, stream=True) as stream:
            start = next(stream)
        assert start.type == "message_start"
        assert (start.message.content, start.message.stop_reason) == ([], None)
        assert start.message.usage.input_tokens > 0

    def test_an_answer_longer_than_max_tokens_is_cut_there(self, sdk: anthropic.Anthropic) -> None:
        whole = sdk.messages.create(**WELL_FORMED)
        short = sdk.messages.create(**WELL_FORMED | {"max_tokens": 7})
        assert (short.stop_reason, short.usage.output_tokens) == ("max_tokens", 7)
        assert text_of(short) == text_of(whole)[: 4 * 7]

    def test_a_stop_sequence_ends_the_answer_before_it(self, sdk: anthropic.Anthropic) -> None:
        reply = sdk.messages.create(**WELL_FORMED, stop_sequences=["never said", " message "])
        assert (reply.stop_reason, reply.stop_sequence) == ("stop_sequence", " message ")
        assert text_of(reply) == f"{MARK}This is"

    def test_an_answer_stopped_at_its_first_character_has_no_content(self, sdk: anthropic.Anthropic) -> None:
        stops = ["[stand"]
        assert sdk.messages.create(**WELL_FORMED, stop_sequences=stops).content == []
        with sdk.messages.stream(**WELL_FORMED, stop_sequences=stops) as stream:
            assert stream.get_final_message().content == []
