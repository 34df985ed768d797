"""Ways to ask the Claude stand-in: by the real SDK, and by plain HTTP where the SDK would not."""

from __future__ import annotations

import http.client
import json
import time
from typing import Any, TypedDict

import anthropic
from anthropic.types import AssistantMessageParam, Message, MessageParam, UserMessageParam

from local.claude_stand_in import StandIn

MARK = "[stand-in, not Claude] "
MODEL = "claude-sonnet-5-5"


class Question(TypedDict):
    """A request body with the required fields, changed by `more`."""

    model: str
    max_tokens: int
    messages: list[MessageParam]


WELL_FORMED: Question = {"model": MODEL, "max_tokens": 200, "messages": [{"role": "user", "content": "Hello there"}]}


def conversation(*texts: str) -> list[MessageParam]:
    """Messages of user and assistant in turns, the user first."""
    return [
        AssistantMessageParam(role="assistant", content=text)
        if number % 2
        else UserMessageParam(role="user", content=text)
        for number, text in enumerate(texts)
    ]


def text_of(reply: Message) -> str:
    """The text of the first block, which must be a text block."""
    block = reply.content[0]
    assert block.type == "text"
    return block.text


def body_of(error: anthropic.APIStatusError) -> dict[str, Any]:
    assert isinstance(error.body, dict)
    return error.body


def said(sdk: anthropic.Anthropic, *texts: str, system: str = "", max_tokens: int = 500) -> str:
    """The answer to a conversation, without the mark."""
    reply = sdk.messages.create(model=MODEL, max_tokens=max_tokens, system=system, messages=conversation(*texts))
    text = text_of(reply)
    assert text.startswith(MARK)
    return text.removeprefix(MARK)


def http_answer(
    claude: StandIn, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
) -> tuple[int, Any, dict[str, str]]:
    """Status, parsed body and headers of one request without the SDK. A `body` of bytes goes as it is."""
    connection = http.client.HTTPConnection(claude.url.removeprefix("http://"), timeout=5)
    try:
        sent = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        connection.request(method, path, sent, headers or {})
        response = connection.getresponse()
        return response.status, json.loads(response.read()), {n.lower(): v for n, v in response.getheaders()}
    finally:
        connection.close()


def posted(claude: StandIn, body: object, path: str = "/v1/messages", **headers: str) -> tuple[int, Any]:
    """Status and parsed body of a message request sent without the SDK."""
    sent = {"x-api-key": "k", "anthropic-version": "2026-10-21"} | {n.replace("_", "-"): v for n, v in headers.items()}
    status, answer, _ = http_answer(claude, "POST", path, body, {n: v for n, v in sent.items() if v})
    return status, answer


def with_messages(*messages: object) -> dict[str, Any]:
    return WELL_FORMED | {"messages": list(messages)}


def with_content(content: object) -> dict[str, Any]:
    return with_messages({"role": "user", "content": content})


def without(field: str) -> dict[str, Any]:
    return {name: value for name, value in WELL_FORMED.items() if name != field}


TEXT = {"type": "text", "text": "Hello"}
CACHED = TEXT | {"cache_control": {"type": "ephemeral"}}
USER = {"role": "user", "content": "Hello"}
ASSISTANT = {"role": "assistant", "content": "Hello"}


def ends(claude: StandIn, within_s: float = 2.0) -> bool:
    """True as soon as no call runs any more; False after `within_s` seconds."""
    deadline = time.monotonic() + within_s
    while claude.stats.running and time.monotonic() < deadline:
        time.sleep(0.005)
    return claude.stats.running == 0
