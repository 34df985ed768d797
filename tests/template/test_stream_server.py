"""The start of the function that streams, as Lambda and AWS's Lambda Web Adapter do it, which cannot run here."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from local.processes import clean_environment
from tests.template.conftest import OfType, Resource

WITHIN_S = 30
APP = '''
import json, os, signal

async def app(scope, receive, send):
    """Answers with the headers that came; at /long it goes on after it was told to end."""
    if scope["path"] == "/broken":
        raise ValueError("what was said")
    if scope["path"] == "/long":
        os.kill(os.getpid(), signal.SIGTERM)
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    headers["peer"] = scope["client"][0]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"first ", "more_body": True})
    await send({"type": "http.response.body", "body": json.dumps(headers).encode()})
'''


@pytest.fixture(scope="module")
def function(of_type: OfType) -> Resource:
    properties: Resource = of_type("AWS::Lambda::Function")["StreamFunction"]["Properties"]
    return properties


class Started:
    """The process that takes the place of Lambda's runtime, and where the adapter finds it."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"


@pytest.fixture
def started(function: Resource, tmp_path: Path) -> Iterator[Started]:
    """The function's own command in its own environment, with a small app as its code."""
    (tmp_path / "app.py").write_text(APP)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    variables = {name: value for name, value in function["Environment"]["Variables"].items() if isinstance(value, str)}
    environment = {
        **clean_environment(),
        **variables,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "AWS_LWA_PORT": str(port),
        "LAMBDA_TASK_ROOT": str(tmp_path),
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
        "_HANDLER": function["Handler"],
    }
    script = Path("layers/stream") / Path(variables["AWS_LAMBDA_EXEC_WRAPPER"]).relative_to("/opt")
    runtime = ["/var/lang/bin/python3.13", "/var/runtime/bootstrap.py"]  # what Lambda would have started
    with subprocess.Popen([script, *runtime], env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_for(port, process)
            yield Started(process, port)
        finally:
            process.kill()


def wait_for(port: int, process: subprocess.Popen[str]) -> None:
    """Waits as the adapter does: until the port is open."""
    while process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), WITHIN_S).close()
        except ConnectionRefusedError:
            continue
        return
    assert process.stderr
    pytest.fail(process.stderr.read())


def test_the_adapter_finds_the_app_of_the_handler_and_gets_its_answer(started: Started) -> None:
    headers = {"x-amzn-request-context": '{"authorizer": {"owner": "ada"}}', "X-Forwarded-For": "203.0.113.7"}
    headers["Authorization"] = f"Bearer {'x' * 9000}"
    answer = httpx2.get(f"{started.url}/query/stream", headers=headers, timeout=WITHIN_S)
    assert answer.text.startswith("first ")
    assert "ada" in answer.text
    assert '"peer": "127.0.0.1"' in answer.text  # whatever a header says
    assert "x" * 9000 in answer.text  # as much as the gateway lets through
    assert set(answer.headers) == {"transfer-encoding"}  # the app's own, of which there are none, and the connection's


def test_an_answer_is_sent_to_its_end_when_lambda_ends_the_environment(started: Started) -> None:
    answer = httpx2.get(f"{started.url}/long", timeout=WITHIN_S)
    assert answer.text.endswith("}")
    started.process.wait(WITHIN_S)
    assert started.process.returncode in (0, -signal.SIGTERM)


def test_the_server_logs_nothing_of_an_error_of_the_app(started: Started) -> None:
    """Its traceback could hold what was said; the app tells of its errors itself."""
    assert httpx2.get(f"{started.url}/broken", timeout=WITHIN_S).status_code == 500
    started.process.terminate()
    assert started.process.stderr
    assert started.process.stderr.read() == ""


def test_the_adapter_streams_and_waits_for_the_port_alone(function: Resource) -> None:
    variables = function["Environment"]["Variables"]
    told = {name: value for name, value in variables.items() if name.startswith("AWS_L")}
    assert told == {
        "AWS_LAMBDA_EXEC_WRAPPER": "/opt/serve",
        "AWS_LWA_INVOKE_MODE": "response_stream",
        "AWS_LWA_PORT": "8080",
        "AWS_LWA_READINESS_CHECK_PROTOCOL": "tcp",
        "AWS_LWA_ASYNC_INIT": "true",
    }
