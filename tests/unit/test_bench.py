"""`make bench` runs and counts the calls that the README names for a turn."""

from __future__ import annotations

import json
import os
import subprocess
import sys

# In a process of its own, since it puts its own store and model into the runtime.
MEASURE = """
import json
from tests.bench import conversation
found = [conversation.measure(turns=2), conversation.measure(turns=2, caches=1)]
print(json.dumps([[(cost.calls, cost.write_units, cost.model_calls) for cost in costs] for costs in found]))
"""


def test_a_turn_is_measured_in_calls_write_units_and_calls_of_the_model() -> None:
    paths = os.environ | {"PYTHONPATH": os.pathsep.join(["layers/turnlog/python", "."])}
    done = subprocess.run([sys.executable, "-c", MEASURE], env=paths, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    plain, hybrid = json.loads(done.stdout.splitlines()[-1])
    assert plain == [[3, 3, 1], [3, 3, 1]]
    assert hybrid[-1] == [2, 3, 1]
