"""Anthropic's own SDK at our door, without a session: nothing of a program changes but its address and its token."""

from __future__ import annotations

import asyncio
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic import beta_tool

from local.claude_stand_in import StandIn
from tests.messages.conftest import KEY, MODELS
from tests.stream.conftest import Served

HELLO: list[Any] = [{"role": "user", "content": "My name is Ada. What is my name?"}]
ASKED: dict[str, Any] = {"model": MODELS[0], "max_tokens": 500, "messages": HELLO}


def test_a_message_comes_back_as_claude_gave_it(client: anthropic.Anthropic, claude: StandIn) -> None:
    message = client.messages.create(**ASKED)
    assert isinstance(message.content[0], anthropic.types.TextBlock)
    assert "Ada" in message.content[0].text
    assert message.usage.output_tokens > 0
    assert message._request_id and message._request_id.startswith("req_")  # the provider's own
    assert claude.requests[-1].body == ASKED


def test_a_stream_is_put_together_by_the_sdks_own_helper(client: anthropic.Anthropic) -> None:
    with client.messages.stream(**ASKED) as stream:
        text = "".join(stream.text_stream)
        message = stream.get_final_message()
    assert "Ada" in text
    assert message.content[0].text == text  # type: ignore[union-attr] # it is a text
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens > 1


def test_events_come_as_they_are(client: anthropic.Anthropic) -> None:
    with client.messages.create(**ASKED, stream=True) as events:
        kinds = [event.type for event in events]
    assert (kinds[0], kinds[-2], kinds[-1]) == ("message_start", "message_delta", "message_stop")
    assert kinds.count("message_start") == 1


def test_the_async_client_works_too(door: Served) -> None:
    async def ask() -> tuple[str, str]:
        made = anthropic.AsyncAnthropic(base_url=door.url, auth_token="ada", api_key=None, max_retries=0)
        async with made as client, client.messages.stream(**ASKED) as stream:
            streamed = await stream.get_final_text()
            whole = await client.messages.create(**ASKED)
        return streamed, whole.content[0].text

    streamed, whole = asyncio.run(ask())
    assert "Ada" in streamed
    assert "Ada" in whole


def test_tokens_are_counted(client: anthropic.Anthropic) -> None:
    assert client.messages.count_tokens(model=MODELS[0], messages=HELLO).input_tokens > 5


def test_betas_and_their_query_go_on(client: anthropic.Anthropic, claude: StandIn) -> None:
    message = client.beta.messages.create(**ASKED, betas=["interleaved-thinking-2025-05-14", "a-new-one-2027-01-01"])
    assert message.stop_reason == "end_turn"
    assert claude.requests[-1].headers["anthropic-beta"] == "interleaved-thinking-2025-05-14,a-new-one-2027-01-01"


@beta_tool
def get_weather(city: str) -> str:
    """Tells the weather in a city.

    Args:
        city: The name of the city.
    """
    return f"It rains in {city}."


def test_a_tool_runner_sends_whole_conversations_once_threads_are_refused(
    client: anthropic.Anthropic, claude: StandIn
) -> None:
    asked: list[Any] = [{"role": "user", "content": 'Call the tool get_weather with {"city": "Bern"}'}]
    runner = client.beta.messages.tool_runner(model=MODELS[0], max_tokens=500, messages=asked, tools=[get_weather])
    last = runner.until_done()
    assert "It rains in Bern." in last.content[0].text  # type: ignore[union-attr] # it is a text
    assert all(request.body and "thread" not in request.body for request in claude.requests)
    assert len(claude.requests) == 2


def test_a_streaming_tool_runner_works_too(client: anthropic.Anthropic) -> None:
    asked: list[Any] = [{"role": "user", "content": 'Call the tool get_weather with {"city": "Bern"}'}]
    runner = client.beta.messages.tool_runner(
        model=MODELS[0], max_tokens=500, messages=asked, tools=[get_weather], stream=True
    )
    texts = [stream.get_final_message() for stream in runner]
    assert "It rains in Bern." in texts[-1].content[0].text  # type: ignore[union-attr] # it is a text


@pytest.mark.parametrize("base", ["", "/v1"])
def test_a_base_url_with_and_without_the_stage_works(door: Served, base: str) -> None:
    with anthropic.Anthropic(base_url=door.url + base, auth_token="ada", api_key=None, max_retries=0) as client:
        assert client.messages.create(**ASKED).stop_reason == "end_turn"


def test_only_the_services_key_reaches_claude_and_it_never_comes_back(door: Served, claude: StandIn) -> None:
    headers = {"Authorization": "Bearer ada", "x-api-key": "sk-the-callers", "anthropic-version": "2023-06-01"}
    answer = httpx2.post(f"{door.url}/v1/messages", json=ASKED, headers=headers)
    assert answer.status_code == 200
    assert claude.requests[-1].headers["anthropic-version"] == "2023-06-01"
    assert KEY not in answer.text + str(answer.headers)


def test_a_missing_version_is_refused_in_the_providers_own_words(door: Served) -> None:
    answer = httpx2.post(f"{door.url}/messages", json=ASKED, headers={"Authorization": "Bearer ada"})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "anthropic-version: header is required"


def test_a_key_alone_is_told_where_the_token_goes(door: Served, claude: StandIn) -> None:
    answer = httpx2.post(f"{door.url}/v1/messages", json=ASKED, headers={"x-api-key": "ada"})
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (401, "authentication_error")
    assert "ANTHROPIC_AUTH_TOKEN" in error["message"]
    assert "auth_token" in error["message"]
    assert (answer.headers["x-should-retry"], answer.headers["www-authenticate"]) == ("false", "Bearer")
    assert claude.requests == []
