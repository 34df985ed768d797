"""The stack of `make run` in the hands of the end-to-end tests, in a state folder and on ports of its own.

It runs from a copy of the repository, so that a test may save a file of it.
"""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
import httpx2
import pytest
from sseclient import SSEClient

from local.processes import commands_of

ROOT = Path(__file__).resolve().parents[2]
STATE = ROOT / ".turnlog" / "test"
SOURCE = ROOT / ".turnlog" / "test-source"
PAGE = "http://localhost:5173"
"""The origin of a page in development."""
_COPIED = ("functions", "layers", "local", "template.yaml", "samconfig.toml", "requirements.lock")
_IN_FRONT = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
"""A program that makes standard input its terminal, as a shell does, and becomes another program."""
# Away from `make run` and from what the system hands out. By folder, since two checkouts may be tested at once.
PORT_BASE = 20_000 + zlib.crc32(str(ROOT).encode()) % 3_000 * 4
PATIENCE_S = 60  # for what happens by itself; a cold start on a busy machine takes many seconds
STARTED_WITHIN_S = 300
STOPS_WITHIN_S = 30
"""After that a stop hangs: it takes about a second, and several on a busy machine."""


class Stack:
    """A launcher in a process of its own, and the facts of its run.json."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.run: dict[str, Any] = {}
        self._output = state.with_name(f"{state.name}.out")
        self._launcher: subprocess.Popen[bytes] | None = None
        self._keyboard, self._terminal = pty.openpty()
        _copy_source()

    # --- its process

    def start(self, **environment: str) -> None:
        """Starts it and returns when it is ready. Fails the test with the output of one that does not get there."""
        self.begin(**environment)
        assert self._launcher
        deadline = time.monotonic() + STARTED_WITHIN_S
        while self._launcher.pid not in (found := self._run_json()).get("pids", []):
            if self._launcher.poll() is not None or time.monotonic() > deadline:
                self.kill()
                pytest.fail(f"The stack did not start.\n{self.output}", pytrace=False)
            time.sleep(0.05)
        self.run = found

    def _run_json(self) -> dict[str, Any]:
        """The facts that the launcher tells of itself; none until it is ready, nor while it removes another's."""
        try:
            found: dict[str, Any] = json.loads((self.state / "run.json").read_text())
        except FileNotFoundError:
            return {}
        return found

    def ensure_running(self) -> None:
        """Starts it with the stand-in and the development issuer, unless it runs so already."""
        if self.is_running and (self.run["claude"] != "stand-in" or "UserPoolId" in self.run["outputs"]):
            self.stop()
        if not self.is_running:
            self.start()

    def begin(self, **environment: str) -> None:
        """Starts it without waiting."""
        self._output.parent.mkdir(parents=True, exist_ok=True)
        clean = {
            name: value for name, value in os.environ.items() if name not in ("ANTHROPIC_API_KEY", "CLAUDE_BASE_URL")
        }
        with self._output.open("wb") as output:
            self._launcher = subprocess.Popen(
                [sys.executable, "-c", _IN_FRONT, *self.command()],
                cwd=SOURCE,
                env=clean | {"ORIGIN": PAGE} | environment,
                stdin=self._terminal,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def command(self) -> list[str]:
        return [sys.executable, "-m", "local.run", "--state", str(self.state), "--port-base", str(PORT_BASE)]

    def press(self, key: str) -> None:
        """Presses a key in its terminal."""
        os.write(self._keyboard, key.encode())

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Asks it to stop. Fails when it does not end well, or not within STOPS_WITHIN_S."""
        assert self._launcher
        self._launcher.send_signal(number)
        code = self._launcher.wait(STOPS_WITHIN_S)
        self._launcher = None
        assert code == 0, self.output

    def kill(self) -> None:
        """Sends SIGKILL, after which it does nothing more. Without effect when it does not run."""
        if self._launcher:
            self._launcher.kill()
            self._launcher.wait()
            self._launcher = None

    @property
    def is_running(self) -> bool:
        return self._launcher is not None

    @property
    def output(self) -> str:
        """Everything that it has printed since its start."""
        return self._output.read_text()

    @property
    def remains(self) -> list[str]:
        """The programs that still run for it and the temporary files that still exist."""
        files = [str(self.state / name) for name in ("run.json", "tmp") if (self.state / name).exists()]
        return commands_of(self.state) + files

    @contextmanager
    def saved(self, name: str, old: str, new: str) -> Iterator[None]:
        """Replaces a text in a file of its code for the block."""
        file = SOURCE / name
        before = file.read_text()
        assert old in before
        file.write_text(before.replace(old, new))
        try:
            yield
        finally:
            file.write_text(before)

    # --- its API

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
        """A token as `make token` prints it."""
        command = [sys.executable, "-m", "local.token", "--user", user, "--roles", roles, "--state", str(self.state)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    def ask(self, method: str, path: str, **more: Any) -> httpx2.Response:
        """Sends a request with its user's token; `more` as httpx2 takes it."""
        headers = {"Authorization": f"Bearer {self.token}"} | more.pop("headers", {})
        return httpx2.request(method, f"{self.api_url}{path}", headers=headers, timeout=PATIENCE_S, **more)

    @contextmanager
    def listen(self, path: str, **more: Any) -> Iterator[Iterator[tuple[str, dict[str, Any]]]]:
        """Posts to a route that streams. Yields its events by name, each when it comes; leaving the block hangs up."""
        headers = {"Authorization": f"Bearer {self.token}"} | more.pop("headers", {})
        url = f"{self.api_url}{path}"
        with httpx2.stream("POST", url, headers=headers, timeout=PATIENCE_S, **more) as answer:
            assert answer.status_code == 200, answer.read()
            yield ((each.event, json.loads(each.data)) for each in SSEClient(answer.iter_bytes()).events())

    def new_session(self, message: str) -> str:
        """Creates a session with one turn and returns its id."""
        session_id = str(self.ask("POST", "/sessions", json={}).json()["session_id"])
        turn = {"json": {"message": message}, "headers": {"Idempotency-Key": "first"}}
        assert self.ask("POST", f"/sessions/{session_id}/turns", **turn).status_code == 200
        return session_id

    def recalls(self, session_id: str, word: str) -> bool:
        """True when the session's turns contain the word."""
        return word in self.ask("GET", f"/sessions/{session_id}/turns").text

    # --- its Claude

    def model_calls(self) -> int:
        """The number of calls to the stand-in since the start."""
        return int(httpx2.get(f"{self.run['claude_url']}/_stand_in/stats").json()["calls"])

    def fail(self, fault: str, **more: Any) -> None:
        """Makes the stand-in's next call fail; `more` are fields of the fault."""
        httpx2.post(f"{self.run['claude_url']}/_stand_in/faults", json=[{"fault": fault, **more}]).raise_for_status()

    # --- its AWS

    @cached_property
    def s3(self) -> Any:
        return self.client("s3")

    @cached_property
    def dynamodb(self) -> Any:
        return self.client("dynamodb")

    @cached_property
    def logs(self) -> Any:
        return self.client("logs")

    def client(self, service: Any, credentials: Mapping[str, str] | None = None) -> Any:
        """A new client of a service, with the rights of these temporary credentials; with every right without them."""
        given = credentials or {"AccessKeyId": "test", "SecretAccessKey": "test"}
        return boto3.client(
            service,
            endpoint_url=self.run["aws_endpoint"],
            aws_access_key_id=given["AccessKeyId"],
            aws_secret_access_key=given["SecretAccessKey"],
            aws_session_token=given.get("SessionToken"),
            region_name="us-east-1",
        )

    def items(self, table: str = "SessionsTable") -> list[dict[str, Any]]:
        """All items of a table, in no order."""
        pages = self.dynamodb.get_paginator("scan").paginate(TableName=self.run["tables"][table])
        return [item for page in pages for item in page["Items"]]

    def end_leases(self, table: str = "SessionsTable") -> None:
        """Lets the leases of handlers that are gone run out, as 65 seconds would."""
        for item in self.items(table):
            if "til" in item:
                self.dynamodb.update_item(
                    TableName=self.run["tables"][table],
                    Key={name: item[name] for name in ("pk", "sk")},
                    UpdateExpression="SET til = :now",
                    ExpressionAttributeValues={":now": {"N": str(time.time_ns() // 1_000_000)}},
                )

    @contextmanager
    def with_settings(self, function: str, **settings: str) -> Iterator[None]:
        """Puts settings into a function's environment for the block, as the template's parameters would."""
        client = self.client("lambda")
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
        """The launcher's output and the logs of MiniStack and of the functions."""
        return "\n".join([self.output, (self.state / "ministack.log").read_text(), *self.logged()])

    def logged(self, since_ms: int = 0) -> list[str]:
        """The lines in all log groups, from a time on: there are many of them after a while."""
        lines = []
        for group in self.logs.describe_log_groups()["logGroups"]:
            pages = self.logs.get_paginator("filter_log_events").paginate(
                logGroupName=group["logGroupName"], startTime=since_ms
            )
            lines += [event["message"] for page in pages for event in page["events"]]
        return lines

    def close(self) -> None:
        """Closes its clients."""
        for name in ("s3", "dynamodb", "logs"):
            if name in self.__dict__:
                self.__dict__.pop(name).close()


def _copy_source() -> None:
    """Copies what a launcher needs; the installed tools are links."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    SOURCE.mkdir(parents=True)
    for each in (ROOT / name for name in _COPIED):
        if each.is_dir():
            shutil.copytree(each, SOURCE / each.name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(each, SOURCE)
    (SOURCE / ".tools").symlink_to(ROOT / ".tools")
