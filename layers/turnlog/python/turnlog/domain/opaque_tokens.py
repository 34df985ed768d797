"""Opaque tokens: cursors, administrators' refs and continuations, always encrypted under the server key.

A token is base64url without padding. Nobody but the service can read or make one, and it is good only for the purpose
and the names that it was made for.
"""

from __future__ import annotations

import base64
import binascii

from turnlog.domain.server_key import DecryptionFailed, ServerKey


class TokenInvalid(Exception):
    """The text is not a token that was made for this purpose and these names."""


def make_token(server_key: ServerKey, purpose: str, content: bytes, *names: str) -> str:
    """Encrypts `content` for the same purpose and names. 28 bytes longer than the content, and a third on top."""
    return _to_text(server_key.encrypt(purpose, content, *(name.encode() for name in names)))


def read_token(server_key: ServerKey, purpose: str, token: str, *names: str) -> bytes:
    """Returns the content. Raises TokenInvalid for everything that `make_token` did not return for them."""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        if _to_text(raw) != token:  # unused bits of the last character were changed
            raise TokenInvalid
        return server_key.decrypt(purpose, raw, *(name.encode() for name in names))
    except (binascii.Error, ValueError, DecryptionFailed) as error:  # ValueError: text that is no ASCII
        raise TokenInvalid from error


def _to_text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
