"""Events go to whoever reads, at the reader's pace, and the work goes on to its end whoever reads."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import IncompleteRead
from queue import Queue
from typing import Any

import pytest

from tests.stream.conftest import Served, running
from tests.stream.held_model import PATIENCE_S
from tests.stream.reading import Reading, wait_for_work
from turnlog.domain.messages import to_json
from turnlog.domain.reply_events import ReplyEvent
from turnlog.domain.turn_stream import Emit, own_event
from turnlog.entrypoints.http.answers import Response
from turnlog.entrypoints.http.replies import Health
from turnlog.entrypoints.stream import make_app, sending
from turnlog.entrypoints.stream.doors import Door
from turnlog.entrypoints.stream.outbox import Outbox
from turnlog.entrypoints.stream.streamed import KeptAlive, Streamed
from turnlog.errors import ModelFailed, TurnInProgress

BODY = Health(status="ok", version="1")
_BUFFER = 65_536
_MORE_THAN_BUFFERS_HOLD = 16_000_000  # on both sides of a connection of this machine


def delta(text: str) -> ReplyEvent:
    told = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
    return ReplyEvent("content_block_delta", to_json(told))


@dataclass
class Script:
    """A piece of work that a test plays, in the form that it chooses."""

    gate: threading.Event = field(default_factory=threading.Event)
    run: Callable[[Emit], Response | None] = lambda emit: None
    quiet_s: float = 10
    is_kept_alive: bool = False

    def wait(self) -> None:
        assert self.gate.wait(PATIENCE_S)

    def route(self, *_: Any) -> Streamed | KeptAlive:
        if self.is_kept_alive:
            return KeptAlive(lambda: self.run(lambda _: None) or Response(200, BODY), self.quiet_s)
        return Streamed(self.run, quiet_s=self.quiet_s)


@pytest.fixture(scope="module")
def _routes() -> dict[str, Any]:
    return {}


@pytest.fixture(scope="module")
def _played(_routes: dict[str, Any]) -> Iterator[Served]:
    yield from running(make_app(Door({("POST", "/play"): lambda *given: _routes["now"](*given)})))  # noqa: PLW0108 (looked up at each call)


@pytest.fixture
def script(backstage: object, _routes: dict[str, Any]) -> Script:
    made = Script()
    _routes["now"] = made.route
    return made


@pytest.fixture
def play(script: Script, _played: Served) -> Iterator[Callable[..., Reading]]:
    yield lambda **more: Reading(_played, "/play", {}, **more)
    script.gate.set()
    wait_for_work()


Play = Callable[..., Reading]


def test_while_nothing_comes_pings_tell_that_the_work_goes_on(
    script: Script, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "PING_S", 0.01)

    def run(emit: Emit) -> None:
        emit(delta("a"))
        script.wait()

    script.run = run
    reading = play().open()
    events = [reading.next() for _ in range(4)]
    assert [event.type for event in events] == ["content_block_delta", "ping", "ping", "ping"]
    assert events[-1].data == '{"type":"ping"}'
    script.gate.set()
    assert set(reading.rest().types) <= {"ping"}


def test_a_stream_begins_in_time_and_then_an_error_is_an_event(script: Script, play: Play) -> None:
    def run(emit: Emit) -> None:
        emit(own_event("turn"))
        script.wait()
        raise ModelFailed

    script.run, script.quiet_s = run, 0.01
    reading = play().open()
    assert (reading.status, reading.next().type) == (200, "turnlog.turn")
    script.gate.set()
    (last,) = reading.rest()
    assert (last.type, json.loads(last.data)["problem"]["code"]) == ("error", "model_failed")


def test_one_that_begins_with_nothing_begins_with_a_ping(script: Script, play: Play) -> None:
    script.run, script.quiet_s = lambda _: script.wait(), 0.01
    assert play().open().next().type == "ping"


def test_an_error_in_time_has_its_status_and_headers(script: Script, play: Play) -> None:
    def run(emit: Emit) -> None:
        emit(own_event("turn"))
        raise TurnInProgress(7)

    script.run = run
    reading = play().open()
    assert (reading.status, reading.headers["retry-after"]) == (409, "7")
    assert reading.problem["code"] == "turn_in_progress"


def test_the_answer_ends_only_after_the_work(script: Script, play: Play) -> None:
    """On Lambda nothing runs any more once the answer has ended."""
    order: list[str] = []

    def run(emit: Emit) -> None:
        emit(own_event("done"))
        script.wait()
        order.append("the work ended")

    def read() -> None:
        reading.rest()
        order.append("the answer ended")

    script.run = run
    reading = play().open()
    assert reading.next().type == "turnlog.done"
    reader = threading.Thread(target=read)
    reader.start()
    script.gate.set()
    reader.join(PATIENCE_S)
    assert order == ["the work ended", "the answer ended"]


def test_who_hangs_up_changes_nothing_for_the_work_and_gets_nothing_kept(
    script: Script, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    noticed, noted = threading.Event(), Queue[dict[str, int]]()
    close = Outbox.close

    def note(box: Outbox) -> None:
        close(box)
        noticed.set()

    def run(emit: Emit) -> None:
        emit(delta("a"))
        script.wait()
        for _ in range(1000):
            emit(delta("b" * 1000))

    monkeypatch.setattr(Outbox, "close", note)
    monkeypatch.setattr(sending, "note_request", lambda *_, **measured: noted.put(measured))
    script.run = run
    reading = play().open()
    reading.next()
    reading.hang_up()
    assert noticed.wait(PATIENCE_S)
    script.gate.set()
    measured = noted.get(timeout=PATIENCE_S)
    assert measured["events"] == 1001
    assert measured["bytes_sent"] < 1000


def test_a_connection_that_is_broken_ends_no_work(script: Script, backstage: object) -> None:
    """Some servers say so by an OSError, where others drop what is sent."""
    order: list[str] = []

    def run(emit: Emit) -> None:
        emit(delta("a"))
        script.wait()
        order.append("the work ended")

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            asyncio.get_running_loop().call_later(0.05, script.gate.set)
            raise OSError

    async def receive() -> Any:
        if not received:
            received.append("body")
            return {"type": "http.request", "body": b"{}"}
        return await asyncio.Event().wait()

    received: list[str] = []
    script.run = run
    app = make_app(Door({("POST", "/play"): script.route}))
    headers = [(b"authorization", b"Bearer ada")]
    scope = {"type": "http", "method": "POST", "path": "/play", "query_string": b"", "headers": headers}
    asyncio.run(app(scope, receive, send))
    order.append("the request ended")
    assert order == ["the work ended", "the request ended"]


def test_a_process_that_is_told_to_end_finishes_its_work() -> None:
    script = """
import threading
from turnlog.entrypoints.stream import app
app.begin(lambda: (threading.main_thread().join(), print("stored")))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": "layers/turnlog/python"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "stored\n"


def test_a_slow_reader_gets_all_in_fewer_events(script: Script, play: Play) -> None:
    text = "".join(f"{number:1000}" for number in range(_MORE_THAN_BUFFERS_HOLD // 1000))

    def run(emit: Emit) -> None:
        for at in range(0, len(text), 1000):
            emit(delta(text[at : at + 1000]))
        script.gate.set()

    script.run = run
    reading = play(buffer=_BUFFER)
    script.wait()  # all is said, and nothing read
    lines = reading.open().response.read().splitlines()
    events = [json.loads(line.removeprefix(b"data: ")) for line in lines if line.startswith(b"data: ")]
    assert "".join(event["delta"]["text"] for event in events) == text
    assert len(events) < len(text) // 1000 / 2


def test_a_reader_that_takes_nothing_is_left_once_the_work_has_ended(
    script: Script, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "STALL_S", 0.05)
    left = threading.Event()

    def note(*_: object, **__: object) -> None:
        sending.STALL_S = 60  # so that all that is sent from here on would arrive
        left.set()

    monkeypatch.setattr(sending, "note_request", note)

    def run(emit: Emit) -> None:
        for number in range(_MORE_THAN_BUFFERS_HOLD // 1000):
            emit(own_event("odd", number=number, text="x" * 1000))
        script.gate.set()

    script.run = run
    reading = play(buffer=_BUFFER)
    script.wait()
    assert left.wait(PATIENCE_S)
    with pytest.raises(IncompleteRead) as cut:  # what was under way comes, and no more
        reading.open().response.read()
    assert 0 < len(cut.value.partial) < _MORE_THAN_BUFFERS_HOLD


def test_one_that_takes_nothing_while_the_work_runs_is_not_left(
    script: Script, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "STALL_S", 0)
    said = threading.Event()

    def run(emit: Emit) -> None:
        for _ in range(_MORE_THAN_BUFFERS_HOLD // 1000):
            emit(delta("x" * 1000))
        said.set()
        script.wait()
        emit(own_event("done"))

    script.run = run
    reading = play(buffer=_BUFFER)
    assert said.wait(PATIENCE_S)
    reading.open()
    monkeypatch.setattr(sending, "STALL_S", 60.0)
    script.gate.set()
    assert b"turnlog.done" in reading.response.read()[-200:]


def test_the_log_says_when_the_first_event_came_and_how_much_was_sent(
    script: Script, play: Play, logged: io.StringIO
) -> None:
    def run(emit: Emit) -> Response:
        emit(delta("a"))
        return Response(200, noted={"model": "m"})

    script.run = run
    reading = play().open()
    sent = reading.response.read()
    (line,) = map(json.loads, logged.getvalue().splitlines())
    assert (
        line.items()
        >= {"message": "request", "status": 200, "events": 1, "bytes_sent": len(sent), "model": "m"}.items()
    )
    assert 0 <= line["first_event_ms"] <= line["ms"]


def test_a_whole_answer_that_takes_long_is_kept_alive_by_line_ends(
    script: Script, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "PING_S", 0.01)
    script.is_kept_alive, script.quiet_s = True, 0.01
    script.run = lambda _: script.wait()
    reading = play().open()
    assert (reading.status, reading.headers["content-type"]) == (200, "application/json; charset=utf-8")
    assert [reading.response.read(1) for _ in range(3)] == [b"\n"] * 3
    script.gate.set()
    assert json.loads(reading.response.read()) == {"status": "ok", "version": "1"}


def test_one_that_fails_by_then_has_the_error_as_its_body_and_is_cut(script: Script, play: Play) -> None:
    def run(_: Emit) -> None:
        script.wait()
        raise ModelFailed

    script.is_kept_alive, script.quiet_s, script.run = True, 0.01, run
    reading = play().open()
    script.gate.set()
    with pytest.raises(IncompleteRead) as cut:
        reading.response.read()
    assert (reading.status, json.loads(cut.value.partial)["code"]) == (200, "model_failed")


def test_one_that_is_quick_is_an_answer_like_any_other(script: Script, play: Play) -> None:
    script.is_kept_alive = True
    reading = play().open()
    assert (reading.status, json.loads(reading.response.read())) == (200, {"status": "ok", "version": "1"})
    assert "content-length" in reading.headers
