"""ToolRunner on threads: calls run side by side, and none of them is waited for longer than its bound."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from turnlog.clock import Clock
from turnlog.domain import tool_results
from turnlog.domain.messages import to_json
from turnlog.domain.tool_functions import Tool
from turnlog.domain.tool_results import failed, result_of
from turnlog.domain.tools import ToolCall, ToolResult
from turnlog.ports.tool_context import ToolContext

AT_ONCE = 8
"""The most calls that run at once; of more, each waits for one to end."""

MOST_LEFT_BEHIND = 32
"""The most threads that may go on after their time, before no further call is begun: each may hold a connection."""


class RemoteTools(Protocol):
    """Runs the calls of tools that have a function of their own."""

    def run(self, tool: Tool, call: ToolCall, context: ToolContext) -> ToolResult:
        """Runs one call. Raises whatever failed."""


class ThreadToolRunner:
    """Runs tools in threads of this process, or, by `remote`, in functions of their own.

    A thread cannot be stopped from outside: one that does not end in its time is left behind. Its result is thrown
    away, its call has an error for a result, and it ends with the process.

    `tell` is given the name of the tool and the error, when one fails. `clock` is the time of day, and `seconds` the
    clock of the bounds.
    """

    def __init__(
        self,
        tools: Iterable[Tool],
        remote: RemoteTools,
        tell: Callable[[str, BaseException], None],
        clock: Clock,
        *,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tools = {each.name: each for each in tools}
        self._remote = remote
        self._tell = tell
        self._clock = clock
        self._seconds = seconds
        self._left_behind: set[threading.Thread] = set()

    def definitions(self) -> dict[str, str]:
        """The tools as JSON text, as the Messages API takes them, by their names."""
        from anthropic import transform_schema

        found = {}
        for name, tool in self._tools.items():
            definition: dict[str, Any] = {**_checked(tool).to_dict()}
            # The API compiles the schema of a strict tool and knows no bounds of values: those move into descriptions.
            definition["input_schema"] = transform_schema(definition["input_schema"])
            found[name] = to_json(definition)
        return found

    def run(self, calls: Sequence[ToolCall], owner: str, seconds: float) -> list[ToolResult]:
        """Does ToolRunner.run."""
        self._left_behind = {thread for thread in self._left_behind if thread.is_alive()}
        if len(self._left_behind) >= MOST_LEFT_BEHIND:
            return [failed(call, tool_results.NOT_AVAILABLE) for call in calls]
        run = _Run(calls, owner, self._seconds() + seconds, self._seconds, self._clock(), self._result)
        results = run.results(self._seconds_of)
        self._left_behind |= run.left_behind
        return results

    def _seconds_of(self, call: ToolCall) -> float:
        tool = self._tools.get(call.name)
        return tool.seconds if tool else 0

    def _result(self, call: ToolCall, context: ToolContext) -> ToolResult:
        tool = self._tools.get(call.name)
        if tool is None:
            return failed(call, tool_results.NOT_AVAILABLE)
        try:
            try:
                arguments = _checked(tool).call(json.loads(call.input))
            except (ValueError, TypeError):
                return failed(call, tool_results.INPUT_INVALID)
            if tool.runs_in:
                return self._remote.run(tool, call, context)
            return result_of(call, tool, tool.function(context, **arguments))
        except BaseException as error:  # noqa: BLE001 (whatever a tool raises, its call has a result)
            self._tell(tool.name, error)
            return failed(call)


class _Run:
    """The run of some calls for one owner, until the time `deadline`."""

    def __init__(
        self,
        calls: Sequence[ToolCall],
        owner: str,
        deadline: float,
        seconds: Callable[[], float],
        now_ms: int,
        result: Callable[[ToolCall, ToolContext], ToolResult],
    ) -> None:
        self._calls = calls
        self._owner = owner
        self._deadline = deadline
        self._seconds = seconds
        self._now_ms = now_ms
        self._result = result
        self._done: SimpleQueue[tuple[int, ToolResult]] = SimpleQueue()
        self._found: dict[int, ToolResult] = {}
        self._running: dict[int, tuple[threading.Thread, float]] = {}
        self.left_behind: set[threading.Thread] = set()

    def results(self, seconds_of: Callable[[ToolCall], float]) -> list[ToolResult]:
        """Runs the calls; `seconds_of` tells the bound of each. Returns their results in order."""
        waiting = deque(range(len(self._calls)))
        while waiting or self._running:
            while waiting and len(self._running) < AT_ONCE:
                self._begin(waiting.popleft(), seconds_of)
            if self._running:
                self._wait()
        return [self._found[number] for number in range(len(self._calls))]

    def _begin(self, number: int, seconds_of: Callable[[ToolCall], float]) -> None:
        call, now = self._calls[number], self._seconds()
        if now >= self._deadline:
            self._found[number] = failed(call, tool_results.NOT_BEGUN)
            return
        ends = min(now + seconds_of(call), self._deadline)
        context = ToolContext(call.id, self._owner, self._now_ms, lambda: ends - self._seconds())
        # A daemon, so that a thread which hangs does not keep the process from ending.
        thread = threading.Thread(target=lambda: self._done.put((number, self._result(call, context))), daemon=True)
        self._running[number] = thread, ends
        thread.start()

    def _wait(self) -> None:
        """Waits until a call is done or one has used up its time."""
        first = min(ends for _, ends in self._running.values())
        try:
            number, result = self._done.get(timeout=max(0.0, first - self._seconds()))
        except Empty:
            for number, (thread, ends) in list(self._running.items()):
                if ends <= self._seconds():
                    del self._running[number]
                    self.left_behind.add(thread)
                    self._found[number] = failed(self._calls[number], tool_results.OVERTIME)
        else:
            if self._running.pop(number, None):  # else it is too late
                self._found[number] = result


@cache
def _checked(tool: Tool) -> Any:
    """The SDK's tool, which has the schema of the tool's parameters and checks an input by it."""
    from anthropic import beta_tool

    return beta_tool(tool.arguments, strict=True)
