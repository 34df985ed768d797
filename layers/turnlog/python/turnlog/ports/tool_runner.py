"""The ToolRunner port: the service's own tools, run for one owner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from turnlog.domain.tools import ToolCall, ToolResult


class ToolRunner(Protocol):
    """Runs tools that the service offers by itself."""

    def run(self, calls: Sequence[ToolCall], owner: str, seconds: float) -> list[ToolResult]:
        """Runs the calls side by side and returns one result for each, in their order, within about `seconds`.

        Never raises for a call: one that fails, takes too long, returns too much or names no tool of the service has a
        result that says so, without the text of an exception. A call may be run again under the same id, after a crash,
        and at the same time; a tool that must act once is told the id.
        """
