"""ToolContext: what a tool is told of its run, and what it is given, none of which the model can choose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from turnlog.ports.inbox import Inbox


@dataclass(frozen=True, slots=True)
class ToolContext:
    """One run of a tool.

    `call_id` is the same however often the call is run, so that a tool can act once. `owner` is the verified caller,
    for whom alone it acts. `now_ms` is the time at which the run began, and `seconds_left` returns the seconds until
    nobody waits for the result any more.
    """

    call_id: str
    owner: str
    now_ms: int
    seconds_left: Callable[[], float]


@dataclass(frozen=True, slots=True)
class DocumentContext(ToolContext):
    """A run in the function that may read uploaded documents."""

    documents: Inbox
