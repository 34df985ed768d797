"""Clients that no one here wrote, each as a process of its own with nothing but this machine to talk to."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.stack import Stack

DOCUMENT = Path("docs/clients.md")
FOLDER = Path(".tools/clients").resolve()
MODEL = "claude-sonnet-5-5"
_RUNS_WITHIN_S = 120
_NOWHERE = "http://127.0.0.1:9"  # the port of discard, where nothing listens: whatever leaves this machine fails


@dataclass(frozen=True, slots=True)
class Client:
    """The way to run programs against a door: its base URL, a token, and a folder that is their home."""

    base_url: str
    token: str
    home: Path

    @classmethod
    def of(cls, stack: Stack, home: Path) -> Client:
        """A client of the running stack, as a user of its own."""
        return cls(str(stack.run["base_url"]), stack.token_of(home.name), home)

    @property
    def environment(self) -> dict[str, str]:
        """All that such a program is given: no key, no other account, and no way out of this machine."""
        proxies = dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"), _NOWHERE)
        quiet = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_TELEMETRY": "1", "DISABLE_AUTOUPDATER": "1"}
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            "ANTHROPIC_BASE_URL": self.base_url,
            "ANTHROPIC_AUTH_TOKEN": self.token,
            **proxies,
            **quiet,
        }

    def run(self, *command: str | Path, folder: Path | None = None, said: str = "", **more: str) -> str:
        """Runs a program to its end and returns what it prints. Fails the test when it fails."""
        done = self.try_to_run(*command, folder=folder, said=said, **more)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    def try_to_run(
        self, *command: str | Path, folder: Path | None = None, said: str = "", **more: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs a program to its end, whatever that is. `more` are further variables of its environment."""
        return subprocess.run(
            [str(part) for part in command],
            cwd=folder or self.home,
            env=self.environment | more,
            input=said,
            capture_output=True,
            text=True,
            timeout=_RUNS_WITHIN_S,
            check=False,
        )

    def python(self, program: str) -> str:
        """Runs a program in Python, with Anthropic's SDK."""
        return self.run(sys.executable, "-c", program)

    def node(self, program: str, folder: Path) -> str:
        """Runs a program in JavaScript, with Anthropic's SDK for TypeScript in `folder`."""
        return self.run("node", "--input-type=module", "--eval", program, folder=folder)


def examples(section: str) -> list[str]:
    """The programs that a section of docs/clients.md shows."""
    text = DOCUMENT.read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    return re.findall(r"^```\w+\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def typescript_sdk() -> Path:
    """The folder in which Anthropic's SDK for TypeScript is installed. Skips where Node.js is missing."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("Anthropic's SDK for TypeScript needs Node.js with npm, and this machine has none")
    folder, source = FOLDER / "typescript", Path("tests/e2e/typescript")
    locked = (source / "package-lock.json").read_bytes()
    installed = folder / "installed.json"
    if not installed.exists() or installed.read_bytes() != locked:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(source, folder)
        quiet = ("--silent", "--ignore-scripts", "--no-audit", "--no-fund")
        subprocess.run([npm, "ci", *quiet], cwd=folder, check=True)
        installed.write_bytes(locked)
    return folder
