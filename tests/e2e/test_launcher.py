"""`make run` while it runs: the callers that it answers, and the files and lines that it writes."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from local import terminal_svg
from local.state import StateFolder
from tests.e2e.stack import PATIENCE_S, ROOT, Stack

FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Host": "rebound.example"},
]


# --- whom it answers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
@pytest.mark.parametrize("server", ["api_url", "aws_endpoint", "claude_url", "issuer"])
def test_no_web_page_gets_an_answer_from_any_server(stack: Stack, server: str, headers: dict[str, str]) -> None:
    paths = {
        "api_url": "/query",
        "aws_endpoint": "/_ministack/health",
        "claude_url": "/_stand_in/stats",
        "issuer": ".well-known/jwks.json",
    }
    url = stack.run[server] + paths[server]
    assert httpx2.get(url, headers=headers).status_code == 403
    assert httpx2.get(url).status_code != 403


def test_no_picture_or_link_of_a_web_page_reaches_the_stack(stack: Stack) -> None:
    by_page = {"Sec-Fetch-Site": "cross-site"}  # such a request has no Origin
    assert httpx2.get(f"{stack.run['aws_endpoint']}/?Action=ListQueues", headers=by_page).status_code == 403


def test_no_web_page_can_empty_the_stack(stack: Stack) -> None:
    session_id = stack.new_session("pelican")
    reset = f"{stack.run['aws_endpoint']}/_ministack/reset"
    assert httpx2.post(reset, headers={"Origin": "https://evil.example"}).status_code == 403
    assert stack.recalls(session_id, "pelican")


def test_a_page_that_the_stack_itself_serves_may_ask_it(stack: Stack) -> None:
    own = stack.api_url.removesuffix("/v1")
    assert stack.ask("POST", "/query", json={"message": "hi"}, headers={"Origin": own}).status_code == 200


def test_an_unknown_route_and_a_missing_token_are_problems(stack: Stack) -> None:
    unknown = stack.ask("GET", "/no-such-route")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "route_not_found")
    nobody = httpx2.post(f"{stack.api_url}/query", json={"message": "hi"})
    assert (nobody.status_code, nobody.json()["code"]) == (401, "unauthorized")
    assert nobody.headers["www-authenticate"] == "Bearer, Session"
    assert (
        unknown.headers["content-type"] == nobody.headers["content-type"] == "application/problem+json; charset=utf-8"
    )


def test_a_token_of_another_user_is_believed_too(stack: Stack) -> None:
    answer = stack.ask(
        "POST", "/query", json={"message": "hi"}, headers={"Authorization": f"Bearer {stack.token_of('eve')}"}
    )
    assert answer.status_code == 200


# --- what it writes ---------------------------------------------------------------------------------------------------


def test_run_json_is_for_its_user_alone_and_says_where_everything_is(stack: Stack) -> None:
    file = stack.state / "run.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(stack.state.stat().st_mode) == 0o700
    assert stack.api_url == f"{stack.run['base_url']}/v1"
    assert (stack.run["claude"], stack.run["user"]) == ("stand-in", "me")
    assert stack.run["tables"]["SessionsTable"].startswith("turnlog-SessionsTable")
    assert list(stack.run["queues"]) == ["FailedEventsQueue"]
    assert list(stack.run["buckets"]) == ["DocumentsBucket"]
    assert len(stack.run["pids"]) == 2
    for pid in stack.run["pids"]:
        os.kill(pid, 0)


def test_a_request_is_one_line_without_a_word_of_it(stack: Stack, until: Callable[..., None]) -> None:
    session_id = stack.new_session("marmoset")
    until(lambda: "POST /v1/sessions/{id}/turns  200" in stack.output)
    line = next(line for line in reversed(stack.output.splitlines()) if "POST /v1/sessions/{id}/turns  200" in line)
    time, route, status, ms, tokens, dollars = line.split("  ")
    assert (route, status) == ("POST /v1/sessions/{id}/turns", "200")
    assert (time[2], ms.split()[1], tokens.split()[1], dollars[0]) == (":", "ms", "tokens", "$")
    assert "marmoset" not in stack.output
    assert session_id not in stack.output


def test_a_start_shows_which_function_it_waits_for(stack: Stack) -> None:
    """The output consists of lines that a log can keep."""
    began, *_, last = [line for line in stack.output.splitlines() if " answers; " in line]
    assert " to go" in began
    assert last.endswith(" answers; 0 to go")
    assert all(line.isprintable() for line in stack.output.splitlines())


def test_the_lines_to_paste_work(stack: Stack) -> None:
    pasted = [line for line in stack.output.splitlines() if line.startswith(("TOKEN=", "SID=", "ask() ", "ask http"))]
    assert len(pasted) == 6
    shell = subprocess.run(["/bin/sh", "-c", "; echo; ".join(pasted)], capture_output=True, text=True, check=True)
    query, turn, next_turn = (json.loads(line) for line in shell.stdout.splitlines() if line)
    assert "heron" in query["text"]
    assert turn["turn"] == 1
    assert "Ada" in next_turn["text"]


def test_the_lines_to_paste_summarize_a_document(stack: Stack, until: Callable[..., None]) -> None:
    function, put, get = (line for line in stack.output.splitlines() if line.startswith(("s3", "sleep")))
    subprocess.run(["/bin/sh", "-c", f"{function}\n{put}"], cwd=ROOT, check=True)

    def summary() -> dict[str, str]:
        read = f"{function}\n{get.removeprefix('sleep 3; ')}"
        shown = subprocess.run(["/bin/sh", "-c", read], capture_output=True, text=True, check=True).stdout
        return dict(json.loads(shown)) if shown.startswith("{") else {}

    until(lambda: summary().get("status") == "done", PATIENCE_S)
    assert "stand-in" in summary()["text"]


def test_the_terminal_in_the_readme_is_what_a_run_shows(stack: Stack, until: Callable[..., None]) -> None:
    before = len(stack.output)
    steps = terminal_svg.recorded(stack.api_url, stack.token)
    until(lambda: len(terminal_svg.request_lines(stack.output[before:])) >= terminal_svg.REQUESTS)
    drawn = terminal_svg.drawn(terminal_svg.server_pane(stack.run, stack.output[before:]), steps)
    assert drawn == terminal_svg.PICTURE.read_text(), "`make pictures` draws it anew"


# --- a second launcher ------------------------------------------------------------------------------------------------


def test_a_second_launcher_names_the_first_and_harms_nothing(stack: Stack) -> None:
    second = subprocess.run(stack.command(), cwd=ROOT, capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert stack.api_url in second.stderr
    assert "Traceback" not in second.stderr
    assert stack.ask("POST", "/query", json={"message": "hi"}).status_code == 200


def test_a_port_that_was_asked_for_and_is_taken_is_an_error(stack: Stack, tmp_path: Path) -> None:
    port = stack.api_url.split(":")[2].split("/")[0]
    command = [sys.executable, "-m", "local.run", "--state", str(tmp_path), "--port", port]
    second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert f"ort {port} is taken" in second.stderr


def test_clean_sees_that_the_stack_runs(stack: Stack) -> None:
    assert StateFolder(stack.state).is_held()
