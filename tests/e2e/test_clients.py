"""The examples of docs/clients.md, run as they stand against the running service, by clients that no one here wrote."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.e2e.clients import Client, examples, typescript_sdk
from tests.e2e.stack import Stack

NOT_CLAUDE = "[stand-in, not Claude]"


@pytest.fixture
def client(stack: Stack, tmp_path: Path) -> Client:
    return Client.of(stack, tmp_path)


def test_the_sdk_for_python_asks_and_streams(client: Client) -> None:
    whole, streamed, _ = examples("Python")
    assert client.python(whole).startswith(NOT_CLAUDE)
    assert client.python(streamed).startswith(NOT_CLAUDE)


def test_the_sdk_for_python_has_a_session(client: Client) -> None:
    *_, in_session = examples("Python")
    assert "Ada" in client.python(in_session).splitlines()[-1]


def test_the_sdk_for_typescript_asks_and_streams(client: Client) -> None:
    whole, streamed, _ = examples("TypeScript")
    folder = typescript_sdk()
    assert client.node(whole, folder).startswith(NOT_CLAUDE)
    assert client.node(streamed, folder).startswith(NOT_CLAUDE)


def test_the_sdk_for_typescript_has_a_session(client: Client) -> None:
    *_, in_session = examples("TypeScript")
    assert "Ada" in client.node(in_session, typescript_sdk()).splitlines()[-1]


def test_curl_asks(client: Client) -> None:
    (asked,) = examples("curl")
    answer = json.loads(client.run("sh", "-c", asked))
    assert answer["content"][-1]["text"].startswith(NOT_CLAUDE)


def test_the_first_example_of_the_readme_prints_an_answer(client: Client) -> None:
    first = re.findall(r"^```python\n(.*?)^```", Path("README.md").read_text(), flags=re.MULTILINE | re.DOTALL)[0]
    assert client.python(first).startswith(NOT_CLAUDE)
