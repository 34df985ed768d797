"""Outbox: events on their way from the thread that makes them to the event loop, which sends them to a reader."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from turnlog.domain.growing_block import TEXTS
from turnlog.domain.messages import to_json
from turnlog.domain.reply_events import ReplyEvent

_MOST_PIECES = 256  # of a text, before they are joined: a piece of 4 characters takes 60 bytes


class Outbox:
    """Events in their order. While nobody takes them, deltas of one block become one, so the bytes here are at most
    those of the turn. `put` and `end` may be called in any thread, the rest in the event loop alone.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        self._lock = threading.Lock()
        self._waiting: list[_Waiting] = []
        self._is_awaited = False
        self._is_closed = False
        self.has_begun = False
        """True once there was an event that shows something: the first one only tells what will come."""
        self.is_ended = False
        """True once no other event will come."""
        self.over = asyncio.Event()
        """Set soon after `is_ended`, for those who wait in the event loop."""
        self.count = 0
        """The number of events so far."""

    def put(self, event: ReplyEvent) -> None:
        """Takes an event. Never waits and never raises."""
        with self._lock:
            self.count += 1
            self.has_begun = self.has_begun or event.type != "turnlog.turn"
            if self._is_closed:
                return
            if not (self._waiting and self._waiting[-1].takes_in(event)):
                self._waiting.append(_Waiting(event))
            self._wake()

    def end(self) -> None:
        """Says that no other event will come."""
        with self._lock:
            self.is_ended = True
            self._wake()
        self._in_loop(self.over.set)

    def close(self) -> None:
        """Drops what is here and what will come, since nobody reads."""
        with self._lock:
            self._is_closed = True
            self._waiting.clear()

    @property
    def has_news(self) -> bool:
        """True if there is an event here, or none will come."""
        return bool(self._waiting) or self.is_ended

    def take(self) -> list[ReplyEvent]:
        """Returns all events that are here."""
        with self._lock:
            taken, self._waiting = self._waiting, []
        return [each.event for each in taken]

    async def until(self, condition: Callable[[], bool], seconds: float | None = None) -> bool:
        """Returns True once the condition is met, which only a change here can do; False after so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    with self._lock:
                        self._woken.clear()
                        self._is_awaited = True
                    if condition():
                        return True
                    await self._woken.wait()
        except TimeoutError:
            return condition()

    def wake(self) -> None:
        """Has conditions looked at again."""
        with self._lock:
            self._wake()

    def _wake(self) -> None:
        if self._is_awaited:  # else the loop is busy, and looks here before it waits
            self._is_awaited = False
            self._in_loop(self._woken.set)

    def _in_loop(self, do: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop is closed: the process ends, and only the work goes on
            self._loop.call_soon_threadsafe(do)


class _Waiting:
    """One event, or several deltas of one block that have become one."""

    __slots__ = ("_event", "_fields", "_has_grown", "_pieces")

    def __init__(self, event: ReplyEvent) -> None:
        self._event = event
        self._fields: dict[str, Any] | None = None
        self._pieces: list[str] = []
        self._has_grown = False

    def takes_in(self, event: ReplyEvent) -> bool:
        """Appends the delta, if it goes on where this one ends; False if it does not."""
        if event.type != "content_block_delta" or self._event.type != event.type:
            return False
        if self._fields is None:
            self._fields = json.loads(self._event.data)
            self._pieces = [_text(self._fields) or ""]
        more = json.loads(event.data)
        text = _text(more)
        if text is None or _key(more) != _key(self._fields):
            return False
        self._has_grown = True
        self._pieces.append(text)
        if len(self._pieces) > _MOST_PIECES:
            self._pieces = ["".join(self._pieces)]
        return True

    @property
    def event(self) -> ReplyEvent:
        if self._fields is None or not self._has_grown:
            return self._event
        delta = self._fields["delta"]
        joined = delta | {TEXTS[delta["type"]]: "".join(self._pieces)}
        return ReplyEvent(self._event.type, to_json(self._fields | {"delta": joined}))


def _text(fields: dict[str, Any]) -> str | None:
    """The text of a delta that has nothing else; None for another."""
    delta = fields.get("delta")
    if not isinstance(delta, dict):
        return None
    name = TEXTS.get(str(delta.get("type")), "")
    text = delta.get(name)
    return text if isinstance(text, str) and len(delta) == 2 and len(fields) == 3 else None


def _key(fields: dict[str, Any]) -> tuple[Any, Any] | None:
    """The block and the kind of a delta that can be appended; None, which is no other's, for one that cannot."""
    return (fields.get("index"), fields["delta"]["type"]) if _text(fields) is not None else None
