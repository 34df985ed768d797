"""Claude Code and the Agent SDK against the running service: two turns and a round of tools each, with no session.

`make test-clients` runs this, and `make test` does not: the Agent SDK brings Claude Code along, some 250 MB of it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.clients import DOCUMENT, FOLDER, MODEL, Client, examples
from tests.e2e.stack import Stack

PYTHON = FOLDER / "agent" / "bin" / "python"
NOTES = "The code word is heron."
_ASKS = 'Call the tool Read with {"file_path": "%s"}'

TWO_TURNS = """
import asyncio, sys
from claude_agent_sdk import AssistantMessage, ClaudeAgentOptions, ClaudeSDKClient, ResultMessage, TextBlock

async def main():
    options = ClaudeAgentOptions(model=sys.argv[1], allowed_tools=["Read"])
    async with ClaudeSDKClient(options) as client:
        for said in sys.argv[2:]:
            await client.query(said)
            async for message in client.receive_response():
                if isinstance(message, ResultMessage):
                    print(message.subtype, message.num_turns, message.result)

asyncio.run(main())
"""


@pytest.fixture
def client(stack: Stack, tmp_path: Path) -> Client:
    (tmp_path / "notes.txt").write_text(NOTES)
    return Client.of(stack, tmp_path)


@pytest.fixture
def claude() -> Path:
    """Claude Code, as the Agent SDK brings it."""
    (found,) = FOLDER.glob("agent/lib/python*/site-packages/claude_agent_sdk/_bundled/claude")
    return found


def test_the_agent_sdk_asks(client: Client) -> None:
    (asked,) = examples("The Agent SDK")
    assert "not Claude" in client.run(PYTHON, "-c", asked)


def test_the_agent_sdk_takes_two_turns_and_a_round_of_tools(client: Client) -> None:
    said = ["My name is Ada.", "What is my name?", _ASKS % (client.home / "notes.txt")]
    _, second, third = client.run(PYTHON, "-c", TWO_TURNS, MODEL, *said).splitlines()
    assert second.startswith("success 1 ")
    assert "Ada" in second
    assert third.startswith("success 2 ")
    assert NOTES in third


def test_claude_code_asks(client: Client, claude: Path) -> None:
    (asked,) = examples("Claude Code")
    answer = client.run("sh", "-c", asked, PATH=f"{claude.parent}:{client.environment['PATH']}")
    assert "not Claude" in answer


def test_claude_code_takes_two_turns_and_a_round_of_tools(client: Client, claude: Path) -> None:
    command: list[str | Path] = [
        claude,
        "--model",
        MODEL,
        "--allowedTools",
        "Read",
        "--output-format",
        "json",
        "--print",
    ]
    client.run(*command, "My name is Ada.")
    second = json.loads(client.run(*command, "--continue", "What is my name?"))
    assert "Ada" in second["result"]
    third = json.loads(client.run(*command, _ASKS % (client.home / "notes.txt")))
    assert (third["num_turns"], third["subtype"]) == (2, "success")
    assert NOTES in third["result"]


def test_claude_code_with_a_key_alone_says_so_in_its_own_words(client: Client, claude: Path) -> None:
    """It shows no server's text, so docs/clients.md has these words."""
    done = client.try_to_run(
        claude, "--model", MODEL, "--print", "hello", ANTHROPIC_AUTH_TOKEN="", ANTHROPIC_API_KEY="sk-ant-x"
    )
    assert done.returncode != 0
    assert "Invalid API key" in done.stdout
    assert "`Invalid API key`" in DOCUMENT.read_text()
