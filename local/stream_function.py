"""The function that streams, as one process that serves all its requests at once, beside MiniStack's own workers.

MiniStack runs one request at a time in a process, and hands an answer over when it is whole. So the guard passes the
routes that stream on to a server, which MiniStack's own worker starts: with the layers, the environment and the role of
the deployed function. Code that was saved since is served by a new process; the old one ends with its last stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import queue
import secrets
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from local.executions import events_of, read_log
from local.request_line import route_of
from local.saved_code import SavedCode
from local.state import ROOT
from local.stream_relay import Message, NoAnswer, Receive, Send, pass_on
from local.stream_server import SECRET_HEADER

_SPAWNED_WITHIN_S = 90
_QUIET_S = 0.1
"""The pause after which lines that were written together are told."""


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


@dataclass(slots=True, eq=False)
class _Server:
    """One process. `facts` is what it was started with, `open` the number of its requests here."""

    worker: Any
    port: int
    secret: bytes
    facts: object
    open: int = 0

    @property
    def lives(self) -> bool:
        return self.worker._proc is not None and self.worker._proc.poll() is None

    def finish(self) -> None:
        """Has the process end when its turns are stored, those too whose reader has gone. Waits for nothing."""
        if self.lives:
            with contextlib.suppress(OSError):  # it has just ended
                self.worker._proc.stdin.write(json.dumps({"event": {}}) + "\n")
                self.worker._proc.stdin.flush()


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
        self._serving: _Server | None = None
        self._all: list[_Server] = []

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

    async def _take(self) -> _Server:
        """Returns the process for a request. Raises NoAnswer when it cannot be started."""
        async with self._one_at_a_time:  # a burst waits for one start
            try:
                return await asyncio.to_thread(self._current)
            except Exception as error:
                raise NoAnswer from error

    def _release(self, server: _Server) -> None:
        with self._lock:
            server.open -= 1
            is_left = server.open == 0 and server is not self._serving
        if is_left:
            server.finish()

    def _current(self) -> _Server:
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

    def _start(self, facts: object) -> _Server:
        record = self._record()
        config = copy.deepcopy(dict(record["config"]))
        app, config["Handler"] = config["Handler"], "local/stream_server.serve"
        config["Environment"] = {"Variables": self._variables() | {"PYTHONPATH": str(ROOT)}}
        config["Timeout"] = _SPAWNED_WITHIN_S
        worker = self._runtime.Worker(self.streaming.function, config, record["code_zip"])
        secret = secrets.token_hex(32)
        answered = worker.invoke({"app": app, "secret": secret}, str(uuid.uuid4()))
        if answered.get("status") != "ok":
            worker._discard_tmpdir()
            raise NoAnswer
        server = _Server(worker, answered["result"]["port"], secret.encode(), facts)
        self._all.append(server)
        threading.Thread(target=self._follow, args=(server, record), name="stream log", daemon=True).start()
        return server

    def _follow(self, server: _Server, record: Mapping[str, Any]) -> None:
        """Tells and keeps what the process writes until it has ended, and tidies up after it."""
        lines: list[str] = []
        while server.lives or not server.worker._stderr_queue.empty() or lines:
            try:
                lines.append(server.worker._stderr_queue.get(timeout=_QUIET_S))
            except queue.Empty:
                if lines:
                    self._keep(server, record, "\n".join(lines))
                lines = []
        self._all.remove(server)
        server.worker._discard_tmpdir()

    def _keep(self, server: _Server, record: Mapping[str, Any], log: str) -> None:
        printed, notes = read_log(log)
        if printed:
            text = "\n".join(printed)
            self._tell({"printed": self._code.with_its_paths(text, server.worker.func_name, server.worker._tmpdir)})
        for noted in events_of(notes, None):
            self._tell({"noted": asdict(noted)})
        self._functions._emit_lambda_logs(record, str(uuid.uuid4()), log, False, 0)
