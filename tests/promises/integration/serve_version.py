"""Serves the functions of one version of Turnlog in a process of its own: a line of JSON in, a line of JSON out.

It is run by its path, imports nothing of the tests, and finds its version by PYTHONPATH. Its argument is the version's
root. A request is `{"function": …, "event": …}`; the first line out names the file of the package that is served.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any


class Context:
    """The facts of an invocation that Lambda gives a handler."""

    aws_request_id = "req-1"

    def get_remaining_time_in_millis(self) -> int:
        return 29_000


def main(root: Path) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the handlers log is no answer

    @cache
    def handler(function: str) -> Callable[[Any, Context], Any]:
        found: Callable[[Any, Context], Any] = runpy.run_path(str(root / "functions" / function / "app.py"))["handler"]
        return found

    def say(value: object) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    handler("session")
    say(sys.modules["turnlog"].__file__)
    for line in sys.stdin:
        asked = json.loads(line)
        say(handler(asked["function"])(asked["event"], Context()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
