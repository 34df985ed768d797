"""Models of Claude: names, sizes, abilities, and the days on which they begin and end.

Sources: the provider's pages of its models, of deprecations and of thinking (platform.claude.com/docs), as of
2026-11-29, and the types of its SDK 2.12.0. What they do not say is None, and never a guess.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import date
from typing import Literal

from turnlog.errors import ModelRetired

_NAME = re.compile(
    r"(?:(?:(?P<area>[a-z]+(?:-[a-z]+)*)\.)?(?P<bedrock>anthropic)\.)?"
    r"(?P<base>claude-[a-z0-9-]+?)(?:-\d{8})?(?:-v\d+)?(?::\d+)?"
)

Lifecycle = Literal["active", "deprecated", "retired"]

EFFORTS = ("low", "medium", "high", "xhigh", "max")
"""Every level of effort, the least first."""

_LEVELS = {0: (), 3: EFFORTS[:3], 4: (*EFFORTS[:3], "max"), 5: EFFORTS}


@dataclass(frozen=True, slots=True)
class Model:
    """One model. `thinking` are the values of `thinking.type` that it accepts, `effort` the levels of effort.

    `retires` is the day from which the provider refuses it, as far as that is announced. `successor` is the model that
    the provider names instead, or the newest one of the same line.
    """

    id: str
    display_name: str
    released: date | None = None
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    smallest_cached_prefix: int | None = None
    thinking: tuple[str, ...] | None = None
    effort: tuple[str, ...] | None = None
    forced_tool_choice: bool | None = None
    structured_output: bool | None = None
    images: bool | None = None
    pdf: bool | None = None
    citations: bool | None = None
    web_search: bool | None = None
    system_messages: bool | None = None
    """True if it takes messages of the role `system` in the middle of a conversation."""
    deprecated: date | None = None
    retires: date | None = None
    successor: str | None = None

    @property
    def line(self) -> str:
        """The model's line, such as `opus`."""
        return self.id.split("-")[1]

    def lifecycle(self, on: date) -> Lifecycle:
        """Returns the stage of life on this day."""
        if self.retires and self.retires <= on:
            return "retired"
        return "deprecated" if self.deprecated and self.deprecated <= on else "active"


def model_of(name: str) -> Model | None:
    """Returns the model of this name: the provider's own, one with a date, or Amazon Bedrock's. None if unknown.

    Amazon Bedrock retires models on days of its own, and has its own tools; neither is known here. It takes no system
    messages in the middle of a conversation.
    """
    found = MODELS.get(base_name(name))
    if found and _parts(name)["bedrock"]:
        return replace(found, web_search=None, system_messages=False, deprecated=None, retires=None)
    return found


def base_name(name: str) -> str:
    """Returns the name without a date and without what Amazon Bedrock adds; a name of another form stays as it is."""
    return _parts(name)["base"] or name


def is_regional(name: str) -> bool:
    """True for a name under which Amazon Bedrock computes in one area only, which costs more than `global.`."""
    parts = _parts(name)
    return parts["bedrock"] is not None and parts["area"] != "global"


def is_retired(name: str, on: date) -> bool:
    """True if the provider refuses the model by this day."""
    model = model_of(name)
    return model is not None and model.lifecycle(on) == "retired"


def successor_of(name: str) -> str | None:
    """Returns the name of the model to take instead; None if none is known."""
    model = model_of(name)
    return model.successor if model else None


def require_not_retired(name: str, on: date) -> None:
    """Raises ModelRetired for a model that the provider refuses by this day."""
    if is_retired(name, on):
        raise ModelRetired(successor_of(name))


def _parts(name: str) -> dict[str, str | None]:
    found = _NAME.fullmatch(name)
    return found.groupdict() if found else dict.fromkeys(("area", "bedrock", "base"))


def _current(
    name: str,
    released: str,
    size: str,
    thinking: str,
    effort: int,
    *,
    forced: bool = True,
    system: bool = True,
    deprecated: str = "",
    retires: str = "",
    successor: str = "",
) -> Model:
    """Returns a model that the provider serves. `size`: thousands of tokens of context and output, smallest prefix.

    All of these read images and PDF, cite, search the web and answer by a schema. `effort` counts the levels: five,
    four (all but xhigh), three, or none.
    """
    context, output, *prefix = (int(each) for each in size.split())
    return Model(
        f"claude-{name}",
        _display_name(name),
        date.fromisoformat(released),
        context * 1000,
        output * 1000,
        prefix[0] if prefix else None,
        tuple(thinking.split()),
        _LEVELS[effort],
        forced,
        structured_output=True,
        images=True,
        pdf=True,
        citations=True,
        web_search=True,
        system_messages=system,
        deprecated=date.fromisoformat(deprecated) if deprecated else None,
        retires=date.fromisoformat(retires) if retires else None,
        successor=f"claude-{successor}" if successor else None,
    )


def _past(name: str, retired: str, successor: str) -> Model:
    return Model(
        f"claude-{name}", _display_name(name), retires=date.fromisoformat(retired), successor=f"claude-{successor}"
    )


def _display_name(name: str) -> str:
    line, _, version = name.partition("-")
    return f"Claude {line.title()} {version.replace('-', '.').title()}"


MODELS: dict[str, Model] = {
    each.id: each
    for each in (
        _current("fable-5-2", "2026-11-09", "1000 128", "adaptive", 5, forced=False),
        _current("mythos-5-2", "2026-11-09", "1000 128", "adaptive", 5, forced=False),
        _current("haiku-5-5", "2026-10-07", "1000 128 512", "adaptive disabled", 5),
        _current("sonnet-5-5", "2026-09-28", "1000 128 512", "adaptive between_tools", 5, forced=False),
        _current("opus-5-5", "2026-09-22", "1000 128 512", "adaptive", 5, forced=False),
        _current("fable-5-1", "2026-09-01", "1000 128 512", "adaptive", 5, forced=False, successor="fable-5-2"),
        _current("mythos-5-1", "2026-09-01", "1000 128 512", "adaptive", 5, forced=False, successor="mythos-5-2"),
        _current("opus-5", "2026-07-24", "1000 128 512", "adaptive disabled", 5, successor="opus-5-5"),
        _current("sonnet-5", "2026-06-30", "1000 128 1024", "adaptive disabled", 5, successor="sonnet-5-5"),
        _current("fable-5", "2026-06-09", "1000 128 512", "adaptive", 5, successor="fable-5-2"),
        _current("mythos-5", "2026-06-09", "1000 128 512", "adaptive", 5, successor="mythos-5-2"),
        _current("opus-4-8", "2026-05-28", "1000 128 1024", "adaptive disabled", 5, successor="opus-5-5"),
        _current("opus-4-7", "2026-04-16", "1000 128 2048", "adaptive disabled", 5, system=False, successor="opus-5-5"),
        _current(
            "sonnet-4-6",
            "2026-02-17",
            "1000 128 1024",
            "adaptive enabled disabled",
            4,
            system=False,
            successor="sonnet-5-5",
        ),
        _current(
            "opus-4-6",
            "2026-02-05",
            "1000 128 4096",
            "adaptive enabled disabled",
            4,
            system=False,
            successor="opus-5-5",
        ),
        _current(
            "opus-4-5",
            "2025-11-24",
            "200 64 4096",
            "enabled disabled",
            3,
            system=False,
            deprecated="2026-11-23",
            retires="2027-01-22",
            successor="opus-5-5",
        ),
        _current("haiku-4-5", "2025-10-15", "200 64 4096", "enabled disabled", 0, system=False, successor="haiku-5-5"),
        _current(
            "sonnet-4-5",
            "2025-09-29",
            "200 64 1024",
            "enabled disabled",
            0,
            system=False,
            deprecated="2026-09-30",
            retires="2026-11-30",
            successor="sonnet-5-5",
        ),
        _past("opus-4-1", "2026-08-05", "opus-5-5"),
        _past("mythos-preview", "2026-06-30", "mythos-5-2"),
        _past("opus-4", "2026-06-15", "opus-5-5"),
        _past("sonnet-4", "2026-06-15", "sonnet-5-5"),
    )
}
"""Every model by its id, the newest first."""
