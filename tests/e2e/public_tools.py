"""The document and the running service as public tools see them: Redocly's linter and Prism, a validating proxy.

`make fuzz` runs this, and `make test` does not: the tools come from npm, into .tools/openapi.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests import documented
from tests.e2e.stack import Stack
from tests.e2e.test_schema import NAMES, Route, Service
from turnlog.entrypoints.http.openapi.operations import OPERATIONS

PACKAGES = ("@redocly/cli@2.77.0", "@stoplight/prism-cli@5.14.2")
FOLDER = Path(".tools/openapi").resolve()
_STARTS_WITHIN_S, _ENDS_WITHIN_S = 60, 10


@pytest.fixture(scope="module")
def tools() -> Path:
    """The folder of the tools' programs. Skips where they cannot be installed."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("Redocly and Prism need Node.js with npm, and this machine has none")
    wanted = json.dumps(PACKAGES)
    installed = FOLDER / "packages.json"
    if not installed.exists() or installed.read_text() != wanted:
        FOLDER.mkdir(parents=True, exist_ok=True)
        subprocess.run([npm, "install", "--silent", "--no-audit", "--no-fund", *PACKAGES], cwd=FOLDER, check=True)
        installed.write_text(wanted)
    return FOLDER / "node_modules" / ".bin"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The document in a file."""
    path = tmp_path_factory.mktemp("openapi") / "openapi.json"
    path.write_text(json.dumps(documented.written()))
    return path


def test_redocly_finds_nothing_by_its_recommended_rules(tools: Path, file: Path) -> None:
    quiet = os.environ | {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
    command = [str(tools / "redocly"), "lint", str(file), "--extends", "recommended", "--format", "json"]
    done = subprocess.run(command, env=quiet, cwd=file.parent, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout[done.stdout.index("{") :])
    assert [(each["ruleId"], each["message"]) for each in found["problems"]] == []
    assert done.returncode == 0


@pytest.fixture(scope="module")
def service(stack: Stack) -> Iterator[Service]:
    service = Service(stack)
    yield service
    service.close()


@pytest.fixture(scope="module")
def proxy(tools: Path, file: Path, service: Service) -> Iterator[str]:
    """The address of Prism before the service."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(tools / "prism"), "proxy", str(file), service.url, "--host", "127.0.0.1", "--port", str(port)]
    log = file.with_name("prism.log")
    with log.open("w") as says, subprocess.Popen(command, stdout=says, stderr=says) as prism:
        try:
            until = time.monotonic() + _STARTS_WITHIN_S
            while "is listening" not in log.read_text():
                assert prism.poll() is None, log.read_text()
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            prism.terminate()
            prism.wait(_ENDS_WITHIN_S)


def ask(proxy: str, service: Service, route: Route, **changed: Any) -> requests.Response:
    """Sends the example of a route through the proxy, with `changed` in place of its parts."""
    (method, path), operation = route, OPERATIONS[route]
    named = {name: service.named(name, operation) for name in NAMES if f"{{{name}}}" in path}
    headers = service.authorization(operation)
    if operation.key is not None:
        headers["Idempotency-Key"] = secrets.token_hex(8)
    sent: dict[str, Any] = {"headers": headers}
    if operation.body:
        sent["json"] = dict(operation.example)
    address = proxy + path.format(**named, n=1)
    session = requests.Session()
    session.trust_env = False
    return session.request(method, address, timeout=60, **(sent | changed))


@pytest.mark.parametrize("route", OPERATIONS, ids=" ".join)
def test_prism_finds_no_violation_in_a_request_or_its_answer(proxy: str, service: Service, route: Route) -> None:
    answers = [ask(proxy, service, route)]
    if OPERATIONS[route].callers:
        answers.append(ask(proxy, service, route, headers={"Authorization": "Bearer a.b.c", "Idempotency-Key": "k"}))
    for answer in answers:
        found = json.loads(answer.headers.get("sl-violations", "[]"))
        assert [each for each in found if each["location"][0] == "response"] == []
    assert "sl-violations" not in answers[0].headers


def test_prism_sees_what_the_document_forbids(proxy: str, service: Service) -> None:
    answer = ask(proxy, service, ("POST", "/query"), json={"message": "hi", "owner": "eve"})
    (found,) = json.loads(answer.headers["sl-violations"])
    assert found["location"][:2] == ["request", "body"]
    assert (answer.status_code, answer.json()["code"]) == (400, "unknown_field")
