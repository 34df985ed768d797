"""Thinking: when the stand-in thinks, which settings a model takes, and where a thinking block may stand.

An id or a docstring names the source: a page of the provider's docs, the SDK's types, or reports of users.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import anthropic
import pytest

from local.claude_stand_in import StandIn
from tests.unit.claude_stand_in.asking import MODEL, WELL_FORMED, posted

ADAPTIVE = {"thinking": {"type": "adaptive"}}
CLOCK = {"name": "clock", "input_schema": {"type": "object"}}
BOUND = "The block is bound to a different conversation."


def body_of(*messages: str | dict[str, Any], **more: Any) -> dict[str, Any]:
    """A request; a text is the user's message."""
    asked = [{"role": "user", "content": each} if isinstance(each, str) else each for each in messages]
    return WELL_FORMED | {"messages": asked} | more


def reply_to(claude: StandIn, *messages: str | dict[str, Any], **more: Any) -> dict[str, Any]:
    status, answer = posted(claude, body_of(*messages, **more))
    assert status == 200, answer
    assert isinstance(answer, dict)
    return answer


def complaint_about(claude: StandIn, body: dict[str, Any]) -> str:
    status, answer = posted(claude, body)
    assert (status, answer["error"]["type"]) == (400, "invalid_request_error"), answer
    return str(answer["error"]["message"])


def kinds_in(reply: dict[str, Any]) -> list[str]:
    return [block["type"] for block in reply["content"]]


def back(reply: dict[str, Any]) -> dict[str, Any]:
    """The reply as a message of the next request."""
    return {"role": "assistant", "content": reply["content"]}


class TestThinking:
    @pytest.mark.parametrize(
        ("text", "more"),
        [
            ("Hello", ADAPTIVE),
            ("Hello", {"thinking": {"type": "enabled", "budget_tokens": 1024}, "model": "claude-sonnet-4-6"}),
            ("Hello", {"output_config": {"effort": "high"}}),
            ("Think hard. Hello", {}),
            ("Please think about it", {}),
        ],
    )
    def test_it_thinks_when_told_to(self, claude: StandIn, text: str, more: dict[str, Any]) -> None:
        reply = reply_to(claude, text, **{"max_tokens": 2000} | more)
        assert kinds_in(reply) == ["thinking", "text"]
        assert reply["content"][0]["signature"]
        assert 0 < reply["usage"]["output_tokens_details"]["thinking_tokens"] < reply["usage"]["output_tokens"]

    @pytest.mark.parametrize(
        ("text", "more"),
        [
            ("Hello", {}),
            ("I think, therefore I am", {}),
            ("Hello", {"output_config": {"effort": "low"}}),
            ("Think hard", {"thinking": {"type": "disabled"}}),
        ],
    )
    def test_it_does_not_think_unasked(self, claude: StandIn, text: str, more: dict[str, Any]) -> None:
        assert kinds_in(reply_to(claude, text, **more)) == ["text"]

    def test_between_tools_it_thinks_about_results_alone(self, claude: StandIn) -> None:
        """Types ThinkingConfigBetweenToolsParam."""
        more = {"thinking": {"type": "between_tools"}, "tools": [CLOCK]}
        first = reply_to(claude, "Call clock", **more)
        result = {"type": "tool_result", "tool_use_id": first["content"][-1]["id"], "content": "noon"}
        second = reply_to(claude, "Call clock", back(first), {"role": "user", "content": [result]}, **more)
        assert (kinds_in(first), kinds_in(second)) == (["text", "tool_use"], ["thinking", "text"])

    @pytest.mark.parametrize(
        ("model", "display", "shown"),
        [
            ("claude-opus-5-5", None, False),
            ("claude-opus-5-5", "summarized", True),
            ("claude-opus-4-6", None, True),
            ("claude-opus-4-6", "omitted", False),
        ],
    )
    def test_the_text_is_shown_as_the_display_says(
        self, claude: StandIn, model: str, display: str | None, shown: bool
    ) -> None:
        """Page What's new in Claude Opus 5.5: omitted by default."""
        config = {"type": "adaptive"} | ({"display": display} if display else {})
        block = reply_to(claude, "Hello", model=model, thinking=config)["content"][0]
        assert bool(block["thinking"]) is shown

    def test_thinking_alone_comes_of_a_small_max_tokens(self, claude: StandIn) -> None:
        """Page Adaptive thinking: thinking is paid out of max_tokens."""
        reply = reply_to(claude, "Hello", max_tokens=6, **ADAPTIVE)
        assert (kinds_in(reply), reply["stop_reason"]) == (["thinking"], "max_tokens")
        assert reply["usage"]["output_tokens"] == 6

    @pytest.mark.parametrize(
        ("text", "kinds"),
        [
            ("Answer with thinking alone", ["thinking"]),
            ("Think twice", ["thinking", "text", "thinking", "text"]),
            ("Answer with redacted thinking", ["redacted_thinking", "text"]),
        ],
    )
    def test_other_forms_of_thinking_can_be_asked_for(self, claude: StandIn, text: str, kinds: list[str]) -> None:
        assert kinds_in(reply_to(claude, text)) == kinds

    def test_thinking_comes_before_a_call_of_a_tool(self, claude: StandIn) -> None:
        assert kinds_in(reply_to(claude, "Call clock", tools=[CLOCK], **ADAPTIVE)) == ["thinking", "text", "tool_use"]

    @pytest.mark.parametrize("text", ["Think twice", "Think hard and call clock", "Redacted thinking, please"])
    def test_streamed_thinking_equals_the_plain_one(self, sdk: anthropic.Anthropic, text: str) -> None:
        asked: dict[str, Any] = {"model": MODEL, "max_tokens": 900, "tools": [CLOCK]}
        asked |= {"messages": [{"role": "user", "content": text}]}
        asked |= {"thinking": {"type": "adaptive", "display": "summarized"}}
        with sdk.messages.stream(**asked) as stream:
            streamed = stream.get_final_message()
        assert streamed.model_dump() == sdk.messages.create(**asked).model_dump()


NEWEST, OLD = {"model": "claude-opus-5-5"}, {"model": "claude-haiku-4-5"}
BUDGET = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
REFUSED = [
    pytest.param('"thinking.type.disabled" is not supported', NEWEST | {"thinking": {"type": "disabled"}},
                 id="page What's new in Claude Opus 5.5: thinking cannot be disabled"),
    pytest.param('"thinking.type.enabled" is not supported', NEWEST | BUDGET | {"max_tokens": 2000},
                 id="page What's new in Claude Opus 5.5: no budget"),
    pytest.param('"tool_choice.type.any" is not supported', NEWEST | {"tools": [CLOCK], "tool_choice": {"type": "any"}},
                 id="page What's new in Claude Opus 5.5: no forced tool"),
    pytest.param('"thinking.type.adaptive" is not supported', OLD | ADAPTIVE, id="page Adaptive thinking: models"),
    pytest.param("does not support the effort parameter", OLD | {"output_config": {"effort": "low"}},
                 id="page Effort: models"),
    pytest.param("output_config.effort: Input should be one of", {"output_config": {"effort": "extreme"}},
                 id="types OutputConfigParam: effort"),
    pytest.param("Thinking may not be enabled when tool_choice forces tool use",
                 ADAPTIVE | {"tools": [CLOCK], "tool_choice": {"type": "any"}},
                 id="page Extended thinking: no forced tool"),
    pytest.param("greater than or equal to 1024", OLD | {"thinking": {"type": "enabled", "budget_tokens": 1000}},
                 id="types ThinkingConfigEnabledParam: least budget"),
    pytest.param("`max_tokens` must be greater than `thinking.budget_tokens`", OLD | BUDGET | {"max_tokens": 1024},
                 id="types ThinkingConfigEnabledParam: greatest budget"),
    pytest.param("expected tags", {"thinking": {"type": "deep"}}, id="types ThinkingConfigParam: kinds"),
    pytest.param("Extra inputs", {"thinking": {"type": "adaptive", "budget_tokens": 5}},
                 id="types ThinkingConfigAdaptiveParam: fields"),
    pytest.param("display: Input should be", {"thinking": {"type": "adaptive", "display": "all"}},
                 id="types ThinkingConfigAdaptiveParam: display"),
]  # fmt: skip


@pytest.mark.parametrize(("complaint", "more"), REFUSED)
def test_settings_that_the_model_does_not_take_are_refused(
    claude: StandIn, complaint: str, more: dict[str, Any]
) -> None:
    assert complaint in complaint_about(claude, body_of("Hello", **more))


Change = Callable[[dict[str, Any]], object]


def remove_thinking(number: int, of_message: int = 1) -> Change:
    """The change that leaves out one of a message's thinking blocks."""

    def change(body: dict[str, Any]) -> None:
        content = body["messages"][of_message]["content"]
        content.remove([block for block in content if block["type"] == "thinking"][number])

    return change


@pytest.fixture
def conversation(claude: StandIn) -> dict[str, Any]:
    """A conversation of three replies: the first thought twice, the others once."""
    body = body_of("Think twice", system="Be kind.", tools=[CLOCK])
    for text in ("Think hard", "Think hard, again", "Thank you"):
        status, reply = posted(claude, body)
        assert status == 200, reply
        body["messages"] += [back(reply), {"role": "user", "content": text}]
    assert posted(claude, body)[0] == 200
    return body


class TestSignatures:
    """Pages Preserved thinking and Prefix checks on thinking blocks."""

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(lambda body: body.update(system="Be brief."), id="system"),
            pytest.param(lambda body: body.pop("system"), id="no system"),
            pytest.param(lambda body: body.update(tools=[]), id="tools"),
            pytest.param(lambda body: body["messages"][0].update(content="Think once more"), id="first message"),
            pytest.param(lambda body: body["messages"][1]["content"][1].update(text="Hm"), id="text of a reply"),
            pytest.param(lambda body: body.update(messages=body["messages"][2:]), id="older messages cut off"),
            pytest.param(lambda body: body["messages"].insert(2, {"role": "user", "content": "More"}), id="inserted"),
            pytest.param(remove_thinking(0), id="first of several"),
            pytest.param(remove_thinking(1), id="last of several"),
            pytest.param(remove_thinking(0, of_message=3), id="one between others"),
            pytest.param(lambda body: body["messages"][1]["content"].reverse(), id="order"),
        ],
    )
    def test_a_changed_prefix_is_refused(self, claude: StandIn, conversation: dict[str, Any], change: Change) -> None:
        change(conversation)
        assert BOUND in complaint_about(claude, conversation)

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(lambda body: body["messages"][0].update(
                content=[{"type": "text", "text": "Think twice", "cache_control": {"type": "ephemeral"}}]), id="marks"),
            pytest.param(lambda body: body.update(system=[{"type": "text", "text": "Be kind."}]), id="form of a text"),
            pytest.param(lambda body: body["messages"][1]["content"][1].update(citations=None), id="null fields"),
            pytest.param(lambda body: (remove_thinking(0)(body), remove_thinking(0)(body)), id="all of the first"),
            pytest.param(remove_thinking(0, of_message=5), id="the last one"),
            pytest.param(lambda body: body["messages"].append({"role": "user", "content": "More"}), id="appended"),
            pytest.param(lambda body: body.update(tool_choice={"type": "none"}, max_tokens=99), id="settings"),
            pytest.param(lambda body: body.update(model="claude-opus-5-5", system="Be brief."), id="another model"),
        ],
    )  # fmt: skip
    def test_what_is_no_change_of_the_prefix_is_accepted(
        self, claude: StandIn, conversation: dict[str, Any], change: Change
    ) -> None:
        change(conversation)
        status, answer = posted(claude, conversation)
        assert status == 200, answer

    def test_all_thinking_can_be_left_out_after_a_change(self, claude: StandIn, conversation: dict[str, Any]) -> None:
        conversation["system"] = "Be brief."
        for message in conversation["messages"][1::2]:
            message["content"] = [block for block in message["content"] if block["type"] == "text"]
        assert posted(claude, conversation)[0] == 200

    def test_an_older_model_does_not_bind_its_thinking(self, claude: StandIn) -> None:
        more = ADAPTIVE | {"model": "claude-opus-5"}
        first = reply_to(claude, "Hello", **more)
        reply_to(claude, "Good day", back(first), "Thank you", **more)

    @pytest.mark.parametrize(
        "block",
        [
            {"type": "thinking", "thinking": "Hm", "signature": "c2lnbmVk"},
            {"type": "thinking", "thinking": "", "signature": "%"},
            {"type": "redacted_thinking", "data": "b3BhcXVl"},
        ],
    )
    def test_a_made_up_block_is_refused(self, claude: StandIn, block: dict[str, str]) -> None:
        """Types ThinkingBlockParam: as returned by the API."""
        reply = {"role": "assistant", "content": [block, {"type": "text", "text": "Hello"}]}
        complaint = complaint_about(claude, body_of("Hello", reply, "Thank you"))
        assert complaint == f"messages.1.content.0: Invalid `signature` in `{block['type']}` block"

    def test_a_changed_thought_is_refused(self, claude: StandIn) -> None:
        """Types ThinkingBlockParam: passed back unmodified."""
        more: dict[str, Any] = {"thinking": {"type": "adaptive", "display": "summarized"}}
        first = deepcopy(reply_to(claude, "Hello", **more))
        first["content"][0]["thinking"] += "!"
        assert "Invalid `signature`" in complaint_about(claude, body_of("Hello", back(first), "Thank you", **more))

    def test_a_cache_mark_on_thinking_is_refused(self, claude: StandIn) -> None:
        """Page Prompt caching: thinking blocks cannot be marked."""
        first = reply_to(claude, "Hello", **ADAPTIVE)
        first["content"][0]["cache_control"] = {"type": "ephemeral"}
        complaint = complaint_about(claude, body_of("Hello", back(first), "Thank you"))
        assert "thinking.cache_control: Extra inputs are not permitted" in complaint

    def test_the_last_reply_may_not_end_with_thinking(self, claude: StandIn) -> None:
        """Reports; of earlier replies they differ."""
        alone = reply_to(claude, "Answer with thinking alone")
        body = body_of("Answer with thinking alone", back(alone), "Thank you")
        assert "final block in an assistant message cannot be `thinking`" in complaint_about(claude, body)
        body["messages"] += [{"role": "assistant", "content": "Yes."}, {"role": "user", "content": "Good"}]
        assert posted(claude, body)[0] == 200

    def test_with_a_budget_a_turn_that_called_tools_begins_with_thinking(self, claude: StandIn) -> None:
        """Reports."""
        more: dict[str, Any] = {"model": "claude-sonnet-4-6", "tools": [CLOCK], "max_tokens": 2000}
        call = {"type": "tool_use", "id": "t", "name": "clock", "input": {}}
        result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "noon"}]}
        body = body_of("Hello", {"role": "assistant", "content": [call]}, result, **more)
        assert posted(claude, body)[0] == 200
        complaint = complaint_about(claude, body | BUDGET)
        assert "Expected `thinking` or `redacted_thinking`, but found `tool_use`" in complaint

    def test_a_restarted_stand_in_knows_its_blocks(self, claude: StandIn, conversation: dict[str, Any]) -> None:
        with StandIn() as another:
            assert posted(another, conversation)[0] == 200


@pytest.mark.parametrize(
    ("fault", "status", "kind", "words"),
    [
        ("credit", 400, "invalid_request_error", "credit balance is too low"),
        ("retired", 404, "not_found_error", "model: "),
        ("bound_thinking", 400, "invalid_request_error", BOUND),
    ],
)
def test_an_error_that_needs_its_own_answer_comes_on_demand(
    claude: StandIn, fault: str, status: int, kind: str, words: str
) -> None:
    claude.fail(fault)
    answered, answer = posted(claude, WELL_FORMED)
    assert (answered, answer["error"]["type"]) == (status, kind)
    assert words in answer["error"]["message"]
    assert posted(claude, WELL_FORMED)[0] == 200
