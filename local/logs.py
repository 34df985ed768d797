"""`make logs`: what the functions of the running stack write, from now on until Ctrl-C."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local.stack import Aws
from local.state import ROOT, StateFolder

_POLL_S = 0.5
_LATE_MS = 5_000  # an event may be written a moment after its time
_OF_LAMBDA = ("START RequestId: ", "END RequestId: ", "REPORT RequestId: ")


class Follower:
    """Reads a log group again and again, and gives each event once."""

    def __init__(self, client: Any, group: str, since_ms: int) -> None:
        self._client = client
        self._group = group
        self._since_ms = since_ms
        self._seen: Counter[tuple[str, ...]] = Counter()

    def new_lines(self) -> Iterator[str]:
        """Yields what was written since the last call, without Lambda's own lines."""
        pages = self._client.get_paginator("filter_log_events")
        events = [
            event
            for page in pages.paginate(logGroupName=self._group, startTime=self._since_ms)
            for event in page["events"]
        ]
        found: Counter[tuple[str, ...]] = Counter()
        for event in events:
            same = event["logStreamName"], str(event["timestamp"]), event["message"]  # MiniStack gives events no ids
            found[same] += 1
            if found[same] > self._seen[same] and not event["message"].startswith(_OF_LAMBDA):
                yield event["message"]
        self._seen = found
        self._since_ms = max([self._since_ms, *(event["timestamp"] - _LATE_MS for event in events)])


def main() -> int:
    """Follows until Ctrl-C. Returns 1 when no stack runs, or no longer."""
    parser = argparse.ArgumentParser(prog="python -m local.logs", description="Follows the functions' logs.")
    parser.add_argument("--state", type=Path, default=ROOT / ".turnlog")
    state = StateFolder(parser.parse_args().state)
    running = state.read(state.run_json)
    if not running:
        print("No stack runs here: `make run` starts one.", file=sys.stderr)
        return 1
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    follower = Follower(Aws(running["aws_endpoint"]).client("logs"), running["log_groups"]["Logs"], _now_ms())
    print("following what the functions write; Ctrl-C ends it", file=sys.stderr, flush=True)
    try:
        while True:
            for line in follower.new_lines():
                print(line)
            sys.stdout.flush()
            time.sleep(_POLL_S)
    except (BotoCoreError, ClientError):
        print("The stack has ended.", file=sys.stderr)
        return 1


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    sys.exit(main())
