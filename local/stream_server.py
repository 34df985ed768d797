"""The function that streams, in a process of its own: uvicorn serves its app, as it does on AWS behind the adapter.

MiniStack's worker calls `serve` in place of a handler, in the function's environment and with the rights of its role.
"""

from __future__ import annotations

import importlib
import os
import socket
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from local.guard import HOST
from local.state import ROOT

if TYPE_CHECKING:
    from uvicorn import Server

SECRET_HEADER = b"x-turnlog-relay"
"""The header by which the relay shows that a request comes from it, and has passed the guard."""

_AT_ONCE = 2048

Asgi = Callable[[Any, Any, Any], Awaitable[None]]
_serving: list[tuple[Server, threading.Thread]] = []


def serve(order: dict[str, str], _: object = None) -> dict[str, int]:
    """Serves the app that `order` names, such as app.app, to whoever knows its secret; returns the port.

    An empty order ends the process, when all that was asked has been answered and stored.
    """
    if not order:
        _finish()
    if str(ROOT) in sys.path:
        sys.path.remove(str(ROOT))  # this module came from there; a function's own must not
    from uvicorn import Config, Server

    module, _, name = order["app"].rpartition(".")
    app = for_the_relay(getattr(importlib.import_module(module), name), order["secret"])
    listening = socket.create_server((HOST, 0), backlog=_AT_ONCE)
    # The server in front sends date and server. Errors are printed, as those of other functions are.
    config = Config(
        app,
        loop="asyncio",
        http="h11",
        lifespan="off",
        access_log=False,
        log_level="error",
        proxy_headers=False,
        server_header=False,
        date_header=False,
    )
    server = Server(config)
    thread = threading.Thread(target=server.run, args=([listening],), name="uvicorn", daemon=True)
    thread.start()  # a connection waits until it takes it
    _serving.append((server, thread))
    return {"port": listening.getsockname()[1]}


def for_the_relay(app: Asgi, secret: str) -> Asgi:
    """The app for requests with the secret, which it does not see. Others get 403, web pages among them."""

    async def guarded(scope: dict[str, Any], receive: Any, send: Any) -> None:
        shown = (SECRET_HEADER, secret.encode())
        if shown not in scope.get("headers", []):
            await send({"type": "http.response.start", "status": 403, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body"})
            return
        headers = [each for each in scope["headers"] if each[0] != SECRET_HEADER]
        await app({**scope, "headers": headers}, receive, send)

    return guarded


def _finish() -> None:
    for server, thread in _serving:
        server.should_exit = True  # it takes no more, and ends with its last task
        thread.join()
    sys.stderr.flush()
    os._exit(0)
