"""A key of the terminal is read without Enter, and the terminal is as before afterwards."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios

_IN_FRONT = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)"
_READS = """
import time
from local.keys import Keys
with Keys() as keys:
    print(f"ready {keys.are_read}", flush=True)
    while not (pressed := keys.pressed()):
        time.sleep(0.01)
    print(f"pressed {pressed}", flush=True)
"""
_HAS_NONE = "from local.keys import Keys\nwith Keys() as keys: print(keys.are_read, repr(keys.pressed()))"


def test_a_key_is_read_at_once_and_the_terminal_put_back() -> None:
    keyboard, terminal = pty.openpty()
    before = termios.tcgetattr(terminal)
    reading = subprocess.Popen(
        [sys.executable, "-c", f"{_IN_FRONT}\n{_READS}"],
        stdin=terminal,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with reading:
        assert reading.stdout
        assert reading.stdout.readline() == "ready True\n"
        assert termios.tcgetattr(terminal) != before
        os.write(keyboard, b"d")
        assert reading.stdout.readline() == "pressed d\n"
    assert reading.returncode == 0
    assert termios.tcgetattr(terminal) == before
    os.close(keyboard)
    os.close(terminal)


def test_without_a_terminal_in_front_no_key_is_read() -> None:
    keyboard, terminal = pty.openpty()  # of no session, as for a program in the background
    for stdin in (subprocess.DEVNULL, subprocess.PIPE, terminal):
        done = subprocess.run(
            [sys.executable, "-c", _HAS_NONE],
            stdin=stdin,
            capture_output=True,
            text=True,
            check=True,
            start_new_session=True,
        )
        assert done.stdout == "False ''\n"
    os.close(keyboard)
    os.close(terminal)
