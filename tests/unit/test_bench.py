"""`make bench` runs and counts the calls that the documents name for a turn."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import jsonschema
import pytest

from tests import deployed
from tests.bench import cached_input, memory, pictures, steps, whole_turn
from tests.bench.deployment import Used, longest_text
from tests.bench.memory import MOST_SHARE, RUNTIME_MB, Footprint
from turnlog.usecases.document_tasks import ANALYZE, SUMMARIZE, DocumentTask

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


MEASURE_MANY = """
import json
from tests.bench import many_sessions
from turnlog.usecases import account, list_sessions
list_sessions.MOST_READS, account.MOST_SESSIONS = 110, 20  # so that 130 sessions are many
print(json.dumps([[cost.request, cost.calls, cost.write_units] for cost in many_sessions.measure((10, 130))]))
"""


def test_lists_exports_and_erasures_are_measured_by_the_number_of_sessions() -> None:
    paths = os.environ | {"PYTHONPATH": os.pathsep.join(["layers/turnlog/python", "."])}
    done = subprocess.run([sys.executable, "-c", MEASURE_MANY], env=paths, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    few, many = ({name: rest for name, *rest in found[at]} for at in (slice(5), slice(5, None)))
    assert few["a page of 100 sessions"] == [11, 0]
    listing = 1
    assert many["a page of 100 sessions"] == [listing + 100, 0]
    assert many["the page after it"] == [listing + 30, 0]
    assert many["a part of an export"] == many["the part after it"] == [listing + 20, 0]
    assert many["an administrator's page of 100"] == [listing + 100, 0]
    batches, keys_and_counters = 4 * 6, 6
    assert many["the erasure of all"] == [listing + 3 * 130 + batches + keys_and_counters, 6 * 130 + 2]
    assert many["an administrator's end of all"] == [listing + 8 * 130 + 1, 6 * 130]  # and a key


def test_the_write_units_of_steps_and_of_a_renewal_are_in_the_documents() -> None:
    costs = steps.measure()
    assert "\n".join(steps.table(costs)) in Path("docs/benchmarks.md").read_text()
    units = {each.written: each.write_units for each in costs}
    assert units["a renewal"] == 1
    packed_kb = 5  # of a result of 8,000 characters
    assert units["the results of its tool"] == 2 * (1 + packed_kb)


def test_of_the_input_that_could_be_read_from_the_cache_nine_tenths_are() -> None:
    costs = cached_input.measure(turns=8, blocks=30)
    assert all(before.tokens == after.readable for before, after in pairwise(costs)), "the beginning did not stay"
    assert cached_input.share(costs) >= 0.9


def test_a_turn_with_a_picture_reads_and_writes_no_more_than_its_bytes() -> None:
    costs = pictures.measure(turns=2)
    assert [cost.calls for cost in costs] == [3, 7]
    for cost in costs:
        assert 0 <= cost.stored_bytes - pictures.PICTURE_BYTES < 50_000
        assert cost.write_units <= 2 * (cost.stored_bytes / 1024 + 10)
    assert costs[1].read_units <= costs[0].stored_bytes / 4096 + 10


def test_the_price_of_a_whole_turn_is_in_the_documents() -> None:
    page = Path("docs/benchmarks.md").read_text()
    assert "\n".join(whole_turn.table()) in page


def test_the_model_costs_far_more_than_aws() -> None:
    for example in whole_turn.EXAMPLES:
        assert 20 < whole_turn.model_dollars(example) / sum(whole_turn.parts(example).values()) < 200


# --- memory

ROW = re.compile(r"^\| (\w+): .* \| (\d+) \| [\d.]+ \| [\d.]+ \| (\d+) \| (\d+)% \|$", re.MULTILINE)
"""A function's name, the peak of its request, its memory and the share that it uses, in docs/benchmarks.md."""


def test_no_function_uses_more_than_seven_tenths_of_its_memory() -> None:
    rows = ROW.findall(Path("docs/benchmarks.md").read_text())
    assert rows
    for name, peak_mb, memory_mb, percent in rows:
        assert int(memory_mb) == deployed.memory_mb(deployed.logical_name(name)), name
        assert int(percent) == pytest.approx(100 * (int(peak_mb) + RUNTIME_MB) / int(memory_mb), abs=1), name
        assert int(percent) <= 100 * MOST_SHARE, name


def test_a_function_that_was_not_measured_has_the_memory_of_all() -> None:
    measured = {name for name, *_ in ROW.findall(Path("docs/benchmarks.md").read_text())}
    assert measured <= set(deployed.folders())
    most = deployed.memory_mb("SessionFunction")
    assert {deployed.memory_mb(deployed.logical_name(name)) for name in set(deployed.folders()) - measured} <= {most}


def test_the_function_that_loads_most_still_fits_its_memory() -> None:
    memory_mb = deployed.memory_mb("SessionFunction")
    assert memory.peak_of_turns_mb() + RUNTIME_MB <= MOST_SHARE * memory_mb


@pytest.mark.parametrize("task", [SUMMARIZE, ANALYZE], ids=["summarize", "analyze"])
def test_the_longest_reply_to_a_schema_fits_it(task: DocumentTask) -> None:
    schema = json.loads(task.schema)
    form = {"type": "json_schema", "schema": schema}
    text = longest_text({"max_tokens": 1_000, "output_config": {"format": form}})
    assert 3_900 < len(text) <= 4_000
    jsonschema.validate(json.loads(text), schema)


@pytest.mark.parametrize(
    ("start_s", "peak_mb", "again_s", "least_mb"),
    [
        (0.1, 49, 0.01, 128),
        (0.1, 50, 0.01, 256),
        (0.5, 49, 0.01, 256),
        (0.1, 49, 0.3, 256),
        (1.2, 135, 0.2, 512),
        (1.8, 135, 0.2, 1024),
        (99, 9999, 99, 1769),
    ],
)
def test_the_least_memory_is_by_peak_by_start_and_by_request(
    start_s: float, peak_mb: float, again_s: float, least_mb: int
) -> None:
    start, first, again = Used(30, start_s), Used(peak_mb, 1), Used(peak_mb, again_s)
    assert Footprint("query", "a question", 512, 3, start, first, again).least_mb == least_mb
