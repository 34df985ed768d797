"""Ways to ask the Claude stand-in: by the real SDK, and by plain HTTP where the SDK would not."""

from __future__ import annotations

import http.client
import json
import time
from dataclasses import dataclass
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
    connection = http.client.HTTPConnection(claude.url.removeprefix("http://"), timeout=30)
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


@dataclass(frozen=True, slots=True)
class Streamed:
    """The events of a stream, the second at which each came, and True when it did not break before its end."""

    events: list[dict[str, Any]]
    seconds: list[float]
    is_whole: bool

    @property
    def kinds(self) -> list[str]:
        return [each["type"] for each in self.events]

    @property
    def text(self) -> str:
        deltas = [each["delta"] for each in self.events if each["type"] == "content_block_delta"]
        return "".join(each.get("text", "") for each in deltas)


def streamed(claude: StandIn, body: dict[str, Any], **headers: str) -> Streamed:
    """The stream that answers a body, read without the SDK."""
    connection = http.client.HTTPConnection(claude.url.removeprefix("http://"), timeout=30)
    sent = {"x-api-key": "k", "anthropic-version": "2026-10-21"} | {n.replace("_", "-"): v for n, v in headers.items()}
    begun, events, seconds, is_whole = time.monotonic(), [], [], True
    try:
        connection.request("POST", "/v1/messages", json.dumps(body | {"stream": True}).encode(), sent)
        response = connection.getresponse()
        assert response.status == 200, response.read()
        unread = b""
        while piece := response.read1(65_536):
            *whole, unread = (unread + piece).split(b"\n\n")
            events += [json.loads(each.partition(b"data: ")[2]) for each in whole]
            seconds += [time.monotonic() - begun] * len(whole)
    except http.client.IncompleteRead:
        is_whole = False
    finally:
        connection.close()
    return Streamed(events, seconds, is_whole)


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
