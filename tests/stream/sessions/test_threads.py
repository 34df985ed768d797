"""The SDK's threads in a session: they begin and go on there, also after a refusal and a stream that was cut."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import pytest

from tests.fakes import MODEL, OWNER, called
from tests.stream.conftest import Backstage, Served
from tests.stream.sessions.named_model import NamedModel
from turnlog import runtime
from turnlog.usecases.caller import Caller
from turnlog.usecases.cancel_turn import cancel_turn

ASKED: Any = {"model": MODEL, "max_tokens": 1000}


class CutStreams(httpx2.BaseTransport):
    """Sends requests; the first stream ends after so many events as `after` says, as if a connection broke."""

    def __init__(self, after: int) -> None:
        self._http = httpx2.HTTPTransport()
        self._after = after

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        answer = self._http.handle_request(request)
        after, self._after = self._after, 0
        if not after:
            return answer
        events = answer.read().split(b"\n\n")
        answer.close()
        part = b"".join(event + b"\n\n" for event in events[:after])
        return httpx2.Response(200, headers=answer.headers, stream=Broken(part))

    def close(self) -> None:
        self._http.close()


class Broken(httpx2.SyncByteStream):
    """The first bytes of a response, and then nothing."""

    def __init__(self, part: bytes) -> None:
        self._part = part

    def __iter__(self) -> Iterator[bytes]:
        yield self._part
        raise httpx2.ReadError("cut")


def headers(key: str, session: str = "new") -> dict[str, str]:
    return {"Turnlog-Session": session, "Idempotency-Key": key}


def said(text: str) -> Any:
    return {"role": "user", "content": text}


def only_session(stage: Backstage) -> str:
    (session_id,) = stage.store.session_ids(OWNER)
    return session_id


def test_a_thread_begins_a_session_and_goes_on_with_it(
    client: anthropic.Anthropic, model: NamedModel, backstage: Backstage
) -> None:
    thread = client.beta.messages.thread(**ASKED, system="Be brief.")
    thread.send(said("one"), extra_headers=headers("a"))
    thread.send(said("two"), extra_headers=headers("b", only_session(backstage)))
    assert [len(request.messages) for request in model.requests] == [1, 3]
    assert thread.previous_message_id == "msg_2"


def test_a_thread_does_not_go_on_after_another_message(
    client: anthropic.Anthropic, model: NamedModel, backstage: Backstage
) -> None:
    thread = client.beta.messages.thread(**ASKED)
    thread.send(said("one"), extra_headers=headers("a"))
    other = client.messages.create(messages=[said("between")], **ASKED, extra_headers=headers("a2"))
    session_id = other.to_dict()["turnlog"]["session_id"]
    with pytest.raises(anthropic.BadRequestError) as refused:
        thread.send(said("two"), extra_headers=headers("b", str(session_id)))
    body: Any = refused.value.body
    assert body["error"]["details"] == {
        "error_code": "previous_message_unknown",
        "pointer": "/thread/previous_message_id",
    }
    assert len(model.requests) == 2


def test_a_thread_goes_on_after_a_refusal(client: anthropic.Anthropic, model: NamedModel, backstage: Backstage) -> None:
    thread = client.beta.messages.thread(**ASKED)
    thread.send(said("one"), extra_headers=headers("a"))
    named = only_session(backstage)
    model.script = [([{"type": "text", "text": "I may not."}], "refusal")]
    thread.send(said("may you?"), extra_headers=headers("b", named))
    assert thread.previous_message_id is None
    thread.send(said("two"), extra_headers=headers("c", named))
    assert [len(request.messages) for request in model.requests] == [1, 3, 3]
    assert thread.previous_message_id == "msg_3"


@pytest.mark.parametrize("after", [1, 2, 4, 6])
def test_a_stream_that_was_cut_is_had_again_and_paid_once(
    door: Served, model: NamedModel, backstage: Backstage, after: int
) -> None:
    """The seventh event is message_stop, after which nothing is missing."""
    http = anthropic.DefaultHttpxClient(transport=CutStreams(after))
    with anthropic.Anthropic(base_url=door.url, auth_token="ada", http_client=http, max_retries=0) as client:
        thread = client.beta.messages.thread(**ASKED, messages=[said("one")])
        for _ in range(2):
            try:
                with thread.stream(extra_headers=headers("a")) as stream:
                    message = stream.get_final_message()
            except httpx2.ReadError:
                continue
    (turn,) = backstage.store.read(OWNER, only_session(backstage), backstage.clock(), newest=9).turns
    assert [block.to_dict() for block in message.content] == turn.reply.message.blocks
    assert len(model.requests) == 1


def test_a_turn_that_its_owner_stopped_has_a_reason_that_clients_take(
    door: Served, client: anthropic.Anthropic, model: NamedModel, backstage: Backstage
) -> None:
    model.script = [(called(("current_time", {}), text="I look."), "tool_use")]

    def stop() -> None:
        model.during = None
        cancel_turn(Caller(OWNER), only_session(backstage), 1, store=backstage.store, now_ms=runtime.now_ms())

    model.during = stop
    asked = {"messages": [said("one")], "tools": ["current_time"], "extra_headers": headers("a")} | ASKED
    with client.messages.stream(**asked) as stream:
        found: list[anthropic.types.Message] = [stream.get_final_message()]
    found.append(client.messages.create(**asked))
    found += asyncio.run(of_async_client(door, asked))
    for message in found:
        assert message.stop_reason == "stopped"  # type: ignore[comparison-overlap]
        assert [block.to_dict() for block in message.content] == [{"type": "text", "text": "I look."}]
    assert len(model.requests) == 1


async def of_async_client(door: Served, asked: Any) -> list[anthropic.types.Message]:
    async with anthropic.AsyncAnthropic(base_url=door.url, auth_token="ada", max_retries=0) as client:
        async with client.messages.stream(**asked) as stream:
            streamed = await stream.get_final_message()
        return [streamed, await client.messages.create(**asked)]
