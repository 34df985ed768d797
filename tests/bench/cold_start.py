"""Modules and CPU of a cold start: each function is imported in a fresh interpreter, beside yardsticks."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

RUNS = 5
_PROBE = """
import json, sys, time
before = len(sys.modules)
began = time.process_time()
{code}
print(json.dumps([len(sys.modules) - before, time.process_time() - began]))
"""
_BOTO3 = "import boto3; boto3.client('dynamodb', region_name='us-east-1')"
YARDSTICKS = {"boto3's client alone": _BOTO3, "anthropic and boto3's client": f"import anthropic; {_BOTO3}"}


@dataclass(frozen=True)
class ColdStart:
    """Modules imported, and the median CPU seconds of 5 interleaved runs with byte code compiled."""

    name: str
    modules: int
    cpu_s: float


def measure() -> list[ColdStart]:
    """Every function and the yardsticks, interleaved, after one run that compiles."""
    probes = YARDSTICKS | {path.parent.name: "import app" for path in sorted(Path("functions").glob("*/app.py"))}
    with tempfile.TemporaryDirectory() as cache:
        for name, code in probes.items():
            _run(name, code, cache)
        samples = [{name: _run(name, code, cache) for name, code in probes.items()} for _ in range(RUNS)]
    return [
        ColdStart(name, samples[0][name][0], round(statistics.median(run[name][1] for run in samples), 3))
        for name in probes
    ]


def _run(name: str, code: str, cache: str) -> tuple[int, float]:
    paths = os.pathsep.join(["layers/turnlog/python", f"functions/{name}"])
    done = subprocess.run(
        [sys.executable, "-c", _PROBE.format(code=code)],
        env={"PYTHONPATH": paths, "PYTHONPYCACHEPREFIX": cache, "HOME": cache},
        capture_output=True,
        text=True,
        check=True,
    )
    modules, cpu_s = json.loads(done.stdout)
    return modules, cpu_s
