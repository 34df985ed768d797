"""The state folder: whole files for its user alone, one launcher at a time, and the same ports at each start."""

import signal
import socket
import stat
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from local import clean
from local.processes import Interruption, Processes, commands_of
from local.state import ROOT, AlreadyRunning, Ports, PortTaken, StateFolder, is_free


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    return StateFolder(tmp_path / "state")


def three_free_ports() -> int:
    """The first of a row of free ports."""
    return next(port for port in range(20000, 30000, 7) if all(is_free(port + more) for more in range(3)))


def test_the_folder_is_closed_to_others_even_if_it_was_open(state: StateFolder) -> None:
    state.path.mkdir(mode=0o755)
    with state.hold():
        assert stat.S_IMODE(state.path.stat().st_mode) == 0o700


def test_a_second_holder_is_told_where_the_first_one_is(state: StateFolder) -> None:
    with state.hold():
        state.say_where("http://127.0.0.1:8787/v1")
        with pytest.raises(AlreadyRunning, match=r"http://127\.0\.0\.1:8787/v1"), state.hold():
            pass
        assert state.is_held()
    assert not state.is_held()


def test_a_written_file_is_for_its_user_alone_and_replaces_the_old_whole(state: StateFolder) -> None:
    with state.hold():
        file = state.run_json
        state.write(file, {"old": True})
        state.write(file, {"new": True})
        assert state.read(file) == {"new": True}
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert not list(state.path.glob("*.new"))


@pytest.mark.parametrize("damaged", ["", "{", "[]", "\udcff"])
def test_a_damaged_file_reads_as_none(state: StateFolder, damaged: str) -> None:
    with state.hold():
        state.run_json.write_bytes(damaged.encode(errors="surrogateescape"))
        assert state.read(state.run_json) == {}


def test_ports_stay_the_same_from_start_to_start(state: StateFolder) -> None:
    base = three_free_ports()
    with state.hold():
        first = state.choose_ports(None, base)
        assert (first.api, first.claude, first.issuer) == (base, base + 1, base + 2)
        assert state.choose_ports(None, 20000) == first
        assert state.ports() == first


def test_another_port_of_the_api_leaves_the_others_where_they_were(state: StateFolder) -> None:
    base = three_free_ports()
    with state.hold():
        first = state.choose_ports(None, base)
        moved = state.choose_ports(base + 2, 20000)
        assert moved.api == base + 2
        assert moved.claude == first.claude
        assert moved.issuer != base + 2
        assert state.choose_ports(base, 20000) == Ports(base, first.claude, moved.issuer)


def test_a_taken_port_is_replaced_unless_it_was_asked_for(state: StateFolder) -> None:
    base = three_free_ports()
    with state.hold(), socket.create_server(("127.0.0.1", base)):
        chosen = state.choose_ports(None, base)
        assert base not in (chosen.api, chosen.claude, chosen.issuer)
        assert len({chosen.api, chosen.claude, chosen.issuer}) == 3
        with pytest.raises(PortTaken, match=str(base)):
            state.choose_ports(base, base)


def test_processes_of_a_killed_launcher_are_ended_and_strangers_are_not(state: StateFolder) -> None:
    waits = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with state.hold():
        ours = subprocess.Popen([*waits, str(state.path)], stdin=subprocess.PIPE, start_new_session=True)
        stranger = subprocess.Popen(waits, stdin=subprocess.PIPE, start_new_session=True)
        try:
            state.write(state.processes_json, {"groups": [ours.pid, stranger.pid, 1, "x"]})
            # Nobody collects the child here but this test, and one that has ended counts as gone.
            assert Processes(state, Interruption()).end_leftovers(within_s=5)
            assert ours.wait(5) != 0
            assert stranger.poll() is None
            assert commands_of(state.path) == []
            assert not Processes(state, Interruption()).end_leftovers(within_s=5)
        finally:
            for each in (ours, stranger):
                each.kill()
                each.communicate()


def test_a_program_is_ended_with_its_children_even_if_they_ignore_being_asked(state: StateFolder) -> None:
    deaf = (
        "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    with state.hold():
        processes = Processes(state, Interruption())
        nested = f"import subprocess,sys; subprocess.run([sys.executable, '-c', {deaf!r}, {str(state.path)!r}])"
        started = processes.start([sys.executable, "-c", nested], {}, stdout=subprocess.PIPE)
        assert started.stdout
        assert started.stdout.readline() == "deaf\n"
        processes.end(started, within_s=0.2)
        started.stdout.close()
        assert processes.pids == []
        assert [each for each in commands_of(state.path) if "deaf" in each] == []


WAITS_FOR_EVER = """
import sys, threading
from local.processes import Interruption, Stopping
interruption = Interruption()
interruption.listen()
print("listening", flush=True)
try:
    interruption.during(threading.Event().wait)
except Stopping:
    print("on its way", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_stops_a_launcher_that_is_at_work(number: int) -> None:
    command = [sys.executable, "-c", WAITS_FOR_EVER]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True, cwd=ROOT) as asked:  # type: ignore[call-overload]
        assert asked.stdout.readline() == "listening\n"
        asked.send_signal(number)
        assert [asked.stdout.readline() for _ in range(2)] == ["stopping\n", "on its way\n"]
        for again in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asked.send_signal(again)
        assert asked.communicate("\n", timeout=5) == ("", "")
    assert asked.returncode == 0


def test_work_that_is_not_interrupted_returns_or_raises_its_outcome() -> None:
    assert Interruption().during(lambda: 7) == 7
    with pytest.raises(PortTaken, match="8787"):
        Interruption().during(partial(_raise, PortTaken("8787")))


def _raise(error: Exception) -> None:
    raise error


def test_clean_removes_nothing_while_a_stack_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clean, "ROOT", tmp_path)
    (tmp_path / ".venv").mkdir()
    with StateFolder(tmp_path / ".turnlog" / "test").hold():
        assert clean.main() == 1
        assert (tmp_path / ".venv").exists()
    assert clean.main() == 0
    assert list(tmp_path.iterdir()) == []
