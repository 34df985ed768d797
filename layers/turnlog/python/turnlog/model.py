"""The ChatModel port: one request to a model, one reply or one of the ModelErrors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from turnlog.messages import Message, Reply


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """What the model is shown: user and assistant messages in order, the last one the user's.

    `cached` asks for cache breakpoints, which pay when the same prefix comes again within minutes, as in a session.
    """

    model: str
    messages: tuple[Message, ...]
    max_tokens: int
    system: str = ""
    stop_sequences: tuple[str, ...] = ()
    cached: bool = False


class ChatModel(Protocol):
    def reply(self, request: ModelRequest, seconds: float) -> Reply:
        """The whole reply, or a ModelError within about `seconds`.

        Tries again only after failures that cannot have been billed, and only while the time lasts.
        """
