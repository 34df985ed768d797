"""Versions and betas: what each allows. The types named are those under anthropic.types.beta, unless "ran" is said."""

from __future__ import annotations

import http.client
import json
from typing import Any

import anthropic
import pytest

from local.claude_stand_in import StandIn
from local.claude_stand_in.dialect import FEATURES
from tests.unit.claude_stand_in.asking import USER, WELL_FORMED, http_answer, posted, streamed, with_messages

HELLO: dict[str, Any] = dict(WELL_FORMED)
NOTE = {"role": "system", "content": "It is Monday."}
CLOCK = {"name": "clock", "input_schema": {"type": "object"}}
REMOVED = {"type": "tool_removal", "tool": {"type": "tool_reference", "name": "clock"}}
ADVISOR = {"type": "advisor_20260301", "name": "advisor", "model": "claude-opus-5-5"}
EDITS = {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}
SERVER = {"type": "url", "name": "docs", "url": "https://example.com/"}
ALLOWED: dict[str, dict[str, Any]] = {
    "context_management": {"context_management": EDITS},
    "fallback_credit_token": {"fallback_credit_token": "fct_1"},
    "fallbacks": {"fallbacks": [{"model": "claude-opus-5-5", "max_tokens": 50}]},
    "mcp_servers": {"mcp_servers": [SERVER], "tools": [{"type": "mcp_toolset", "mcp_server_name": "docs"}]},
    "safeguards": {"safeguards": [{"type": "dangerous_tool_use", "classifier_context": {}}]},
    "thread": {"thread": {"type": "create"}},
    "output_config of a message": {"messages": [USER, NOTE | {"output_config": {"effort": "low"}}]},
    "clear_at": {"messages": [USER, NOTE | {"clear_at": "next_user_message"}]},
    "tool_addition": {"messages": [USER, NOTE | {"content": [REMOVED | {"type": "tool_addition"}]}], "tools": [CLOCK]},
    "tool_removal": {"messages": [USER, NOTE | {"content": [REMOVED]}], "tools": [CLOCK]},
    "advisor": {"tools": [ADVISOR]},
    "block_binding": {"thinking": {"type": "adaptive", "block_binding": {"prefix_mismatch_behavior": "error"}}},
    "display updates": {"thinking": {"type": "adaptive", "display": "updates"}},
    "task_budget": {"output_config": {"task_budget": {"type": "tokens", "total": 20_000}}},
}


@pytest.mark.parametrize("feature", ALLOWED)
def test_a_feature_is_refused_until_its_beta_is_named(claude: StandIn, feature: str) -> None:
    body = WELL_FORMED | ALLOWED[feature]
    status, answer = posted(claude, body)
    assert (status, answer["error"]["type"]) == (400, "invalid_request_error")
    assert posted(claude, body, anthropic_beta="another-beta-2026-01-01")[0] == 400
    for beta in FEATURES[feature]:
        assert posted(claude, body, anthropic_beta=f"another-beta-2026-01-01, {beta}")[0] == 200


def test_every_feature_of_a_request_is_tried() -> None:
    assert ALLOWED.keys() == FEATURES.keys() - {"estimated_tokens"}


@pytest.mark.parametrize("field", ["context_management", "mcp_servers", "safeguards"])
def test_the_words_are_those_for_an_unknown_field(claude: StandIn, field: str) -> None:
    for path in ("/v1/messages", "/v1/messages/count_tokens"):
        body = WELL_FORMED | ALLOWED[field]
        sent = body if path == "/v1/messages" else {n: each for n, each in body.items() if n != "max_tokens"}
        assert posted(claude, sent, path)[1]["error"]["message"] == f"{field}: Extra inputs are not permitted"
        assert posted(claude, sent, path, anthropic_beta=FEATURES[field][0])[0] == 200


@pytest.mark.parametrize(
    ("complaint", "feature", "more"),
    [
        ("context_management.edits.0", "context_management", {"context_management": {"edits": [{"type": "forget"}]}}),
        ("context_management.colour", "context_management", {"context_management": {"colour": "green"}}),
        ("context_management", "context_management", {"context_management": 5}),
        ("fallbacks.0.model", "fallbacks", {"fallbacks": [{}]}),
        ("fallbacks.0.colour", "fallbacks", {"fallbacks": [{"model": "claude-opus-5-5", "colour": "green"}]}),
        ("fallbacks", "fallbacks", {"fallbacks": "another"}),
        ("safeguards.0.type", "safeguards", {"safeguards": [{}]}),
        ("fallback_credit_token", "fallback_credit_token", {"fallback_credit_token": 5}),
        ("output_config", "output_config of a message", {"messages": [USER, NOTE | {"output_config": {"format": {}}}]}),
        ("effort", "output_config of a message", {"messages": [USER, NOTE | {"output_config": {"effort": "huge"}}]}),
        ("output_config", "output_config of a message", {"messages": [USER | {"output_config": {"effort": "low"}}]}),
        ("clear_at", "clear_at", {"messages": [USER, NOTE | {"clear_at": "noon"}]}),
        ("tool_removal", "tool_removal", {"messages": [USER | {"content": [REMOVED]}]}),
        ("tool_removal", "tool_removal", {"messages": [USER, NOTE | {"content": [REMOVED | {"tool": {}}]}]}),
        ("block_binding", "block_binding", {"thinking": {"type": "adaptive", "block_binding": {"colour": "green"}}}),
        ("block_binding", "block_binding", {"thinking": {"type": "disabled", "block_binding": {}}}),
    ],
)
def test_what_a_beta_allows_has_its_form(claude: StandIn, complaint: str, feature: str, more: dict[str, Any]) -> None:
    status, answer = posted(claude, WELL_FORMED | more, anthropic_beta=FEATURES[feature][0])
    assert status == 400
    assert complaint in answer["error"]["message"]


def test_a_model_to_fall_back_to_must_be_one(claude: StandIn) -> None:
    body = WELL_FORMED | {"fallbacks": [{"model": "claude-unheard-of"}]}
    assert posted(claude, body, anthropic_beta=FEATURES["fallbacks"][0])[0] == 404


@pytest.mark.parametrize("beta", ["foo", "foo-2026", "Foo-2026-01-01", "foo-2026-01-01;bar-2026-01-01", "é-2026-01-01"])
def test_what_is_no_beta_is_refused(claude: StandIn, beta: str) -> None:
    """Reports: Unexpected value(s) for the `anthropic-beta` header."""
    status, answer = posted(claude, WELL_FORMED, anthropic_beta=f"context-1m-2025-08-07,{beta}")
    assert (status, "anthropic-beta" in answer["error"]["message"]) == (400, True)


@pytest.mark.parametrize("beta", ["claude-code-20250219", "interleaved-thinking-2025-05-14,effort-2025-11-24", ""])
def test_a_beta_without_features_here_is_taken(claude: StandIn, beta: str) -> None:
    """Ran: Claude Code."""
    assert posted(claude, WELL_FORMED, anthropic_beta=beta)[0] == 200


@pytest.mark.parametrize(("version", "status"), [("2023-06-01", 200), ("2026-10-21", 200), ("2024-01-01", 400)])
def test_there_are_two_versions(claude: StandIn, version: str, status: int) -> None:
    """Page API versions; ran: Claude Code and older SDKs name the first."""
    assert posted(claude, WELL_FORMED, anthropic_version=version)[0] == status


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"temperature": 1.0}, 200),
        ({"top_p": 0.5, "top_k": 5}, 200),
        ({"temperature": 1.5}, 400),
        ({"temperature": "1"}, 400),
        ({"top_k": 0.5}, 400),
    ],
)
def test_the_old_version_has_settings_of_sampling(claude: StandIn, more: dict[str, Any], status: int) -> None:
    """Page API versions."""
    assert posted(claude, WELL_FORMED | more, anthropic_version="2023-06-01")[0] == status
    assert posted(claude, WELL_FORMED | more)[0] == 400


def test_the_answer_says_which_edits_of_the_context_were_made(claude: StandIn, sdk: anthropic.Anthropic) -> None:
    """Types BetaMessage and BetaRawMessageDeltaEvent."""
    asked: dict[str, Any] = {"context_management": EDITS, "betas": ["context-management-2025-06-27"]} | HELLO
    with sdk.beta.messages.stream(**asked) as stream:
        replies = [sdk.beta.messages.create(**asked), stream.get_final_message()]
    for reply in replies:
        assert reply.context_management
        assert reply.context_management.applied_edits == []
    assert "context_management" not in posted(claude, WELL_FORMED)[1]


def test_a_count_says_what_it_was_before_the_edits(sdk: anthropic.Anthropic) -> None:
    """Types BetaMessageTokensCount."""
    edits: Any = {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}
    count = sdk.beta.messages.count_tokens(
        model=WELL_FORMED["model"], messages=[{"role": "user", "content": "Hello"}], context_management=edits,
        betas=["context-management-2025-06-27"],
    )  # fmt: skip
    assert count.context_management
    assert count.context_management.original_input_tokens == count.input_tokens


def thinking_deltas(claude: StandIn, display: str, beta: str) -> list[dict[str, Any]]:
    """The deltas of a reply's thinking but for its signature."""
    body: dict[str, Any] = {**WELL_FORMED, "thinking": {"type": "adaptive", "display": display}}
    deltas = [each.get("delta", {}) for each in streamed(claude, body, anthropic_beta=beta).events]
    return [each for each in deltas if each.get("type") == "thinking_delta"]


def test_a_stream_estimates_the_tokens_of_thinking(claude: StandIn) -> None:
    """Types BetaThinkingDelta."""
    beta = FEATURES["estimated_tokens"][0]
    [hidden] = thinking_deltas(claude, "omitted", beta)
    assert (hidden["thinking"], hidden["estimated_tokens"] > 0) == ("", True)
    assert {each["estimated_tokens"] for each in thinking_deltas(claude, "summarized", beta)} == {None}
    assert thinking_deltas(claude, "omitted", "") == []
    assert all("estimated_tokens" not in each for each in thinking_deltas(claude, "summarized", ""))


def test_a_removed_tool_is_not_called_until_it_is_added_again(claude: StandIn) -> None:
    """Types BetaRequestToolRemovalBlockParam and BetaRequestToolAdditionBlockParam."""
    asked, reply = {"role": "user", "content": "Call clock"}, {"role": "assistant", "content": "Yes"}
    added = REMOVED | {"type": "tool_addition"}
    removed = [asked, NOTE | {"content": [REMOVED]}]
    beta = FEATURES["tool_removal"][0]
    reasons = [
        posted(claude, with_messages(*messages) | {"tools": [CLOCK]}, anthropic_beta=beta)[1]["stop_reason"]
        for messages in ([asked], removed, [*removed, reply, asked, NOTE | {"content": [added]}])
    ]
    assert reasons == ["tool_use", "end_turn", "tool_use"]


def test_the_effort_of_a_message_counts_instead_of_that_of_the_request(claude: StandIn) -> None:
    """Types BetaSystemMessageOutputConfigParam."""

    def thinks(effort: str) -> bool:
        note = NOTE | {"output_config": {"effort": effort}}
        body = with_messages(USER, note) | {"output_config": {"effort": "low"}}
        answer = posted(claude, body, anthropic_beta=FEATURES["output_config of a message"][0])[1]
        return bool(answer["content"][0]["type"] == "thinking")

    assert [thinks("low"), thinks("high")] == [False, True]


def test_several_headers_of_betas_are_one_list(claude: StandIn) -> None:
    connection = http.client.HTTPConnection(claude.url.removeprefix("http://"), timeout=5)
    body = json.dumps(WELL_FORMED | ALLOWED["safeguards"]).encode()
    connection.putrequest("POST", "/v1/messages?beta=true")
    for name, value in [
        ("x-api-key", "k"),
        ("anthropic-version", "2026-10-21"),
        ("anthropic-beta", "another-beta-2026-01-01"),
        ("anthropic-beta", FEATURES["safeguards"][0]),
        ("content-length", str(len(body))),
    ]:
        connection.putheader(name, value)
    connection.endheaders(body)
    assert connection.getresponse().status == 200
    connection.close()
    [request] = claude.requests
    assert request.path == "/v1/messages"
    assert request.headers["anthropic-beta"] == f"another-beta-2026-01-01,{FEATURES['safeguards'][0]}"


def test_all_models_come_in_one_page(claude: StandIn) -> None:
    """Ran: Claude Code asks for 1,000."""
    headers = {"authorization": "Bearer x", "anthropic-version": "2023-06-01"}
    status, page, _ = http_answer(claude, "GET", "/v1/models?limit=1000", headers=headers)
    assert (status, page["has_more"], len(page["data"]) > 10) == (200, False, True)
