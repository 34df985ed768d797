"""The process of the function that streams: one serves all, saved code gets a new one, and no turn is cut by that."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from local.saved_code import SavedCode
from local.stream_function import StreamFunction, Streaming
from local.stream_relay import AnswerCut, NoAnswer, pass_on
from local.stream_server import SECRET_HEADER
from tests.asgi import WITHIN_S, Client, run

NAME = "turnlog-StreamFunction-1"
# As MiniStack's worker: a line in, a line out, and all that is printed on standard error.
LOOP = """
import json, sys
real, sys.stdout = sys.stdout, sys.stderr
from local.stream_server import serve
for line in sys.stdin:
    try:
        answer = {"status": "ok", "result": serve(json.loads(line)["event"])}
    except Exception as error:
        answer = {"status": "error", "error": repr(error)}
    print(json.dumps(answer), file=real, flush=True)
"""
APP = """
import asyncio, json, os, pathlib, sys

VERSION = "1"
folder = pathlib.Path(os.environ["FOLDER"])

async def app(scope, receive, send):
    facts = {"version": VERSION, "pid": os.getpid(), "headers": [name.decode() for name, _ in scope["headers"]]}
    facts |= {"user": os.environ.get("USER_OF_ALL"), "issuer": os.environ["TOKEN_ISSUER"]}
    facts["finds_local"] = os.environ["PYTHONPATH"] in sys.path
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(facts).encode(), "more_body": True})
    while scope["path"].endswith("/stream") and not (folder / "go").exists():
        await asyncio.sleep(0.01)
    print(json.dumps({"message": "turn taken"}))
    print("printed")
    (folder / "stored").touch()
    await send({"type": "http.response.body", "body": b" done"})
"""


class Worker:
    """The part of MiniStack's worker that is used."""

    def __init__(self, func_name: str, config: dict[str, Any], code_zip: bytes) -> None:
        self.func_name = func_name
        self._config = config
        self._tmpdir = "/nowhere"
        self._stderr_queue: queue.Queue[str] = queue.Queue()
        self._proc: subprocess.Popen[str] | None = None
        self.is_tidy = False

    def invoke(self, event: dict[str, str], request_id: str) -> dict[str, Any]:
        assert self._config["Handler"] == "local/stream_server.serve"
        variables = self._config["Environment"]["Variables"]
        path = os.pathsep.join([variables["FOLDER"] + "/code", variables["PYTHONPATH"]])
        started = subprocess.Popen(
            [sys.executable, "-c", f"import os\nos.environ['PYTHONPATH'] = {variables['PYTHONPATH']!r}\n{LOOP}"],
            env={**os.environ, **variables, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._proc = started
        self._reading = threading.Thread(target=self._read, args=(started,), daemon=True)
        self._reading.start()
        assert started.stdin and started.stdout
        started.stdin.write(json.dumps({"event": event}) + "\n")
        started.stdin.flush()
        answer: dict[str, Any] = json.loads(started.stdout.readline())
        if answer["status"] == "error":
            kill_workers([self])
        return answer

    def _read(self, started: subprocess.Popen[str]) -> None:
        for line in started.stderr or ():
            self._stderr_queue.put(line.rstrip("\n"))

    def _discard_tmpdir(self) -> None:
        self.is_tidy = True

    def close(self) -> None:
        kill_workers([self])
        self._reading.join()
        for pipe in (self._proc.stdin, self._proc.stdout, self._proc.stderr) if self._proc else ():
            if pipe:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def kill_workers(workers: list[Worker]) -> None:
    for worker in workers:
        if worker._proc:
            worker._proc.kill()
            worker._proc.wait()


class MiniStack:
    """Its modules of the runtime and of the functions, and what they were given."""

    def __init__(self, folder: Path) -> None:
        self.variables = {"FOLDER": str(folder)}
        config = {"FunctionName": NAME, "Handler": "app.app", "Environment": {"Variables": self.variables}}
        issuer = {"Environment": {"Variables": {"TOKEN_ISSUER": "https://issuer.example", "FOLDER": "another"}}}
        self._functions: dict[str, Any] = {NAME: {"config": config, "code_zip": b""}, "authorizer": {"config": issuer}}
        self.workers: list[Worker] = []
        self.kill_workers = kill_workers
        self.kept: list[str] = []

    def Worker(self, *given: Any) -> Worker:  # noqa: N802 (MiniStack's name)
        self.workers.append(Worker(*given))
        return self.workers[-1]

    def _emit_lambda_logs(self, record: object, request_id: str, log: str, *_: object) -> None:
        self.kept.append(log)


class Streams:
    """The function under test, its files and what it has told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "code" / "app.py"
        self.file.parent.mkdir()
        self.file.write_text(APP)
        self.ministack = MiniStack(folder)
        code = SavedCode()
        code.read_from({NAME: str(self.file.parent)}, {})
        self.said: list[dict[str, Any]] = []
        self.function = StreamFunction(self.ministack, self.ministack, code, self.said.append)
        self.function.streaming = Streaming(NAME, "authorizer", (("POST", "/v1/query/stream"),))

    async def facts(self, client: Client) -> dict[str, Any]:
        """The facts that the app tells of itself at the beginning of its answer."""
        assert (await client.next())["status"] == 200
        found: dict[str, Any] = json.loads((await client.next())["body"])
        return found

    async def ask(self, headers: list[tuple[bytes, bytes]] | None = None) -> dict[str, Any]:
        """One short request from its beginning to its end."""
        client = Client(b"{}", path="/v1/messages", headers=headers)
        await client.ask(self.function.pass_on)
        return await self.facts(client)

    def save(self, old: str, new: str) -> None:
        self.file.write_text(self.file.read_text().replace(old, new))


@pytest.fixture
def streams(tmp_path: Path) -> Iterator[Streams]:
    streams = Streams(tmp_path)
    yield streams
    streams.function.kill()
    assert [worker for worker in streams.ministack.workers if worker._proc and worker._proc.poll() is None] == []
    for worker in streams.ministack.workers:
        worker.close()


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not happened():
            await asyncio.sleep(0.01)


def test_one_process_serves_many_at_once_with_the_environments_of_both(streams: Streams) -> None:
    async def test() -> None:
        await streams.function.warm()
        long = Client(b"{}")
        streaming = asyncio.create_task(long.ask(streams.function.pass_on))
        first = await streams.facts(long)
        second = await streams.ask([(b"x-turnlog-relay", b"guessed"), (b"x-own", b"1"), (b"content-length", b"2")])
        assert (first["pid"], first["version"]) == (second["pid"], "1")
        assert first["issuer"] == "https://issuer.example"
        assert second["headers"] == ["host", "x-own", "content-length"]
        assert not first["finds_local"]  # on Lambda there is no such folder
        assert not streaming.done()
        (streams.folder / "go").touch()
        await streaming

    run(test())


def test_a_burst_before_the_process_runs_starts_one(streams: Streams) -> None:
    async def test() -> None:
        pids = {facts["pid"] for facts in await asyncio.gather(*(streams.ask() for _ in range(8)))}
        assert len(pids) == len(streams.ministack.workers) == 1

    run(test())


def test_saved_code_serves_the_next_request_and_the_old_ends_with_its_streams(streams: Streams) -> None:
    async def test() -> None:
        read, left = Client(b"{}"), Client(b"{}")
        streaming = [asyncio.create_task(each.ask(streams.function.pass_on)) for each in (read, left)]
        old = await streams.facts(read)
        await streams.facts(left)
        left.hang_up()  # its turn goes on all the same
        await streaming[1]
        streams.save('VERSION = "1"', 'VERSION = "two"')
        new = await streams.ask()
        assert (new["version"], new["pid"] == old["pid"]) == ("two", False)
        (streams.folder / "go").touch()
        await streaming[0]
        assert await read.body() == b" done"
        assert (streams.folder / "stored").exists()
        await until(lambda: streams.ministack.workers[0].is_tidy)
        assert (await streams.ask())["pid"] == new["pid"]

    run(test())


def test_a_process_whose_only_reader_has_gone_ends_after_its_turn(streams: Streams) -> None:
    async def test() -> None:
        left = Client(b"{}")
        streaming = asyncio.create_task(left.ask(streams.function.pass_on))
        await streams.facts(left)
        left.hang_up()
        await streaming
        streams.save('VERSION = "1"', 'VERSION = "two"')
        await streams.ask()
        (streams.folder / "stored").unlink()  # the short request's
        assert not streams.ministack.workers[0].is_tidy
        (streams.folder / "go").touch()
        await until(lambda: streams.ministack.workers[0].is_tidy)
        assert (streams.folder / "stored").exists()

    run(test())


def test_a_request_on_its_way_to_the_old_process_is_answered_by_it(streams: Streams) -> None:
    async def test() -> None:
        old = await streams.function._take()
        streams.save('VERSION = "1"', 'VERSION = "two"')
        assert (await streams.ask())["version"] == "two"
        late = Client(b"{}", path="/v1/messages")
        await late.ask(partial(pass_on, old.port, more=[(SECRET_HEADER, old.secret)]))
        assert (await streams.facts(late))["version"] == "1"
        streams.function._release(old)
        await until(lambda: streams.ministack.workers[0].is_tidy)

    run(test())


def test_other_settings_get_another_process_too(streams: Streams) -> None:
    async def test() -> None:
        assert (await streams.ask())["user"] is None
        streams.ministack.variables["USER_OF_ALL"] = "ada"
        assert (await streams.ask())["user"] == "ada"

    run(test())


def test_code_that_cannot_be_imported_gets_no_answer_until_it_is_mended(streams: Streams) -> None:
    async def test() -> None:
        streams.save("async def app", "async def another")
        await streams.function.warm()  # which says nothing: the error was printed
        for _ in range(2):
            with pytest.raises(NoAnswer):
                await streams.ask()
        assert all(worker.is_tidy for worker in streams.ministack.workers)
        streams.save("async def another", "async def app")
        await streams.ask()

    run(test())


def test_a_process_that_was_killed_cuts_its_streams_and_the_next_request_starts_one(streams: Streams) -> None:
    async def test() -> None:
        cut = Client(b"{}")
        streaming = asyncio.create_task(cut.ask(streams.function.pass_on))
        old = await streams.facts(cut)
        streams.function.kill()
        with pytest.raises(AnswerCut):
            await streaming
        assert (await streams.ask())["pid"] != old["pid"]

    run(test())


def test_nobody_but_the_relay_reaches_the_app(streams: Streams) -> None:
    async def test() -> None:
        await streams.ask()
        server = streams.function._serving
        assert server
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST /v1/messages HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 403 ")
        writer.close()

    run(test())


def test_what_it_prints_and_notes_is_told_and_kept(streams: Streams) -> None:
    async def test() -> None:
        await streams.ask()
        await until(lambda: len(streams.said) == 2)

    run(test())
    printed, noted = streams.said
    assert printed == {"printed": "printed"}
    assert (noted["noted"]["event"], noted["noted"]["ms"]) == ("turn taken", None)
    assert "".join(streams.ministack.kept).splitlines() == ['{"message": "turn taken"}', "printed"]


def test_a_function_that_is_not_deployed_gets_no_answer(streams: Streams) -> None:
    async def test() -> None:
        streams.ministack._functions.clear()
        with pytest.raises(NoAnswer):
            await streams.ask()

    run(test())


@pytest.mark.parametrize(
    ("method", "path", "is_taken"),
    [
        ("POST", "/v1/query/stream", True),
        ("POST", "/v1/query/stream/", True),
        ("POST", "/v1//query/stream", True),
        ("GET", "/v1/query/stream", False),
        ("OPTIONS", "/v1/query/stream", False),
        ("POST", "/v1/query", False),
        ("POST", "/v1/query/stream/more", False),
        ("POST", "/v1/sessions/ses_1/turns/stream", True),
        ("POST", "/v1/sessions/ses_1/turns/1", False),
    ],
)
def test_only_routes_of_the_template_are_taken(method: str, path: str, is_taken: bool) -> None:
    routes = (("POST", "/v1/query/stream"), ("POST", "/v1/sessions/{id}/turns/stream"))
    assert Streaming(NAME, "authorizer", routes).takes(method, path) is is_taken
    assert not Streaming().takes(method, path)
