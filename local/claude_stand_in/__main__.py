"""Runs the stand-in in the foreground until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import signal
import sys

from local.claude_stand_in.server import StandIn

_MORE = "local/claude_stand_in/README.md lists the words that ask it for tools, thinking or a stop reason."


def main() -> int:
    """Serves until a signal and returns 0. Returns 1 when the port is taken."""
    parser = argparse.ArgumentParser(
        prog="python -m local.claude_stand_in", description="A stand-in for Claude.", epilog=_MORE
    )
    parser.add_argument("--port", type=int, default=8788, help="on 127.0.0.1; 0 takes a free one (default: 8788)")
    # Blocked before the first thread starts: threads inherit it, so that sigwait below is the only one to get them.
    endings = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, endings)
    try:
        with StandIn(parser.parse_args().port) as claude:
            print(f"Claude stand-in (not Claude) on {claude.url}; Ctrl-C ends it", flush=True)
            signal.sigwait(endings)
    except OSError as error:
        print(f"Claude stand-in cannot listen: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
