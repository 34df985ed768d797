"""Processes of a launcher: each in a group of its own, recorded, and ended with all its children.

From the record the next launcher ends the processes that a killed one has left.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

from local.state import ROOT, StateFolder

_POLL_S = 0.05
_DEATH_WITHIN_S = 1.0  # of a killed process: a moment, longer only while a slow disk works
_STDOUT = 1
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Result = TypeVar("Result")


class Stopping(Exception):
    """Ctrl-C or a signal asked for the end."""


class Interruption:
    """Remembers a signal. Every wait goes through this object and raises Stopping after a signal.

    The handler only sets a flag: an exception at any point could lose a process that was just being started.
    """

    def __init__(self) -> None:
        self._asked = False

    def listen(self) -> None:
        """Takes SIGINT, SIGTERM and SIGHUP from now on. Only the first of them has an effect."""
        for number in _SIGNALS:
            signal.signal(number, self._ask)

    def _ask(self, *_: object) -> None:
        self._asked = True
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # at the very end too, when Python drops its handlers
        with contextlib.suppress(OSError):  # the terminal may be gone
            os.write(_STDOUT, b"stopping\n")  # print may be at work just now

    def check(self) -> None:
        """Raises Stopping after a signal."""
        if self._asked:
            raise Stopping

    def sleep(self, seconds: float) -> None:
        """Sleeps. Raises Stopping within 50 ms of a signal."""
        until = time.monotonic() + seconds
        self.check()
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _POLL_S))
            self.check()

    def during(self, work: Callable[[], Result]) -> Result:
        """Runs `work` in a thread and returns or raises its outcome. Raises Stopping after a signal."""
        done: Future[Result] = Future()

        def do() -> None:
            try:
                done.set_result(work())
            except BaseException as error:  # noqa: BLE001 (whatever it is, it is raised where the result is wanted)
                done.set_exception(error)

        threading.Thread(target=do, daemon=True).start()
        while not done.done():
            self.check()
            wait([done], _POLL_S)
        return done.result()


class Processes:
    """Starts and ends the processes of a state folder's holder."""

    def __init__(self, state: StateFolder, interruption: Interruption) -> None:
        self._state = state
        self._interruption = interruption
        self._started: list[subprocess.Popen[str]] = []

    @property
    def pids(self) -> list[int]:
        """The ids of the processes that run now, without their children."""
        return [each.pid for each in self._started]

    def start(
        self,
        command: Sequence[str | Path],
        environment: Mapping[str, str],
        *,
        stdin: int = subprocess.DEVNULL,
        stdout: int | IO[str] = subprocess.DEVNULL,
        stderr: int | IO[str] = subprocess.DEVNULL,
    ) -> subprocess.Popen[str]:
        """Starts a program in the repository's folder. Its command line must name the state folder, which marks it."""
        started = subprocess.Popen(
            [str(part) for part in command],
            cwd=ROOT,
            env=dict(environment),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )
        self._started.append(started)
        self._record()
        return started

    def run(self, command: Sequence[str | Path], environment: Mapping[str, str], log: Path) -> int:
        """Runs a program to its end and returns its exit code. Its output goes to `log`."""
        with log.open("a") as out:
            running = self.start(command, environment, stdout=out, stderr=subprocess.STDOUT)
            try:
                while (code := running.poll()) is None:
                    self._interruption.sleep(_POLL_S)
            finally:
                self.end(running, within_s=1)
        return code

    def end(self, started: subprocess.Popen[str], within_s: float) -> None:
        """Ends the whole group with SIGTERM, and with SIGKILL after `within_s` seconds."""
        _signal_group(started.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            started.wait(within_s)
        _signal_group(started.pid, signal.SIGKILL)  # its children too, if it has left any
        started.wait()
        until = time.monotonic() + _DEATH_WITHIN_S
        while _members(started.pid) and time.monotonic() < until:
            time.sleep(_POLL_S)
        for pipe in (started.stdin, started.stdout, started.stderr):
            if pipe:
                with contextlib.suppress(OSError):  # what was still to be written has no reader any more
                    pipe.close()
        self._started.remove(started)
        self._record()

    def _record(self) -> None:
        self._state.write(self._state.processes_json, {"groups": self.pids})

    def end_leftovers(self, within_s: float) -> bool:
        """Ends the processes that a killed launcher has left. Returns False after a clean end."""
        recorded = self._state.read(self._state.processes_json).get("groups") or []
        groups = [group for group in recorded if type(group) is int and group > 1 and self._is_ours(group)]
        for group in groups:
            _signal_group(group, signal.SIGTERM)
        until = time.monotonic() + within_s
        while any(_members(group) for group in groups) and time.monotonic() < until:
            self._interruption.sleep(_POLL_S)
        for group in groups:
            _signal_group(group, signal.SIGKILL)
        self._state.processes_json.unlink(missing_ok=True)
        return bool(recorded)

    def _is_ours(self, group: int) -> bool:
        """True for a group of this folder. Its number may belong to a stranger by now, who does not name the folder.

        A process has no command line for a moment while it begins a program or ends. That moment is waited for.
        """
        until = time.monotonic() + _DEATH_WITHIN_S
        while "" in (commands := [member.command for member in _members(group)]) and time.monotonic() < until:
            self._interruption.sleep(_POLL_S)
        return any(str(self._state.path) in command for command in commands)


def commands_of(folder: Path) -> list[str]:
    """The command lines of all living processes that name a state folder."""
    return [each.command for each in _living() if str(folder) in each.command]


@dataclass(frozen=True, slots=True)
class _Process:
    group: int
    command: str


def _members(group: int) -> list[_Process]:
    return [each for each in _living() if each.group == group]


def _living() -> Iterator[_Process]:
    """All processes of this machine that have not ended."""
    if Path("/proc/self/stat").exists():
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it ended meanwhile
                state, _, group = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if state not in "ZX":
                    yield _Process(int(group), command)
        return
    listed = subprocess.run(["ps", "-A", "-o", "pgid=,stat=,command="], capture_output=True, text=True, check=True)
    for line in listed.stdout.splitlines():
        group, state, command = [*line.split(None, 2), ""][:3]
        if not state.startswith("Z"):
            yield _Process(int(group), command)


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS says the latter of a group of zombies
        os.killpg(group, number)


def clean_environment() -> dict[str, str]:
    """This process's environment without any variable that leads to a real account, a real key or another Python."""
    left_out = ("AWS_", "ANTHROPIC_", "CLAUDE_", "SAM_", "PYTHON", "VIRTUAL_ENV", "MAKE", "MFLAGS")
    return {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
