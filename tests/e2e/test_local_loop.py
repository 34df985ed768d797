"""`make run` for whoever changes the code: a saved file, an error, logs, and a page of another origin."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable

import httpx2
import pytest

from tests.e2e.stack import PAGE, PATIENCE_S, ROOT, Stack
from tests.e2e.test_launcher import FOREIGN

Until = Callable[..., None]
CONSOLE = "functions/console/app.py"
META = "layers/turnlog/python/turnlog/entrypoints/http/meta.py"
HEALTH = 'Health(status="ok", version=turnlog.__version__)'
SECRET = "the parrot is no more"


def health(stack: Stack) -> httpx2.Response:
    return httpx2.get(f"{stack.api_url}/health", timeout=PATIENCE_S)


def command(module: str, stack: Stack, **environment: str) -> subprocess.CompletedProcess[str]:
    called = [sys.executable, "-m", module, "--state", str(stack.state)]
    return subprocess.run(
        called, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )


# --- a saved file -----------------------------------------------------------------------------------------------------


def test_the_next_request_runs_what_was_saved_in_a_layer_and_in_a_function(stack: Stack, until: Until) -> None:
    deploys = stack.output.count("deploying")
    with stack.saved(META, "turnlog.__version__)", '"of a saved layer")'):
        assert health(stack).json()["version"] == "of a saved layer"
        until(lambda: f"saved: {META}; the next request runs it" in stack.output)
        with stack.saved(CONSOLE, '("GET", "/health"): meta.health, ', ""):
            assert health(stack).json()["code"] == "route_not_found"
    assert health(stack).json()["version"] != "of a saved layer"
    assert stack.output.count("deploying") == deploys


def test_a_saved_syntax_error_shows_and_is_gone_when_it_is_mended(stack: Stack, until: Until) -> None:
    before = len(stack.output)
    with stack.saved(CONSOLE, "handler = ", "handler == = "):
        until(lambda: f"saved: {CONSOLE}, with an error in line 5: invalid syntax" in stack.output[before:])
        answer = health(stack)
        assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
        assert answer.headers["content-type"] == "application/problem+json; charset=utf-8"
        assert "syntax" not in answer.text
        until(lambda: "SyntaxError: invalid syntax" in stack.output[before:])
    assert health(stack).status_code == 200


def test_a_failing_handler_prints_its_traceback_and_answers_a_problem(stack: Stack, until: Until) -> None:
    before = len(stack.output)
    with stack.saved(META, f"return Response(200, {HEALTH})", f'print("looked at"); raise LookupError("{SECRET}")'):
        answer = health(stack)
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert SECRET not in answer.text
    until(lambda: "GET /v1/health  500" in stack.output[before:] and SECRET in stack.output[before:])
    shown = stack.output[before:]
    assert "looked at" in shown
    assert shown.index("Traceback (most recent call last)") < shown.index(f"LookupError: {SECRET}")
    assert next(line for line in shown.splitlines() if "/health  500" in line).endswith("  internal_error")


# --- lines, logs and names --------------------------------------------------------------------------------------------


def test_a_refused_page_and_a_problem_have_their_codes_in_their_lines(stack: Stack, until: Until) -> None:
    before = len(stack.output)
    stack.ask("GET", "/sessions/ses_0000000000000000000000")
    httpx2.post(f"{stack.api_url}/query", headers=FOREIGN[0])
    httpx2.post(f"{stack.run['aws_endpoint']}/_ministack/reset", headers=FOREIGN[0])
    for words in ("GET /v1/sessions/{id}  404  ", "POST /v1/query  403  ", "POST -  403  "):
        until(lambda words=words: words in stack.output[before:])
    lines = [line.split("  ") for line in stack.output[before:].splitlines()]
    codes = {(words[2], words[-1]) for words in lines if words[2:3] in (["403"], ["404"])}
    assert codes == {("404", "session_not_found"), ("403", "page_refused")}


def test_a_document_and_a_sweep_have_lines_too(stack: Stack, until: Until) -> None:
    before = len(stack.output)
    stack.s3.put_object(Bucket=stack.bucket, Key=f"inbox/{stack.owner}/line.txt", Body=b"A text about marmosets.")
    functions = stack.client("lambda")
    (sweep,) = (each for each in functions.list_functions()["Functions"] if "SweepFunction" in each["FunctionName"])
    functions.invoke(FunctionName=sweep["FunctionName"], Payload=b"{}")
    until(lambda: "  sessions swept  " in stack.output[before:] and "  upload " in stack.output[before:], PATIENCE_S)
    line = next(line for line in stack.output[before:].splitlines() if "  upload " in line)
    assert " tokens  $" in line
    assert "line.txt" not in stack.output[before:]
    assert "marmoset" not in stack.output[before:]


def test_the_name_of_a_session_is_the_one_that_stands_in_its_logs(stack: Stack, until: Until) -> None:
    called = [sys.executable, "-u", "-m", "local.logs", "--state", str(stack.state)]
    following = subprocess.Popen(called, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert following.stderr and following.stdout
        assert "following" in following.stderr.readline()
        session_id = stack.new_session("puffin")
        named = command("local.session_name", stack, SESSION_ID=session_id)
        assert (named.returncode, named.stderr) == (0, "")
        for line in following.stdout:
            logged = json.loads(line)
            if logged.get("session") == named.stdout.strip():
                break
        assert logged["route"] == "POST /sessions"
    finally:
        following.kill()
        following.communicate()
    assert session_id not in named.stdout


# --- a page of another origin -----------------------------------------------------------------------------------------


def test_a_page_of_the_named_origin_calls_the_api_as_a_browser_lets_it(stack: Stack) -> None:
    of_page = {"Origin": PAGE, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    preflight = httpx2.options(f"{stack.api_url}/query", headers=of_page | asked, timeout=PATIENCE_S)
    assert preflight.status_code == 204
    assert "POST" in preflight.headers["access-control-allow-methods"]
    answer = stack.ask("POST", "/query", json={"message": "hi"}, headers=of_page)
    refused = httpx2.post(f"{stack.api_url}/query", json={"message": "hi"}, headers=of_page)
    unknown = stack.ask("GET", "/no-such-route", headers=of_page)
    assert (answer.status_code, refused.status_code, unknown.status_code) == (200, 401, 404)
    for each in (preflight, answer, refused, unknown):
        assert each.headers["access-control-allow-origin"] == PAGE


@pytest.mark.parametrize("path", ["/_ministack/health", "/?Action=ListQueues"])
def test_that_page_gets_nothing_but_the_api(stack: Stack, path: str) -> None:
    assert httpx2.get(f"{stack.run['aws_endpoint']}{path}", headers={"Origin": PAGE}).status_code == 403
