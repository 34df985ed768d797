"""`make clean`: removes everything that the targets have created, unless a stack of this folder runs."""

from __future__ import annotations

import shutil
import sys

from local.state import ROOT, StateFolder

_MADE = (".turnlog", ".aws-sam", ".venv", ".tools", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis")


def main() -> int:
    """Returns 0 when all is removed; 1 when a stack runs, and then nothing is removed."""
    running = [lock.parent for lock in (ROOT / ".turnlog").glob("**/lock") if StateFolder(lock.parent).is_held()]
    if running:
        print(f"Turnlog is running from {running[0]}: stop it first.", file=sys.stderr)
        return 1
    for name in _MADE:
        shutil.rmtree(ROOT / name, ignore_errors=True)
    for name in ("functions", "layers", "local", "tests"):
        for cache in list((ROOT / name).rglob("__pycache__")):
            shutil.rmtree(cache, ignore_errors=True)
    print("Removed all that was built, installed and stored.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
