"""Keyed hashes and seals under keys that are derived from the one server key."""

from __future__ import annotations

import hmac
import os

_SIZE = 16  # 128 bits: no two of a session's keys collide, and none can be found by trying
_NONCE = 12  # of AES-GCM (NIST SP 800-38D)


class DecryptionFailed(Exception):
    """It was not sealed by this key for this purpose and these parts, or not all of it is there."""


class ServerKey:
    """Derives a key of its own for each purpose, so that what is made for one says nothing about another.

    `secret` has at least 256 bits of entropy; the derivation is HKDF-Expand with SHA-256 (RFC 5869), one block.
    """

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def keyed_hash(self, purpose: str, *parts: bytes) -> bytes:
        """16 bytes that only the holder of the server key can make; the borders between the parts count."""
        return hmac.digest(self._key(purpose), _framed(parts), "sha256")[:_SIZE]

    def sealed(self, purpose: str, plain: bytes, *bound: bytes) -> bytes:
        """The text under AES-256-GCM, opened only for the same purpose and the same `bound`.

        Each `bound` has a key of its own, so that random nonces stay far from ever meeting again under one key.
        """
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = os.urandom(_NONCE)
        framed = _framed(bound)
        return nonce + AESGCM(hmac.digest(self._key(purpose), framed, "sha256")).encrypt(nonce, plain, framed)

    def opened(self, purpose: str, sealed: bytes, *bound: bytes) -> bytes:
        """What was sealed. Raises SealBroken."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        framed = _framed(bound)
        cipher = AESGCM(hmac.digest(self._key(purpose), framed, "sha256"))
        try:
            return cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], framed)
        except (InvalidTag, ValueError) as error:  # ValueError: fewer bytes than a nonce
            raise DecryptionFailed from error

    def _key(self, purpose: str) -> bytes:
        return hmac.digest(self._secret, purpose.encode() + b"\x01", "sha256")


def _framed(parts: tuple[bytes, ...]) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)
