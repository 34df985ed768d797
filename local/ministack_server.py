"""MiniStack behind a guard, under MiniStack's own interpreter. `local.ministack` starts it.

Reads orders from standard input, one a line: `api <id>` maps /v1 to an API, `code <JSON>` names the folders of the
functions' code, `stream <JSON>` the routes that stream and their function, `save` writes the state to disk. The end of
standard input is the order to stop, so that this process never outlives its launcher. Writes one JSON object a line to
standard output: `{"answered": …}` for each request of the API, `{"noted": …}` for another event of a function,
`{"printed": "<text>"}` for what a function prints, and for the orders `{"serving": "<id>"}`, `{"reading": true}`,
`{"streaming": true}` and `{"saved": true}`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path

from hypercorn.asyncio import serve  # type: ignore[import-not-found] # MiniStack's environment has these
from hypercorn.config import Config  # type: ignore[import-not-found]
from ministack import app as ministack  # type: ignore[import-not-found]
from ministack.core import iam_actions, lambda_runtime  # type: ignore[import-not-found]
from ministack.core.persistence import save_all  # type: ignore[import-not-found]
from ministack.services import apigateway_v1, dynamodb, lambda_svc, s3  # type: ignore[import-not-found]

from local import executions, iam_request
from local.front import Front
from local.saved_code import SavedCode
from local.shared_layers import SharedLayers
from local.stream_function import StreamFunction, Streaming
from local.stream_relay import Message

MOST_TRANSACTION_BYTES = 4 * 1024 * 1024 * 4 // 3
"""MiniStack counts bytes in the base64 in which they are sent, and DynamoDB's 4 MB are of the bytes themselves."""
_SAVE_WITHIN_S = 2.0
_KILL_WITHIN_S = 0.7  # the launcher allows 5 s for everything


def main() -> int:
    """Serves until the launcher orders the stop or has ended."""
    parser = argparse.ArgumentParser(prog="python -m local.ministack_server")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--page", default="", help="one other origin whose pages may call the API")
    asked = parser.parse_args()
    _raise_open_files()
    asyncio.run(_run(asked.port, asked.state, asked.page))
    return 1


async def _run(port: int, state: Path, page: str) -> None:
    """Serves, and ends the whole process. Raises the reason when the server cannot begin."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the launcher's
    lambda_runtime.zipfile = SharedLayers(state / "layers")
    iam_request.complete(ministack, iam_actions, s3)
    dynamodb._DDB_TXN_MAX_BYTES = MOST_TRANSACTION_BYTES
    code = SavedCode()
    executions.complete(lambda_runtime, lambda_svc, apigateway_v1, code, tell)
    streams = StreamFunction(lambda_runtime, lambda_svc, code, tell)
    failure = partial(executions.problem_of_failure, apigateway_v1)
    front = Front(ministack.app, streams, failure, tell, port, page)
    lifespan = Lifespan()
    await lifespan.start()
    threading.Thread(target=_obey, args=(loop, front, streams, code, stop), daemon=True).start()
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.keep_alive_timeout = 75  # as MiniStack's own main has it
    config.loglevel = "WARNING"
    never = asyncio.Event()
    serving = asyncio.create_task(serve(front, config, shutdown_trigger=never.wait))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    front.close()
    await _kill_workers(streams)  # before the state is saved, so that none of them changes it meanwhile
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(lifespan.stop(), _SAVE_WITHIN_S)
    if serving.done():
        serving.result()  # raises why, such as that the port is taken
    _end_group()
    os._exit(0)  # in an orderly end asyncio would wait for threads that wait for workers


async def _kill_workers(streams: StreamFunction) -> None:
    def kill() -> None:
        streams.kill()
        lambda_runtime.reset()

    killing = threading.Thread(target=kill, daemon=True)
    killing.start()
    until = time.monotonic() + _KILL_WITHIN_S
    while killing.is_alive() and time.monotonic() < until:
        await asyncio.sleep(0.02)


def _obey(
    loop: asyncio.AbstractEventLoop, front: Front, streams: StreamFunction, code: SavedCode, stop: asyncio.Event
) -> None:
    for line in sys.stdin:
        match line.rstrip("\n").split(" ", 1):
            case ["api", api_id]:
                front.api_id = api_id
                tell({"serving": api_id})
            case ["code", folders]:
                code.read_from(**json.loads(folders))
                tell({"reading": True})
            case ["stream", streaming]:
                streams.streaming = Streaming(**json.loads(streaming))
                asyncio.run_coroutine_threadsafe(streams.warm(), loop)  # while others start
                tell({"streaming": True})
            case ["save"]:
                loop.call_soon_threadsafe(_save)  # on the loop, where most of the state is changed
    loop.call_soon_threadsafe(stop.set)


def _save() -> None:
    save_all(ministack._build_persistence_save_dict())
    tell({"saved": True})


def tell(fact: Message) -> None:
    """Writes a fact to the launcher. Without effect when the launcher has ended."""
    with contextlib.suppress(OSError):
        sys.stdout.write(json.dumps(fact) + "\n")
        sys.stdout.flush()


class Lifespan:
    """Starts and stops MiniStack itself, since hypercorn would first wait for every connection to close."""

    def __init__(self) -> None:
        self._orders: asyncio.Queue[Message] = asyncio.Queue()
        self._done: asyncio.Queue[str] = asyncio.Queue()

    async def start(self) -> None:
        self._task = asyncio.create_task(ministack.app({"type": "lifespan"}, self._orders.get, self._answer))
        await self._step("startup")

    async def stop(self) -> None:
        """Stops MiniStack, which saves its state."""
        await self._step("shutdown")

    async def _step(self, name: str) -> None:
        await self._orders.put({"type": f"lifespan.{name}"})
        if (done := await self._done.get()) != f"lifespan.{name}.complete":
            raise RuntimeError(done)

    async def _answer(self, message: Message) -> None:
        await self._done.put(message["type"])


def _raise_open_files() -> None:
    """Raises the limit of open files, since a burst of connections needs more than the usual 1,024."""
    import resource

    with contextlib.suppress(ValueError, OSError):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65536)), hard))


def _end_group() -> None:
    """Ends every process of the group: workers that were just starting when the others were killed."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGTERM)
    until = time.monotonic() + _KILL_WITHIN_S
    with contextlib.suppress(ChildProcessError):  # there is none left
        while time.monotonic() < until:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.02)
    shutil.rmtree(os.environ["TMPDIR"], ignore_errors=True)


if __name__ == "__main__":
    logging.getLogger("hypercorn.access").disabled = True
    sys.exit(main())
