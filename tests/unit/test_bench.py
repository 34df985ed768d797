"""`make bench` runs and counts the calls that the documents name for a turn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.bench import whole_turn

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


def test_the_price_of_a_whole_turn_is_in_the_documents() -> None:
    page = Path("docs/benchmarks.md").read_text()
    assert "\n".join(whole_turn.table()) in page


def test_the_model_costs_far_more_than_aws() -> None:
    for example in whole_turn.EXAMPLES:
        assert 20 < whole_turn.model_dollars(example) / sum(whole_turn.parts(example).values()) < 100
