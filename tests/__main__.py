"""`make test`: every part, three side by side, whatever the others found; then how long each took and what failed.

`python -m tests lint unit` runs only those parts.
"""

from __future__ import annotations

import compileall
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from local.processes import Interruption
from tests.lanes import run

LANES = 3
PYTEST = [sys.executable, "-m", "pytest", "--quiet", "--durations=5", "--durations-min=1"]
IN_PARALLEL = [*PYTEST, "--numprocesses=2"]  # where tests share nothing, no port and no machine
# In the order in which a free lane takes them. The end-to-end tests take longest and wait often, so they go first, and
# two others run beside them, one of which may be on one core. The last ones have two workers each: nothing waits at the
# end for one long part on one core.
PARTS = {
    "e2e": [*PYTEST, "tests/e2e"],
    "lint": ["ruff", "check", "--quiet", "."],
    "format": ["ruff", "format", "--check", "--quiet", "."],
    "types": ["mypy"],
    "sam": ["sam", "validate", "--lint", "--region", "us-east-1"],
    "cfn-lint": ["cfn-lint", "--non-zero-exit-code", "warning", "template.yaml"],
    "asvs": [sys.executable, "-m", "tests.asvs", "--short"],
    "template": [*PYTEST, "tests/template"],
    "promises": [*PYTEST, "tests/promises"],
    "contract": [*IN_PARALLEL, "tests/contract"],
    "handlers": [*IN_PARALLEL, "tests/handlers", "tests/stream", "tests/messages"],
    "unit": [*IN_PARALLEL, "tests/unit", "tests/usecases"],
}
STATIC = ("lint", "format", "types", "sam", "cfn-lint")
COUNTS = [sys.executable, "-m", "tests.promises", "counts"]
PACKAGED = ("functions", "layers/turnlog/python", "local")


def main(chosen: Sequence[str], parts: Mapping[str, Sequence[str]], counts: Sequence[str], lanes: int = LANES) -> int:
    """0 when every part passed, 1 when one failed; 2 when there is no such part; 130 after an interruption."""
    if unknown := [name for name in chosen if name not in (*parts, "static")]:
        print(f"no such part: {', '.join(unknown)}; there are {', '.join([*parts, 'static'])}", file=sys.stderr)
        return 2
    wanted = {part for name in chosen for part in (STATIC if name == "static" else [name])} or set(parts)
    interruption = Interruption()
    interruption.listen()
    began = time.monotonic()
    for folder in PACKAGED:  # now, since SAM fails when a file appears in a folder that it packs
        compileall.compile_dir(folder, quiet=2)
    # Else each of a hundred processes would compile what it imports: pytest, its workers and what the tests start.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    results = run({name: command for name, command in parts.items() if name in wanted}, lanes, interruption)
    outcomes = {each.outcome for each in results}
    print()
    for each in results:
        print(f"{each.name:10} {each.took_s:6.1f} s  {each.cpu_s:6.1f} s of CPU  {each.outcome}")
    outcome = next(each for each in ("interrupted", "FAILED", "passed") if each in {*outcomes, "passed"})
    took_s, cpu_s = time.monotonic() - began, sum(each.cpu_s for each in results)
    print(f"{'all':10} {took_s:6.1f} s  {cpu_s:6.1f} s of CPU  {outcome}", flush=True)
    if outcome == "passed" and wanted >= {"contract", "promises"}:
        _print_counts(counts)
    return {"passed": 0, "FAILED": 1, "interrupted": 130}[outcome]


def _print_counts(command: Sequence[str]) -> None:
    """Prints the numbers of promises, mutants and contract facts; tests/promises holds them to their floors."""
    paths = os.pathsep.join(["layers/turnlog/python", "."])
    subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, check=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], PARTS, COUNTS))
