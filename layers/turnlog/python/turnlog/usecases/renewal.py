"""Renewal of a lease while its handler waits for something: in a thread, so that a call may take minutes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

RENEW_EVERY_S = 20.0
"""Seconds between two renewals of a lease of 65: two of them may fail before it lapses."""

Renewing = Callable[[Callable[[], bool]], AbstractContextManager[None]]
"""Calls a function again and again while its block runs, until that returns False."""


@contextmanager
def renewing(renew: Callable[[], bool], every_s: float = RENEW_EVERY_S) -> Iterator[None]:
    """Calls `renew` every `every_s` seconds until it returns False. On leaving the block no call is under way."""
    is_done = threading.Event()

    def keep_on() -> None:
        while not is_done.wait(every_s) and renew():
            pass

    thread = threading.Thread(target=keep_on, name="renewal", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_done.set()
        thread.join()
