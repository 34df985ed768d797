"""`make bench-peers`: what a turn costs in Turnlog and in its peers, where they break, and what a race leaves of two.

A table here, everything as JSON in .turnlog/bench-peers.json, a picture in docs/peers.svg; the exit code is 1 when
Turnlog misses a target. Counts and ratios only: they are the same on every machine, but for a unit here and there where
a store compresses random ids. Each store runs in an environment of its own under .tools/peers, which make installs, and
talks to one DynamoDB Local through one recording relay.
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from local.state import ROOT
from tests.bench.peers.catalog import OURS, PEERS, Configuration
from tests.bench.peers.client import kill_all
from tests.bench.peers.dynamodb_local import PROGRAM, dynamodb_local
from tests.bench.peers.measure import Result, measure
from tests.bench.peers.picture import picture
from tests.bench.peers.report import as_json, table
from tests.bench.peers.targets import targets
from tests.bench.peers.wire import Wire

OUTPUT, PICTURE = Path(".turnlog/bench-peers.json"), Path("docs/peers.svg")
_AT_ONCE = 3  # stores share nothing but the database, and no time is measured


def main() -> int:
    """2 when something is not installed, 1 when a target is missed."""
    needed = [ROOT / each.python for each in PEERS] + [ROOT / PROGRAM]
    if missing := sorted({str(path) for path in needed if not path.exists()}):
        print("`make bench-peers` installs these first:", *missing, sep="\n", file=sys.stderr)
        return 2
    results = _measure_all()
    ours, peers = results[: len(OURS)], results[len(OURS) :]
    reached = list(targets(ours, peers))
    print("\nA conversation of 2,000 characters a turn, each turn from a fresh start:\n", *table(results), sep="\n")
    print("\nTargets", *(f"{'reached' if each.reached else 'MISSED ':8} {each.says}" for each in reached), sep="\n")
    OUTPUT.parent.mkdir(mode=0o700, exist_ok=True)
    OUTPUT.write_text(json.dumps(as_json(results, reached), indent=1) + "\n")
    PICTURE.write_text(picture(ours, peers))
    print(f"\nAs JSON: {OUTPUT}; as a picture: {PICTURE}")
    return 0 if all(each.reached for each in reached) else 1


def _measure_all() -> list[Result]:
    """Ours first, then the peers, in the order of the catalog."""
    with (
        tempfile.TemporaryDirectory(prefix="turnlog-peers-") as path,
        dynamodb_local(Path(path)) as port,
        Wire(port).relayed() as wire,
        ThreadPoolExecutor(_AT_ONCE) as pool,
    ):

        def run(number: int, configuration: Configuration) -> Result:
            result = measure(configuration, number, wire, Path(path))
            print(f"measured {configuration.name}", flush=True)
            return result

        running = [pool.submit(run, number, each) for number, each in enumerate([*OURS, *PEERS])]
        try:
            for each in as_completed(running):
                each.result()
        except BaseException:  # after a failure, or when somebody stops it, the rest is not worth its time
            pool.shutdown(wait=False, cancel_futures=True)
            kill_all()
            raise
        return [each.result() for each in running]


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is ended and removed
    sys.exit(main())
