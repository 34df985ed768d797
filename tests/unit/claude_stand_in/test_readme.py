"""The stand-in's README: what it says about words and faults is so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from local.claude_stand_in import StandIn
from local.claude_stand_in.faults import KINDS
from tests.unit.claude_stand_in.asking import WELL_FORMED, posted

README = (Path(__file__).parents[3] / "local/claude_stand_in/README.md").read_text()
WORDS = re.findall(r"^\| `(.+)` \| (.+) \| (.+) \|$", README, re.MULTILINE)
ZONE = {"type": "object", "properties": {"zone": {"type": "string"}}, "required": ["zone"]}
TOOLS: list[dict[str, Any]] = [
    {"name": "clock", "description": "The current time in a time zone.", "input_schema": ZONE},
    {"name": "notes", "input_schema": {"type": "object"}},
    {"type": "web_search_20250305", "name": "web_search"},
    {"type": "web_fetch_20250910", "name": "web_fetch"},
]


@pytest.mark.parametrize(("said", "content", "reason"), WORDS)
def test_the_words_do_what_the_table_says(claude: StandIn, said: str, content: str, reason: str) -> None:
    body = WELL_FORMED | {"messages": [{"role": "user", "content": said}], "tools": TOOLS, "max_tokens": 2000}
    answer = posted(claude, body)[1]
    kinds = ", ".join(block["type"] for block in answer["content"]) or "nothing"
    assert (kinds, answer["stop_reason"]) == (content, reason)


def test_the_tables_are_read() -> None:
    assert len(WORDS) > 20


def test_every_fault_is_named() -> None:
    faults = README.partition("## Faults")[2]
    assert set(re.findall(r"`(\w+)`", faults)) >= set(KINDS)
