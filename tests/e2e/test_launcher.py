"""`make run` itself: whom it answers, what it writes, how it stops, and what a start finds after each kind of end."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from local import terminal_svg
from local.claude_stand_in import StandIn
from local.processes import commands_of
from local.state import StateFolder
from tests.e2e.conftest import ROOT, STOPPED_WITHIN_S, Stack

PATIENCE_S = 60
FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Host": "rebound.example"},
]


@pytest.fixture
def restarted(stack: Stack) -> Iterator[Stack]:
    """The stack for a test that stops it; it runs again, as it was, for the next test."""
    yield stack
    if stack.is_running and stack.run["claude"] != "stand-in":
        stack.stop()
    if not stack.is_running:
        stack.start()


def ask(stack: Stack, method: str, path: str, **more: Any) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {stack.token}"} | more.pop("headers", {})
    return httpx2.request(method, f"{stack.api_url}{path}", headers=headers, timeout=PATIENCE_S, **more)


def new_session(stack: Stack, message: str) -> str:
    session_id = str(ask(stack, "POST", "/sessions", json={}).json()["session_id"])
    turn = {"json": {"message": message}, "headers": {"Idempotency-Key": "first"}}
    assert ask(stack, "POST", f"/sessions/{session_id}/turns", **turn).status_code == 200
    return session_id


def recalls(stack: Stack, session_id: str, word: str) -> bool:
    return word in ask(stack, "GET", f"/sessions/{session_id}/turns").text


# --- whom it answers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
@pytest.mark.parametrize("place", ["api_url", "aws_endpoint", "claude_url", "issuer"])
def test_no_web_page_gets_an_answer_from_any_server(stack: Stack, place: str, headers: dict[str, str]) -> None:
    paths = {
        "api_url": "/query",
        "aws_endpoint": "/_ministack/health",
        "claude_url": "/_stand_in/stats",
        "issuer": ".well-known/jwks.json",
    }
    url = stack.run[place] + paths[place]
    assert httpx2.get(url, headers=headers).status_code == 403
    assert httpx2.get(url).status_code != 403


def test_no_picture_or_link_of_a_web_page_reaches_the_stack(stack: Stack) -> None:
    by_page = {"Sec-Fetch-Site": "cross-site"}  # such a request has no Origin
    assert httpx2.get(f"{stack.run['aws_endpoint']}/?Action=ListQueues", headers=by_page).status_code == 403


def test_no_web_page_can_empty_the_stack(stack: Stack) -> None:
    session_id = new_session(stack, "pelican")
    reset = f"{stack.run['aws_endpoint']}/_ministack/reset"
    assert httpx2.post(reset, headers={"Origin": "https://evil.example"}).status_code == 403
    assert recalls(stack, session_id, "pelican")


def test_a_page_that_the_stack_itself_serves_may_ask_it(stack: Stack) -> None:
    own = stack.api_url.removesuffix("/v1")
    assert ask(stack, "POST", "/query", json={"message": "hi"}, headers={"Origin": own}).status_code == 200


def test_an_unknown_route_and_a_missing_token_are_problems(stack: Stack) -> None:
    unknown = ask(stack, "GET", "/no-such-route")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "route_not_found")
    nobody = httpx2.post(f"{stack.api_url}/query", json={"message": "hi"})
    assert (nobody.status_code, nobody.json()["code"]) == (401, "unauthorized")
    assert nobody.headers["www-authenticate"] == "Bearer, Session"
    assert (
        unknown.headers["content-type"] == nobody.headers["content-type"] == "application/problem+json; charset=utf-8"
    )


def test_a_token_of_another_user_is_believed_too(stack: Stack) -> None:
    answer = ask(
        stack, "POST", "/query", json={"message": "hi"}, headers={"Authorization": f"Bearer {stack.token_of('eve')}"}
    )
    assert answer.status_code == 200


# --- what it writes ---------------------------------------------------------------------------------------------------


def test_run_json_is_for_its_user_alone_and_says_where_everything_is(stack: Stack) -> None:
    file = stack.state / "run.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(stack.state.stat().st_mode) == 0o700
    assert stack.api_url.endswith("/v1")
    assert (stack.run["claude"], stack.run["user"]) == ("stand-in", "me")
    assert stack.run["tables"]["SessionsTable"].startswith("turnlog-SessionsTable")
    assert list(stack.run["queues"]) == ["FailedEventsQueue"]
    assert list(stack.run["buckets"]) == ["DocumentsBucket"]
    assert len(stack.run["pids"]) == 2
    for pid in stack.run["pids"]:
        os.kill(pid, 0)


def test_a_request_is_one_line_without_a_word_of_it(stack: Stack, until: Callable[..., None]) -> None:
    session_id = new_session(stack, "marmoset")
    until(lambda: "POST /v1/sessions/{id}/turns  200" in stack.output)
    line = next(line for line in reversed(stack.output.splitlines()) if "POST /v1/sessions/{id}/turns  200" in line)
    time, route, status, ms, tokens, dollars = line.split("  ")
    assert (route, status) == ("POST /v1/sessions/{id}/turns", "200")
    assert (time[2], ms.split()[1], tokens.split()[1], dollars[0]) == (":", "ms", "tokens", "$")
    assert "marmoset" not in stack.output
    assert session_id not in stack.output


def test_a_start_shows_which_function_it_waits_for(stack: Stack) -> None:
    """In lines that a log can keep."""
    began, *_, last = [line for line in stack.output.splitlines() if " answers; " in line]
    assert " to go" in began
    assert last.endswith(" answers; 0 to go")
    assert all(line.isprintable() for line in stack.output.splitlines())


def test_the_lines_to_paste_work(stack: Stack) -> None:
    pasted = [line for line in stack.output.splitlines() if line.startswith(("TOKEN=", "SID=", "ask"))]
    assert len(pasted) == 6
    shell = subprocess.run(["/bin/sh", "-c", "; echo; ".join(pasted)], capture_output=True, text=True, check=True)
    query, turn, next_turn = (json.loads(line) for line in shell.stdout.splitlines() if line)
    assert "heron" in query["text"]
    assert turn["turn"] == 1
    assert "Ada" in next_turn["text"]


def test_the_terminal_in_the_readme_is_what_a_run_shows(stack: Stack, until: Callable[..., None]) -> None:
    before = len(stack.output)
    steps = terminal_svg.recorded(stack.api_url, stack.token)
    until(lambda: len(terminal_svg.request_lines(stack.output[before:])) >= terminal_svg.REQUESTS)
    drawn = terminal_svg.drawn(terminal_svg.server_pane(stack.run, stack.output[before:]), steps)
    assert drawn == terminal_svg.PICTURE.read_text(), "`make pictures` draws it anew"


# --- a second launcher ------------------------------------------------------------------------------------------------


def test_a_second_launcher_says_where_the_first_one_is_and_harms_nothing(stack: Stack) -> None:
    second = subprocess.run(stack.command(), cwd=ROOT, capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert stack.api_url in second.stderr
    assert "Traceback" not in second.stderr
    assert ask(stack, "POST", "/query", json={"message": "hi"}).status_code == 200


def test_a_port_that_was_asked_for_and_is_taken_is_an_error(stack: Stack, tmp_path: Path) -> None:
    port = stack.api_url.split(":")[2].split("/")[0]
    command = [sys.executable, "-m", "local.run", "--state", str(tmp_path), "--port", port]
    second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert f"ort {port} is taken" in second.stderr


def test_clean_sees_that_the_stack_runs(stack: Stack) -> None:
    assert StateFolder(stack.state).is_held()


# --- every kind of end ------------------------------------------------------------------------------------------------


def test_a_session_survives_a_stop_and_a_start_that_builds_and_deploys_nothing(restarted: Stack) -> None:
    session_id = new_session(restarted, "cormorant")
    before = restarted.api_url
    assert restarted.stop() < STOPPED_WITHIN_S
    assert restarted.remains == []
    restarted.start()
    assert restarted.api_url == before
    assert "building" not in restarted.output
    assert "deploying" not in restarted.output
    assert recalls(restarted, session_id, "cormorant")


def test_a_busy_function_does_not_hold_the_stop(restarted: Stack, until: Callable[..., None]) -> None:
    calls = restarted.model_calls()
    restarted.fail("silence", match="patience")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask, restarted, "POST", "/query", json={"message": "patience"})
        until(lambda: restarted.model_calls() > calls)
        assert restarted.stop(signal.SIGINT) < STOPPED_WITHIN_S
        assert waiting.exception() or waiting.result().status_code >= 500
    assert restarted.remains == []


def test_a_start_can_be_stopped_at_any_moment_and_leaves_nothing(restarted: Stack, until: Callable[..., None]) -> None:
    restarted.stop()
    for moment in ("Claude: ", "MiniStack answers", "checking all", "the model answers"):
        restarted.begin()
        until(lambda moment=moment: moment in restarted.output, PATIENCE_S)
        assert restarted.stop(signal.SIGINT) < STOPPED_WITHIN_S
        assert restarted.output.splitlines()[-2:] == ["stopping", "stopped; sessions are kept until `make clean`"]
        assert restarted.remains == []


def test_after_a_kill_of_the_launcher_the_next_start_finds_the_sessions_and_leaves_nothing_old(
    restarted: Stack,
) -> None:
    session_id = new_session(restarted, "albatross")
    old = set(restarted.run["pids"])
    restarted.kill()
    restarted.start()
    assert not old & set(restarted.run["pids"])
    assert sum("local.ministack_server" in command for command in commands_of(restarted.state)) == 1
    assert recalls(restarted, session_id, "albatross")


def test_after_a_kill_of_everything_the_next_start_still_comes_up(restarted: Stack) -> None:
    launcher, ministack = restarted.run["pids"]
    os.killpg(ministack, signal.SIGKILL)
    restarted.kill()
    restarted.start()
    assert restarted.run["pids"][0] != launcher
    assert ask(restarted, "POST", "/query", json={"message": "hi"}).status_code == 200


def test_a_real_key_reaches_claude_and_no_file(restarted: Stack) -> None:
    key = "sk-ant-canary-of-the-launcher-test"
    restarted.stop()
    with StandIn() as claude:
        restarted.start(ANTHROPIC_API_KEY=key, CLAUDE_BASE_URL=claude.url)
        assert restarted.run["claude"] == claude.url
        assert ask(restarted, "POST", "/query", json={"message": "hi"}).status_code == 200
        assert claude.requests[-1].authorised
        restarted.stop()
    files = [file for file in restarted.state.rglob("*") if file.is_file()]
    assert [str(file) for file in files if key.encode() in file.read_bytes()] == []
    assert key not in restarted.output
