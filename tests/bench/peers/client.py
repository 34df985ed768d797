"""One process inside a store's environment, and the store's answers to what it is told (see adapters/protocol.py)."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local.processes import clean_environment
from local.state import ROOT
from tests.bench.peers.catalog import Configuration

_HERE = Path(__file__).parent
_ENDS_WITHIN_S = 10
_running: set[subprocess.Popen[str]] = set()


@dataclass
class Taken:
    """The outcome of a turn. `shown` is the model's input, None when it was never asked; `error` is empty if none."""

    shown: list[str] | None = None
    error: str = ""

    @property
    def paid(self) -> bool:
        return self.shown is not None


@dataclass
class Client:
    """Drives one process. `name` is its access key, by which the record of the wire knows it."""

    name: str
    _process: subprocess.Popen[str]
    _log: Path
    _turn: Taken = field(default_factory=Taken)

    def create(self, session: str) -> str:
        """A new session, and the name by which it is known from now on."""
        return str(self._ask({"do": "create", "session": session}))

    def history(self, session: str) -> list[str]:
        return list(self._ask({"do": "history", "session": session}))

    def turn(self, session: str, message: str, reply: str) -> Taken:
        """A whole turn, the model's reply at once."""
        taken = self.begin(session, message)
        return self.end(reply) if taken.paid else taken

    def begin(self, session: str, message: str) -> Taken:
        """Until the store asks the model, or fails before it does."""
        self._say({"do": "turn", "session": session, "message": message})
        self._turn = Taken()
        self._listen()
        return self._turn

    def end(self, reply: str) -> Taken:
        """The model replies; until the store has done with the turn, or has failed."""
        self._say({"reply": reply})
        self._listen()
        return self._turn

    def _listen(self) -> None:
        heard = self._hear()
        self._turn.shown = heard.get("shown", self._turn.shown)
        self._turn.error = heard.get("error", "")

    def _ask(self, request: dict[str, Any]) -> Any:
        self._say(request)
        heard = self._hear()
        if "error" in heard:
            raise RuntimeError(heard["error"])
        return heard["done"]

    def _say(self, value: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(value) + "\n")
        self._process.stdin.flush()

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended ({self._process.wait()}):\n{self._log.read_text()[-3000:]}")
        heard: dict[str, Any] = json.loads(line)
        return heard


@contextmanager
def client(name: str, configuration: Configuration, endpoint: str, folder: Path) -> Iterator[Client]:
    """The process lives until the end. What it writes to the disk or says beside the point is in `folder`."""
    view = folder / f"{name}.log"
    environment = clean_environment() | {
        "AWS_ACCESS_KEY_ID": name,
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "PYTHONPATH": os.pathsep.join([str(_HERE), *(str(ROOT / path) for path in configuration.paths)]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [str(ROOT / configuration.python), "-m", f"adapters.{configuration.adapter}"]
    command.append(json.dumps(configuration.settings))
    with (
        view.open("w") as says,
        subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=says,
            text=True,
        ) as process,
    ):
        _running.add(process)
        try:
            yield Client(name, process, view)
        finally:
            _running.discard(process)
            assert process.stdin is not None
            with suppress(BrokenPipeError):
                process.stdin.close()
            try:
                process.wait(_ENDS_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()


def kill_all() -> None:
    """Ends every process that runs now; whoever drives one gets a RuntimeError or a BrokenPipeError."""
    for process in list(_running):
        process.kill()
