"""Sessions at the door of the Messages API: one server and one client for all tests, and fakes anew for each."""

from __future__ import annotations

from collections.abc import Iterator

import anthropic
import pytest

from tests.handlers.conftest import Backstage
from tests.stream.conftest import Served, running
from tests.stream.sessions.named_model import NamedModel
from turnlog.entrypoints.http import turns
from turnlog.entrypoints.stream import NATIVE, make_app
from turnlog.entrypoints.stream.doors import Door
from turnlog.entrypoints.stream.messages.door import MESSAGES

BUFFERED = Door({("POST", "/sessions/{id}/turns"): turns.take})


@pytest.fixture(scope="session")
def door() -> Iterator[Served]:
    """Every way to a turn. Each request looks for its fakes anew."""
    yield from running(make_app(NATIVE, MESSAGES, BUFFERED))


@pytest.fixture(scope="session")
def client(door: Served) -> Iterator[anthropic.Anthropic]:
    """Anthropic's own client, with nothing changed but its address and its token."""
    with anthropic.Anthropic(base_url=door.url, auth_token="ada", max_retries=0) as made:
        yield made


@pytest.fixture(autouse=True)
def model(backstage: Backstage) -> NamedModel:
    """The model of this test."""
    made = NamedModel()
    backstage.model = made
    return made
