"""P14: whatever conversation is had and wherever it is cut, Claude takes what is sent, and cuts alone change its begin.

The judge is the stand-in's table of rules, signatures of thinking included. It knows no bounds of images, pages and
bytes, so those are counted here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local.claude_stand_in.rules import check_message_request
from local.claude_stand_in.server_tools import call_of, result_of
from local.claude_stand_in.signatures import signed
from tests.media import document, image, pdf, png, search_result, text_block, tool_result
from turnlog.domain.messages import Message, Usage, to_json
from turnlog.domain.tools import calls_in
from turnlog.domain.turns import INTERRUPTED, PAUSED, ModelCall, Totals, Turn
from turnlog.domain.window import WindowPolicy, messages, next_from
from turnlog.domain.window_start import first_sent, require_sendable
from turnlog.errors import ContextTooLong

Block = dict[str, Any]

MODEL = "claude-opus-5-5"
NOW = datetime(2026, 11, 29, tzinfo=UTC)
POLICY = WindowPolicy(turns=5, tokens=100)
LARGE, SMALL = png(2_001, 1), png(9, 9)
PAGES = {pages: document(pdf(pages)) for pages in (1, 40, 100)}
SIDES = {image(LARGE)["source"]["data"]: 2_001, image(SMALL)["source"]["data"]: 9}
PAGES_OF = {block["source"]["data"]: pages for pages, block in PAGES.items()}
THOUGHT = {"type": "thinking", "thinking": "Hm."}

MEDIA = st.one_of(
    st.just([]),
    st.just([text_block()]),
    st.just([search_result()]),
    st.sampled_from([1, 9, 20]).map(lambda count: [image(LARGE)] * count),
    st.sampled_from([1, 20, 60, 100]).map(lambda count: [image(SMALL)] * count),
    st.sampled_from([[each] for each in PAGES.values()]),
)
REPLIES = st.sampled_from(
    ["text", "thought and text", "thought", "text and thought", "nothing", "blank", "refusal", "refused text", "call",
     "thought and calls", "loop", "loop of thought", "loop with media", "interrupted", "pause", "thought and pause",
     "pauses"]
)  # fmt: skip
STEPS = st.lists(st.tuples(MEDIA, REPLIES, st.sampled_from([10, 10, 150])), min_size=1, max_size=14)


@dataclass
class Conversation:
    """A session as the protocol makes it: `turns` are stored, `prompts` hold the messages of each first call."""

    turns: list[Turn] = field(default_factory=list)
    prompts: list[tuple[int, tuple[Message, ...]]] = field(default_factory=list)
    calls: int = 0

    def take(self, media: list[Block], how: str, tokens: int) -> None:
        """One turn: the caller's media, or the results that the last reply waits for, and a reply of the kind `how`."""
        said = [self.question([] if "media" in how else media)]
        try:
            require_sendable(self.turns, said)
        except ContextTooLong:
            with pytest.raises(AssertionError):
                require_bounds([*self.turns[-1].messages, *said])
            said = [self.question([])]
        start = first_sent(self.turns, said)
        self.prompts.append((start, self.prompt(said)))
        while how.startswith("loop") and len(said) < 5:
            said += [self.reply(said, [THOUGHT] * ("thought" in how) + [self.call()])]
            said += [
                self.results(
                    said[-1], [each for each in media if each["type"] != "document"][:5] if "media" in how else []
                )
            ]
            self.prompt(said)
        if how == "pauses":
            said += [self.reply(said, [self.server_call()])]
            self.prompt(said)
            said += [self.reply(said, [result_of(said[-1].blocks[0]), self.server_call()])]
            self.prompt(said)
        said += [] if how == "interrupted" else [self.reply(said, self.blocks(how))]
        stop_reason = "refusal" if "refus" in how else "tool_use" if "call" in how else "end_turn"
        stop_reason = PAUSED if "pause" in how else stop_reason
        if how == "interrupted":
            stop_reason, said = INTERRUPTED, [*said, self.reply(said, [THOUGHT, self.call()])]
        self.keep(said, stop_reason, tokens)

    def keep(self, said: list[Message], stop_reason: str, tokens: int) -> None:
        number, start = len(self.turns) + 1, first_sent(self.turns, said)
        held = [*(turn.messages for turn in self.turns if turn.number >= start), said]
        usage = Usage(to_json({"input_tokens": tokens, "output_tokens": 0}))
        calls = tuple(ModelCall(MODEL, usage, None) for message in said if message.role == "assistant")
        window_from = next_from(number, usage, start, POLICY, held)
        self.turns.append(Turn(number, "t", b"", b"", tuple(said), calls, stop_reason, Totals(), 0, window_from, b""))

    def question(self, media: list[Block]) -> Message:
        last = self.turns[-1] if self.turns else None
        if last and last.stop_reason == "tool_use":
            return self.results(last.messages[-1], media)
        return Message("user", to_json([*media, text_block(f"question {len(self.turns) + 1}")]))

    def results(self, reply: Message, media: list[Block]) -> Message:
        first, *others = [call.id for call in calls_in(reply)]
        return Message("user", to_json([tool_result(first, content=media), *map(tool_result, others)]))

    def call(self) -> Block:
        self.calls += 1
        return {"type": "tool_use", "id": f"toolu_{self.calls}", "name": "look_up", "input": {}}

    def server_call(self) -> Block:
        self.calls += 1
        return call_of("web_search", {"query": "herons"}, str(self.calls))

    def blocks(self, how: str) -> list[Block]:
        return {
            "thought and text": [THOUGHT, text_block("Yes.")],
            "thought": [THOUGHT],
            "text and thought": [text_block("Yes."), THOUGHT],
            "nothing": [],
            "blank": [text_block(" ")],
            "refusal": [],
            "call": [self.call()],
            "thought and calls": [THOUGHT, self.call(), self.call()],
            "pause": [self.server_call()],
            "thought and pause": [text_block("I look."), THOUGHT, self.server_call()],
        }.get(how, [text_block("Yes.")])

    def reply(self, said: Sequence[Message], blocks: list[Block]) -> Message:
        return Message(
            "assistant", to_json(signed(blocks, check_message_request(body_of(self.prompt(said)), NOW), shows=True))
        )

    def prompt(self, said: Sequence[Message]) -> tuple[Message, ...]:
        """The messages that are sent, which must be valid."""
        sent = messages(self.turns, *said)
        check_message_request(body_of(sent), NOW)
        require_bounds(sent)
        return sent


def body_of(sent: Sequence[Message]) -> dict[str, Any]:
    return {
        "model": MODEL,
        "max_tokens": 1_000,
        "messages": [{"role": message.role, "content": message.blocks} for message in sent],
    }


def require_bounds(sent: Sequence[Message]) -> None:
    text = to_json([message.blocks for message in sent])
    data = [block["source"]["data"] for block in media_in([block for message in sent for block in message.blocks])]
    sides = [SIDES[each] for each in data if each in SIDES]
    assert len(sides) <= 100
    assert len(sides) <= 20 or max(sides) <= 2_000
    assert sum(PAGES_OF[each] for each in data if each in PAGES_OF) <= 100
    assert len(text) <= 20_000_000


def media_in(blocks: Sequence[Block]) -> list[Block]:
    found = [block for block in blocks if block["type"] in ("image", "document")]
    results = [block.get("content") for block in blocks if block["type"] == "tool_result"]
    within = [each for content in results if isinstance(content, list) for each in content]
    return found + (media_in(within) if within else [])


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_what_is_sent_is_valid_and_only_a_cut_changes_its_beginning(
    steps: list[tuple[list[Block], str, int]],
) -> None:
    had = Conversation()
    for media, how, tokens in steps:
        had.take(media, how, tokens)
    for number, ((start, before), (start_after, after)) in enumerate(pairwise(had.prompts), start=1):
        assert start <= start_after <= number + 1
        if start == start_after:
            shown = before[:-1] if had.turns[number - 1].stop_reason == "refusal" else before
            assert after[: len(shown)] == shown
