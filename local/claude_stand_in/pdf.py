"""PDF documents: whether they are any, whether a password protects them, and how many pages they have.

Pages are counted by one rule: the objects of `/Type /Page`; where there are none to be seen, since they are compressed,
the greatest `/Count`.
"""

from __future__ import annotations

import base64
import binascii
import re

_START = re.compile(rb"%PDF-\d")
_WITHIN = 1024  # bytes in which the file must begin
_PAGE = re.compile(rb"/Type\s*/Page(?![A-Za-z])")
_COUNT = re.compile(rb"/Count\s+(\d{1,7})")
_PASSWORD = re.compile(rb"/Encrypt\s+\d")


def pdf_in(data: str) -> bytes | None:
    """The PDF in a text of base64; None when it is no PDF."""
    try:
        raw = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if _START.search(raw[:_WITHIN]) else None


def has_password(raw: bytes) -> bool:
    """True when it cannot be read without a password."""
    return bool(_PASSWORD.search(raw))


def pages_of(raw: bytes) -> int:
    """The number of its pages; 0 when there are none to be seen."""
    return len(_PAGE.findall(raw)) or max(map(int, _COUNT.findall(raw)), default=0)
