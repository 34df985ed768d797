"""The stack of `make run`, started once for all end-to-end tests, in a state folder and on ports of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
import httpx2
import pytest

from local.processes import commands_of

ROOT = Path(__file__).resolve().parents[2]
STATE = ROOT / ".turnlog" / "test"
PORT_BASE = 8887  # away from `make run`, which may run beside the tests
STARTED_WITHIN_S = 300
STOPPED_WITHIN_S = 5


class Stack:
    """A launcher in a process of its own, and what its run.json says. It can be stopped, killed and started again."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.run: dict[str, Any] = {}
        self._output = state.with_name(f"{state.name}.out")
        self._launcher: subprocess.Popen[bytes] | None = None

    # --- its life

    def start(self, **environment: str) -> None:
        """Returns when it is ready; fails with its output when it does not get there."""
        self.begin(**environment)
        assert self._launcher
        run_json = self.state / "run.json"
        deadline = time.monotonic() + STARTED_WITHIN_S
        while not (run_json.exists() and self._launcher.pid in json.loads(run_json.read_text())["pids"]):
            if self._launcher.poll() is not None or time.monotonic() > deadline:
                self.kill()
                pytest.fail(f"The stack did not start.\n{self.output}", pytrace=False)
            time.sleep(0.05)
        self.run = json.loads(run_json.read_text())

    def begin(self, **environment: str) -> None:
        """As `start`, without waiting."""
        self._output.parent.mkdir(parents=True, exist_ok=True)
        clean = {
            name: value for name, value in os.environ.items() if name not in ("ANTHROPIC_API_KEY", "CLAUDE_BASE_URL")
        }
        with self._output.open("wb") as output:
            self._launcher = subprocess.Popen(
                self.command(),
                cwd=ROOT,
                env=clean | environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def command(self, *more: str) -> list[str]:
        base = [sys.executable, "-m", "local.run", "--state", str(self.state), "--port-base", str(PORT_BASE)]
        return [*base, *more]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Asks it to stop, and says how many seconds it took."""
        assert self._launcher
        began = time.monotonic()
        self._launcher.send_signal(number)
        code = self._launcher.wait(30)
        self._launcher = None
        assert code == 0, self.output
        return time.monotonic() - began

    def kill(self) -> None:
        """SIGKILL: it gets to do nothing more."""
        if self._launcher:
            self._launcher.kill()
            self._launcher.wait()
            self._launcher = None

    @property
    def is_running(self) -> bool:
        return self._launcher is not None

    @property
    def output(self) -> str:
        """All that it has printed since its start."""
        return self._output.read_text()

    @property
    def remains(self) -> list[str]:
        """The programs that still run for it, and the temporary files that are still there."""
        files = [str(self.state / name) for name in ("run.json", "tmp") if (self.state / name).exists()]
        return commands_of(self.state) + files

    # --- what it says

    @property
    def api_url(self) -> str:
        return str(self.run["api_url"])

    @property
    def token(self) -> str:
        return str(self.run["token"])

    @property
    def owner(self) -> str:
        return str(self.run["owner"])

    @property
    def bucket(self) -> str:
        return str(self.run["buckets"]["DocumentsBucket"])

    def token_of(self, user: str, roles: str = "") -> str:
        """As `make token` prints it."""
        command = [sys.executable, "-m", "local.issuer", "--user", user, "--roles", roles, "--state", str(self.state)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    # --- its Claude

    def model_calls(self) -> int:
        """How often the stand-in was asked since the start."""
        return int(httpx2.get(f"{self.run['claude_url']}/_stand_in/stats").json()["calls"])

    def fail(self, fault: str, **more: Any) -> None:
        """Lets the stand-in's next call fail; `more` as its faults take it."""
        httpx2.post(f"{self.run['claude_url']}/_stand_in/faults", json=[{"fault": fault, **more}]).raise_for_status()

    # --- its AWS

    @cached_property
    def s3(self) -> Any:
        return self._client("s3")

    @cached_property
    def dynamodb(self) -> Any:
        return self._client("dynamodb")

    @cached_property
    def logs(self) -> Any:
        return self._client("logs")

    def _client(self, service: Any) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.run["aws_endpoint"],
            aws_access_key_id="test",
            aws_secret_access_key="test",
            region_name="us-east-1",
        )

    def items(self, table: str = "SessionsTable") -> list[dict[str, Any]]:
        """All items of a table."""
        pages = self.dynamodb.get_paginator("scan").paginate(TableName=self.run["tables"][table])
        return [item for page in pages for item in page["Items"]]

    @contextmanager
    def with_settings(self, function: str, **settings: str) -> Iterator[None]:
        """The function with these in its environment, as other values of the template's parameters would put there."""
        client = self._client("lambda")
        (found,) = (each for each in client.list_functions()["Functions"] if function in each["FunctionName"])
        name, before = found["FunctionName"], found["Environment"]["Variables"]
        client.update_function_configuration(FunctionName=name, Environment={"Variables": before | settings})
        try:
            yield
        finally:
            client.update_function_configuration(FunctionName=name, Environment={"Variables": before})
            client.close()

    def ttl_status(self) -> dict[str, str]:
        found = self.dynamodb.describe_time_to_live(TableName=self.run["tables"]["SessionsTable"])
        return dict(found["TimeToLiveDescription"])

    def audited(self) -> list[dict[str, Any]]:
        """The audit trail, in no order."""
        pages = self.logs.get_paginator("filter_log_events").paginate(logGroupName=self.run["log_groups"]["Audit"])
        return [json.loads(event["message"]) for page in pages for event in page["events"]]

    def everything_written(self) -> str:
        """What the launcher printed, what MiniStack logged, and what the functions logged."""
        streams = []
        for group in self.logs.describe_log_groups()["logGroups"]:
            pages = self.logs.get_paginator("filter_log_events").paginate(logGroupName=group["logGroupName"])
            streams += [event["message"] for page in pages for event in page["events"]]
        return "\n".join([self.output, (self.state / "ministack.log").read_text(), *streams])

    def close(self) -> None:
        for name in ("s3", "dynamodb", "logs"):
            if name in self.__dict__:
                self.__dict__.pop(name).close()


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    stack = Stack(STATE)
    stack.start()
    try:
        yield stack
        stack.close()
        if stack.is_running:
            stack.stop()
        assert stack.remains == []
    finally:
        stack.kill()


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """Waits for something that another process does."""

    def wait(happened: Callable[[], bool], within_s: float = 20) -> None:
        deadline = time.monotonic() + within_s
        while not happened():
            assert time.monotonic() < deadline, "it never happened"
            time.sleep(0.05)

    return wait
