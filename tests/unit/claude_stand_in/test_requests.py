"""Bytes that are no request at all, and callers who may ask."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest

from local.claude_stand_in import StandIn
from local.claude_stand_in.rules import history
from tests.unit.claude_stand_in.asking import (
    ASSISTANT,
    CACHED,
    TEXT,
    USER,
    WELL_FORMED,
    http_answer,
    posted,
    with_content,
    with_messages,
    without,
)

REFUSED: dict[str, list[tuple[str, object]]] = {  # by the source of the rule
    "types MessageCreateParams: fields": [
        ("model", without("model")),
        ("max_tokens", without("max_tokens")),
        ("messages", without("messages")),
        ("max_tokens", WELL_FORMED | {"max_tokens": -1}),
        ("max_tokens", WELL_FORMED | {"max_tokens": "7"}),
        ("max_tokens", WELL_FORMED | {"max_tokens": 7.5}),
        ("max_tokens", WELL_FORMED | {"max_tokens": True}),
        ("model", WELL_FORMED | {"model": ""}),
        ("stream", WELL_FORMED | {"stream": "yes"}),
        ("stop_sequences", WELL_FORMED | {"stop_sequences": "end"}),
        ("colour", WELL_FORMED | {"colour": "green"}),
        ("tools", WELL_FORMED | {"tools": {}}),
        ("system", WELL_FORMED | {"system": 5}),
        ("should be a text block", WELL_FORMED | {"system": [{"type": "image"}]}),
        ("at least one message", with_messages()),
        ("messages: Input should be a valid list", WELL_FORMED | {"messages": "Hello"}),
    ],
    "reports: no empty or blank text": [
        ("stop_sequences", WELL_FORMED | {"stop_sequences": [" "]}),
        ("non-empty", WELL_FORMED | {"system": [{"type": "text", "text": ""}]}),
        ("valid string", with_content([TEXT | {"text": 5}])),
        ("non-empty", with_content("")),
        ("non-empty", with_content([])),
        ("non-empty", with_content([TEXT | {"text": ""}])),
        ("non-whitespace", with_content(" \n")),
        ("non-whitespace", with_content([TEXT | {"text": "\t"}])),
        ("non-whitespace", with_messages(USER, ASSISTANT | {"content": " "}, USER)),
    ],
    "page API versions: no sampling settings": [
        ("temperature", WELL_FORMED | {"temperature": 0.5}),
        ("top_p", WELL_FORMED | {"top_p": 0.5}),
        ("top_k", WELL_FORMED | {"top_k": 5}),
    ],
    "types MessageParam: form of a message": [
        ("messages.0", with_messages("Hello")),
        ("content", with_messages({"role": "user"})),
        ("name", with_messages(USER | {"name": "Ada"})),
        ("role: Input should be", with_messages(USER | {"role": "tool"})),
        ("role: Input should be", with_messages(USER | {"role": []})),
        ("content", with_content(5)),
        ("type", with_content(["Hello"])),
        ("type", with_content([{"text": "Hello"}])),
        ("colour", with_content([TEXT | {"colour": "green"}])),
    ],
    "page Working with messages: the user begins": [
        ("first message", with_messages(ASSISTANT, USER)),
    ],
    "page Errors: prefill not supported": [
        ("prefill", with_messages(USER, ASSISTANT)),
    ],
    "types ContentBlockParam: known blocks": [
        ("expected tags", with_content([{"type": "hologram"}])),
        ("valid string", with_content([{"type": "container_upload", "file_id": 5}])),
    ],
    "page Prompt caching: at most four marks": [
        ("Found 5", with_content([CACHED] * 5)),
        ("Found 5", with_content([CACHED] * 4) | {"cache_control": {"type": "ephemeral"}}),
    ],
    "types CacheControlEphemeralParam": [
        ("ephemeral", with_content([TEXT | {"cache_control": {"type": "eternal"}}])),
        ("ephemeral", with_content([TEXT | {"cache_control": {"type": "ephemeral", "ttl": "9h"}}])),
    ],
    "page Errors: no valid JSON": [
        ("JSON", b"{"),
        ("JSON", b'{"max_tokens": NaN}'),
        ("JSON", b'"\xff"'),
        ("JSON", b'{"model": "\\ud800"}'),
        ("JSON", b"[" * 100_000),
        ("object", b"[]"),
    ],
}


class TestStrictness:
    @pytest.mark.parametrize(
        ("complaint", "body"),
        [pytest.param(*each, id=f"{source}, {each[0]}") for source, rules in REFUSED.items() for each in rules],
    )
    def test_what_claude_refuses_is_refused(self, claude: StandIn, complaint: str, body: object) -> None:
        status, answer = posted(claude, body)
        assert (status, answer["type"], answer["error"]["type"]) == (400, "error", "invalid_request_error")
        assert complaint in answer["error"]["message"]
        assert answer["request_id"].startswith("req_")

    def test_a_body_that_is_nested_too_deeply_is_refused(self, claude: StandIn) -> None:
        given: dict[str, Any] = {}
        for _ in range(700):
            given = {"a": given}
        call = {"type": "tool_use", "id": "t", "name": "n", "input": given}
        result = {"type": "tool_result", "tool_use_id": "t"}
        body = with_messages(USER, ASSISTANT | {"content": [call]}, USER | {"content": [result]})
        assert posted(claude, body)[0] == 400

    def test_there_is_a_bound_of_messages(self, claude: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
        """Types MessageCreateParams: 100,000."""
        assert history.MOST_MESSAGES == 100_000
        monkeypatch.setattr(history, "MOST_MESSAGES", 2)
        assert [posted(claude, with_messages(*[USER] * count))[0] for count in (2, 3)] == [200, 400]

    def test_the_sdk_sees_a_bad_request(self, sdk: anthropic.Anthropic) -> None:
        with pytest.raises(anthropic.BadRequestError, match="temperature"):
            sdk.messages.create(**WELL_FORMED, extra_body={"temperature": 1})

    def test_counting_refuses_fields_that_it_does_not_have(self, claude: StandIn) -> None:
        status, answer = posted(claude, WELL_FORMED, "/v1/messages/count_tokens")
        assert (status, answer["error"]["message"]) == (400, "max_tokens: Extra inputs are not permitted")

    @pytest.mark.parametrize(
        "body",
        [
            with_messages(USER, USER),
            with_messages(USER, ASSISTANT, ASSISTANT, USER),
            with_content([CACHED] * 4),
            WELL_FORMED | {"cache_control": {"type": "ephemeral", "ttl": "1h"}, "metadata": {"user_id": "u"}},
            WELL_FORMED | {"thinking": {"type": "disabled"}, "output_config": {}},
        ],
    )
    def test_what_claude_accepts_is_accepted(self, claude: StandIn, body: object) -> None:
        assert posted(claude, body)[0] == 200

    def test_a_request_without_credentials_is_refused(self, claude: StandIn) -> None:
        status, answer = posted(claude, WELL_FORMED, x_api_key="")
        assert (status, answer["error"]["type"]) == (401, "authentication_error")

    @pytest.mark.parametrize("credentials", [{"x-api-key": "k"}, {"authorization": "Bearer k"}])
    def test_either_kind_of_credentials_will_do(self, claude: StandIn, credentials: dict[str, str]) -> None:
        headers = {"anthropic-version": "2026-10-21", **credentials}
        assert http_answer(claude, "POST", "/v1/messages", WELL_FORMED, headers)[0] == 200

    def test_a_request_without_a_version_is_refused(self, claude: StandIn) -> None:
        status, answer = posted(claude, WELL_FORMED, anthropic_version="")
        assert (status, answer["error"]["type"]) == (400, "invalid_request_error")
        assert "anthropic-version" in answer["error"]["message"]

    def test_more_than_32_megabytes_are_too_large(self, claude: StandIn) -> None:
        """Page API overview: request size limits."""
        status, answer = posted(claude, b" " * (32 * 1024 * 1024 + 1))
        assert (status, answer["error"]["type"]) == (413, "request_too_large")

    @pytest.mark.parametrize(("method", "path"), [("GET", "/v1/messages"), ("POST", "/v1/complete"), ("PUT", "/")])
    def test_there_is_nothing_else_here(self, claude: StandIn, method: str, path: str) -> None:
        status, answer, headers = http_answer(claude, method, path)
        assert (status, answer["error"]["type"]) == (404, "not_found_error")
        assert (headers["x-turnlog-stand-in"], headers["request-id"]) == ("1", answer["request_id"])

    @pytest.mark.parametrize(
        "headers",
        [
            {"host": "evil.example"},
            {"host": "evil.example:8788"},
            {"host": "localhost.evil.example"},
            {"host": "127.0.0.1@evil.example"},
            {"host": ""},
            {"origin": "http://localhost:3000"},
            {"origin": "null"},
        ],
    )
    @pytest.mark.parametrize(
        ("method", "path"), [("POST", "/v1/messages"), ("GET", "/_stand_in/requests"), ("OPTIONS", "/v1/messages")]
    )
    def test_a_web_page_is_refused(self, claude: StandIn, method: str, path: str, headers: dict[str, str]) -> None:
        credentials = {"x-api-key": "k", "anthropic-version": "2026-10-21"}
        status, answer, answered = http_answer(claude, method, path, WELL_FORMED, credentials | headers)
        assert (status, answer["error"]["type"]) == (403, "permission_error")
        assert "access-control-allow-origin" not in answered
        assert claude.requests == []

    @pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1"])
    def test_the_machine_itself_may_ask_by_any_of_its_names(self, claude: StandIn, host: str) -> None:
        named = {"host": f"{host}:{claude.url.rpartition(':')[2]}"}
        assert http_answer(claude, "GET", "/_stand_in/stats", headers=named)[0] == 200

    @pytest.mark.parametrize("headers", [{"transfer-encoding": "chunked"}, {"content-length": "-1"}])
    def test_a_body_of_unknown_length_is_refused(self, claude: StandIn, headers: dict[str, str]) -> None:
        assert http_answer(claude, "POST", "/v1/messages", headers=headers)[0] == 400

    def test_a_method_that_http_servers_do_not_know_gets_the_envelope_too(self, claude: StandIn) -> None:
        status, answer, headers = http_answer(claude, "BREW", "/v1/messages")
        assert (status, answer["type"], headers["x-turnlog-stand-in"]) == (501, "error", "1")
