"""Requests that do not go on: nothing is sent or charged for them, and their clients understand why."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from local.claude_stand_in import StandIn
from tests.messages.asking import ASKED, REPLY, error_of, post, user
from tests.messages.conftest import MODELS, DoorSettings, Facing
from tests.stream.conftest import Served

SONNET, HAIKU = MODELS
WEB = {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}


FALLBACKS = {"fallbacks": [{"model": HAIKU}, {"model": "claude-opus-5-5"}]}
ADVISOR = {"type": "advisor_20260301", "name": "advisor", "model": "claude-opus-5-5"}
ADDED = {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": ADVISOR}}


@pytest.mark.parametrize(
    "body",
    [
        {"model": "claude-opus-5-5"},
        {"model": ""},
        FALLBACKS,
        {"tools": [ADVISOR]},
        {"messages": [*ASKED["messages"], {"role": "system", "content": [ADDED]}]},
        {"of_tomorrow": {"deep": [{"model": "claude-opus-5-5"}]}},
        {"judge_model": "claude-opus-5-5"},
        {"models": [SONNET, "claude-opus-5-5"]},
    ],
)
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_a_model_that_is_not_on_offer_is_not_found_wherever_it_is_named(
    body: dict[str, Any], path: str, door: Served, claude: StandIn
) -> None:
    answer = post(door.url, ASKED | body, path)
    assert error_of(answer) == (404, "not_found_error", "model_not_found")
    assert claude.requests == []


OTHER = {"model": "claude-opus-5-5", "thread": "T", "type": "code_execution_20260521"}
SCHEMA = {"type": "object", "default": OTHER, "properties": {"model": {"const": OTHER}}}


@pytest.mark.parametrize(
    "body",
    [
        {"messages": user({"type": "text", "text": '{"model": "claude-opus-5-5"}'})},
        {"tools": [{"name": "buy", "input_schema": SCHEMA}]},
        {"tools": [{"name": "buy", "input_schema": {}, "input_examples": [OTHER]}]},
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        {"metadata": OTHER},
        {"messages": user({"type": "tool_use", "id": "toolu_1", "name": "buy", "input": OTHER})},
        {"messages": user({"type": "server_tool_use", "id": "x", "name": "x", "input": {}, "caller": OTHER})},
        {"messages": user({"type": "fallback", "from": OTHER, "to": OTHER, "trigger": OTHER})},
    ],
)
def test_a_word_that_is_data_is_no_field(body: dict[str, Any], facing: Facing) -> None:
    with facing(REPLY) as (url, _):
        assert post(url, ASKED | body).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {"tools": [{"name": "buy", "input": OTHER}]},
        {"messages": user({"type": "text", "text": "x", "input_examples": [OTHER]})},
        {"messages": user({"type": "text", "text": "x", "schema": OTHER})},
        {"messages": user({"type": "text", "text": "x", "from": OTHER})},
    ],
)
def test_what_only_looks_like_data_is_looked_at(body: dict[str, Any], door: Served, claude: StandIn) -> None:
    assert post(door.url, ASKED | body).status_code in (400, 404)
    assert claude.requests == []


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"container": "container_1"}, "container"),
        ({"container": {"skills": []}}, "container"),
        ({"mcp_servers": [{"type": "url", "url": "https://example.com", "name": "x"}]}, "mcp_servers"),
        ({"diagnostics": {"previous_message_id": "msg_1"}}, "previous_message_id"),
        ({"billing_policy": {"type": "billing_policy", "bill_to": "user_profile"}}, "billing_policy"),
        ({"messages": user({"type": "image", "source": {"type": "file", "file_id": "file_1"}})}, "file_id"),
        ({"messages": user({"type": "container_upload", "file_id": "file_1"})}, "file_id"),
        (
            {
                "messages": user(
                    {
                        "type": "tool_result",
                        "tool_use_id": "toolu_1",
                        "content": [{"type": "document", "source": {"type": "file", "file_id": "file_1"}}],
                    }
                )
            },
            "file_id",
        ),
        ({"user_profile_id": "profile_1"}, "user_profile_id"),
    ],
)
def test_what_names_the_shared_account_is_denied(
    body: dict[str, Any], name: str, door: Served, claude: StandIn
) -> None:
    answer = post(door.url, ASKED | body)
    assert error_of(answer) == (400, "invalid_request_error", "field_denied")
    assert answer.json()["error"]["details"]["denied"] == name
    assert "Extra inputs are not permitted" in answer.json()["error"]["message"]
    assert claude.requests == []


def test_a_field_of_null_is_none(door: Served) -> None:
    assert post(door.url, ASKED | {"container": None, "thread": None}).status_code in (200, 400)
    answer = post(door.url, ASKED | {"container": None})
    assert "field_denied" not in answer.text


@pytest.mark.parametrize("thread", [{"type": "create"}, {"type": "continue", "previous_message_id": "msg_1"}, 5])
def test_a_thread_is_refused_in_the_words_of_the_sdks(thread: Any, door: Served) -> None:
    answer = post(door.url, ASKED | {"thread": thread})
    assert error_of(answer) == (400, "invalid_request_error", "thread_unsupported_request")
    assert answer.json()["error"]["details"]["unsupported"] == ["thread"]


@pytest.mark.parametrize("name", ["anthropic-workspace-id", "Anthropic-User-Profile-Id"])
def test_a_header_that_names_a_part_of_the_account_is_denied(name: str, door: Served, claude: StandIn) -> None:
    answer = post(door.url, headers={name: "x_1"})
    assert error_of(answer) == (400, "invalid_request_error", "header_denied")
    assert claude.requests == []


@pytest.mark.parametrize("sent", ["files-api-2025-04-14", "a, files-api-2026-01-01 ,b", "files-api"])
def test_a_beta_that_a_deployment_denies_does_not_go_on(
    sent: str, door: Served, settings: DoorSettings, claude: StandIn
) -> None:
    settings.denied_betas = ("files-api",)
    answer = post(door.url, headers={"anthropic-beta": sent})
    assert error_of(answer) == (400, "invalid_request_error", "beta_denied")
    assert "`anthropic-beta`" in answer.json()["error"]["message"]
    assert claude.requests == []
    assert post(door.url, headers={"anthropic-beta": "files-apis-2025-04-14"}).status_code == 200


def test_a_field_that_a_deployment_denies_does_not_go_on(door: Served, settings: DoorSettings) -> None:
    settings.denied_fields = ("metadata",)
    answer = post(door.url, ASKED | {"metadata": {"user_id": "x"}})
    assert error_of(answer)[2] == "field_denied"
    assert answer.json()["error"]["details"]["pointer"] == "/metadata"


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "code_execution_20260521", "name": "code_execution"},
        {"type": "mcp_toolset", "mcp_server_name": "x"},
        {"type": "brain_20290101", "name": "brain"},
        {"type": 5},
        WEB,
        {"type": "web_fetch_20260318", "name": "web_fetch", "max_uses": 3},
    ],
)
def test_a_tool_that_the_provider_runs_is_denied_unless_it_is_offered(
    tool: dict[str, Any], door: Served, claude: StandIn
) -> None:
    added = {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": tool}}
    for body in ({"tools": [tool]}, {"messages": user(added)}):
        assert error_of(post(door.url, ASKED | body))[2] == "tool_denied"
    assert claude.requests == []


def test_the_web_is_searched_where_a_deployment_offers_it(door: Served, settings: DoorSettings) -> None:
    settings.web = True
    asked = {"messages": user({"type": "text", "text": "Search the web for herons"}), "tools": [WEB]}
    answer = post(door.url, ASKED | asked)
    assert answer.status_code == 200
    assert answer.json()["usage"]["server_tool_use"]["web_search_requests"] == 1


def test_an_anonymous_caller_may_not_use_the_door(door: Served, claude: StandIn) -> None:
    answer = post(door.url, headers={"Authorization": f"Session {'A' * 43}"})
    assert error_of(answer) == (403, "permission_error", "forbidden")
    assert claude.requests == []


def test_models_of_the_providers_choice_are_refused(door: Served, claude: StandIn) -> None:
    assert error_of(post(door.url, ASKED | {"fallbacks": "default"}))[2] == "fallbacks_unnamed"
    assert claude.requests == []


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "body_missing"),
        (b"{", "json_invalid"),
        (b'{"model": NaN}', "json_invalid"),
        (b'{"model": "claude-sonnet-5-5", "model": "claude-opus-5-5"}', "json_duplicate_key"),
        (b'{"a": [{"b": 1, "b": 2}]}', "json_duplicate_key"),
        (b'{"a": "\xff"}', "encoding_invalid"),
        (b'{"a": "\\ud800"}', "encoding_invalid"),
        (b'{"a": ' + b"9" * 5000 + b"}", "json_invalid"),
        (b"[1]", "wrong_type"),
        (b"{}", "field_missing"),
        (b'{"model": 5}', "wrong_type"),
        (b'{"model": "claude-sonnet-5-5", "stream": "true"}', "wrong_type"),
    ],
)
def test_a_body_is_read_strictly(raw: bytes, code: str, door: Served, claude: StandIn) -> None:
    answer = post(door.url, raw)
    assert error_of(answer) == (400, "invalid_request_error", code)
    assert claude.requests == []


def nested(depth: int, size: int) -> bytes:
    """A body with objects as deep as that, one beside the other, up to `size` bytes."""
    one = b'{"a":' * depth + b"1" + b"}" * depth
    count = max(1, (size - 100) // (len(one) + 1))
    return b'{"model": "claude-sonnet-5-5", "x": [' + b",".join([one] * count) + b"]}"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (nested(1000, 4_400_000), "json_too_many_values"),
        (nested(1000, 400_000), "json_too_deep"),
        (nested(250, 0), "json_too_deep"),
        (nested(90_000, 0), "json_too_deep"),
        (b'{"model": "claude-sonnet-5-5", "x": [' + b"[]," * 1_400_000 + b"1]}", "json_too_many_values"),
        (b'{"model": "claude-sonnet-5-5", "x": [' + b'{"a":{}},' * 450_000 + b"1]}", "json_too_many_values"),
    ],
)
def test_a_body_that_is_made_to_cost_time_is_refused_at_once(
    body: bytes, code: str, door: Served, claude: StandIn
) -> None:
    before_s = time.process_time()
    answer = post(door.url, body)
    assert time.process_time() - before_s < 3
    assert error_of(answer) == (400, "invalid_request_error", code)
    assert claude.requests == []


def test_a_body_that_is_too_large_is_told_so_in_words_that_make_a_client_shorten_it(door: Served) -> None:
    large = json.dumps(ASKED | {"system": "x" * 4_500_000}).encode()
    answer = post(door.url, large)
    assert error_of(answer) == (413, "request_too_large", "body_too_large")
    assert "context window" in answer.json()["error"]["message"]


def test_another_media_type_is_refused(door: Served) -> None:
    answer = post(door.url, headers={"Content-Type": "text/plain"})
    assert answer.status_code == 415
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_nothing_of_a_request_is_said_again(door: Served) -> None:
    for body in ({"canary": {"model": "canary"}}, {"model": "canary"}, {"canary": {"thread": 1}}):
        assert "canary" not in post(door.url, ASKED | body).text
    answer = post(door.url, path="/v1/messages?canary=1")
    assert (answer.status_code, "canary" in answer.text) == (400, False)


def test_a_path_that_is_none_is_not_found_by_the_door_of_the_api(door: Served) -> None:
    assert post(door.url, path="/v1/messages/batches").status_code == 404
