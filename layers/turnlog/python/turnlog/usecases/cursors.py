"""Cursors: where the next page of a list begins, as an opaque token for one list and one caller."""

from __future__ import annotations

from turnlog.domain.opaque_tokens import TokenInvalid, make_token, read_token
from turnlog.domain.server_key import ServerKey
from turnlog.errors import InvalidRequest


def make_cursor(server_key: ServerKey, position: str, *names: str) -> str:
    """Returns the cursor of a position, for the same `names`: the list, the caller, and what the list is of."""
    return make_token(server_key, "cursor", position.encode(), *names)


def read_cursor(server_key: ServerKey, cursor: str, *names: str) -> str:
    """Returns the position. Raises InvalidRequest for everything that this list did not return to this caller."""
    try:
        return read_token(server_key, "cursor", cursor, *names).decode()
    except TokenInvalid as error:
        raise InvalidRequest("cursor_invalid", details={"parameter": "cursor"}) from error
