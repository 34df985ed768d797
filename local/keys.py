"""Single keys of the terminal, without Enter."""

from __future__ import annotations

import contextlib
import os
import select
import termios
from types import TracebackType

_INPUT = 0


class Keys:
    """Reads keys in a `with` block, and puts the terminal back at its end.

    Without a terminal in front there are no keys: a program in the background would be stopped for reading them.
    """

    def __enter__(self) -> Keys:
        self._before: list[object] | None = None
        with contextlib.suppress(OSError, termios.error):
            if os.isatty(_INPUT) and os.tcgetpgrp(_INPUT) == os.getpgrp():
                self._before = termios.tcgetattr(_INPUT)
                changed = termios.tcgetattr(_INPUT)
                changed[3] &= ~termios.ICANON  # no waiting for Enter; Ctrl-C stays a signal
                termios.tcsetattr(_INPUT, termios.TCSADRAIN, changed)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._before is not None:
            with contextlib.suppress(OSError, termios.error):  # the terminal may be gone
                termios.tcsetattr(_INPUT, termios.TCSADRAIN, self._before)  # type: ignore[arg-type]

    @property
    def are_read(self) -> bool:
        """True when somebody can press a key."""
        return self._before is not None

    def pressed(self) -> str:
        """The keys that were pressed since the last call; empty for none."""
        keys = b""
        with contextlib.suppress(OSError):
            while self.are_read and select.select([_INPUT], [], [], 0)[0] and (key := os.read(_INPUT, 64)):
                keys += key
        return keys.decode(errors="replace")
