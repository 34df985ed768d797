"""A function in a process of its own: reads an event a line, and writes the answer and what it has used until then.

It imports what a function imports and nothing else, so that it counts what Lambda would count. The first line that it
writes is about its start.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from functools import cache, partial

# An exec hands its process the peak of the memory before it, here the parent's; a fork begins anew.
if child := os.fork():
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what the function prints is its log


class Context:
    aws_request_id = "6f1f2c9e-0000-4000-8000-000000000001"

    def get_remaining_time_in_millis(self) -> int:
        return 300_000


def used() -> dict[str, float]:
    """Its peak of resident memory in MB, and its processor time in seconds."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"peak_mb": peak / (1_048_576 if sys.platform == "darwin" else 1024), "cpu_s": time.process_time()}


def later(ahead_ms: int) -> int:
    """The time that it will be, in milliseconds."""
    return time.time_ns() // 1_000_000 + ahead_ms


def tell(answer: object) -> None:
    answers.write(json.dumps([answer, used()]) + "\n")
    answers.flush()


import app  # type: ignore[import-not-found] # noqa: E402 (after the fork; each function's folder has its own)

from turnlog import runtime  # noqa: E402 (every function has imported it by now)

tell(None)
make_client = runtime._client.__wrapped__
# Its calls wait as long as a busy machine takes: it is no part of what is measured.
runtime._client = cache(lambda service, attempts=1, read_timeout_s=60: make_client(service, attempts, 60))
runtime.gateway_s = lambda: 3600  # type: ignore[assignment] # so that no request stops for want of time
for line in sys.stdin:
    ahead_ms, event = json.loads(line)
    runtime.now_ms = partial(later, ahead_ms)
    tell(app.handler(event, Context()))
