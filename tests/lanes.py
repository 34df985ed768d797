"""Commands side by side: as many at once as there are lanes, each one's output printed whole when it ends.

A command that fails hides no other. An interruption ends all of them.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from local.processes import Interruption, Stopping

NEWS_EVERY_S = 30.0
YIELDING = ("nice", "-n", "10")  # another process gets nine times as much of a processor as one of these
END_WITHIN_S = 30.0  # the end-to-end tests stop a whole stack first
_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Result:
    """The end of a command. `outcome` is "passed", "FAILED" or "interrupted".

    `cpu_s` is the processor time of the command and of every process that was waited for below it. On a busy machine
    it says more than `took_s`.
    """

    name: str
    outcome: str
    took_s: float
    cpu_s: float


def run(commands: Mapping[str, Sequence[str]], lanes: int, interruption: Interruption) -> list[Result]:
    """Runs every command and returns one result for each, in the order of `commands`.

    A free lane takes the next command. With one lane, or one command, the output is printed as it comes; else a line
    tells when a command begins, and every NEWS_EVERY_S which ones run. After an interruption every command that has
    not ended is "interrupted", whether it had begun or not. All others yield to the first command.
    """
    waiting = list(commands.items())
    running: list[_Running] = []
    ended: dict[str, Result] = {}
    is_live = lanes == 1 or len(waiting) == 1
    news_at = time.monotonic() + NEWS_EVERY_S
    try:
        while waiting or running:
            while waiting and len(running) < lanes:
                name, command = waiting.pop(0)
                running.append(_Running(name, command, is_live, yields=name != next(iter(commands))))
            interruption.sleep(_POLL_S)
            for each in [each for each in running if each.has_ended]:
                running.remove(each)
                ended[each.name] = each.result()
            if running and not is_live and time.monotonic() > news_at:
                news_at += NEWS_EVERY_S
                _say("... " + ", ".join(f"{each.name} for {each.took_s:.0f} s" for each in running))
    except Stopping:
        _end(running)
        ended |= {each.name: each.result("interrupted") for each in running}
    return [ended.get(name, Result(name, "interrupted", 0, 0)) for name in commands]


class _Running:
    """A command that runs in a process group of its own, so that Ctrl-C reaches it once, and from here."""

    def __init__(self, name: str, command: Sequence[str], is_live: bool, *, yields: bool) -> None:
        self.name = name
        self._is_live = is_live
        self._title = f"\n=== {name}: {' '.join(command[2:] if command[0] == sys.executable else command)}"
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (it is read after the command has ended)
        self._began = time.monotonic()
        self._cpu_s: float | None = None  # until it has ended
        _say(self._title if is_live else f"... {name} begins")
        self._process = subprocess.Popen(
            [*(YIELDING if yields else ()), *command],
            stdin=subprocess.DEVNULL,
            stdout=None if is_live else self._output,
            stderr=None if is_live else subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def has_ended(self) -> bool:
        before_s = _cpu_s_of_children()
        if self._process.poll() is None:
            return False
        if self._cpu_s is None:  # only now is its time among that of the ended ones
            self._cpu_s = _cpu_s_of_children() - before_s
        return True

    @property
    def took_s(self) -> float:
        return time.monotonic() - self._began

    def signal(self, number: signal.Signals) -> None:
        """Signals the whole group. Without effect when nothing of it is left."""
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS says the latter of a group of zombies
            os.killpg(self._process.pid, number)

    def result(self, outcome: str = "") -> Result:
        """Prints the output of a command that has ended. Its exit code tells the outcome, unless that is given."""
        outcome = outcome or ("FAILED" if self._process.returncode else "passed")
        took_s = self.took_s
        if not self._is_live:
            self._output.seek(0)
            _say(f"{self._title}\n{self._output.read().decode(errors='replace')}".rstrip("\n"))
            _say(f"=== {self.name} {outcome} after {took_s:.0f} s\n")
        self._output.close()
        return Result(self.name, outcome, took_s, self._cpu_s or 0)


def _end(running: Sequence[_Running]) -> None:
    """Sends SIGINT, on which pytest tears its fixtures down, and SIGKILL to what is left after END_WITHIN_S."""
    for each in running:
        each.signal(signal.SIGINT)
    until = time.monotonic() + END_WITHIN_S
    while any(not each.has_ended for each in running) and time.monotonic() < until:
        time.sleep(_POLL_S)
    for each in running:
        each.signal(signal.SIGKILL)  # its children too, if it has left any
    while any(not each.has_ended for each in running):
        time.sleep(_POLL_S)


def _cpu_s_of_children() -> float:
    """The processor time of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
