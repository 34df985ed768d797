"""The relay in front of the streams: every piece at once, nothing kept, and no more of it than somebody reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from local.guard import HOST
from local.stream_relay import AnswerCut, NoAnswer, pass_on
from tests.asgi import WITHIN_S, Client, Message, run

Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def asking_of(client: Client, port: int, **more: Any) -> Coroutine[Any, Any, None]:
    return client.ask(partial(pass_on, port, **more))


def chunk(piece: bytes) -> bytes:
    return f"{len(piece):x}\r\n".encode() + piece + b"\r\n"


@asynccontextmanager
async def served(peer: Peer) -> AsyncIterator[int]:
    """Serves each connection with `peer` on a free port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await peer(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(answer, HOST, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def test_each_piece_reaches_the_client_before_the_next_one_exists() -> None:
    async def test() -> None:
        go_on = asyncio.Event()

        async def paced(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(HEAD)
            for piece in (b"data: 1\n\n", b"data: 2\n\n"):
                writer.write(chunk(piece))
                await go_on.wait()  # which comes when the client has the piece
                go_on.clear()
            writer.write(b"0\r\n\r\n")

        client = Client(b"{}")
        async with served(paced) as port:
            asking = asyncio.create_task(asking_of(client, port))
            begun = await client.next()
            assert begun["headers"] == [(b"content-type", b"text/event-stream")]
            for piece in (b"data: 1\n\n", b"data: 2\n\n"):
                assert await client.next() == {"type": "http.response.body", "body": piece, "more_body": True}
                assert not asking.done()
                go_on.set()
            assert await client.next() == {"type": "http.response.body", "body": b""}
            await asking

    run(test())


def test_each_piece_of_a_body_is_sent_before_the_next_one_exists() -> None:
    async def test() -> None:
        arrived: asyncio.Queue[bytes] = asyncio.Queue()

        async def listening(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            for _ in range(2):
                arrived.put_nowait(await reader.readexactly(5))
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

        client = Client(headers=[(b"content-length", b"10")])
        async with served(listening) as port:
            asking = asyncio.create_task(asking_of(client, port))
            for piece, more in ((b"first", True), (b"other", False)):
                client.sent.put_nowait({"type": "http.request", "body": piece, "more_body": more})
                assert await asyncio.wait_for(arrived.get(), WITHIN_S) == piece
            await asking
            assert (await client.next())["status"] == 204

    run(test())


@pytest.mark.parametrize("framing", ["content-length", "transfer-encoding"])
def test_a_body_of_4_5_mb_arrives_whole_however_it_is_framed(framing: str) -> None:
    pieces = [bytes([number % 251]) * 65_536 for number in range(72)]  # 4.5 MB
    headers = {"content-length": str(sum(map(len, pieces))).encode(), "transfer-encoding": b"chunked"}

    async def test() -> None:
        async def counting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            received = await _body(head, reader)
            answer = b"same" if received == b"".join(pieces) else b"else"
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n" + answer)

        client = Client(*pieces, headers=[(framing.encode(), headers[framing])])
        async with served(counting) as port:
            await asking_of(client, port)
        assert [(await client.next()).get("body") for _ in range(3)] == [None, b"same", b""]

    run(test())


async def _body(head: bytes, reader: asyncio.StreamReader) -> bytes:
    if b"transfer-encoding: chunked" not in head.lower():
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        return await reader.readexactly(int(length))
    pieces = []
    while size := int(await reader.readline(), 16):
        pieces.append(await reader.readexactly(size))
        await reader.readline()
    return b"".join(pieces)


def test_a_client_is_read_to_its_end_though_the_server_answers_before_that() -> None:
    async def test() -> None:
        is_over = asyncio.Event()

        async def refusing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")
            await is_over.wait()

        client = Client(headers=[(b"content-length", b"90000000")])
        piece = {"type": "http.request", "body": b"x" * 9_000_000, "more_body": True}
        client.sent.put_nowait(piece)
        async with served(refusing) as port:
            asking = asyncio.create_task(asking_of(client, port))
            assert (await client.next())["status"] == 413
            for _ in range(8):
                client.sent.put_nowait(piece)
            while not client.sent.empty():
                await asyncio.sleep(0)
            assert not asking.done()
            assert client.answer.empty()
            client.sent.put_nowait(piece | {"more_body": False})
            await asking
            is_over.set()
        assert await client.next() == {"type": "http.response.body", "body": b""}

    run(test())


def test_a_client_that_hangs_up_closes_the_connection_behind() -> None:
    async def test() -> None:
        gone = asyncio.Event()

        async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(HEAD + chunk(b"data: 1\n\n"))
            await reader.readuntil(b"{}")
            if await reader.read() == b"":
                gone.set()

        client = Client(b"{}")
        async with served(endless) as port:
            asking = asyncio.create_task(asking_of(client, port))
            await client.next()
            assert not asking.done()
            client.hang_up()
            await asking
            await asyncio.wait_for(gone.wait(), WITHIN_S)

    run(test())


def test_a_reader_that_stalls_holds_the_server_up_and_fills_no_memory() -> None:
    async def test() -> None:
        written = 0
        full = asyncio.Event()

        async def pouring(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal written
            writer.write(HEAD)
            for _ in range(1000):
                writer.write(chunk(b"x" * 65_536))
                written += 65_536
                draining = asyncio.create_task(writer.drain())
                if not (await asyncio.wait({draining}, timeout=0.3))[0]:
                    full.set()  # nobody takes any more
                    draining.cancel()
                    return

        client = Client(b"{}")
        stalled = asyncio.Event()

        async def send(message: Message) -> None:
            if message["type"] == "http.response.body":
                await stalled.wait()

        async with served(pouring) as port:
            asking = asyncio.create_task(pass_on(port, client.scope, client.sent.get, send))
            await asyncio.wait_for(full.wait(), WITHIN_S)
            assert written < 30_000_000  # what the system holds for a connection
            client.hang_up()
            await asking

    run(test())


def test_a_server_that_does_not_read_holds_the_body_up_and_fills_no_memory() -> None:
    async def test() -> None:
        is_over = asyncio.Event()
        taken = 0

        async def stalling(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await is_over.wait()

        async def receive() -> Message:
            nonlocal taken
            taken += 1
            await asyncio.sleep(0)  # as a real one, which lets others run
            return {"type": "http.request", "body": b"x" * 65_536, "more_body": True}

        client = Client(headers=[(b"transfer-encoding", b"chunked")])
        async with served(stalling) as port:
            asking = asyncio.create_task(pass_on(port, client.scope, receive, client.answer.put))
            before = -1
            async with asyncio.timeout(WITHIN_S):
                while before < taken or not taken:
                    before = taken
                    await asyncio.sleep(0.1)
            assert taken < 500  # what the system holds for a connection
            asking.cancel()
            is_over.set()
            await asyncio.gather(asking, return_exceptions=True)

    run(test())


def test_headers_of_one_connection_stay_behind_and_the_host_is_the_servers_own() -> None:
    async def test() -> None:
        heads: list[bytes] = []

        async def recording(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            dropped = b"connection: close\r\ndate: now\r\nserver: it\r\n"
            writer.write(b"HTTP/1.1 200 OK\r\n" + dropped + b"x-a: 1\r\nx-a: 2\r\ncontent-length: 0\r\n\r\n")

        client = Client(
            headers=[(b"host", b"127.0.0.1:8787"), (b"Expect", b"100-continue"), (b"authorization", b"Bearer t")]
        )
        client.scope["query_string"] = b"beta=true"
        client.sent.put_nowait({"type": "http.request", "body": b"", "more_body": False})
        async with served(recording) as port:
            await asking_of(client, port, more=[(b"x-own", b"1")])
        lines = heads[0].lower().split(b"\r\n")
        assert lines[0] == b"post /v1/query/stream?beta=true http/1.1"
        assert sorted(lines[1:-2]) == sorted([b"authorization: bearer t", b"host: 127.0.0.1:%d" % port, b"x-own: 1"])
        assert (await client.next())["headers"] == [(b"x-a", b"1"), (b"x-a", b"2"), (b"content-length", b"0")]

    run(test())


def test_a_server_that_ends_early_is_no_answer_or_a_cut_one_and_never_a_whole_one() -> None:
    async def test() -> None:
        async def ending(written: bytes) -> Client:
            async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.readuntil(b"{}")
                writer.write(written)

            client = Client(b"{}")
            async with served(peer) as port:
                await asking_of(client, port)
            return client

        with pytest.raises(NoAnswer):
            await ending(b"")
        with pytest.raises(NoAnswer):
            await ending(b"HTTP/1.1 200 OK\r\n")
        with pytest.raises(AnswerCut):
            await ending(HEAD)
        with pytest.raises(AnswerCut):
            await ending(HEAD + chunk(b"data: 1\n\n"))

    run(test())


def test_a_port_on_which_nobody_listens_is_no_answer() -> None:
    async def test() -> None:
        async def nobody(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            """Is never called."""

        async with served(nobody) as port:
            pass
        with pytest.raises(NoAnswer):
            await asking_of(Client(b"{}"), port)

    run(test())
