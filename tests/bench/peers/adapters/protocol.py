"""The protocol between the benchmark and a store: a process in the store's own environment, one JSON value a line.

Asked to take a turn, the process says what history it would show the model and waits for the reply, so that whoever
drives two of them decides the order of everything. Only the standard library is used here.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any, Protocol

Ask = Callable[[list[str]], str]
"""The model: is shown the texts of the history, the new message last, and replies."""


class Store(Protocol):
    """A store, driven through its public interface."""

    def create(self, name: str) -> str:
        """Makes the table if there is none, and a session; returns its name, which is another if the store gives it."""

    def turn(self, session: str, message: str, ask: Ask) -> None:
        """Takes a turn as the first one of a new process would: nothing but clients is kept between two turns."""

    def history(self, session: str) -> list[str]:
        """The texts that the store gives back, oldest first."""


def serve(make: Callable[[dict[str, Any]], Store]) -> None:
    """Answers until standard input ends. The settings are the only argument, as JSON."""
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)  # whatever a library prints must not get between the lines

        def say(**value: object) -> None:
            print(json.dumps(value), file=out, flush=True)

        def ask(shown: list[str]) -> str:
            say(shown=shown)
            return str(json.loads(sys.stdin.readline())["reply"])

        store = make(json.loads(sys.argv[1]))
        for line in iter(sys.stdin.readline, ""):
            request = json.loads(line)
            try:
                say(done=_do(store, request, ask))
            except Exception as error:  # noqa: BLE001 (how a store fails is what is measured)
                say(error=_told(error))


def _do(store: Store, request: dict[str, Any], ask: Ask) -> object:
    match request["do"]:
        case "create":
            return store.create(request["session"])
        case "turn":
            store.turn(request["session"], request["message"], ask)
            return None
    return store.history(request["session"])


def _told(error: BaseException | None) -> str:
    """The error and what it came from."""
    details: list[str] = []
    while error is not None:
        details.append(f"{type(error).__name__}: {error}"[:300])
        error = error.__cause__
    return " <- ".join(details)
