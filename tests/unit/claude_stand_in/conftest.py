"""One stand-in for the tests of a file, and the SDK that asks it."""

from __future__ import annotations

from collections.abc import Iterator

import anthropic
import pytest

from local.claude_stand_in import StandIn


@pytest.fixture(scope="module")
def running() -> Iterator[StandIn]:
    with StandIn() as claude:
        yield claude


@pytest.fixture
def claude(running: StandIn) -> StandIn:
    running.forget_requests()
    running.clear_faults()
    return running


@pytest.fixture
def sdk(claude: StandIn) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=claude.url, api_key="a-secret-key", max_retries=0, timeout=5) as client:
        yield client
