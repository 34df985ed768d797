"""The function that streams, as one process that serves all its requests at once, beside MiniStack's own workers.

MiniStack runs one request at a time in a process, and hands an answer over when it is whole. So the guard passes the
routes that stream on to a server, which MiniStack's own worker starts: with the layers, the environment and the role of
the deployed function. Code that was saved since is served by a new process; the old one ends with its last stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from local.request_line import route_of
from local.saved_code import SavedCode
from local.stream_process import StreamProcess
from local.stream_relay import Message, NoAnswer, Receive, Send, pass_on
from local.stream_server import SECRET_HEADER


@dataclass(frozen=True, slots=True)
class Streaming:
    """The function that streams and the authorizer, by their physical names, and the routes, with the stage."""

    function: str = ""
    authorizer: str = ""
    routes: tuple[tuple[str, str], ...] = ()

    def takes(self, method: str, path: str) -> bool:
        """True for a request that the function streams, a slash at its end or not, as the gateway matches it."""
        normal = "/" + "/".join(part for part in path.split("/") if part)
        return route_of(normal, [route for own, route in self.routes if own == method]) != "-"


class StreamFunction:
    """Serves the routes of `streaming`, which the launcher orders.

    `runtime` and `functions` are MiniStack's modules; `tell` takes what the process prints and notes.
    """

    def __init__(self, runtime: Any, functions: Any, code: SavedCode, tell: Callable[[dict[str, Any]], None]) -> None:
        self.streaming = Streaming()
        self._runtime = runtime
        self._functions = functions
        self._code = code
        self._tell = tell
        self._one_at_a_time = asyncio.Lock()
        self._lock = threading.Lock()
        self._serving: StreamProcess | None = None
        self._all: list[StreamProcess] = []

    async def warm(self) -> None:
        """Starts the process, unless it runs. An error is told as that of any function."""
        with contextlib.suppress(NoAnswer):
            self._release(await self._take())

    async def pass_on(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers one request. Raises NoAnswer, or AnswerCut once a part of the answer was sent."""
        server = await self._take()
        try:
            await pass_on(server.port, scope, receive, send, [(SECRET_HEADER, server.secret)])
        finally:
            self._release(server)

    def kill(self) -> None:
        """Ends all processes, busy or not."""
        self._runtime.kill_workers([server.worker for server in self._all])

    async def _take(self) -> StreamProcess:
        """Returns the process for a request. Raises NoAnswer when it cannot be started."""
        async with self._one_at_a_time:  # a burst waits for one start
            try:
                return await asyncio.to_thread(self._current)
            except Exception as error:
                raise NoAnswer from error

    def _release(self, server: StreamProcess) -> None:
        with self._lock:
            server.open -= 1
            is_left = server.open == 0 and server is not self._serving
        if is_left:
            server.finish()

    def _current(self) -> StreamProcess:
        facts = self._facts()
        before = self._serving
        server = before if before and before.lives and before.facts == facts else self._start(facts)
        with self._lock:
            self._serving = server
            server.open += 1
            is_left = before is not None and before is not server and before.open == 0
        if before and is_left:
            before.finish()
        return server

    def _facts(self) -> object:
        """Returns what changes when another process has to serve."""
        config = self._record()["config"]
        deployed = [config.get(name) for name in ("Layers", "Role", "Handler", "RevisionId")]
        return self._code.version(self.streaming.function), json.dumps([*deployed, self._variables()], sort_keys=True)

    def _record(self) -> Mapping[str, Any]:
        record: Mapping[str, Any] = self._functions._functions[self.streaming.function]
        return record

    def _variables(self) -> dict[str, str]:
        """The environment: the authorizer's too, since here the app itself verifies who calls."""
        found: dict[str, str] = {}
        for name in (self.streaming.authorizer, self.streaming.function):
            found |= self._functions._functions[name]["config"].get("Environment", {}).get("Variables", {})
        return found

    def _start(self, facts: object) -> StreamProcess:
        started = StreamProcess(self._runtime, self._record(), self._variables(), facts)
        self._all.append(started)
        started.follow(self._functions, self._code, self._tell, self._all.remove)
        return started
