"""NextCall: the request of a turn's next call, with as much of the history as the window and the model take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from turnlog.domain.chosen_tools import without_web_tools
from turnlog.domain.messages import Message, ModelRequest
from turnlog.domain.sessions import SessionView
from turnlog.domain.turns import Step
from turnlog.domain.window import messages, sent_before, system_of, with_system_prompt
from turnlog.domain.window_start import first_sent


@dataclass
class NextCall:
    """The calls of one turn, which begins with the messages `begun`. No turn before `sent_from` is sent.

    Without `web_tools` a session that was made with some goes on without them.
    """

    view: SessionView
    begun: tuple[Message, ...]
    web_tools: bool
    sent_from: int = 1

    def request(self, steps: Sequence[Step]) -> ModelRequest:
        """Returns the request of the call after these steps."""
        settings, turns = self.view.session.settings, self.view.turns
        said = self._said(steps)
        start = self._start(said)
        tools = settings.tools if self.web_tools else without_web_tools(settings.tools)
        settings = replace(settings, system=system_of(turns, settings.system, start), tools=tools)
        sent = messages(turns, *said, start=start)
        return with_system_prompt(ModelRequest(settings, sent, settings.cache, self._sent_before(steps, start)))

    def shorten(self, steps: Sequence[Step]) -> bool:
        """Leaves out all turns but the last one, since what was sent is too long. False if no more can be left out.

        A refused call costs nothing. The last turn is never left out: no reply comes from an empty history.
        """
        last = self.view.turns[-1].number if self.view.turns else 0
        is_longer = self._start(self._said(steps)) < last
        self.sent_from = max(last, 1)
        return is_longer

    def _said(self, steps: Sequence[Step]) -> list[Message]:
        return [*self.begun, *(message for step in steps for message in step.messages)]

    def _sent_before(self, steps: Sequence[Step], start: int) -> int:
        """The number of messages from turn `start` on that were sent by the turn's last call, or by the turn before."""
        if not steps:
            return sent_before(self.view.turns, start)
        before = self._said(steps[:-1])
        if self._start(before) != start:
            return 0
        return len(messages(self.view.turns, *before, start=start))

    def _start(self, asked: Sequence[Message]) -> int:
        """The first turn to send."""
        return max(self.sent_from, first_sent(self.view.turns, asked))
