"""Passes a request on to a server of this machine, and its answer back, each piece when it comes.

It speaks ASGI on this side and HTTP/1.1 on the other. Nothing is kept: a reader that is slow slows the server down, and
one that hangs up closes the connection behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import h11

from local.guard import HOST

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

_PIECE_BYTES = 64 * 1024
_MOST_HEAD_BYTES = 64 * 1024
_BODY_WITHIN_S = 30.0
_OF_ONE_CONNECTION = {
    *(b"connection", b"host", b"keep-alive", b"expect"),
    *(b"te", b"trailer", b"transfer-encoding", b"upgrade"),
}
_OF_THE_FRONT = {b"date", b"server"}
"""Headers that the server in front sends itself."""


class NoAnswer(Exception):
    """The server has ended, or ended before the head of its answer."""


class AnswerCut(Exception):
    """The server ended in the middle of its answer."""


async def pass_on(port: int, scope: Message, receive: Receive, send: Send, more: Headers | None = None) -> None:
    """Asks the server on `port`, with the headers `more` too, and returns when its answer or the client is at an end.

    Raises NoAnswer while nothing of an answer was sent, else AnswerCut.
    """
    try:
        reader, writer = await asyncio.open_connection(HOST, port)
    except OSError as error:
        raise NoAnswer from error
    connection = h11.Connection(h11.CLIENT, _MOST_HEAD_BYTES)
    writer.write(connection.send(_request(port, scope, more or [])) or b"")
    is_whole = asyncio.Event()
    asking = asyncio.create_task(_ask(connection, writer, receive, is_whole))
    answering = asyncio.create_task(_answer(connection, reader, send))
    try:
        await asyncio.wait({asking, answering}, return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            asking.result()
            return
        writer.transport.abort()  # what a server refuses to read is sent to it no longer
        answering.result()
        # A client whose body is not read to its end might never see the answer.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(is_whole.wait(), _BODY_WITHIN_S)
        await send({"type": "http.response.body", "body": b""})
    finally:
        asking.cancel()
        answering.cancel()
        await asyncio.gather(asking, answering, return_exceptions=True)
        writer.transport.abort()


def _request(port: int, scope: Message, more: Headers) -> h11.Request:
    headers = [(b"host", f"{HOST}:{port}".encode()), *_end_to_end(scope["headers"]), *more]
    if any(name.lower() == b"transfer-encoding" for name, _ in scope["headers"]):
        headers = [(name, value) for name, value in headers if name.lower() != b"content-length"]
        headers.append((b"transfer-encoding", b"chunked"))
    target = scope.get("raw_path") or scope["path"].encode()
    if scope.get("query_string"):
        target += b"?" + scope["query_string"]
    return h11.Request(method=scope["method"], target=target, headers=headers)


def _end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    return [(name, value) for name, value in headers if name.lower() not in _OF_ONE_CONNECTION]


async def _ask(
    connection: h11.Connection, writer: asyncio.StreamWriter, receive: Receive, is_whole: asyncio.Event
) -> None:
    """Sends the body piece by piece. Returns when the client has hung up."""
    is_read = True
    while (message := await receive())["type"] != "http.disconnect":
        try:
            if is_read:
                writer.write(connection.send(h11.Data(data=message.get("body", b""))) or b"")
                if not message.get("more_body"):
                    writer.write(connection.send(h11.EndOfMessage()) or b"")
                await writer.drain()
        except (OSError, h11.LocalProtocolError):
            is_read = False  # a server that refuses a body need not read it; its answer may be on its way
        if not message.get("more_body"):
            is_whole.set()
    is_whole.set()


async def _answer(connection: h11.Connection, reader: asyncio.StreamReader, send: Send) -> None:
    """Sends the answer to the client as it comes, all but its end."""
    has_begun = False
    try:
        while not isinstance(event := await _next(connection, reader), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                kept = [(name, value) for name, value in _end_to_end(event.headers) if name not in _OF_THE_FRONT]
                has_begun = True
                await send({"type": "http.response.start", "status": event.status_code, "headers": kept})
            elif isinstance(event, h11.Data):
                await send({"type": "http.response.body", "body": bytes(event.data), "more_body": True})
            elif not isinstance(event, h11.InformationalResponse):
                raise AnswerCut if has_begun else NoAnswer
    except (OSError, h11.RemoteProtocolError) as error:
        raise (AnswerCut if has_begun else NoAnswer) from error


async def _next(connection: h11.Connection, reader: asyncio.StreamReader) -> object:
    while (event := connection.next_event()) is h11.NEED_DATA:
        connection.receive_data(await reader.read(_PIECE_BYTES))
    return event
