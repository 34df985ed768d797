"""Encryption of content at rest: under a data key of its owner, or none."""

from __future__ import annotations

import secrets
from typing import Protocol

KEY_BYTES = 32  # AES-256
_NONCE_BYTES = 12  # 96 bits, the size that GCM is made for (NIST SP 800-38D, 8.2)


class ContentCipher(Protocol):
    """Encrypts content and decrypts it. `context` names where it is stored: it decrypts for no other one."""

    @property
    def kid(self) -> str:
        """The name of the key among its owner's keys; empty when content is not encrypted."""

    def encrypt(self, context: bytes, content: bytes) -> bytes:
        """The content as it is stored; another text each time."""

    def decrypt(self, context: bytes, encrypted: bytes) -> bytes:
        """The content. Raises ValueError unless it was encrypted with this key for this context and is unchanged."""


class PlainContent:
    """Stores content as it is."""

    kid = ""

    def encrypt(self, context: bytes, content: bytes) -> bytes:  # noqa: ARG002 (any context)
        return content

    def decrypt(self, context: bytes, encrypted: bytes) -> bytes:  # noqa: ARG002
        return encrypted


PLAIN = PlainContent()


class DataKey:
    """AES-256-GCM with a random nonce of 96 bits before each ciphertext and 128 bits of tag after it: 28 bytes more.

    Random nonces are good for 2^32 messages under one key (NIST SP 800-38D, 8.3): the odds that one came twice are
    below 1 in 2^32 then. A turn uses one nonce, so an owner who took a turn each second would get there after 136
    years, and a key is the owner's newest for far less than that.
    """

    def __init__(self, kid: str, secret: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self.kid = kid
        self._aes = AESGCM(secret)

    def encrypt(self, context: bytes, content: bytes) -> bytes:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._aes.encrypt(nonce, content, context)

    def decrypt(self, context: bytes, encrypted: bytes) -> bytes:
        from cryptography.exceptions import InvalidTag

        try:
            return self._aes.decrypt(encrypted[:_NONCE_BYTES], encrypted[_NONCE_BYTES:], context)
        except InvalidTag as error:
            raise ValueError("encrypted with another key, for another context, or changed") from error
