"""The ChatModel port: one request to a model, one reply or one of the ModelErrors."""

from __future__ import annotations

from typing import Protocol

from turnlog.domain.messages import ModelRequest, Reply


class ChatModel(Protocol):
    def reply(self, request: ModelRequest, seconds: float) -> Reply:
        """The whole reply, or a ModelError within about `seconds`.

        Tries again only after failures that cannot have been billed, and only while the time lasts.
        """
