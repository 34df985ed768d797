"""Holds the writes of two clients until both have read, so that a race has one outcome on every machine."""

from __future__ import annotations

import threading

_PATIENCE_S = 30


class Gate:
    """Open for everybody, but for clients that are held."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: set[str] = set()
        self._waiting: set[str] = set()

    def hold(self, *clients: str) -> None:
        """From now on their writes wait."""
        with self._changed:
            self._held.update(clients)
            self._waiting.difference_update(clients)

    def open(self, client: str) -> None:
        """Lets the client's writes through, the one that waits and all later ones."""
        with self._changed:
            self._held.discard(client)
            self._changed.notify_all()

    def pass_through(self, client: str) -> None:
        """Returns when the client may write."""
        with self._changed:
            if client in self._held:
                self._waiting.add(client)
                self._changed.notify_all()
            if not self._changed.wait_for(lambda: client not in self._held, _PATIENCE_S):
                raise TimeoutError(client)

    def leave(self, client: str) -> None:
        """Says that the client has done with its turn, whether or not it came to write."""
        with self._changed:
            self._waiting.add(client)
            self._changed.notify_all()

    def wait_until_held(self, client: str) -> None:
        """Returns when a write of the client waits here, or it has done."""
        with self._changed:
            if not self._changed.wait_for(lambda: client in self._waiting, _PATIENCE_S):
                raise TimeoutError(client)
