"""TurnStream: what a reader gets of a turn's calls, put together by the rules of the API's stream."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.fakes import MODEL, called, tell
from tests.readers import Events
from turnlog.domain.messages import Reply, Usage, to_json
from turnlog.domain.reply_events import ReplyEvent, events_of
from turnlog.domain.tools import ToolResult, calls_in
from turnlog.domain.turn_stream import TurnStream
from turnlog.domain.turns import STOPPED

OWN = "look_up"


def reply_of(*blocks: dict[str, Any], stop_reason: str = "end_turn", name: str = "msg_1") -> Reply:
    usage = Usage(to_json({"input_tokens": 100, "output_tokens": 7}))
    return Reply(MODEL, to_json(list(blocks)), stop_reason, usage, id=name)


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


@pytest.fixture
def reader() -> Events:
    return Events()


def test_all_calls_of_a_turn_are_one_message(reader: Events) -> None:
    stream = TurnStream(reader.append)
    first = reply_of(*called((OWN, {"word": "ada"}), text="I look it up."), stop_reason="tool_use")
    last = reply_of(text("A name."), name="msg_2")
    stream.open(session_id="ses_1", turn=3)
    for each in (first, last):
        tell(each, stream.listener([OWN]))
    stream.finish([first, last], "end_turn", Usage('{"input_tokens":200,"output_tokens":14}'), [OWN])
    assert reader.types[:2] == ["turnlog.turn", "message_start"]
    assert (reader.types.count("message_start"), reader.types.count("message_stop")) == (1, 1)
    assert reader.message.message.blocks == first.message.blocks + last.message.blocks
    assert (reader.message.id, reader.message.stop_reason) == ("msg_1", "end_turn")
    assert reader.message.usage.fields == {"input_tokens": 200, "output_tokens": 14}


def test_calls_that_the_service_runs_stay_out_where_a_client_would_run_them(reader: Events) -> None:
    stream = TurnStream(reader.append, shows_own_calls=False)
    first = reply_of(*called((OWN, {}), ("add", {}), text="I look it up."), stop_reason="tool_use")
    last = reply_of(text("A name."))
    tell(first, stream.listener([OWN]))
    stream.finish([first, last], "end_turn", last.usage, [OWN])
    text_block, _, other = first.message.blocks
    assert reader.message.message.blocks == [text_block, other, text("A name.")]


def test_the_end_is_held_until_the_turn_is_stored(reader: Events) -> None:
    stream = TurnStream(reader.append)
    tell(reply_of(text("A name.")), stream.listener())
    assert not {"message_delta", "message_stop"} & set(reader.types)


def test_a_reply_that_nobody_heard_is_shown_at_the_end(reader: Events) -> None:
    stream = TurnStream(reader.append)
    stream.finish([reply_of(text("one"), stop_reason="tool_use"), reply_of(text("two"))], "end_turn", Usage("{}"))
    assert reader.message.text == "onetwo"


def test_a_call_that_was_refused_and_made_again_is_shown_once(reader: Events) -> None:
    stream = TurnStream(reader.append)
    stream.listener()  # the refused call had no events
    last = reply_of(text("A name."))
    tell(last, stream.listener())
    stream.finish([last], "end_turn", last.usage)
    assert reader.message.text == "A name."


def test_a_start_that_comes_twice_is_shown_once(reader: Events) -> None:
    stream = TurnStream(reader.append)
    last = reply_of(text("A name."))
    hear = stream.listener()
    start, *rest = events_of(last)
    for event in (start, start, *rest):
        hear(event)
    stream.finish([last], "end_turn", last.usage)
    assert reader.types.count("message_start") == 1
    assert reader.message.text == "A name."


def test_pings_and_unknown_events_pass(reader: Events) -> None:
    hear = TurnStream(reader.append).listener()
    for event in (ReplyEvent("ping", '{"type": "ping"}'), ReplyEvent("new", '{"type":"new"}')):
        hear(event)
    assert reader.types == ["ping", "new"]


# --- a reply that is stopped


def stopped_after(pieces: int, reply: Reply, reader: Events) -> Reply:
    """Shows the reply until so many of its events were heard, and what is stored then; returns that."""
    stream = TurnStream(reader.append)
    heard: list[ReplyEvent] = []
    stream.is_stopped = lambda: len(heard) > pieces
    kept = tell(reply, stream.listener(), heard.append)
    stream.finish([kept], kept.stop_reason, kept.usage)
    return kept


THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": "c2lnbmVk"}


@pytest.mark.parametrize("pieces", range(14))
def test_what_is_shown_of_a_stopped_reply_is_what_is_kept(reader: Events, pieces: int) -> None:
    reply = reply_of(THOUGHT, text("I look it up, now."), *called((OWN, {"word": "ada"})))
    kept = stopped_after(pieces, reply, reader)
    left_out = [each["index"] for each in reader.own("left_out")]
    shown = [block for index, block in enumerate(reader.message.message.blocks) if index not in left_out]
    assert shown == kept.message.blocks
    assert reader.message.stop_reason == kept.stop_reason
    assert reader.message.usage.fields == kept.usage.fields


def test_a_block_that_was_not_whole_is_named_as_left_out(reader: Events) -> None:
    assert stopped_after(1, reply_of(THOUGHT), reader).content == "[]"
    assert reader.types[-4:] == ["content_block_stop", "turnlog.left_out", "message_delta", "message_stop"]
    assert reader.own("left_out") == [{"type": "turnlog.left_out", "index": 0}]


def test_half_a_call_at_the_end_of_a_reply_is_named_as_left_out(reader: Events) -> None:
    """At `max_tokens` the provider ends a call of a tool in the middle of its input, which nobody can keep."""
    stream = TurnStream(reader.append)
    whole = reply_of(text("I look it up."), *called((OWN, {})), stop_reason="max_tokens")
    tell(whole, stream.listener())
    kept = replace(whole, content=to_json([text("I look it up.")]))
    stream.finish([kept], "max_tokens", kept.usage)
    assert [each["index"] for each in reader.own("left_out")] == [1]


def test_a_reply_that_has_told_its_end_is_not_stopped(reader: Events) -> None:
    reply = reply_of(text("A name."))
    last_two = len(list(events_of(reply))) - 2
    assert stopped_after(last_two, reply, reader).stop_reason == "end_turn"


@pytest.mark.parametrize("heard", range(5))
def test_a_model_that_cannot_stop_is_shown_to_its_end(reader: Events, heard: int) -> None:
    """Its reply was there already when its listener had enough."""
    stream = TurnStream(reader.append)
    reply = reply_of(text("A name."), *called((OWN, {"word": "ada"})))
    hear = stream.listener()
    stream.is_stopped = lambda: True
    for event in list(events_of(reply))[: heard + 1]:
        hear(event)
    stream.finish([reply], STOPPED, reply.usage)
    assert reader.message.message.blocks == reply.message.blocks
    assert reader.own("left_out") == []


# --- events of our own


def test_the_first_event_comes_once_with_the_facts_of_both_sides(reader: Events) -> None:
    stream = TurnStream(reader.append, facts={"idempotency_key": "k"})
    stream.open(session_id="ses_1", turn=3, replayed=False)
    stream.open(session_id="ses_1", turn=3, replayed=True)
    assert [json.loads(event.data) for event in reader] == [
        {"type": "turnlog.turn", "session_id": "ses_1", "turn": 3, "replayed": False, "idempotency_key": "k"}
    ]


def test_tools_are_shown_as_they_begin_and_end(reader: Events) -> None:
    stream = TurnStream(reader.append)
    calls = calls_in(reply_of(*called((OWN, {}), (OWN, {}))).message)
    stream.tools_begin(calls)
    stream.tools_end(calls, [ToolResult("toolu_2", '"no"', is_error=True), ToolResult("toolu_1", '"yes"')])
    assert [(each["id"], each["status"]) for each in reader.own("tool")] == [
        ("toolu_1", "running"),
        ("toolu_2", "running"),
        ("toolu_1", "done"),
        ("toolu_2", "failed"),
    ]
