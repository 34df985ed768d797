"""Images and PDFs made here, byte by byte, as small as they can be: whole where it matters, a header elsewhere."""

from __future__ import annotations

import base64
import zlib
from typing import Any

Block = dict[str, Any]


def png(width: int = 1, height: int = 1, *, filling: int | bytes = 0) -> bytes:
    """A grey image, whole if it is small; a chunk that is no pixels follows its header: `filling`, or so many zeros."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)

    header = chunk(b"IHDR", width.to_bytes(4) + height.to_bytes(4) + b"\x08\0\0\0\0")
    rows = zlib.compress((b"\0" + b"\x80" * width) * height) if width * height < 1_000_000 else b""
    more = chunk(b"fiLl", bytes(filling)) if filling else b""
    return b"\x89PNG\r\n\x1a\n" + header + more + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def gif(width: int = 1, height: int = 1) -> bytes:
    size = width.to_bytes(2, "little") + height.to_bytes(2, "little")
    return b"GIF89a" + size + b"\0\0\0," + b"\0\0\0\0" + size + b"\0\x02\x02L\x01\0;"


def jpeg(width: int = 1, height: int = 1, *, before: bytes = b"", frame: int = 0xC0) -> bytes:
    """The header of a JPEG; `before` stands between its beginning and its frame."""
    sizes = height.to_bytes(2) + width.to_bytes(2)
    return (
        b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0"
        + before
        + bytes([0xFF, frame, 0, 11, 8])
        + sizes
        + b"\x01\x01\x11\0"
        + b"\xff\xd9"
    )


def segment(length: int, code: int = 0xE1) -> bytes:
    """A segment of a JPEG that is no frame: what a camera or a program noted."""
    return bytes([0xFF, code]) + length.to_bytes(2) + b"\0" * (length - 2)


def webp(kind: str = "VP8 ", width: int = 1, height: int = 1) -> bytes:
    """The header of a WebP in one of its three forms."""
    if kind == "VP8 ":
        body = b"\0\0\0\x9d\x01\x2a" + width.to_bytes(2, "little") + height.to_bytes(2, "little")
    elif kind == "VP8L":
        body = b"\x2f" + (width - 1 | height - 1 << 14).to_bytes(4, "little")
    else:
        body = b"\0\0\0\0" + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = body.ljust(18, b"\0")
    return (
        b"RIFF"
        + (len(body) + 12).to_bytes(4, "little")
        + b"WEBP"
        + kind.encode()
        + len(body).to_bytes(4, "little")
        + body
    )


def pdf(pages: int = 1, *, claimed: int | None = None, trailer: bytes = b"", filling: int = 0) -> bytes:
    """A PDF of empty pages, which says that it has `claimed`; `filling` bytes of a stream that belongs to none."""
    kids = b" ".join(b"%d 0 R" % (3 + number) for number in range(pages))
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[%s]/Count %d>>" % (kids, pages if claimed is None else claimed),
        *[b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>"] * pages,
        *([b"<</Length %d>>stream\n%s\nendstream" % (filling, b"\xff" * filling)] if filling else []),
    ]
    return in_pdf(objects, b"<</Size %d/Root 1 0 R%s>>" % (len(objects) + 1, trailer))


def in_pdf(objects: list[bytes], trailer: bytes = b"<</Root 1 0 R>>") -> bytes:
    """A file of these objects, numbered from 1, with a table of where they are."""
    written, offsets = b"%PDF-1.7\n", []
    for number, each in enumerate(objects, start=1):
        offsets.append(len(written))
        written += b"%d 0 obj\n%s\nendobj\n" % (number, each)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    return written + b"xref\n0 %d\n0000000000 65535 f \n%strailer\n%s\nstartxref\n%d\n%%%%EOF\n" % (
        len(objects) + 1,
        table,
        trailer,
        len(written),
    )


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def image(data: bytes | None = None, media_type: str = "image/png") -> Block:
    return {
        "type": "image",
        "source": {"type": "base64", "media_type": media_type, "data": base64_of(png() if data is None else data)},
    }


def document(data: bytes | None = None, media_type: str = "application/pdf", **more: Any) -> Block:
    source = {"type": "base64", "media_type": media_type, "data": base64_of(pdf() if data is None else data)}
    return {"type": "document", "source": source, **more}


def text_block(said: str = "Look.") -> Block:
    return {"type": "text", "text": said}


def text_document(said: str = "Herons nest in trees.", **more: Any) -> Block:
    return {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": said}, **more}


def search_result(**more: Any) -> Block:
    found = {
        "type": "search_result",
        "source": "https://birds.example/heron",
        "title": "Herons",
        "content": [text_block()],
    }
    return found | more


def tool_result(tool_use_id: str = "toolu_1", **more: Any) -> Block:
    return {"type": "tool_result", "tool_use_id": tool_use_id, **more}


def tool_use(tool_use_id: str = "toolu_1") -> Block:
    return {"type": "tool_use", "id": tool_use_id, "name": "look_up", "input": {}}
