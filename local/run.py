"""`make run`: the whole of Turnlog on this machine, in the foreground until Ctrl-C."""

from __future__ import annotations

import signal
import sys


def main() -> int:
    """Returns 0 after a stop by a signal; 1, with a message, when something failed or runs already."""
    # Nothing runs yet that has to be stopped, and the imports take a second, in which a Ctrl-C would be a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from local.launcher import launch

    return launch()


if __name__ == "__main__":
    sys.exit(main())
