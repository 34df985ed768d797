"""TurnStream: the events of a turn as it comes, in which all calls of the model are one message."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from turnlog.domain.messages import Reply, Usage, to_json
from turnlog.domain.reply_events import OnEvent, ReplyEvent, events_of
from turnlog.domain.tools import ToolCall, ToolResult

Emit = Callable[[ReplyEvent], None]
"""Takes one event for the reader. It must not raise nor wait, whether or not anybody reads."""


def own_event(kind: str, /, **fields: Any) -> ReplyEvent:
    """An event of Turnlog's own, such as `turnlog.tool`, which other clients pass over."""
    full = f"turnlog.{kind}"
    return ReplyEvent(full, to_json({"type": full} | fields))


class TurnStream:
    """Turns the events of each call into those of one message, with one start and one end.

    Block indexes go on from call to call. `message_delta` and `message_stop` are held until `finish`, so that nobody
    takes a turn for finished that is not stored. Without `shows_own_calls` the blocks in which the model calls a tool
    that the service runs are left out, since a client would take such a call for its own to run.
    """

    def __init__(self, emit: Emit, *, shows_own_calls: bool = True) -> None:
        self.emit = emit
        self.is_stopped: Callable[[], bool] = lambda: False
        """Set by whoever runs the turn: True once the owner has asked it to stop."""
        self._shows_own_calls = shows_own_calls
        self._is_begun = False
        self._next_index = 0
        self._shown = 0

    @property
    def is_begun(self) -> bool:
        """True once something of a reply was shown, which cannot be taken back."""
        return self._is_begun

    def open(self, **facts: Any) -> None:
        """Tells what the stream is of, before anything else."""
        self.emit(own_event("turn", **facts))

    def listener(self, own_tools: Iterable[str] = ()) -> OnEvent:
        """Returns the listener to the events of the turn's next call, in which `own_tools` are run by the service."""
        self._shown += 1
        indexes: dict[int, int | None] = {}
        hidden = frozenset() if self._shows_own_calls else frozenset(own_tools)

        def hear(event: ReplyEvent) -> bool:
            if event.type == "message_start":
                if not self._is_begun:
                    self._is_begun = True
                    self.emit(event)
            elif event.type not in ("message_delta", "message_stop"):
                self._pass_on(event, indexes, hidden)
            return not self.is_stopped()

        return hear

    def _pass_on(self, event: ReplyEvent, indexes: dict[int, int | None], hidden: frozenset[str]) -> None:
        if event.type == "ping":
            self.emit(event)
            return
        fields = json.loads(event.data)
        given = fields.get("index")
        if not isinstance(given, int):
            self.emit(event)
            return
        if event.type == "content_block_start":
            block = fields["content_block"]
            is_hidden = block.get("type") == "tool_use" and block.get("name") in hidden
            indexes[given] = None if is_hidden else self._next_index
            self._next_index += not is_hidden
        if (index := indexes.get(given)) is not None:
            self.emit(event if index == given else ReplyEvent(event.type, to_json(fields | {"index": index})))

    def show(self, reply: Reply, own_tools: Iterable[str] = ()) -> None:
        """Shows a reply that is there already, as the next call."""
        hear = self.listener(own_tools)
        for event in events_of(reply):
            hear(event)

    def tools_begin(self, calls: Sequence[ToolCall]) -> None:
        """Tells that tools of the service begin to run."""
        for call in calls:
            self.emit(own_event("tool", id=call.id, name=call.name, status="running"))

    def tools_end(self, calls: Sequence[ToolCall], results: Sequence[ToolResult]) -> None:
        """Tells that they have ended; `results` may have another order."""
        failed = {result.id for result in results if result.is_error}
        for call in calls:
            status = "failed" if call.id in failed else "done"
            self.emit(own_event("tool", id=call.id, name=call.name, status=status))

    def finish(self, replies: Sequence[Reply], stop_reason: str, usage: Usage, own_tools: Iterable[str] = ()) -> None:
        """Shows those of the turn's `replies` that nobody has heard, and ends the message. The turn is stored."""
        for reply in replies[self._shown :]:
            self.show(reply, own_tools)
        last = replies[-1]
        delta: dict[str, Any] = {"stop_reason": stop_reason, "stop_sequence": last.stop_sequence or None}
        if last.stop_details:
            delta["stop_details"] = json.loads(last.stop_details)
        end = {"type": "message_delta", "delta": delta, "usage": usage.fields}
        self.emit(ReplyEvent("message_delta", to_json(end)))
        self.emit(ReplyEvent("message_stop", to_json({"type": "message_stop"})))
