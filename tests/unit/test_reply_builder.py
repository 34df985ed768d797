"""Events of a stream make up the reply that comes whole otherwise, or they make up none."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.claude_stand_in.stream import events_of as stand_in_events
from turnlog.domain import reply_builder
from turnlog.domain.messages import Reply, to_json
from turnlog.domain.received_reply import reply_of
from turnlog.domain.reply_builder import ReplyBuilder
from turnlog.domain.reply_events import events_of
from turnlog.domain.turns import MAX_CONTENT_BYTES, STOPPED
from turnlog.errors import ModelProtocolError

Event = dict[str, Any]

CITED = {"type": "text", "text": "Herons eat fish.", "citations": [{"cited_text": "fish"}, {"cited_text": "Herons"}]}
THOUGHT = {"type": "thinking", "thinking": "Birds, then.", "signature": "c2lnbmVk"}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "look_up", "input": {"word": "heron", "n": 1.50, "a": None}}
SERVER_CALL = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "ü\u2028☃"}}
FOUND = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [{"encrypted_content": "eA=="}]}
ODD = {"type": "from_the_future", "text": 7, "input": "a", "deep": [{"b": 1.50}, None]}
MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-5-5",
    "content": [THOUGHT, CITED, CALL],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {"input_tokens": 12, "output_tokens": 34, "service_tier": "standard"},
}


def built(events: Iterable[Event]) -> Reply:
    builder = ReplyBuilder()
    for event in events:
        assert builder.add(json.dumps(event)).type == event["type"]
    return builder.reply()


def refused(events: Iterable[Event]) -> None:
    with pytest.raises(ModelProtocolError):
        built(events)


def start(**fields: Any) -> Event:
    return {"type": "message_start", "message": MESSAGE | {"content": [], "stop_reason": None} | fields}


def block(index: int, content: dict[str, Any], *deltas: dict[str, Any]) -> list[Event]:
    """The events of one block."""
    return [
        {"type": "content_block_start", "index": index, "content_block": content},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def end(stop_reason: str | None = "end_turn", usage: dict[str, Any] | None = None, **delta: Any) -> list[Event]:
    ended = {"type": "message_delta", "delta": {"stop_reason": stop_reason} | delta, "usage": usage or {}}
    return [ended, {"type": "message_stop"}]


def text(*pieces: str) -> list[dict[str, Any]]:
    return [{"type": "text_delta", "text": piece} for piece in pieces]


def partial_json(*pieces: str) -> list[dict[str, Any]]:
    return [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]


TEXT = block(0, {"type": "text", "text": ""}, *text("Hello."))


# --- the same reply, wherever it is cut

TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS, lambda inner: st.lists(inner, max_size=2), max_leaves=4
)
OBJECTS = st.dictionaries(TEXTS, VALUES, max_size=3)
BLOCKS = st.one_of(
    st.builds(
        lambda said, cited: {"type": "text", "text": said} | ({"citations": cited} if cited else {}),
        TEXTS,
        st.lists(OBJECTS, max_size=2),
    ),
    st.builds(
        lambda thought, signature: {"type": "thinking", "thinking": thought, "signature": signature}, TEXTS, TEXTS
    ),
    st.builds(lambda given: CALL | {"input": given}, OBJECTS),
    st.builds(lambda given: SERVER_CALL | {"input": given}, OBJECTS),
    st.builds(lambda data: {"type": "redacted_thinking", "data": data}, TEXTS),
    st.builds(lambda rest: {**rest, "type": "from_the_future"}, OBJECTS),
)


def pieces(data: st.DataObject, whole: str) -> list[str]:
    """The text in pieces, of which some may be empty."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=4)))
    return [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]


def cut(data: st.DataObject, index: int, content: dict[str, Any]) -> list[Event]:
    """The block as a stream may bring it: the rest of it in its start, whatever can grow in deltas."""
    kind = content["type"]
    if data.draw(st.booleans()) or kind in ("redacted_thinking", "from_the_future"):
        return block(index, content)
    if kind == "text":
        cited = [{"type": "citations_delta", "citation": each} for each in content.get("citations", [])]
        said = text(*pieces(data, content["text"]))
        return block(index, {"type": "text", "text": ""} | ({"citations": []} if cited else {}), *said, *cited)
    if kind == "thinking":
        thoughts = [{"type": "thinking_delta", "thinking": each} for each in pieces(data, content["thinking"])]
        signed = {"type": "signature_delta", "signature": content["signature"]}
        return block(index, content | {"thinking": "", "signature": ""}, *thoughts, signed)
    given = json.dumps(
        content["input"], ensure_ascii=data.draw(st.booleans()), indent=data.draw(st.sampled_from([None, 1]))
    )
    said = partial_json(*([] if content["input"] == {} and data.draw(st.booleans()) else pieces(data, given)))
    return block(index, content | {"input": {}}, *said)


@given(st.data(), st.lists(BLOCKS, max_size=4), st.lists(st.integers(0, 30), max_size=3))
def test_a_reply_cut_anyhow_is_the_reply_that_comes_whole(
    data: st.DataObject, content: list[Any], pings: list[int]
) -> None:
    whole = MESSAGE | {"content": content}
    events = [
        start(),
        *(event for n, each in enumerate(content) for event in cut(data, n, each)),
        *end("tool_use"),
    ]
    for at in pings:
        events.insert(at, {"type": "ping"} if at % 2 else {"type": "from.the-future", "index": 0})
    assert as_values(built(events)) == as_values(reply_of(whole))


def as_values(reply: Reply) -> tuple[Any, ...]:
    """The reply with its JSON texts parsed, since two of them may name the same fields in another order."""
    return replace(reply, content=""), reply.message.blocks


@pytest.mark.parametrize("content", [[], [THOUGHT, CITED], [CALL, CITED], [SERVER_CALL, FOUND], [ODD]], ids=str)
def test_the_streams_of_the_stand_in_make_up_its_replies(content: list[Any]) -> None:
    whole = MESSAGE | {
        "content": content,
        "stop_details": {"type": "refusal", "category": None},
        "stop_sequence": "END",
    }
    assert as_values(built(stand_in_events(whole))) == as_values(reply_of(whole))


def test_our_own_events_of_a_whole_reply_make_it_up_again() -> None:
    reply = reply_of(MESSAGE | {"content": [THOUGHT, CITED, ODD, CALL]})
    assert built(json.loads(event.data) for event in events_of(reply)) == reply


@pytest.mark.parametrize("deltas", [(), ("",), ("", "  "), ("{", "}")], ids=str)
def test_a_call_without_arguments_has_an_empty_input(deltas: tuple[str, ...]) -> None:
    for started in (CALL | {"input": {}}, {name: CALL[name] for name in ("type", "id", "name")}):
        reply = built([start(), *block(0, started, *partial_json(*deltas)), *end("tool_use")])
        assert reply.message.blocks == [CALL | {"input": {}}]


def test_usage_of_the_start_is_kept_where_the_end_says_nothing() -> None:
    first = {
        "input_tokens": 9,
        "output_tokens": 1,
        "cache_read_input_tokens": 5,
        "cache_creation": {"ephemeral_1h_input_tokens": 4, "ephemeral_5m_input_tokens": 0},
        "service_tier": "standard",
        "later": None,
    }
    last = {
        "input_tokens": None,
        "output_tokens": 40,
        "cache_creation": {"ephemeral_5m_input_tokens": 2},
        "server_tool_use": {"web_search_requests": 1},
        "later": {"a": 1},
    }
    usage = built([start(usage=first), *TEXT, *end(usage=last)]).usage
    assert usage.fields == first | last | {
        "input_tokens": 9,
        "cache_creation": {"ephemeral_1h_input_tokens": 4, "ephemeral_5m_input_tokens": 2},
    }


def test_the_end_may_come_in_several_events() -> None:
    events = [
        start(),
        *TEXT,
        end(None, {"output_tokens": 3})[0],
        *end("stop_sequence", stop_sequence="END"),
    ]
    events.insert(-1, end(None, {"output_tokens": 5})[0])
    reply = built(events)
    assert (reply.stop_reason, reply.stop_sequence, reply.usage.fields["output_tokens"]) == ("stop_sequence", "END", 5)


def test_fields_that_a_known_delta_does_not_need_are_passed_over() -> None:
    guessed = {"type": "thinking_delta", "thinking": "", "estimated_tokens": 50}
    signed = {"type": "signature_delta", "signature": "c2lnbmVk"}
    hidden = {"type": "thinking", "thinking": "", "signature": ""}
    reply = built([start(), *block(0, hidden, guessed, guessed, signed), *end()])
    assert reply.message.blocks == [hidden | {"signature": "c2lnbmVk"}]


# --- no reply

WHOLE = [start(), *TEXT, *block(1, CALL | {"input": {}}, *partial_json('{"a":', "1}")), *end("tool_use")]


@pytest.mark.parametrize("kept", range(len(WHOLE)))
def test_a_stream_that_is_cut_is_no_reply(kept: int) -> None:
    refused(WHOLE[:kept])


@pytest.mark.parametrize("left_out", range(len(WHOLE)))
def test_a_stream_without_one_of_its_events_is_no_reply(left_out: int) -> None:
    if WHOLE[left_out]["type"] != "content_block_delta":
        refused(WHOLE[:left_out] + WHOLE[left_out + 1 :])


@pytest.mark.parametrize("twice", range(len(WHOLE)))
def test_a_stream_with_an_event_twice_is_no_reply(twice: int) -> None:
    kind = WHOLE[twice]["type"]
    if kind == "message_delta" or WHOLE[twice].get("delta", {}).get("type") == "text_delta":
        assert built([*WHOLE[:twice], *WHOLE[twice:]])  # each may come any number of times
    else:
        refused([*WHOLE[: twice + 1], *WHOLE[twice:]])


OPEN = [start(), TEXT[0]]


@pytest.mark.parametrize(
    "events",
    [
        [start(content=[THOUGHT]), *TEXT, *end()],
        [start(model=None), *TEXT, *end()],
        [start(usage=None), *end(usage={"output_tokens": -1})],
        [start(usage=[["input_tokens", 1]]), *end()],
        [{"type": "message_start"}, *end()],
        [{"type": "message_start", "message": []}, *end()],
        [start(), *block(1, {"type": "text", "text": ""}), *end()],
        [start(), *block(True, {"type": "text", "text": ""}), *end()],
        [start(), *TEXT, *block(0, {"type": "text", "text": ""}), *end()],
        [start(), TEXT[0], *block(1, {"type": "text", "text": ""}), TEXT[-1], *end()],
        [start(), {"type": "content_block_start", "index": 0}, *end()],
        [start(), *block(0, {"text": "no type"}), *end()],
        [start(), *block(0, {"type": "text", "text": 5}), *end()],
        [start(), *block(0, {"type": "text", "text": 5}, *text("x")), *end()],
        [
            start(),
            *block(0, {"type": "text", "text": "", "citations": "x"}, {"type": "citations_delta", "citation": 1}),
            *end(),
        ],
        [start(), *block(0, CALL, {"type": "text_delta"}), *end("tool_use")],
        [start(), *block(0, {"type": "text", "text": ""}, *text(5)), *end()],  # type: ignore[arg-type]
        [start(), *block(0, {"type": "text", "text": ""}, {"type": "hologram_delta", "hologram": "x"}), *end()],
        [start(), *block(0, {"type": "text", "text": ""}, {"type": ["text_delta"]}), *end()],
        [start(), *block(0, {"type": "text", "text": ""}, {"type": "signature_delta", "signature": None}), *end()],
        [start(), *block(0, CALL, *partial_json("7")), *end("tool_use")],
        [start(), *block(0, CALL | {"id": "two words"}), *end("tool_use")],
        [start(), *TEXT, *end(None)],
        [start(), *TEXT, *end("")],
        [start(), *TEXT, end()[0], *block(1, {"type": "text", "text": ""}), end()[1]],
        [*OPEN, *end()],
        [start(), {"type": "content_block_delta", "index": 0, "delta": text("x")[0]}, *end()],
        [start(), *TEXT, {"type": "content_block_delta", "index": 0, "delta": text("x")[0]}, *end()],
        [start(), *TEXT, {"type": "content_block_stop", "index": 0}, *end()],
        [*TEXT, *end()],
        [*end()],
        [start(), *TEXT, *end(usage=[1])],  # type: ignore[arg-type]
        [start(), *TEXT, *end(), start()],
        [start(), *TEXT, *end(), *end()],
    ],
    ids=lambda events: to_json(events)[-70:],
)
def test_what_no_reply_has_at_its_place_is_refused(events: list[Event]) -> None:
    refused(events)


SAID = text("x")[0]
EMPTY = {"type": "text", "text": ""}


@pytest.mark.parametrize(
    ("before", "wrong"),
    [
        ([], TEXT[0]),
        ([], end()[0]),
        ([], end()[1]),
        ([start()], start()),
        ([start()], {"type": "content_block_start", "index": 1, "content_block": EMPTY}),
        ([start()], {"type": "content_block_start", "index": False, "content_block": EMPTY}),
        ([start()], {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": 1.5}}),
        ([start()], {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "name": {}}}),
        ([start(), *TEXT], {"type": "content_block_start", "index": True, "content_block": EMPTY}),
        ([start(), *TEXT], {"type": "content_block_start", "index": 0, "content_block": EMPTY}),
        ([start(), *TEXT], {"type": "content_block_delta", "index": 0, "delta": SAID}),
        (OPEN, {"type": "content_block_delta", "index": 1, "delta": SAID}),
        (OPEN, {"type": "content_block_delta", "index": False, "delta": SAID}),
        (OPEN, {"type": "content_block_stop", "index": 1}),
        (OPEN, {"type": "content_block_start", "index": 0, "content_block": EMPTY}),
        (OPEN, {"type": "content_block_delta", "index": 0, "delta": {"type": "later_delta", "x": 1}}),
        (OPEN, end()[0]),
        (OPEN, end()[1]),
        ([start(), *TEXT], end()[1]),
        ([start(), *TEXT, end(None)[0]], end()[1]),
        ([start(), *TEXT, end()[0]], {"type": "content_block_start", "index": 1, "content_block": EMPTY}),
        ([start(), *TEXT, *end()], end()[0]),
        ([start(), *TEXT, *end()], end()[1]),
    ],
    ids=to_json,
)
def test_an_event_in_the_wrong_place_is_refused_when_it_comes(before: list[Event], wrong: Event) -> None:
    """While it comes a stream costs least, and whoever hears the events gets none that belongs to no reply."""
    builder = ReplyBuilder()
    for event in before:
        builder.add(json.dumps(event))
    with pytest.raises(ModelProtocolError):
        builder.add(json.dumps(wrong))


@pytest.mark.parametrize(
    "data",
    [
        "",
        "null",
        "[]",
        "<html>",
        "{}",
        '{"type":null}',
        '{"type":5}',
        '{"type":""}',
        '{"type":"ping\\nevent: message_stop"}',
        '{"type":"' + "x" * 101 + '"}',
        '{"type":"ping"',
        '{"type":"ping"}{"type":"ping"}',
        '{"type":"ping","a":NaN}',
        '{"type":"later","a":"\\ud800"}',
        "[" * 100_000,
        '{"type":"later","a":' + "9" * 5000 + "}",
    ],
    ids=lambda data: data[:40],
)
def test_data_that_is_no_event_is_refused_wherever_it_comes(data: str) -> None:
    for events in ([], [start()], OPEN):
        builder = ReplyBuilder()
        for event in events:
            builder.add(json.dumps(event))
        with pytest.raises(ModelProtocolError):
            builder.add(data)


def test_a_character_that_cannot_be_sent_on_is_refused_at_once() -> None:
    """Whoever hears the event writes it as UTF-8."""
    builder = ReplyBuilder()
    for event in OPEN:
        builder.add(json.dumps(event))
    with pytest.raises(ModelProtocolError):
        builder.add('{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\\ud83d"}}')


# --- the end in the middle of a call


@pytest.mark.parametrize("stop_reason", ["max_tokens", "model_context_window_exceeded", "refusal"])
def test_half_a_call_is_left_out_where_the_reply_was_cut_short(stop_reason: str) -> None:
    events = [start(), *TEXT, *block(1, CALL | {"input": {}}, *partial_json('{"word": "her')), *end(stop_reason)]
    reply = built(events)
    assert (reply.message.blocks, reply.stop_reason) == ([{"type": "text", "text": "Hello."}], stop_reason)


@pytest.mark.parametrize("stop_reason", ["tool_use", "end_turn", "pause_turn", "stop_sequence", "later"])
def test_half_a_call_in_a_finished_reply_is_no_reply(stop_reason: str) -> None:
    refused([start(), *TEXT, *block(1, CALL | {"input": {}}, *partial_json('{"word": NaN}')), *end(stop_reason)])


@pytest.mark.parametrize("index", [0, 1])
def test_nothing_comes_after_half_a_call(index: int) -> None:
    half = block(0, CALL, *partial_json("{"))
    refused([start(), *half, *block(index, {"type": "text", "text": ""}), *end("max_tokens")])


# --- bounds


def test_a_reply_that_is_too_large_to_keep_is_refused() -> None:
    builder, size = ReplyBuilder(), 1_000_000
    for event in OPEN:
        builder.add(json.dumps(event))
    delta = json.dumps({"type": "content_block_delta", "index": 0, "delta": text("x" * size)[0]})
    with pytest.raises(ModelProtocolError):
        for _ in range(MAX_CONTENT_BYTES // size + 1):
            builder.add(delta)


@pytest.mark.parametrize("event", [{"type": "ping"}, {"type": "later"}], ids=str)
def test_events_without_end_are_refused(event: Event, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply_builder, "_MOST_EVENTS", 100)
    builder = ReplyBuilder()
    for _ in range(100):
        builder.add(json.dumps(event))
    with pytest.raises(ModelProtocolError):
        builder.add(json.dumps(event))


def test_blocks_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply_builder, "_MOST_BLOCKS", 3)
    many = [event for index in range(4) for event in block(index, ODD)]
    assert len(built([start(), *many[:6], *end()]).message.blocks) == 3
    refused([start(), *many, *end()])


# --- a reply that is stopped


def stopped(*events: Event) -> Reply:
    builder = ReplyBuilder()
    for event in events:
        builder.add(json.dumps(event))
    reply = builder.stopped_reply("claude-asked", "req_1")
    assert (reply.stop_reason, reply.request_id) == (STOPPED, "req_1")
    return reply


def test_a_stopped_reply_has_its_whole_blocks_and_the_text_so_far() -> None:
    cited = block(
        2,
        {"type": "text", "text": "", "citations": []},
        *text("Her", "ons"),
        {"type": "citations_delta", "citation": 1},
    )
    reply = stopped(start(), *block(0, THOUGHT), *block(1, CALL), *cited[:-1])
    assert reply.message.blocks == [THOUGHT, CALL, {"type": "text", "text": "Herons", "citations": [1]}]
    assert (reply.model, reply.id, reply.usage.fields) == (MESSAGE["model"], "msg_1", MESSAGE["usage"])


@pytest.mark.parametrize(
    "begun",
    [
        block(1, {"type": "thinking", "thinking": "", "signature": ""}, {"type": "thinking_delta", "thinking": "Hm."}),
        block(1, CALL | {"input": {}}, *partial_json('{"word": "her"}')),
        block(1, CALL),
        block(1, {"type": "text", "text": ""}),
        block(1, ODD),
        block(1, {"type": "text"}),
    ],
    ids=lambda events: to_json(events)[-70:],
)
def test_what_nobody_could_take_back_is_left_out_of_a_stopped_reply(begun: list[Event]) -> None:
    assert stopped(start(), *TEXT, *begun[:-1]).message.blocks == [{"type": "text", "text": "Hello."}]


def test_thinking_with_its_signature_is_kept_in_a_stopped_reply() -> None:
    signed = {"type": "signature_delta", "signature": "c2lnbmVk"}
    events = block(
        0, THOUGHT | {"thinking": "", "signature": ""}, {"type": "thinking_delta", "thinking": "Hm."}, signed
    )
    assert stopped(start(), *events[:-1]).message.blocks == [THOUGHT | {"thinking": "Hm."}]


def test_of_a_reply_that_has_not_begun_nothing_is_known() -> None:
    reply = stopped({"type": "ping"})
    assert (reply.model, reply.content, reply.usage.fields) == ("claude-asked", "[]", {})


@pytest.mark.parametrize("kept", range(len(WHOLE)))
def test_a_reply_can_be_stopped_after_any_event(kept: int) -> None:
    said = [each["type"] for each in stopped(*WHOLE[:kept]).message.blocks]
    assert said == (["text"] if kept > 2 else []) + (["tool_use"] if kept > 7 else [])


@given(st.data(), st.lists(BLOCKS, max_size=3))
def test_a_stopped_reply_is_a_beginning_of_the_whole_one(data: st.DataObject, content: list[Any]) -> None:
    events = [start(), *(event for n, each in enumerate(content) for event in cut(data, n, each))]
    said = stopped(*events[: data.draw(st.integers(1, len(events)))]).message.blocks
    assert said[:-1] == content[: max(0, len(said) - 1)]
    if said and said[-1] != (whole := content[len(said) - 1]):
        assert said[-1]["type"] == whole["type"] == "text"
        assert said[-1]["text"]
        assert whole["text"].startswith(said[-1]["text"])


def test_what_cannot_be_kept_cannot_be_kept_of_a_stopped_reply() -> None:
    builder = ReplyBuilder()
    for event in (start(model=7), *block(0, {"type": "text", "text": ""}, *text("x"))[:-1]):
        builder.add(json.dumps(event))
    with pytest.raises(ModelProtocolError):
        builder.stopped_reply("claude-asked")
