"""A model whose replies have names."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from tests.fakes import ScriptedModel
from turnlog.domain.messages import ModelRequest, Reply
from turnlog.domain.reply_events import OnEvent, events_of


@dataclass
class NamedModel(ScriptedModel):
    """Gives each reply an id, and tells its events, as the provider does."""

    ids: list[str] = field(default_factory=list)

    def reply(
        self, request: ModelRequest, seconds: float, on_event: OnEvent | None = None, *, retry_s: float | None = None
    ) -> Reply:
        reply = super().reply(request, seconds, retry_s=retry_s)
        self.ids.append(f"msg_{len(self.ids) + 1}")
        named = replace(reply, id=self.ids[-1])
        if on_event:
            all(map(on_event, events_of(named)))
        return named
