"""Keyed hashes and encryption under keys that are derived from the one server key."""

from __future__ import annotations

import hmac
import os

_SIZE = 16  # 128 bits: no two of a session's keys collide, and none can be found by trying
_NONCE = 12  # of AES-GCM (NIST SP 800-38D)


class DecryptionFailed(Exception):
    """The text was not encrypted by this key for this purpose and this context, or was changed or cut since."""


class ServerKey:
    """Derives a key for each purpose, so that the output for one purpose says nothing about another.

    `secret` has at least 256 bits of entropy; the derivation is HKDF-Expand with SHA-256 (RFC 5869), one block.
    """

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def keyed_hash(self, purpose: str, *parts: bytes) -> bytes:
        """A MAC of 16 bytes over the parts, for one purpose; the borders between the parts count."""
        return hmac.digest(self._key(purpose), _framed(parts), "sha256")[:_SIZE]

    def encrypt(self, purpose: str, plain: bytes, *context: bytes) -> bytes:
        """The text under AES-256-GCM, another one each time. It decrypts only for the same purpose and `context`.

        Each context has a key of its own, so that random nonces stay far from ever repeating under one key.
        """
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = os.urandom(_NONCE)
        framed = _framed(context)
        return nonce + AESGCM(hmac.digest(self._key(purpose), framed, "sha256")).encrypt(nonce, plain, framed)

    def decrypt(self, purpose: str, encrypted: bytes, *context: bytes) -> bytes:
        """The text that was encrypted. Raises DecryptionFailed."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        framed = _framed(context)
        cipher = AESGCM(hmac.digest(self._key(purpose), framed, "sha256"))
        try:
            return cipher.decrypt(encrypted[:_NONCE], encrypted[_NONCE:], framed)
        except (InvalidTag, ValueError) as error:  # ValueError: fewer bytes than a nonce
            raise DecryptionFailed from error

    def _key(self, purpose: str) -> bytes:
        return hmac.digest(self._secret, purpose.encode() + b"\x01", "sha256")


def _framed(parts: tuple[bytes, ...]) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)
