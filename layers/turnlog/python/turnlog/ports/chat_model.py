"""The ChatModel port: one request to a model, one reply or one of the ModelErrors."""

from __future__ import annotations

from typing import Protocol

from turnlog.domain.messages import ModelRequest, Reply
from turnlog.domain.reply_events import OnEvent


class ChatModel(Protocol):
    """A model that answers one request with one reply."""

    def reply(
        self, request: ModelRequest, seconds: float, on_event: OnEvent | None = None, *, retry_s: float | None = None
    ) -> Reply:
        """Returns the whole reply, or raises a ModelError, within about `seconds`.

        Tries again only after failures that cannot have been billed, and gives up so early that the last of them is
        raised within `retry_s`, which is `seconds` unless it is given. The call that is not refused goes on for
        `seconds`, since it may be billed.

        `on_event` is called with the events of this reply, in order, in this thread and before the method returns. Put
        together they make up the reply that is returned, in which half a call of a tool is left out if the reply was
        cut short within it, as at its most tokens. How early and how finely they come is not promised: an adapter that
        reads the reply at once calls it with all of them at the end. After the first event there is no other try. When
        the method raises, the events so far belong to no reply. Only the returned reply may be stored.

        Once `on_event` returns False, the provider is asked for no more, and the method returns what has come, with the
        stop reason `stopped`: whole blocks and the text so far, with the usage as far as the provider has told it. The
        tokens of the reply itself are not known then, so the caller decides on what to take for its cost.
        """
