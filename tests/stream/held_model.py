"""A model that tells a reply as slowly as the test lets it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace

from tests.fakes import HashModel, tell
from turnlog.domain.messages import ModelRequest, Reply, to_json
from turnlog.domain.reply_events import OnEvent, ReplyEvent

PATIENCE_S = 10
"""The longest that a test waits for what should come at once."""


@dataclass
class HeldModel(HashModel):
    """Tells one event for each that it may tell. `asked` is set once it has been asked; `text` is its reply, if any."""

    text: str = ""
    asked: threading.Event = field(default_factory=threading.Event)
    _allowed: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    _is_free: bool = False

    def allow(self, count: int = 1) -> None:
        """Lets it tell so many events more."""
        self._allowed.release(count)

    def free(self) -> None:
        """Lets it tell all."""
        self._is_free = True
        self.allow()

    def reply(
        self, request: ModelRequest, seconds: float, on_event: OnEvent | None = None, *, retry_s: float | None = None
    ) -> Reply:
        reply = self._reply(request, seconds, retry_s)
        if self.text:
            reply = replace(reply, content=to_json([{"type": "text", "text": self.text}]))
        self.asked.set()
        return tell(reply, on_event, self._wait) if on_event else reply

    def _wait(self, _: ReplyEvent) -> None:
        if not self._is_free:
            assert self._allowed.acquire(timeout=PATIENCE_S)
            if self._is_free:
                self._allowed.release()
