"""Base64url without padding: the text form of hashes, ids and tokens, which stand in keys and addresses."""

from __future__ import annotations

import base64


def encode(raw: bytes) -> str:
    """Returns the text of the bytes. It is part of stored names, so it must not change between versions."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """Returns the bytes of a text that `encode` returned. Raises ValueError for every other text.

    So each value has one text: padding, foreign characters and changed bits that no byte uses are refused.
    """
    raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if encode(raw) != text:
        raise ValueError
    return raw
