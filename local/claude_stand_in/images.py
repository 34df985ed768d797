"""Images: their kind and their size in pixels, read from their first bytes."""

from __future__ import annotations

import base64
import binascii
import struct
from dataclasses import dataclass

_FIRST = 1 << 14  # characters of base64 that mostly suffice
_JPEG_SIZES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # the markers of frames
_JPEG_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length


@dataclass(frozen=True, slots=True)
class Image:
    """One image. `kind` is "png", "jpeg", "gif" or "webp"."""

    kind: str
    width: int
    height: int

    @property
    def media_type(self) -> str:
        return f"image/{self.kind}"

    def __str__(self) -> str:
        name = "WebP" if self.kind == "webp" else self.kind.upper()
        return f"{name}, {self.width} × {self.height} pixels"


def image_in(data: str) -> Image | None:
    """The image in a text of base64; None when it is of no known kind, or cut. Raises ValueError for no base64."""
    for characters in (_FIRST, len(data)):
        if found := _image_of(_decoded(data[:characters])):
            return found
    return None


def _decoded(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise ValueError("no base64") from error


def _image_of(raw: bytes) -> Image | None:
    try:
        if raw.startswith(b"\x89PNG\r\n\x1a\n") and raw[12:16] == b"IHDR":
            return _sized("png", *struct.unpack_from(">II", raw, 16))
        if raw.startswith((b"GIF87a", b"GIF89a")):
            return _sized("gif", *struct.unpack_from("<HH", raw, 6))
        if raw.startswith(b"RIFF") and raw[8:12] == b"WEBP":
            return _webp(raw)
        return _jpeg(raw) if raw.startswith(b"\xff\xd8") else None
    except (struct.error, IndexError):
        return None


def _sized(kind: str, width: int, height: int) -> Image | None:
    return Image(kind, width, height) if width and height else None


def _webp(raw: bytes) -> Image | None:
    if raw[12:16] == b"VP8X":
        width, height = (int.from_bytes(raw[at : at + 3], "little") + 1 for at in (24, 27))
        return _sized("webp", width, height) if len(raw) >= 30 else None
    if raw[12:16] == b"VP8L":
        bits = struct.unpack_from("<I", raw, 21)[0]
        return _sized("webp", (bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1)
    width, height = struct.unpack_from("<HH", raw, 26)
    return _sized("webp", width & 0x3FFF, height & 0x3FFF) if raw[23:26] == b"\x9d\x01\x2a" else None


def _jpeg(raw: bytes) -> Image | None:
    at = 2
    while at < len(raw):
        if raw[at] != 0xFF:
            return None
        marker = raw[at + 1]
        if marker == 0xFF:  # a byte that only fills
            at += 1
        elif marker in _JPEG_ALONE:
            at += 2
        elif marker in _JPEG_SIZES:
            height, width = struct.unpack_from(">HH", raw, at + 5)
            return _sized("jpeg", width, height)
        else:
            at += 2 + struct.unpack_from(">H", raw, at + 2)[0]
    return None
