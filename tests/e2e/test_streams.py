"""Streams of the running stack: its function, its role and its store, at the address of everything else."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from tests.e2e.stack import PAGE, PATIENCE_S, Stack
from tests.e2e.test_launcher import FOREIGN

Until = Callable[..., None]
SECONDS = 2
LONG = {"message": f"The word is wagtail. Write 100 words over {SECONDS} seconds."}
APP = "functions/stream/app.py"
STREAMING = ("/query/stream", "/sessions/{id}/turns/stream", "/messages", "/v1/messages", "/v1/messages/count_tokens")


def session_of(stack: Stack) -> str:
    return str(stack.ask("POST", "/sessions", json={}).json()["session_id"])


def text_of(events: list[tuple[str, dict[str, Any]]]) -> str:
    return "".join(event["delta"].get("text", "") for name, event in events if name == "content_block_delta")


def test_the_first_words_come_long_before_the_last(stack: Stack) -> None:
    heard, first, began = [], 0.0, time.monotonic()
    with stack.listen("/query/stream", json=LONG) as events:
        for name, event in events:
            heard.append((name, event))
            first = first or (time.monotonic() - began) * (name == "content_block_delta")
    total = time.monotonic() - began
    assert total >= SECONDS
    assert first < 0.4 * total
    names = [name for name, _ in heard]
    assert (names[0], names[-2:]) == ("turnlog.turn", ["message_stop", "turnlog.done"])
    assert (names.count("message_start"), names.count("message_stop")) == (1, 1)
    assert len(text_of(heard).split()) > 90


def test_who_hangs_up_loses_nothing_and_the_key_gets_the_turn_once(stack: Stack, until: Until) -> None:
    path, key = f"/sessions/{session_of(stack)}/turns", {"Idempotency-Key": "hung-up"}
    calls = stack.model_calls()
    with stack.listen(f"{path}/stream", json=LONG, headers=key) as events:
        next(name for name, _ in events if name == "content_block_delta")
    running = stack.ask("POST", path, json=LONG, headers=key)
    assert (running.status_code, running.json()["code"]) == (409, "turn_in_progress")
    assert "retry-after" in running.headers
    until(lambda: stack.ask("GET", f"{path}/1").status_code == 200)
    stored = stack.ask("POST", path, json=LONG, headers=key).json()
    with stack.listen(f"{path}/stream", json=LONG, headers=key) as events:
        heard = list(events)
    assert heard[0][1]["replayed"]
    assert text_of(heard) == stored["text"]
    assert stack.model_calls() == calls + 1


def test_many_streams_at_once_are_served_each_at_its_pace(stack: Stack) -> None:
    def last_of(_: int) -> str:
        with stack.listen("/query/stream", json=LONG) as events:
            return list(events)[-1][0]

    began = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(last_of, range(8))) == ["turnlog.done"] * 8
    assert time.monotonic() - began < 8 * SECONDS  # one after the other they would take so long


def test_a_stream_and_a_message_have_lines_with_tokens_and_dollars(stack: Stack, until: Until) -> None:
    before = len(stack.output)
    with stack.listen("/query/stream", json={"message": "wagtail"}) as events:
        done = list(events)[-1][1]
    asked = {"model": "claude-sonnet-5-5", "max_tokens": 50, "messages": [{"role": "user", "content": "wagtail"}]}
    message = stack.ask("POST", "/v1/messages", json=asked, headers={"anthropic-version": "2026-10-21"})
    assert message.status_code == 200, message.text
    tokens = sum(count for name, count in done["usage"].items() if name.endswith("_tokens"))
    of_stream = rf"  POST /v1/query/stream  200  [\d,]+ ms  {tokens} tokens  \${re.escape(done['cost_usd'])}\n"
    of_message = r"  POST /v1/v1/messages  200  [\d,]+ ms  [\d,]+ tokens"
    # Lines of the tests before may come now, too.
    until(lambda: all(re.search(line, stack.output[before:]) for line in (of_stream, of_message)))
    assert "wagtail" not in stack.output[before:]


@pytest.mark.parametrize("path", STREAMING)
def test_no_page_reaches_a_stream_and_no_header_says_who_calls(stack: Stack, path: str) -> None:
    url = stack.api_url + path.replace("{id}", "ses_0000000000000000000000")
    for headers in FOREIGN:
        assert httpx2.post(url, headers=headers, json={}).status_code == 403
    context = json.dumps({"authorizer": {"owner": "https://issuer.example|me", "kind": "user", "roles": ""}})
    nobody = httpx2.post(url, headers={"x-amzn-request-context": context}, json={}, timeout=PATIENCE_S)
    assert (nobody.status_code, "www-authenticate" in nobody.headers) == (401, True)


def test_a_page_of_the_named_origin_hears_a_stream(stack: Stack) -> None:
    of_page = {"Origin": PAGE, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}
    with stack.listen("/query/stream", json={"message": "hi"}, headers=of_page) as events:
        assert list(events)[-1][0] == "turnlog.done"
    refused = httpx2.post(f"{stack.api_url}/query/stream", json={"message": "hi"}, headers=of_page, timeout=PATIENCE_S)
    assert refused.headers["access-control-allow-origin"] == PAGE


def test_a_body_that_is_too_large_is_refused_in_words(stack: Stack) -> None:
    answer = stack.ask("POST", "/query/stream", content=b'{"message": "' + b"x" * 5_000_000 + b'"}')
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_a_stream_goes_on_while_its_code_is_broken_and_mended(stack: Stack, until: Until) -> None:
    with stack.listen("/query/stream", json=LONG) as events:
        next(name for name, _ in events if name == "content_block_delta")
        with stack.saved(APP, "from turnlog import runtime", "import nothing_of_that_name"):
            broken = stack.ask("POST", "/query/stream", json={"message": "hi"})
            assert (broken.status_code, broken.json()["code"]) == (500, "internal_error")
            until(lambda: "No module named 'nothing_of_that_name'" in stack.output)
        with stack.listen("/query/stream", json={"message": "hi"}) as others:
            assert list(others)[-1][0] == "turnlog.done"
        assert list(events)[-1][0] == "turnlog.done"


def test_what_the_function_logs_is_where_all_functions_log(stack: Stack, until: Until) -> None:
    began_ms = int(time.time() * 1000)
    stack.ask("POST", "/query/stream", json={"message": "hi"})
    until(lambda: any('"route":"POST /query/stream"' in line for line in stack.logged(began_ms)))


def test_the_line_to_paste_streams(stack: Stack) -> None:
    pasted = [line for line in stack.output.splitlines() if line.startswith(("TOKEN=", "ask() ", "ask -N "))]
    shell = subprocess.run(["/bin/sh", "-c", "\n".join(pasted)], capture_output=True, text=True, check=True)
    assert "event: turnlog.done\n" in shell.stdout
    assert f"export ANTHROPIC_BASE_URL={stack.run['base_url']} ANTHROPIC_AUTH_TOKEN=$TOKEN" in stack.output
