"""A Strands agent whose model is the benchmark, for the two stores of Strands that keep sessions in DynamoDB."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from strands import Agent
from strands.models import Model

from .protocol import Ask


class AskedModel(Model):  # type: ignore[misc] # its type is known in its own environment alone
    """Replies with what `ask` says."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def update_config(self, **_: Any) -> None:
        """There is nothing to configure."""

    def get_config(self) -> dict[str, Any]:
        return {}

    def structured_output(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    async def stream(self, messages: Any, *_: Any, **__: Any) -> AsyncIterator[dict[str, Any]]:
        reply = self._ask(texts(messages))
        yield {"messageStart": {"role": "assistant"}}
        yield {"contentBlockDelta": {"delta": {"text": reply}}}
        yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "end_turn"}}


def agent(session_manager: Any, ask: Ask) -> Agent:
    """Restored from what the manager has stored; window and all else as Strands sets them."""
    return Agent(model=AskedModel(ask), session_manager=session_manager, agent_id="assistant", callback_handler=None)


def texts(messages: Any) -> list[str]:
    return ["".join(block.get("text", "") for block in each["content"]) for each in messages]
