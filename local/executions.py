"""Executions of functions in MiniStack: of the code as it is saved now, and with all that a developer wants to see.

MiniStack keeps a worker, which is a process, for each execution at once. A worker whose code has been saved since is
replaced before its next execution, so the busy ones finish what they do.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict
from typing import Any

from local.request_line import Noted
from local.saved_code import SavedCode

Tell = Callable[[dict[str, Any]], None]
Result = dict[str, Any]

_ERROR_OF_IMPORT = '{"status": "error", "error": str(e)})'
_TRACEBACK_OF_IMPORT = '{"status": "error", "error": "\\n" + traceback.format_exc()})'
_IN_LINES_OF_REQUESTS = ("request", "token refused")
_RAISED_ON_PURPOSE = ("Exception: Unauthorized", "UploadFailed")
"""Words for the gateway and for Lambda; the line of the request or of the document tells of them."""


class FunctionFailed(Exception):
    """A function raised an error or could not be imported."""


class MiniStackDiffers(Exception):
    """This version of MiniStack is built otherwise than the launcher expects."""


def complete(runtime: Any, functions: Any, gateway: Any, code: SavedCode, tell: Tell) -> None:
    """Makes MiniStack execute `code`, and tell what executions print and note; the rest are its modules."""
    script = runtime._PYTHON_WORKER_SCRIPT
    if script.count(_ERROR_OF_IMPORT) != 1:
        raise MiniStackDiffers("its worker does not report an import error as it did")
    runtime._PYTHON_WORKER_SCRIPT = script.replace(_ERROR_OF_IMPORT, _TRACEBACK_OF_IMPORT)
    functions._resolve_layer_zip = _of_saved_layers(functions._resolve_layer_zip, code)
    worker = runtime.Worker
    worker._spawn = _of_saved_code(worker._spawn, code, tell)
    worker.invoke = _told(_renewed(worker.invoke, code, runtime.kill_workers), code, tell)
    gateway._lambda_proxy_response = _failing(gateway._lambda_proxy_response)
    gateway._invoke_lambda_proxy_v1 = _as_a_problem(gateway._invoke_lambda_proxy_v1, gateway._gw_error)


def _of_saved_layers(deployed: Callable[[Any], bytes | None], code: SavedCode) -> Callable[[Any], bytes | None]:
    def archive(attached: str | dict[str, Any]) -> bytes | None:
        name = attached if isinstance(attached, str) else str(attached.get("Arn", ""))
        return code.of_layer(name) or deployed(attached)

    return archive


def _of_saved_code(spawn: Callable[[Any], None], code: SavedCode, tell: Tell) -> Callable[[Any], None]:
    def spawn_saved(worker: Any) -> None:
        worker.version = code.version(worker.func_name)  # first: what is saved meanwhile is another version
        worker.code_zip = code.of_function(worker.func_name) or worker.code_zip
        try:
            spawn(worker)
        except Exception as error:
            tell({"printed": code.with_its_paths(f"{worker.func_name}: {error}", worker.func_name, worker._tmpdir)})
            raise

    return spawn_saved


def _renewed(
    invoke: Callable[..., Result], code: SavedCode, kill: Callable[[list[Any]], None]
) -> Callable[..., Result]:
    def invoke_saved(worker: Any, *given: Any, **named: Any) -> Result:
        if worker._proc is not None and worker.version != code.version(worker.func_name):
            kill([worker])  # so `invoke` spawns it anew
        return invoke(worker, *given, **named)

    return invoke_saved


def _told(invoke: Callable[..., Result], code: SavedCode, tell: Tell) -> Callable[..., Result]:
    def invoke_and_tell(worker: Any, *given: Any, **named: Any) -> Result:
        began = time.perf_counter()
        result = invoke(worker, *given, **named)
        ms = round((time.perf_counter() - began) * 1000)
        printed, notes = read_log(result.get("log", ""))
        raised = str(result.get("trace", "")).rstrip()
        if raised and not raised.endswith(_RAISED_ON_PURPOSE):
            printed.append(raised)
        if printed:
            tell({"printed": code.with_its_paths("\n".join(printed), worker.func_name, worker._tmpdir)})
        for noted in events_of(notes, ms):
            tell({"noted": asdict(noted)})
        return result

    return invoke_and_tell


def problem_of_failure(gateway: Any, api_id: str, stage: str) -> tuple[int, dict[str, str], bytes]:
    """Returns status, headers and body with which the template has the gateway answer for a function that failed."""
    error = gateway._gw_error("API_CONFIGURATION_ERROR", "Internal server error")
    request = {
        "api_id": api_id,
        "stage_name": stage,
        "stage": gateway._stages_v1[api_id][stage],
        "request_id": str(uuid.uuid4()),
        **{name: {} for name in ("headers", "query_params", "path_params")},
        "resource_path": "",
    }
    answer: tuple[int, dict[str, str], bytes] = gateway._gateway_error_response(error, request)
    return answer


def read_log(log: str) -> tuple[list[str], list[dict[str, Any]]]:
    """Splits what a function wrote: the lines that somebody printed, and the objects that it logged."""
    printed: list[str] = []
    notes: list[dict[str, Any]] = []
    for line in log.splitlines():
        try:
            logged = json.loads(line)
        except ValueError:
            logged = None
        if isinstance(logged, dict):
            notes.append(logged)
        else:
            printed.append(line)
    return printed, notes


def events_of(notes: list[dict[str, Any]], ms: int | None) -> Iterator[Noted]:
    """Yields what a function noted, in so many milliseconds, beside what stands in the lines of requests."""
    for note in notes:
        if note.get("message") not in _IN_LINES_OF_REQUESTS:
            yield Noted.read(note, ms)


def _failing(shaped: Callable[[Result], Any]) -> Callable[[Result], Any]:
    def shaped_or_failed(result: Result) -> Any:
        if result.get("error") and not result.get("throttle"):
            raise FunctionFailed
        return shaped(result)

    return shaped_or_failed


def _as_a_problem(
    invoke: Callable[..., Awaitable[Any]], error: Callable[[str, str], Any]
) -> Callable[..., Awaitable[Any]]:
    """Answers for a function that failed with the template's problem; MiniStack sends the error's text."""

    async def invoke_or_refuse(*given: Any, **named: Any) -> Any:
        try:
            return await invoke(*given, **named)
        except FunctionFailed:
            return error("API_CONFIGURATION_ERROR", "Internal server error")

    return invoke_or_refuse
