"""A KeyWrapper without KMS, under a key that is the same for every run."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from turnlog.domain.content_encryption import KEY_BYTES, DataKey
from turnlog.errors import ItemUnreadable, KeysUnavailable

_OUTER = DataKey("", bytes(range(KEY_BYTES)))


@dataclass
class LocalWrapper:
    """Notes what it is asked for. `down` is as if KMS could not be reached."""

    calls: list[str] = field(default_factory=list)
    down: bool = False

    def new_key(self, owner: str) -> tuple[bytes, bytes]:
        self._note("new key")
        secret = secrets.token_bytes(KEY_BYTES)
        return secret, _OUTER.encrypt(owner.encode(), secret)

    def unwrap(self, owner: str, wrapped: bytes) -> bytes:
        self._note("unwrap")
        try:
            return _OUTER.decrypt(owner.encode(), wrapped)
        except ValueError as error:
            raise ItemUnreadable from error

    def _note(self, call: str) -> None:
        self.calls.append(call)
        if self.down:
            raise KeysUnavailable
