"""One process of the function that streams: MiniStack's own worker starts it, and it ends with its last turn."""

from __future__ import annotations

import contextlib
import copy
import json
import queue
import secrets
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from local.executions import events_of, read_log
from local.saved_code import SavedCode
from local.state import ROOT
from local.stream_relay import NoAnswer

Tell = Callable[[dict[str, Any]], None]

_SPAWNED_WITHIN_S = 90
_QUIET_S = 0.1
"""The pause after which lines that were written together are told."""


class StreamProcess:
    """A process of the deployed function that `record` describes, with the environment `variables`.

    `facts` is what it was started with. `open` counts its requests, for whoever passes them on.
    """

    def __init__(self, runtime: Any, record: Mapping[str, Any], variables: Mapping[str, str], facts: object) -> None:
        """Starts it. Raises NoAnswer when it cannot serve, of which MiniStack's worker has told."""
        config = copy.deepcopy(dict(record["config"]))
        app, config["Handler"] = config["Handler"], "local/stream_server.serve"
        config["Environment"] = {"Variables": {**variables, "PYTHONPATH": str(ROOT)}}
        config["Timeout"] = _SPAWNED_WITHIN_S
        self._record = record
        self.worker = runtime.Worker(config["FunctionName"], config, record["code_zip"])
        self.facts = facts
        self.open = 0
        secret = secrets.token_hex(32)
        answered = self.worker.invoke({"app": app, "secret": secret}, str(uuid.uuid4()))
        if answered.get("status") != "ok":
            self.worker._discard_tmpdir()
            raise NoAnswer
        self.port: int = answered["result"]["port"]
        self.secret = secret.encode()

    @property
    def lives(self) -> bool:
        return self.worker._proc is not None and self.worker._proc.poll() is None

    def finish(self) -> None:
        """Has the process end when its turns are stored, those too whose reader has gone. Waits for nothing."""
        if self.lives:
            with contextlib.suppress(OSError):  # it has just ended
                self.worker._proc.stdin.write(json.dumps({"event": {}}) + "\n")
                self.worker._proc.stdin.flush()

    def follow(self, functions: Any, code: SavedCode, tell: Tell, forget: Callable[[StreamProcess], None]) -> None:
        """Tells what it writes, and has `functions` keep it, until it has ended; then has it forgotten."""

        def read() -> None:
            lines: list[str] = []
            while self.lives or not self.worker._stderr_queue.empty() or lines:
                try:
                    lines.append(self.worker._stderr_queue.get(timeout=_QUIET_S))
                except queue.Empty:
                    if lines:
                        self._keep("\n".join(lines), functions, code, tell)
                    lines = []
            forget(self)
            self.worker._discard_tmpdir()

        threading.Thread(target=read, name="stream log", daemon=True).start()

    def _keep(self, log: str, functions: Any, code: SavedCode, tell: Tell) -> None:
        printed, notes = read_log(log)
        if printed:
            tell({"printed": code.with_its_paths("\n".join(printed), self.worker.func_name, self.worker._tmpdir)})
        for noted in events_of(notes, None):
            tell({"noted": asdict(noted)})
        functions._emit_lambda_logs(self._record, str(uuid.uuid4()), log, False, 0)
