"""Streams, and the door of the Messages API: the first words, what each event costs, and the memory of many at once.

The function runs under uvicorn as on Lambda, with moto as AWS and the stand-in as Claude. All times are ratios of two
that were taken in the same run.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import httpx2

from local.claude_stand_in import StandIn
from tests.bench.deployment import Deployment, Used, deployment, new_key

_SERVER = Path(__file__).with_name("stream_server.py")
MODEL = "claude-sonnet-5-5"
AT_ONCE = 20
CALLS = 30
PACED_S = 3.0
FIRST_TOKEN_TARGET = 0.4
_SHORT, _LONG = _BOTH = "What is a heron?", "Write 3000 words"


@dataclass(frozen=True, slots=True)
class Streams:
    """The figures of the function that streams; shares and ratios have no unit."""

    first_token_share: float
    """The time to the first words ÷ that of the whole stream, of a reply that is written over PACED_S seconds."""
    added_cpu_ms: float
    """CPU of the function for a short request that the door passes on, the median of CALLS."""
    first_token_ratio: float
    """The time to the first words through the door ÷ that from the stand-in itself, by the medians of CALLS."""
    event_cpu_us: float
    """CPU of the function for one more event of a stream that is passed on."""
    turn_event_cpu_us: float
    """The same for an event of a turn of a session."""
    one_peak_mb: float
    """The peak of memory after one stream of 3,000 words, and after AT_ONCE of them at once."""
    many_peak_mb: float


class Server:
    """The function's process under its server, and the headers of a client of it."""

    def __init__(self, process: subprocess.Popen[bytes], token: str) -> None:
        assert process.stdout
        self._process = process
        self._cpu_s = 0.0
        self.url = f"http://127.0.0.1:{int(process.stdout.readline())}"
        self.headers = {"Authorization": f"Bearer {token}", "anthropic-version": "2023-06-01"}

    def used(self) -> Used:
        """Returns its peak of memory, and its CPU since the last call."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        peak_mb, cpu_s = json.loads(self._process.stdout.readline())
        spent, self._cpu_s = cpu_s - self._cpu_s, cpu_s
        return Used(round(peak_mb, 1), spent)


@contextmanager
def serving(made: Deployment) -> Iterator[Server]:
    """The function in a process of its own, which ends with the block."""
    with subprocess.Popen(
        [sys.executable, "-P", str(_SERVER)],
        env=made.environment("stream") | {"ROLES_CLAIM": "roles"},  # it verifies callers here
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdin
        with process.stdin:  # its end is the order to stop
            yield Server(process, made.token())


@dataclass(frozen=True, slots=True)
class Heard:
    """A stream as its reader had it: seconds to its first text, seconds in all, and its events."""

    first_s: float
    all_s: float
    events: int


def hear(url: str, headers: dict[str, str], body: dict[str, Any]) -> Heard:
    """Reads a stream to its end. Raises RuntimeError if it has no text or no end."""
    began = time.perf_counter()
    first_s, events, last = 0.0, 0, ""
    with httpx2.stream("POST", url, headers=headers, json=body, timeout=120, trust_env=False) as response:
        for line in response.iter_lines():
            if line.startswith("event: "):
                events, last = events + 1, line
            elif not first_s and '"text_delta"' in line:
                first_s = time.perf_counter() - began
    if not first_s or last not in ("event: message_stop", "event: turnlog.done"):
        raise RuntimeError(f"a stream of {response.status_code} that ended with {last!r}")
    return Heard(first_s, time.perf_counter() - began, events)


def asked(text: str) -> dict[str, Any]:
    """The body of a streamed request to the Messages API."""
    said = [{"role": "user", "content": text}]
    return {"model": MODEL, "max_tokens": 16_000, "stream": True, "messages": said}


def measure() -> Streams:
    """All figures."""
    with StandIn() as claude, deployment(claude.url) as made, serving(made) as server:
        return _Measuring(claude, server).all()


@dataclass(frozen=True)
class _Measuring:
    claude: StandIn
    server: Server

    def all(self) -> Streams:
        messages = f"{self.server.url}/v1/messages"
        self._through(messages, _LONG)
        one = self.server.used().peak_mb
        self.claude.fail("paced", seconds=PACED_S)
        paced = self._through(messages, _LONG)
        self.server.used()
        through, cpu_ms = [], []
        for _ in range(CALLS):
            through.append(self._through(messages, _SHORT).first_s)
            cpu_ms.append(self.server.used().cpu_s * 1000)
        direct = [
            hear(f"{self.claude.url}/v1/messages", self.server.headers, asked(_SHORT)).first_s for _ in range(CALLS)
        ]
        event_us = self._cpu_of_an_event(lambda text: self._through(messages, text))
        turn_event_us = self._cpu_of_an_event(self._turn)
        with ThreadPoolExecutor(AT_ONCE) as readers:
            list(readers.map(lambda _: self._through(messages, _LONG), range(AT_ONCE)))
        return Streams(
            first_token_share=round(paced.first_s / paced.all_s, 3),
            added_cpu_ms=round(median(cpu_ms), 1),
            first_token_ratio=round(median(through) / median(direct), 2),
            event_cpu_us=round(event_us),
            turn_event_cpu_us=round(turn_event_us),
            one_peak_mb=one,
            many_peak_mb=self.server.used().peak_mb,
        )

    def _through(self, url: str, text: str) -> Heard:
        return hear(url, self.server.headers, asked(text))

    def _turn(self, text: str) -> Heard:
        url = f"{self.server.url}/v1/messages"
        headers = self.server.headers | {"Turnlog-Session": "new", "Idempotency-Key": new_key()}
        return hear(url, headers, asked(text))

    def _cpu_of_an_event(self, ask: Callable[[str], Heard]) -> float:
        """The CPU in microseconds by which a stream of more events costs more, for each of them."""
        found: list[float] = []
        for text in (_SHORT, _LONG) * 6:
            self.server.used()
            ask(text)
            found.append(self.server.used().cpu_s)
        few, many = found[2::2], found[3::2]  # the first ones warm it
        # As Claude sends them: to a reader that is slower, several of them come as one.
        events = [hear(f"{self.claude.url}/v1/messages", self.server.headers, asked(text)).events for text in _BOTH]
        return 1e6 * (median(many) - median(few)) / (events[1] - events[0])


def table(found: Streams) -> Sequence[str]:
    """Returns the table of docs/benchmarks.md."""
    return [
        "| of the function that streams | measured |",
        "|---|---|",
        f"| first words ÷ all, of a reply written over {PACED_S:.0f} s | {found.first_token_share} |",
        f"| CPU of a short request that the door passes on | {found.added_cpu_ms} ms |",
        f"| time to the first words ÷ that without the door | {found.first_token_ratio} |",
        f"| CPU of an event, passed on; of a session's turn | {found.event_cpu_us} µs; {found.turn_event_cpu_us} µs |",
        f"| peak of memory: one stream; {AT_ONCE} at once | {found.one_peak_mb} MB; {found.many_peak_mb} MB |",
    ]
