"""The server itself: how it starts, stops and keeps quiet."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from local.claude_stand_in import StandIn
from local.claude_stand_in.prompt import Prompt
from tests.unit.claude_stand_in.asking import (
    WELL_FORMED,
    ends,
    posted,
    without,
)


def threads_of_stand_ins() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("claude stand-in")}


class TestServing:
    def test_stopping_takes_less_than_a_second_and_leaves_no_thread(self) -> None:
        before = threads_of_stand_ins()
        with StandIn() as claude, ThreadPoolExecutor(3) as pool:
            claude.fail("silence")
            claude.fail("slow", seconds=30)
            idle = http.client.HTTPConnection(claude.url.removeprefix("http://"))
            idle.connect()
            hanging = [pool.submit(posted, claude, WELL_FORMED) for _ in range(2)]
            while claude.stats.running < 2:
                time.sleep(0.005)
            begun = time.monotonic()
            claude.stop()
            assert time.monotonic() - begun < 1
            assert all(isinstance(each.exception(timeout=1), http.client.RemoteDisconnected) for each in hanging)
            idle.close()
        assert threads_of_stand_ins() - before == set()

    def test_a_stopped_stand_in_answers_no_more_and_can_be_stopped_again(self) -> None:
        with StandIn() as claude:
            pass
        claude.stop()
        with pytest.raises(ConnectionRefusedError):
            posted(claude, WELL_FORMED)

    def test_it_listens_on_the_loopback_interface_only(self, claude: StandIn) -> None:
        assert claude.url.startswith("http://127.0.0.1:")

    def test_a_taken_port_is_an_error(self, claude: StandIn) -> None:
        with pytest.raises(OSError, match="in use"):
            StandIn(int(claude.url.rpartition(":")[2])).start()

    def test_a_connection_is_kept_for_the_next_request(self, claude: StandIn) -> None:
        connection = http.client.HTTPConnection(claude.url.removeprefix("http://"), timeout=5)
        connection.connect()
        own_end = connection.sock.getsockname()
        headers = {"x-api-key": "k", "anthropic-version": "2026-10-21"}
        for body in (WELL_FORMED, WELL_FORMED | {"stream": True}, without("model"), WELL_FORMED):
            connection.request("POST", "/v1/messages", json.dumps(body), headers)
            connection.getresponse().read()
            assert connection.sock.getsockname() == own_end
        connection.close()

    def test_nothing_is_written_about_what_was_said(self, claude: StandIn, capfd: pytest.CaptureFixture[str]) -> None:
        claude.fail("cut")
        with pytest.raises(http.client.IncompleteRead):
            posted(claude, WELL_FORMED)
        assert [posted(claude, WELL_FORMED)[0], posted(claude, b"{")[0]] == [200, 400]
        assert capfd.readouterr() == ("", "")

    def test_its_own_failure_is_told_without_what_was_said(
        self, claude: StandIn, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails(prompt: Prompt, _: object) -> None:
            raise KeyError(prompt.body["messages"])

        monkeypatch.setattr("local.claude_stand_in.connection.reply_to", fails)
        with pytest.raises(http.client.RemoteDisconnected):
            posted(claude, WELL_FORMED)
        assert ends(claude)
        told = capfd.readouterr().err
        assert told.startswith("claude stand-in: KeyError in fails")
        assert "Hello" not in told

    def test_it_runs_as_a_program_until_it_is_told_to_end(self) -> None:
        command = [sys.executable, "-m", "local.claude_stand_in", "--port", "0"]
        root = Path(__file__).parents[3]
        with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as program:
            assert program.stdout
            address = re.search(r"http://(127\.0\.0\.1:\d+)", program.stdout.readline())
            assert address
            connection = http.client.HTTPConnection(address[1], timeout=5)
            connection.request("GET", "/_stand_in/stats")
            assert connection.getresponse().status == 200
            program.terminate()
            assert program.wait(timeout=5) == 0
            connection.close()
