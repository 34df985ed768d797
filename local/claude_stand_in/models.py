"""The models that the stand-in plays, and what each takes. One table of its own: it shares no facts with what it tests.

Sources: the list ModelParam of anthropic 2.12.0; the provider's pages Models overview, What's new in Claude Opus 5.5
and Preserved thinking; reports of users for the smallest cached prefix.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

_UNKNOWN = datetime(1970, 1, 1, tzinfo=UTC)  # what the Models API says of a day of release that it does not know
ALL_EFFORTS = ("low", "medium", "high", "xhigh", "max")
_FREE = ("adaptive", "between_tools", "disabled")  # ways to think: the model's choice, which can be switched off
_ALWAYS = ("adaptive", "between_tools")
_BOTH = ("adaptive", "enabled", "disabled")
_BUDGET = ("enabled", "disabled")


@dataclass(frozen=True, slots=True)
class Model:
    """One model. `thinking` lists the types of thinking that it takes; one that is always on cannot be disabled.

    `least_cached` is the smallest prefix in tokens that is cached. With `binds_thinking` a thinking block is valid
    after the very conversation that it was made for, and nowhere else.
    """

    id: str
    least_cached: int
    thinking: tuple[str, ...] = _FREE
    efforts: tuple[str, ...] = ALL_EFFORTS
    context: int = 1_000_000
    most_output: int = 128_000
    binds_thinking: bool = False
    forces_tools: bool = True
    takes_system_messages: bool = True
    dated: str = ""  # its other id, which ends with a day
    created: datetime = _UNKNOWN
    retires: datetime | None = None

    @property
    def line(self) -> str:
        return self.id.split("-")[1]

    @property
    def name(self) -> str:
        """The name for people: "Claude Opus 5.5"."""
        _, line, *numbers = self.id.split("-")
        return f"Claude {line.capitalize()} {'.'.join(each.capitalize() for each in numbers)}"

    def is_retired(self, now: datetime) -> bool:
        return self.retires is not None and self.retires <= now

    def to_json(self, now: datetime) -> dict[str, Any]:
        """The object of the Models API: ModelInfo."""
        return {
            "type": "model",
            "id": self.id,
            "display_name": self.name,
            "created_at": _written(self.created),
            "line": self.line,
            "lifecycle": "retired" if self.is_retired(now) else "deprecated" if self.retires else "active",
            "deprecated_at": None,
            "retires_at": _written(self.retires) if self.retires else None,
            "max_input_tokens": self.context,
            "max_tokens": self.most_output,
            "capabilities": self._capabilities(),
        }

    def _capabilities(self) -> dict[str, Any]:
        kinds = ("adaptive", "between_tools", "disabled", "enabled")
        always = ("batch", "citations", "image_input", "pdf_input", "structured_outputs")
        return {
            **{name: _supported(True) for name in always},
            "code_execution": _supported(False),
            "context_management": _supported(False),
            "effort": {name: _supported(name in self.efforts) for name in ALL_EFFORTS} | _supported(bool(self.efforts)),
            "server_tools": {"code_execution": _supported(False), "web_search": _supported(True)} | _supported(True),
            "thinking": {"types": {kind: _supported(kind in self.thinking) for kind in kinds}} | _supported(True),
        }


def _newest(name: str, least_cached: int = 512, created: datetime = _UNKNOWN) -> Model:
    """A model that always thinks, for one conversation, and cannot be forced to call a tool."""
    return Model(name, least_cached, _ALWAYS, binds_thinking=True, forces_tools=False, created=created)


def _older(name: str, least_cached: int, thinking: tuple[str, ...], efforts: int = 5, **more: Any) -> Model:
    """A model from before messages of the system in the middle of a conversation."""
    efforts_taken = tuple(each for each in ALL_EFFORTS if each != "xhigh")[:efforts] if efforts < 5 else ALL_EFFORTS
    return Model(name, least_cached, thinking, efforts_taken, takes_system_messages=False, **more)


MODELS = {
    model.id: model
    for model in (  # the newest first, as the Models API lists them
        _newest("claude-fable-5-2"),
        _newest("claude-mythos-5-2"),
        Model("claude-haiku-5-5", 512, binds_thinking=True),
        Model("claude-sonnet-5-5", 512, binds_thinking=True),
        _newest("claude-opus-5-5", created=datetime(2026, 9, 22, tzinfo=UTC)),
        _newest("claude-fable-5-1"),
        _newest("claude-mythos-5-1"),
        Model("claude-sonnet-5", 1_024),
        Model("claude-fable-5", 512),
        Model("claude-mythos-5", 512),
        Model("claude-opus-5", 512),
        Model("claude-opus-4-8", 1_024),
        _older("claude-opus-4-7", 2_048, ("adaptive", "disabled")),
        _older("claude-opus-4-6", 4_096, _BOTH, efforts=4),
        _older("claude-sonnet-4-6", 1_024, _BOTH, efforts=4),
        _older("claude-haiku-4-5", 4_096, _BUDGET, efforts=0, context=200_000, most_output=64_000, dated="20251001"),
        _older(
            "claude-opus-4-5", 4_096, _BUDGET, efforts=3, context=200_000, most_output=64_000, dated="20251101",
            retires=datetime(2027, 1, 22, tzinfo=UTC),
        ),
        _older(
            "claude-sonnet-4-5", 1_024, _BUDGET, efforts=0, context=200_000, most_output=64_000, dated="20250929",
            retires=datetime(2026, 11, 30, tzinfo=UTC),
        ),
    )
}  # fmt: skip
_BY_ANY_ID = MODELS | {f"{model.id}-{model.dated}": model for model in MODELS.values() if model.dated}


def model_of(name: str) -> Model | None:
    """The model with this id, dated or not; None when there is none."""
    return _BY_ANY_ID.get(name)


def _supported(supported: bool) -> dict[str, bool]:
    return {"supported": supported}


def _written(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")
