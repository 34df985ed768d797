"""The KeyWrapper port: data keys, wrapped under a key that stays in its own service."""

from __future__ import annotations

from typing import Protocol


class KeyWrapper(Protocol):
    """Makes data keys, and wraps them under a key that never leaves its service.

    `owner` is an owner's hash; a key that was wrapped for one does not unwrap for another. Both methods raise
    KeysUnavailable when that service cannot be reached or refuses.
    """

    def new_key(self, owner: str) -> tuple[bytes, bytes]:
        """A new data key of KEY_BYTES, and the same wrapped."""

    def unwrap(self, owner: str, wrapped: bytes) -> bytes:
        """The data key. Raises ItemUnreadable when it was not wrapped here for this owner, or was changed since."""
