"""Small images and PDFs, as the base64 of their bytes: as much of each as tells its kind and its size."""

from __future__ import annotations

import base64
import struct


def encoded(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def png(width: int, height: int) -> str:
    return encoded(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + struct.pack(">II", width, height) + b"\x08\x02\x00\x00\x00")


def jpeg(width: int, height: int, before: int = 0) -> str:
    """A JPEG with `before` bytes of a comment before its size."""
    comment = b"\xff\xfe" + struct.pack(">H", before + 2) + bytes(before) if before else b""
    start = b"\xff\xd8" + comment + b"\xff\xff\xe0\x00\x10JFIF" + bytes(10)
    return encoded(start + b"\xff\xc2\x00\x11\x08" + struct.pack(">HH", height, width) + bytes(10))


def gif(width: int, height: int) -> str:
    return encoded(b"GIF89a" + struct.pack("<HH", width, height) + bytes(3))


def webp(width: int, height: int, kind: bytes = b"VP8 ") -> str:
    """A WebP of one of its three kinds."""
    if kind == b"VP8X":
        sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        return encoded(b"RIFF\x00\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00" + bytes(4) + sizes)
    if kind == b"VP8L":
        bits = (width - 1) | (height - 1) << 14
        return encoded(b"RIFF\x00\x00\x00\x00WEBPVP8L" + bytes(4) + b"\x2f" + struct.pack("<I", bits))
    sizes = struct.pack("<HH", width, height)
    return encoded(b"RIFF\x00\x00\x00\x00WEBPVP8 " + bytes(7) + b"\x9d\x01\x2a" + sizes)


def pdf(pages: int, more: bytes = b"") -> str:
    kids = b"".join(b"<< /Type /Page /Parent 2 0 R >>\n" for _ in range(pages))
    return encoded(b"%PDF-1.7\n<< /Type /Pages /Count " + str(pages).encode() + b" >>\n" + kids + more + b"%%EOF")
