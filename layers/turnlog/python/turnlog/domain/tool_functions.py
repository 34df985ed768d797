"""Tool: a typed Python function that the model may call, with its bounds, and what it may return."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_type_hints

RESULT_BYTES = 400_000
"""The most bytes of a tool's result as JSON, where its author asks for no other number; about 100,000 tokens."""


@dataclass(frozen=True, slots=True)
class ToolFailure:
    """A result that tells the model why there is none, in the tool's own fixed words."""

    text: str


@dataclass(frozen=True, slots=True)
class ContentBlocks:
    """A result of content blocks of the Messages API: `text`, `image`, `document` or `search_result`."""

    blocks: list[dict[str, Any]]


@dataclass(frozen=True)
class Tool:
    """A tool of the service.

    `function` takes first what it is told of its run, and then, by name, what the model gives it. It returns a text, a
    value that becomes JSON, ContentBlocks or a ToolFailure. Its docstring is the tool's description, and the types and
    descriptions of its parameters are the tool's schema.

    `seconds` and `result_bytes` are its bounds. A tool that is not `reads_only` may be run again under the same call's
    id, and must then act once. One that reaches AWS has no right to in the function that asks the model: `runs_in`
    names the function of its own in which it runs instead; empty for one that runs beside the model's call.
    """

    function: Callable[..., object]
    seconds: float
    reads_only: bool
    result_bytes: int = RESULT_BYTES
    runs_in: str = ""

    @property
    def name(self) -> str:
        return self.function.__name__

    @cached_property
    def arguments(self) -> Callable[..., dict[str, Any]]:
        """A function with those parameters alone that the model sees, which returns them as they were given.

        Whatever derives a schema or validates by a signature is given this one.
        """
        signature, hints = inspect.signature(self.function), get_type_hints(self.function, include_extras=True)
        shown = [
            each.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[each.name])
            for each in list(signature.parameters.values())[1:]
        ]

        def arguments(**given: Any) -> dict[str, Any]:
            return given

        arguments.__name__, arguments.__doc__ = self.name, self.function.__doc__
        arguments.__annotations__ = {each.name: each.annotation for each in shown}
        arguments.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
        return arguments


def tool(
    *, seconds: float, reads_only: bool, result_bytes: int = RESULT_BYTES, runs_in: str = ""
) -> Callable[[Callable[..., object]], Tool]:
    """Makes a tool of the function under it."""
    return lambda function: Tool(function, seconds, reads_only, result_bytes, runs_in)
