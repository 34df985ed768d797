"""MiniStack for the launcher: a guarded server in an environment of its own, stopped with all its workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from local.guard import HOST
from local.processes import Interruption, Processes
from local.request_line import Answered, Noted
from local.state import ROOT, StateFolder

PYTHON = ROOT / ".tools" / "ministack" / "bin" / "python"
_READY_WITHIN_S = 60.0  # 1 s when idle; a busy machine may need long to read the state of an earlier run
_STOP_WITHIN_S = 4.2  # of the 5 s that a stop may take
_ORDER_WITHIN_S = 30.0


class MiniStackFailed(Exception):
    """MiniStack does not run. The message has the end of its log."""


class MiniStack:
    """One server on `port` with its state in the folder, whose API answers the pages of the origin `page` too.

    Calls `on_fact` for each answered request, for each other event of a function, and for what a function prints.
    """

    def __init__(
        self,
        state: StateFolder,
        port: int,
        processes: Processes,
        interruption: Interruption,
        on_fact: Callable[[Answered | Noted | str], None],
        page: str = "",
    ) -> None:
        self.endpoint = f"http://{HOST}:{port}"
        self._state = state
        self._port = port
        self._processes = processes
        self._interruption = interruption
        self._on_fact = on_fact
        self._page = page
        self._server: subprocess.Popen[str] | None = None
        self._done = {name: threading.Event() for name in ("saved", "serving", "reading", "streaming")}

    def start(self) -> None:
        """Starts the server and returns at once; `wait_until_ready` waits until it serves."""
        for folder in (self._state.home, self._state.ministack):
            folder.mkdir(mode=0o700, exist_ok=True)
        with self._state.ministack_log.open("w") as log:
            self._server = self._processes.start(
                [
                    *(PYTHON, "-m", "local.ministack_server", "--port", str(self._port)),
                    *("--state", self._state.path, "--page", self._page),
                ],
                self._environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        threading.Thread(target=self._listen, args=(self._server,), daemon=True).start()

    def _environment(self) -> dict[str, str]:
        """The whole environment of the functions: nothing of this machine's user."""
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self._state.home),
            "LANG": "C.UTF-8",
            "TMPDIR": str(self._state.tmp),
            "GATEWAY_PORT": str(self._port),
            "BIND_HOST": HOST,
            "AUTH": "true",  # every function may do what its role says, and nothing else
            "IOT_MTLS_ENABLED": "0",  # it would listen on all interfaces
            "SFTP_ENABLED": "0",
            "PERSIST_STATE": "1",
            "STATE_DIR": str(self._state.ministack / "state"),
            "S3_PERSIST": "1",
            "S3_DATA_DIR": str(self._state.ministack / "s3"),
            "LAMBDA_EXECUTOR": "local",
            "DOCKER_HOST": f"unix://{self._state.home}/no-docker.sock",  # it tidies up containers it takes for its own
            "LOG_LEVEL": "WARNING",
        }

    def _listen(self, server: subprocess.Popen[str]) -> None:
        for line in server.stdout or ():
            try:
                fact = json.loads(line)
            except ValueError:
                continue  # something else in that process prints
            if "answered" in fact:
                self._on_fact(Answered(**fact["answered"]))
            if "noted" in fact:
                self._on_fact(Noted(**fact["noted"]))
            if "printed" in fact:
                self._on_fact(str(fact["printed"]))
            for name in self._done.keys() & fact.keys():
                self._done[name].set()

    def wait_until_ready(self) -> None:
        """Returns when the server answers. Raises MiniStackFailed when it does not within 60 s."""
        for _ in range(round(_READY_WITHIN_S / 0.1)):
            self.check()
            if self._answers():
                return
            self._interruption.sleep(0.1)
        raise MiniStackFailed("MiniStack does not answer")

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.endpoint}/_ministack/health", timeout=1):
                return True
        except OSError:
            return False

    def check(self) -> None:
        """Raises MiniStackFailed when the server has ended."""
        if self._server is None or self._server.poll() is not None:
            raise MiniStackFailed(f"MiniStack has ended.\n{last_lines(self._state.ministack_log)}")

    def serve_api(self, api_id: str) -> None:
        """Maps /v1 to this API from now on."""
        self._order(f"api {api_id}", "serving")

    def read_code(self, functions: Mapping[str, str], layers: Mapping[str, str]) -> None:
        """Executes functions, by physical name, from these folders from now on, each as it is saved then."""
        self._order(f"code {json.dumps({'functions': functions, 'layers': layers})}", "reading")

    def stream(self, function: str, authorizer: str, routes: Sequence[tuple[str, str]]) -> None:
        """Has the function, by its physical name, serve these routes as streams from now on; it starts meanwhile."""
        streaming = {"function": function, "authorizer": authorizer, "routes": routes}
        self._order(f"stream {json.dumps(streaming)}", "streaming")

    def save(self) -> None:
        """Writes the state to disk now, in case this machine stops without warning."""
        self._order("save", "saved")

    def forget(self) -> None:
        """Removes the whole state of MiniStack."""
        request = urllib.request.Request(f"{self.endpoint}/_ministack/reset", method="POST")
        with urllib.request.urlopen(request, timeout=30):
            pass

    def stop(self) -> None:
        """Saves the state and ends the server with its workers, busy or not. Without effect when it does not run."""
        self._on_fact = lambda _: None  # what fails while workers are killed is no news
        if self._server is not None:
            server, self._server = self._server, None
            self._processes.end(server, _STOP_WITHIN_S)

    def _order(self, line: str, done: str) -> None:
        """Sends one line and returns when the server confirms `done`. Raises MiniStackFailed after 30 s."""
        if self._server is None or self._server.stdin is None:
            raise MiniStackFailed("MiniStack does not run")
        self._done[done].clear()
        try:
            self._server.stdin.write(f"{line}\n")
            self._server.stdin.flush()
        except OSError:
            self.check()
            raise
        for _ in range(round(_ORDER_WITHIN_S / 0.05)):
            if self._done[done].is_set():
                return
            self.check()
            self._interruption.sleep(0.05)
        raise MiniStackFailed(f"MiniStack does not obey: {line}")


def is_installed() -> bool:
    """True when MiniStack is installed for this process's Python version, for which the layer is built."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return PYTHON.exists() and (PYTHON.parent.parent / "lib" / version).is_dir()


def last_lines(log: Path, count: int = 20) -> str:
    """The end of a log, indented; for messages."""
    try:
        lines = log.read_text(errors="replace").splitlines()[-count:]
    except OSError:
        return ""
    return "\n".join(f"    {line}" for line in lines)
