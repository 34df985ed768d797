"""Starts the commands of this folder: see commands.py."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # As in pyproject.toml for pytest, so that a replay needs no settings.
    sys.path.insert(0, str(Path(__file__).parents[2] / "layers/turnlog/python"))
    from tests.promises.commands import main

    sys.exit(main(sys.argv[1:]))
