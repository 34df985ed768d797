"""Keyed hashes under keys that are derived from the one server key."""

from __future__ import annotations

import hmac

_SIZE = 16  # 128 bits: no two of a session's keys collide, and none can be found by trying


class ServerKey:
    """Derives a key of its own for each purpose, so that what is made for one says nothing about another.

    `secret` has at least 256 bits of entropy; the derivation is HKDF-Expand with SHA-256 (RFC 5869), one block.
    """

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def keyed_hash(self, purpose: str, *parts: bytes) -> bytes:
        """16 bytes that only the holder of the server key can make; the borders between the parts count."""
        key = hmac.digest(self._secret, purpose.encode() + b"\x01", "sha256")
        framed = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return hmac.digest(key, framed, "sha256")[:_SIZE]
