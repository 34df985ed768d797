"""The type, width and height of an image, read from its first bytes: nothing is decoded, so no image can be a bomb."""

from __future__ import annotations

from dataclasses import dataclass

IMAGE_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")

_PNG = b"\x89PNG\r\n\x1a\n"
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # the markers of JPEG that begin a frame
_ALONE = frozenset([0x01, *range(0xD0, 0xD8)])  # markers without a length
_MOST_MARKERS = 1_000
"""Segments before the frame of a JPEG at most: a profile has up to 255, and each thumbnail or text a few."""


@dataclass(frozen=True, slots=True)
class ImageSize:
    """Width and height in pixels, as the image's header says; never 0."""

    width: int
    height: int

    @property
    def longest(self) -> int:
        """The longer side."""
        return max(self.width, self.height)


def image_type(data: bytes) -> str | None:
    """Returns the media type that the first bytes are the signature of; None for those of no image that is taken."""
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith(_PNG):
        return "image/png"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "image/webp"
    return None


def image_size(data: bytes) -> ImageSize | None:
    """Returns the size; None for an image whose header is cut off or damaged, or that has no pixels."""
    readers = {"image/jpeg": _of_jpeg, "image/png": _of_png, "image/gif": _of_gif, "image/webp": _of_webp}
    reader = readers.get(image_type(data) or "")
    size = reader(data) if reader else None
    return size if size and size.width and size.height else None


def _of_png(data: bytes) -> ImageSize | None:
    if len(data) < 33 or data[8:16] != b"\0\0\0\x0dIHDR":  # the first chunk, with its checksum
        return None
    return ImageSize(int.from_bytes(data[16:20]), int.from_bytes(data[20:24]))


def _of_gif(data: bytes) -> ImageSize | None:
    if len(data) < 13:
        return None
    return ImageSize(int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little"))


def _of_webp(data: bytes) -> ImageSize | None:
    if len(data) < 30:
        return None
    kind = data[12:16]
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        return ImageSize(int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF)
    if kind == b"VP8L" and data[20] == 0x2F:
        bits = int.from_bytes(data[21:25], "little")
        return ImageSize((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if kind == b"VP8X":
        return ImageSize(int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1)
    return None


def _of_jpeg(data: bytes) -> ImageSize | None:
    """Reads the segments up to the frame: each begins with a marker, 0xFF and its code, and most have a length."""
    at = 2
    for _ in range(_MOST_MARKERS):
        if len(data) < at + 2 or data[at] != 0xFF:
            return None
        code = data[at + 1]
        if code == 0xFF:  # a filling byte
            at += 1
        elif code in _ALONE:
            at += 2
        elif code in _FRAMES:
            if len(data) < at + 9:
                return None
            return ImageSize(int.from_bytes(data[at + 7 : at + 9]), int.from_bytes(data[at + 5 : at + 7]))
        elif code in (0xD8, 0xD9, 0xDA):  # a second beginning, the end, or pixels before any frame
            return None
        else:
            at += 2 + max(2, int.from_bytes(data[at + 2 : at + 4]))
    return None
