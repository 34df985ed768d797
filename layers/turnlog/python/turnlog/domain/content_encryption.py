"""How content is stored: sealed under a data key of its owner, or left as it is."""

from __future__ import annotations

import secrets
from typing import Protocol

KEY_BYTES = 32  # AES-256
_NONCE_BYTES = 12  # 96 bits, the size that GCM is made for (NIST SP 800-38D, 8.2)


class ContentCipher(Protocol):
    """What closes content and opens it again. `place` says where the content lies: elsewhere it does not open."""

    @property
    def kid(self) -> str:
        """The name of its key among the owner's; empty when content is left as it is."""

    def cipher(self, place: bytes, content: bytes) -> bytes:
        """The content as it is stored, another one each time."""

    def open(self, place: bytes, sealed: bytes) -> bytes:
        """The content. Raises ValueError when it was not sealed with this key for this place, or was changed since."""


class PlainContent:
    """Leaves content as it is."""

    kid = ""

    def cipher(self, place: bytes, content: bytes) -> bytes:  # noqa: ARG002 (any place)
        return content

    def open(self, place: bytes, sealed: bytes) -> bytes:  # noqa: ARG002
        return sealed


PLAIN = PlainContent()


class DataKey:
    """AES-256-GCM with a random nonce of 96 bits before each ciphertext and 128 bits of tag after it: 28 bytes more.

    Random nonces are good for 2^32 messages under one key (NIST SP 800-38D, 8.3): the odds that one came twice are
    below 1 in 2^32 then. Each turn of a new session seals one, so an owner who took a turn each second would get there
    after 136 years, and a key is the owner's newest for far less than that.
    """

    def __init__(self, kid: str, secret: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self.kid = kid
        self._cipher = AESGCM(secret)

    def cipher(self, place: bytes, content: bytes) -> bytes:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, content, place)

    def open(self, place: bytes, sealed: bytes) -> bytes:
        from cryptography.exceptions import InvalidTag

        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], place)
        except InvalidTag as error:
            raise ValueError("sealed with another key, for another place, or changed") from error
