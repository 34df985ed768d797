"""Where the next page of a list begins, in a form that only this service makes and only its caller can use."""

from __future__ import annotations

import base64
import binascii
import hmac

from turnlog import runtime
from turnlog.errors import InvalidRequest

_MAC = 16
_LONGEST = 200


def sealed(place: str, *bound: str) -> str:
    """The cursor of a place, good only for whoever names the same `bound`: the list, the caller, and what it is of."""
    return base64.urlsafe_b64encode(_mac(place, bound) + place.encode()).rstrip(b"=").decode()


def opened(cursor: str, *bound: str) -> str:
    """The place. Raises InvalidRequest for all that `sealed` did not make for the same list and caller."""
    try:
        if len(cursor) > _LONGEST or not cursor.isascii():
            raise ValueError
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        place = raw[_MAC:].decode()
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest("cursor_invalid", details={"parameter": "cursor"}) from error
    if not hmac.compare_digest(raw[:_MAC], _mac(place, bound)):
        raise InvalidRequest("cursor_invalid", details={"parameter": "cursor"})
    return place


def _mac(place: str, bound: tuple[str, ...]) -> bytes:
    return runtime.server_key().keyed_hash("cursor", place.encode(), *(each.encode() for each in bound))
