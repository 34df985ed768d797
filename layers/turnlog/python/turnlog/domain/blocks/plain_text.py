"""The text of a document that came as bytes, whatever common encoding it is in."""

from __future__ import annotations

_MARKED = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_UNMARKED = ("utf-8", "cp1252")
"""Windows-1252 is Latin-1 with letters and quotation marks where Latin-1 has control characters, which no text has."""


def decode_text(data: bytes) -> str | None:
    """Returns the text, without its byte order mark: of UTF-8, of UTF-16 with a mark, else of Windows-1252 and Latin-1.

    None for bytes that are no text in any of them.
    """
    for encoding in [name for mark, name in _MARKED if data.startswith(mark)] or _UNMARKED:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    return None
