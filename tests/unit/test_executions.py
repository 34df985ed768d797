"""The local stack tells what functions print, and keeps the lines of its own apart."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import pytest

from local import executions
from local.executions import FunctionFailed, MiniStackDiffers, complete, problem_of_failure, read_log
from local.saved_code import SavedCode


class Parts:
    """The parts of MiniStack that are completed."""

    _PYTHON_WORKER_SCRIPT = executions._ERROR_OF_IMPORT
    kill_workers = staticmethod(lambda workers: None)
    _resolve_layer_zip = staticmethod(lambda attached: b"deployed")

    class Worker:
        func_name = "turnlog-Query-1"
        _proc = None
        _tmpdir = "/w/tmp"

        def __init__(self, result: dict[str, Any]) -> None:
            self.result = result

        def _spawn(self) -> None:
            """Starts nothing."""

        def invoke(self, *_: object, **__: object) -> dict[str, Any]:
            return self.result

    @staticmethod
    def _lambda_proxy_response(result: dict[str, Any]) -> dict[str, Any]:
        return result

    @staticmethod
    async def _invoke_lambda_proxy_v1() -> None:
        """Is not called here."""

    _gw_error = staticmethod(lambda *given: given)


@pytest.fixture
def parts() -> type[Parts]:
    return type("Copied", (Parts,), {"Worker": type("Worker", (Parts.Worker,), {})})


def told_of(parts: type[Parts], result: dict[str, Any]) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    complete(parts, parts, parts, SavedCode(), told.append)
    parts.Worker(result).invoke({})
    return told


def test_a_log_is_split_into_what_is_printed_and_what_is_logged() -> None:
    assert read_log('one\n{"message": "request"}\n["two"]\n') == (["one", '["two"]'], [{"message": "request"}])


def test_an_error_that_a_function_raises_is_told_with_what_it_printed(parts: type[Parts]) -> None:
    result = {"log": "looked\n", "trace": "Traceback…\nLookupError: it\n"}
    assert told_of(parts, result) == [{"printed": "looked\nTraceback…\nLookupError: it"}]


@pytest.mark.parametrize("trace", ["…\nException: Unauthorized\n", "…\nturnlog.entrypoints.UploadFailed\n"])
def test_what_functions_raise_on_purpose_is_no_news(parts: type[Parts], trace: str) -> None:
    assert told_of(parts, {"log": "", "trace": trace}) == []


def test_an_event_beside_requests_is_told(parts: type[Parts]) -> None:
    lines = [{"message": "request", "status": 200}, {"message": "token refused"}, {"message": "sessions swept"}]
    (told,) = told_of(parts, {"log": "\n".join(map(json.dumps, lines))})
    assert told["noted"]["event"] == "sessions swept"


def test_a_function_that_failed_has_no_answer_of_its_own(parts: type[Parts]) -> None:
    complete(parts, parts, parts, SavedCode(), lambda _: None)
    with pytest.raises(FunctionFailed):
        parts._lambda_proxy_response({"error": True, "body": {"errorMessage": "secret"}})
    answers: list[dict[str, Any]] = [{"body": {}}, {"error": True, "throttle": True}]
    for result in answers:
        assert parts._lambda_proxy_response(result) == result


def test_another_worker_of_ministack_is_noticed(parts: type[Parts]) -> None:
    parts._PYTHON_WORKER_SCRIPT = ""
    with pytest.raises(MiniStackDiffers):
        complete(parts, parts, parts, SavedCode(), lambda _: None)


def test_the_gateway_answers_for_a_function_that_failed_as_the_stage_says() -> None:
    class Gateway:
        _stages_v1: ClassVar = {"abc": {"v1": {"deploymentId": "d"}}}
        _gw_error = staticmethod(lambda kind, message: (kind, message))

        @staticmethod
        def _gateway_error_response(error: tuple[str, str], request: dict[str, Any]) -> Any:
            shown = f"{error[0]} of {request['api_id']} as deployed by {request['stage']['deploymentId']}"
            return 500, request["headers"], shown.encode()

    shown = b"API_CONFIGURATION_ERROR of abc as deployed by d"
    assert problem_of_failure(Gateway, "abc", "v1") == (500, {}, shown)
