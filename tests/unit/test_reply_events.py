"""Events of a reply: put together as the API's stream events are, they make up the reply."""

from __future__ import annotations

import pytest

from tests.fakes import TOOL_USE, HashModel, Heard, put_together
from turnlog.domain.messages import Message, ModelRequest, ModelSettings, Reply, Usage, to_json
from turnlog.domain.reply_events import events_of

USAGE = Usage('{"input_tokens":3,"output_tokens":5,"later":{"a":null}}')
STRANGE = to_json(
    [
        {"type": "text", "text": "One ☃", "citations": [{"cited_text": "x"}]},
        {"type": "some_later_block", "text": 7, "x": [1, 2.5, None]},
        {"type": "text", "text": ""},
    ]
)


@pytest.mark.parametrize("content", [STRANGE, TOOL_USE, "[]"], ids=["strange blocks", "tool use", "no blocks"])
def test_the_events_make_up_the_reply(content: str) -> None:
    reply = Reply("claude-sonnet-5-5", content, "tool_use", USAGE)
    assert put_together(events_of(reply)) == reply


def test_the_events_begin_and_end_as_a_stream_does() -> None:
    types = [event.type for event in events_of(Reply("m", STRANGE, "end_turn", USAGE))]
    assert types[:1] + types[-2:] == ["message_start", "message_delta", "message_stop"]


def test_the_fake_model_keeps_the_promise_of_the_port() -> None:
    events = Heard()
    reply = HashModel().reply(ModelRequest(ModelSettings("m", 100), (Message.of_text("hello"),)), 5, events.hear)
    assert put_together(events).text == reply.text
