"""A model for handlers of several processes, over HTTP: it counts its calls and answers with a hash of all messages.

With `steps` it calls a tool so often before it answers a message; then the id of the call begins with the hash.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

from local.loopback import GuardedHandler, LoopbackServer
from tests.fakes import expected_text
from turnlog.domain.messages import Message, ModelRequest, Reply, Usage, to_json
from turnlog.domain.reply_events import OnEvent
from turnlog.domain.tools import calls_in, results_in
from turnlog.domain.turns import Turn
from turnlog.domain.window import WindowPolicy, messages

TOOL = "look_up"
"""The tool that the model calls."""

PATIENCE_S = 60.0
"""The time after which a test gives up waiting."""


class ModelServer(LoopbackServer):
    """Counts the calls of each session, whose id comes as the system prompt. A closed gate holds calls up."""

    def __init__(self, steps: int = 0) -> None:
        super().__init__(0, _Handler, "model_server")
        self.steps = steps
        self.calls: Counter[str] = Counter()
        self.running: Counter[str] = Counter()
        self.most_running: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._closed = False
        self._only = 0

    def close_gate(self, only: int = 0) -> None:
        """Lets calls arrive from now on without an answer, or `only` the one of that number of each session."""
        self._closed, self._only = True, only

    def open_gate(self) -> None:
        with self._changed:
            self._closed = False
            self._changed.notify_all()

    def await_calls(self, session: str, calls: int) -> None:
        """Returns when so many have arrived since the start."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.calls[session] >= calls, PATIENCE_S), "the model was not asked"

    def __enter__(self) -> ModelServer:
        self.start()
        return self

    def reply(self, session: str, shown: tuple[Message, ...]) -> Any:
        with self._changed:
            self.calls[session] += 1
            number = self.calls[session]
            self.running[session] += 1
            self.most_running[session] = max(self.most_running[session], self.running[session])
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._closed or self._only not in (0, number), PATIENCE_S)
        text = expected_text(shown)
        usage = {"input_tokens": 10 * len(shown), "output_tokens": int(text[:2], 16)}
        with self._changed:
            self.running[session] -= 1
        if steps_in(shown) == self.steps:
            return {"content": [{"type": "text", "text": text}], "stop_reason": "end_turn", "usage": usage}
        # As the provider does it: asked again for the same, it calls under another id.
        call = {"type": "tool_use", "id": f"toolu_{text}_{number}", "name": TOOL, "input": {}}
        return {"content": [call], "stop_reason": "tool_use", "usage": usage}


class _Handler(GuardedHandler):
    server: ModelServer

    def answer(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        shown = tuple(Message(role, content) for role, content in asked["messages"])
        self.send_json(200, self.server.reply(asked["session"], shown))


class RemoteModel:
    """A handler's ChatModel that asks the model server."""

    def __init__(self, url: str) -> None:
        self._address = url.removeprefix("http://")

    def reply(
        self, request: ModelRequest, seconds: float, on_event: OnEvent | None = None, *, retry_s: float | None = None
    ) -> Reply:
        shown = [[message.role, message.content] for message in request.messages]
        asked = to_json({"session": request.settings.system, "messages": shown}).encode()
        connection = http.client.HTTPConnection(self._address, timeout=PATIENCE_S + 5)
        try:
            connection.request("POST", "/", asked)
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        content, usage = to_json(answer["content"]), Usage(to_json(answer["usage"]))
        return Reply(request.settings.model, content, answer["stop_reason"], usage)


def steps_in(shown: Sequence[Message]) -> int:
    """The replies since the last message of the caller."""
    steps = 0
    for message in reversed(shown):
        if message.role == "user" and not results_in(message):
            break
        steps += message.role == "assistant"
    return steps


def require_one_order(turns: Sequence[Turn], policy: WindowPolicy | None = None) -> None:
    """Checks that each reply is the hash of exactly the turns before it, so that no other order can have made them."""
    window = policy or WindowPolicy()
    assert [turn.number for turn in turns] == list(range(1, len(turns) + 1))
    for at, turn in enumerate(turns):
        before = turns[max(0, at - window.turns) : at]
        for index, message in enumerate(turn.messages):
            if message.role == "assistant":
                hashed = expected_text(messages(before, *turn.messages[:index]))
                said = message.text or calls_in(message)[0].id.split("_")[1]
                assert said == hashed, f"turn {turn.number} was computed from another history"
