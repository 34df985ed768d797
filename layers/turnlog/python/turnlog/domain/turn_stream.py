"""TurnStream: the events of a turn as it comes, in which all calls of the model are one message."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from turnlog.domain.messages import Reply, Usage, to_json
from turnlog.domain.reply_events import OnEvent, ReplyEvent, events_of
from turnlog.domain.shown_call import ShownCall
from turnlog.domain.tools import ToolCall, ToolResult

Emit = Callable[[ReplyEvent], None]
"""Takes one event for the reader. It must not raise nor wait, whether or not anybody reads.

Parts of a document are asked in threads of their own, so it may be called from any thread.
"""

MOST_RETRY_S = 55.0
"""Seconds for which a model that refuses is asked again, at most, while somebody reads: the reader should hear of it,
although the turn might go on for minutes.
"""

_ENDS = ("message_delta", "message_stop")


def own_event(kind: str, /, **fields: Any) -> ReplyEvent:
    """An event of Turnlog's own, such as `turnlog.tool`, which other clients pass over."""
    full = f"turnlog.{kind}"
    return ReplyEvent(full, to_json({"type": full} | fields))


class TurnStream:
    """Turns the events of each call into those of one message, with one start and one end.

    Block indexes go on from call to call. `message_delta` and `message_stop` are held until `finish`, so that nobody
    takes a turn for finished that is not stored. Without `shows_own_calls` the blocks in which the model calls a tool
    that the service runs are left out, since a client would take such a call for its own to run. `facts` are the entry
    point's own, for the first event.
    """

    def __init__(self, emit: Emit, *, shows_own_calls: bool = True, facts: Mapping[str, Any] | None = None) -> None:
        self.emit = emit
        self.is_stopped: Callable[[], bool] = lambda: False
        """Set by whoever runs the turn: True once nobody wants the rest of it, so that the model is stopped."""
        self._shows_own_calls = shows_own_calls
        self._facts = dict(facts or {})
        self._is_open = False
        self._calls: list[ShownCall] = []

    @property
    def is_begun(self) -> bool:
        """True once something of a reply was shown, which cannot be taken back."""
        return bool(self._calls)

    def open(self, **facts: Any) -> None:
        """Tells what the stream is of, before anything else; only once, however often it is called."""
        if not self._is_open:
            self._is_open = True
            self.emit(own_event("turn", **(facts | self._facts)))

    def listener(self, own_tools: Iterable[str] = ()) -> OnEvent:
        """Returns the listener to the events of the turn's next call, in which `own_tools` are run by the service.

        A call counts from its first event on: one that was refused before may be made again, with another listener.
        """
        hidden = frozenset[str]() if self._shows_own_calls else frozenset(own_tools)
        call = ShownCall(self.emit, self._calls[-1].next_index if self._calls else 0, hidden)

        def hear(event: ReplyEvent) -> bool:
            if event.type == "message_start":
                self._begin(call, event)
            elif event.type not in _ENDS:
                call.pass_on(event)
            elif event.type == "message_stop":
                call.is_whole = True
            # One that has told its end is whole, and there is nothing left to stop.
            return event.type in _ENDS or not self.is_stopped()

        return hear

    def _begin(self, call: ShownCall, event: ReplyEvent) -> None:
        if call.is_begun:
            return
        call.is_begun = True
        if not self._calls:
            self.emit(event)
        self._calls.append(call)

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

    def part_ends(self, number: int, count: int) -> None:
        """Tells that the part `number` of a document in `count` parts has its answer."""
        self.emit(own_event("part", number=number, count=count, status="done"))

    def finish(self, replies: Sequence[Reply], stop_reason: str, usage: Usage, own_tools: Iterable[str] = ()) -> None:
        """Shows of the turn's `replies` what nobody has heard, and ends the message. The turn is stored.

        `turnlog.left_out` names a block that was shown and is not stored: the reply was stopped or ended within it.
        """
        shown = len(self._calls)
        for index in self._calls[-1].complete(replies[shown - 1]) if self._calls else ():
            self.emit(own_event("left_out", index=index))
        for reply in replies[shown:]:
            self.show(reply, own_tools)
        last = replies[-1]
        delta: dict[str, Any] = {"stop_reason": stop_reason, "stop_sequence": last.stop_sequence or None}
        if last.stop_details:
            delta["stop_details"] = json.loads(last.stop_details)
        end = {"type": "message_delta", "delta": delta, "usage": usage.fields}
        self.emit(ReplyEvent("message_delta", to_json(end)))
        self.emit(ReplyEvent("message_stop", to_json({"type": "message_stop"})))
