"""A tool that notes the id of each of its runs in a file, so what counts them outlives every handler."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.promises.integration.model_server import PATIENCE_S, TOOL
from turnlog.adapters.lambda_tools import LambdaTools
from turnlog.adapters.tool_runner import ThreadToolRunner
from turnlog.clock import system_clock
from turnlog.domain.tool_functions import Tool
from turnlog.ports.tool_context import ToolContext


@dataclass(frozen=True, slots=True)
class ToolLog:
    """The file with the id of each run."""

    path: Path

    def note(self, call_id: str) -> int:
        """Returns the number of runs so far."""
        with self.path.open("a") as file:
            file.write(call_id + "\n")  # one write of a short line: those of several processes do not mix
        return len(self.path.read_text().splitlines())

    def runs(self) -> Counter[str]:
        return Counter(self.path.read_text().splitlines() if self.path.exists() else [])

    def runner(self, during: Callable[[int], None] = lambda _: None) -> ThreadToolRunner:
        """The runner that is shipped, with a tool that calls `during` with the number of its runs so far."""

        def look_up(context: ToolContext) -> str:
            """Looks something up."""
            during(self.note(context.call_id))
            return f"Found for {context.call_id}."

        assert look_up.__name__ == TOOL
        tool = Tool(look_up, seconds=2 * PATIENCE_S, reads_only=False)
        return ThreadToolRunner([tool], LambdaTools(lambda: None, {}), _raise, system_clock)


def _raise(name: str, error: BaseException) -> None:
    raise error
