"""Opaque tokens: cursors, administrators' refs and continuations, always encrypted under the server key.

A token is base64url without padding. Nobody but the service can read or make one, and it is good only for the purpose
and the names that it was made for.
"""

from __future__ import annotations

from turnlog.domain import base64url
from turnlog.domain.server_key import DecryptionFailed, ServerKey


class TokenInvalid(Exception):
    """The text is not a token that was made for this purpose and these names."""


def make_token(server_key: ServerKey, purpose: str, content: bytes, *names: str) -> str:
    """Encrypts `content` for the same purpose and names. 28 bytes longer than the content, and a third on top."""
    return base64url.encode(server_key.encrypt(purpose, content, *(name.encode() for name in names)))


def read_token(server_key: ServerKey, purpose: str, token: str, *names: str) -> bytes:
    """Returns the content. Raises TokenInvalid for everything that `make_token` did not return for them."""
    try:
        return server_key.decrypt(purpose, base64url.decode(token), *(name.encode() for name in names))
    except (ValueError, DecryptionFailed) as error:
        raise TokenInvalid from error
