"""The memory and CPU of each function, at its start and in its heaviest request, against the memory it is given.

Each runs in a process of its own, with its real clients: DynamoDB, KMS, S3, Secrets Manager and CloudWatch Logs are
moto in this process, Claude is a small server here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from tests import deployed
from tests.added_function import single_turn_paths
from tests.bench import pictures
from tests.bench.deployment import ADMIN, NONE_KEPT, OWNER, Deployment, Event, Used, deployment, event, new_key, prose
from turnlog.domain.window import WindowPolicy

BOB = "https://issuer.example/|bob"
MOST_TOKENS = 16_000
LARGEST_MESSAGE = 256_000  # characters; with the JSON around it nearly the largest body that is taken
MB_OF_A_VCPU = 1_769  # Lambda gives CPU by memory: so much of it buys one (AWS documentation)
RUNTIME_MB = 40
"""For what is not measured: Lambda's client of its runtime 10, the X-Ray daemon 16 (AWS documentation), and reserve."""
MOST_SHARE = 0.7  # of its memory that a function may use
START_S = 6  # of the 10 that Lambda lets a start take; without byte code it takes about twice the CPU
REQUEST_S = 3  # a tenth of the time that the gateway waits
SIZES_MB = (128, 256, 512, 1024, 1769)
DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Footprint:
    """A function's use at its start, in the first run of a heavy request and in a second one.

    `uncompiled_s` is the CPU of a start without byte code, as a build without the functions' Python ships it.
    """

    function: str
    asked: str
    memory_mb: int
    uncompiled_s: float
    start: Used
    first: Used
    again: Used

    @property
    def share(self) -> float:
        """The part of its memory that is used at most, the runtime's included."""
        return (self.first.peak_mb + RUNTIME_MB) / self.memory_mb

    @property
    def least_mb(self) -> int:
        """The smallest size that is enough, by memory, by the time of a start and by that of a request."""
        return next(size for size in SIZES_MB if self._is_enough(size) or size == SIZES_MB[-1])

    def _is_enough(self, size_mb: int) -> bool:
        fits = self.first.peak_mb + RUNTIME_MB <= MOST_SHARE * size_mb
        starts = seconds(self.start.cpu_s, size_mb) <= START_S
        return fits and starts and seconds(self.again.cpu_s, size_mb) <= REQUEST_S


def seconds(cpu_s: float, memory_mb: int) -> float:
    """The time that so much CPU takes at the part of a vCPU that the memory buys."""
    return cpu_s * MB_OF_A_VCPU / min(memory_mb, MB_OF_A_VCPU)


@dataclass(frozen=True, slots=True)
class Request:
    """A heavy request of a function. `event` makes one more of it; `ahead_ms` is how far its clock is ahead."""

    function: str
    asked: str
    event: Callable[[], Event]
    ahead_ms: int = 0


def measure() -> list[Footprint]:
    """The footprints of every function's heavy requests."""
    with deployment() as made:
        uncompiled = {name: made.uncompiled_s(name) for name in deployed.folders()}
        found = [_footprint(made, each, uncompiled[each.function]) for each in _requests(made)]
    return sorted(found, key=lambda each: (each.function, each.asked))


def _footprint(made: Deployment, request: Request, uncompiled_s: float) -> Footprint:
    """Makes the request twice in a new process."""
    with made.worker(request.function):
        pass  # compiles what no other function did
    with made.worker(request.function) as worker:
        first = worker.ask(request.event(), request.ahead_ms)
        again = worker.ask(request.event(), request.ahead_ms)
    memory_mb = deployed.memory_mb(deployed.logical_name(request.function))
    return Footprint(request.function, request.asked, memory_mb, uncompiled_s, worker.start, first, again)


def peak_of_turns_mb() -> float:
    """The peak of the session function, which loads most, in a turn of the largest size and in some with pictures.

    With the fourth picture of 3 MB the window is as full as it gets.
    """
    with deployment() as made, made.worker("session", **NONE_KEPT) as worker:
        session_id = worker.answer(event("POST", "/sessions", {"max_tokens": MOST_TOKENS}))["session_id"]
        turn = {"message": prose(LARGEST_MESSAGE)}
        worker.ask(event("POST", "/sessions/{id}/turns", turn, {"id": session_id}, key=new_key()))
        return pictures.memory(worker, turns=4)[-1].peak_mb


def table(footprints: Sequence[Footprint]) -> list[str]:
    """Returns the table of docs/benchmarks.md."""
    lines = [
        "| function and request | start: MB | CPU s | without byte code | request: MB | CPU s | again | memory | used |"
    ]
    lines += ["|---" * 9 + "|"]
    for each in footprints:
        figures = (
            f"{each.start.peak_mb:.0f} | {each.start.cpu_s:.2f} | {each.uncompiled_s:.2f} | "
            f"{each.first.peak_mb:.0f} | {each.first.cpu_s:.2f} | {each.again.cpu_s:.2f}"
        )
        lines.append(f"| {each.function}: {each.asked} | {figures} | {each.memory_mb} | {each.share:.0%} |")
    return lines


def times(footprints: Sequence[Footprint]) -> list[str]:
    """The seconds that a start and a request take at each function's memory, and the least memory by the rule."""
    lines = ["function           memory  of a vCPU  start  without byte code  request  again  least memory"]
    for each in footprints:
        cpu = each.start.cpu_s, each.uncompiled_s, each.first.cpu_s, each.again.cpu_s
        start, uncompiled, first, again = (f"{seconds(each_s, each.memory_mb):.1f}" for each_s in cpu)
        size = f"{each.function:17}  {each.memory_mb:6}  {each.memory_mb / MB_OF_A_VCPU:9.2f}"
        lines.append(f"{size}  {start:>5}  {uncompiled:>17}  {first:>7}  {again:>5}  {each.least_mb:12}")
    return lines


def _requests(made: Deployment, turns: int = WindowPolicy().turns, many: int = 100) -> Iterator[Request]:
    """The heavy requests, one after the other. Those that remove sessions come before the long one is filled.

    A long session has `turns` turns of the largest size; an account and a sweep have `many` sessions.
    """
    small = {"message": "One more."}
    made.fill(BOB, sessions=many, turns=1, body=small)
    yield Request("sweep", f"{many} expired sessions", dict, 2 * DAY_MS)
    made.fill(BOB, sessions=many, turns=1, body=small)
    yield Request("account", f"the erasure of {many} sessions", partial(event, "DELETE", "/me", owner=BOB))
    largest = {"message": prose(LARGEST_MESSAGE), "max_tokens": MOST_TOKENS}
    for function, path in single_turn_paths().items():
        body = largest | ({"continuable": True} if function == "query" else {})
        yield Request(function, "the largest message and reply", partial(event, "POST", path, body))
    at = {"id": made.fill(OWNER, sessions=1, turns=turns, body=largest)[0]}
    one, long = {"message": largest["message"]}, f"{turns} of the largest turns"
    turn = partial(event, "POST", "/sessions/{id}/turns", one, at)
    yield Request("session", f"one more after {long}", lambda: turn(key=new_key()))
    yield Request("session", f"the export of {long}", partial(event, "GET", "/sessions/{id}/export", None, at))
    yield Request("session", f"a fork of {long}", partial(event, "POST", "/sessions/{id}/fork", {"turn": turns}, at))
    yield Request("account", f"the export of {long}", partial(event, "GET", "/me/export"))
    why, ref = {"reason": "To measure what it takes."}, {"ref": made.ref_of_first(OWNER)}
    shown = partial(event, "POST", "/admin/sessions/{ref}/content", why, ref, roles=ADMIN, query={"limit": ["100"]})
    yield Request("admin", f"the content of {long}", shown)
    begun = {"secret_sha256": "0" * 64, "system": prose(LARGEST_MESSAGE)}
    stranger = partial(event, "POST", "/anonymous/sessions", begun, owner="")
    yield Request("anonymous", "a session with the longest system prompt", stranger)
    yield Request("models", "the list of models", partial(event, "GET", "/models"))
    yield Request("console", "the OpenAPI document", partial(event, "GET", "/openapi.json"))
    yield Request("authorizer", "a token that is refused a route", made.authorization)
    yield Request("summarize_upload", "the largest document", made.upload)
