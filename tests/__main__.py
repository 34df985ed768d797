"""`make test`: every part in order, whatever the others found, then how long each took and what failed.

`python -m tests lint unit` runs only those parts.
"""

from __future__ import annotations

import subprocess
import sys
import time

PYTEST = [sys.executable, "-m", "pytest", "--quiet", "--durations=5", "--durations-min=1"]
IN_PARALLEL = [*PYTEST, "--numprocesses=2"]  # where tests share nothing, no port and no machine
PARTS = {
    "lint": ["ruff", "check", "--quiet", "."],
    "format": ["ruff", "format", "--check", "--quiet", "."],
    "types": ["mypy"],
    "sam": ["sam", "validate", "--lint", "--region", "us-east-1"],
    "cfn-lint": ["cfn-lint", "--non-zero-exit-code", "warning", "template.yaml"],
    "asvs": [sys.executable, "-m", "tests.asvs", "--short"],
    "template": [*PYTEST, "tests/template"],
    "unit": [*IN_PARALLEL, "tests/unit"],
    "usecases": [*PYTEST, "tests/usecases"],
    "contract": [*IN_PARALLEL, "tests/contract"],
    "promises": [*PYTEST, "tests/promises"],
    "handlers": [*IN_PARALLEL, "tests/handlers"],
    "e2e": [*PYTEST, "tests/e2e"],
}
STATIC = ("lint", "format", "types", "sam", "cfn-lint")


def main(chosen: list[str]) -> int:
    """1 when a part failed; 2 when there is no such part."""
    if unknown := [name for name in chosen if name not in (*PARTS, "static")]:
        print(f"no such part: {', '.join(unknown)}; there are {', '.join([*PARTS, 'static'])}", file=sys.stderr)
        return 2
    wanted = {part for name in chosen for part in (STATIC if name == "static" else [name])} or set(PARTS)
    took: dict[str, float] = {}
    failed: list[str] = []
    for name, command in PARTS.items():
        if name in wanted:
            print(f"\n=== {name}: {' '.join(command[2:] if command[0] == sys.executable else command)}", flush=True)
            began = time.monotonic()
            if subprocess.run(command, check=False).returncode:
                failed.append(name)
            took[name] = time.monotonic() - began
    print()
    for name, seconds in took.items():
        print(f"{name:10} {seconds:6.1f} s  {'FAILED' if name in failed else 'passed'}")
    print(f"{'all':10} {sum(took.values()):6.1f} s  {'FAILED' if failed else 'passed'}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
