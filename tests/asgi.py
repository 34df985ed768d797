"""A client of an ASGI app, in the hands of a test: what it sends, and what has reached it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

Message = dict[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]
WITHIN_S = 20
"""Far more than anything here takes."""


def run(test: Coroutine[Any, Any, None]) -> None:
    """Runs a test that is a coroutine, and fails one that hangs."""
    asyncio.run(asyncio.wait_for(test, WITHIN_S * 3))


class Client:
    """One request of a client: what it sends, and what has reached it."""

    def __init__(
        self,
        *body: bytes,
        method: str = "POST",
        path: str = "/v1/query/stream",
        headers: list[tuple[bytes, bytes]] | None = None,
    ) -> None:
        length = [(b"content-length", str(sum(map(len, body))).encode())]
        self.scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": length if headers is None else headers,
        }
        self.sent: asyncio.Queue[Message] = asyncio.Queue()
        self.answer: asyncio.Queue[Message] = asyncio.Queue()
        for number, piece in enumerate(body, 1):
            self.sent.put_nowait({"type": "http.request", "body": piece, "more_body": number < len(body)})

    def hang_up(self) -> None:
        self.sent.put_nowait({"type": "http.disconnect"})

    async def ask(self, app: App) -> None:
        """Returns when the app is done with the request."""
        await asyncio.wait_for(app(self.scope, self.sent.get, self.answer.put), WITHIN_S)

    async def next(self) -> Message:
        """The next message of the answer."""
        return await asyncio.wait_for(self.answer.get(), WITHIN_S)

    async def body(self) -> bytes:
        """The rest of the body."""
        found = b""
        while (message := await self.next()).get("more_body"):
            found += message["body"]
        return found + bytes(message["body"])
