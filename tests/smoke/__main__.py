"""`make smoke`: the smoke test by the command line. Exits with 0 when nothing failed, 1 when something did."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tests.smoke import Target, run


def main() -> int:
    """Returns the exit code; 2 for a URL that is none."""
    parser = argparse.ArgumentParser(prog="python -m tests.smoke", description="Asks a deployment what its users ask.")
    given = os.environ.get
    parser.add_argument("--url", default=given("SMOKE_URL", ""), help="of the API, with /v1; or SMOKE_URL")
    parser.add_argument("--token", default=given("SMOKE_TOKEN", ""), help="of a user; or SMOKE_TOKEN")
    parser.add_argument(
        "--origin", default=given("SMOKE_ORIGIN", ""), help="the deployment's CorsOrigin, if it has one"
    )
    parser.add_argument("--stack", default=given("SMOKE_STACK") or "turnlog", help="the name of the stack")
    parser.add_argument(
        "--bucket", default=given("SMOKE_BUCKET", ""), help="of documents; by default the stack says it"
    )
    parser.add_argument("--state", type=Path, default=Path(".turnlog"), help="the folder of a stack on this machine")
    asked = parser.parse_args()
    try:
        target = Target(asked.url, asked.token.strip(), asked.origin, asked.stack, asked.bucket, asked.state)
    except ValueError as error:
        parser.error(f"{asked.url or 'URL=… (--url) is missing'}: {error}")
    try:
        return 0 if run(target) else 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
