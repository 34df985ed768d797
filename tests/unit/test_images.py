"""The type and size of an image come from its header alone, in each format that Claude takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.media import gif, jpeg, png, segment, webp
from turnlog.domain.blocks.images import ImageSize, image_size, image_type

WHOLE = {
    "image/png": png(640, 480),
    "image/gif": gif(640, 480),
    "image/jpeg": jpeg(640, 480),
    "image/webp": webp("VP8 ", 640, 480),
}
MADE = {
    "PNG": png,
    "GIF": gif,
    "JPEG": jpeg,
    "JPEG, progressive": lambda width, height: jpeg(width, height, frame=0xC2),
    "JPEG of a camera": lambda width, height: jpeg(width, height, before=segment(65_535) * 3 + segment(500, 0xE2)),
    "JPEG with filling bytes": lambda width, height: jpeg(width, height, before=b"\xff\xff\xff\x01"),
    "JPEG with tables first": lambda width, height: jpeg(width, height, before=segment(67, 0xDB) + segment(30, 0xC4)),
    "WebP": lambda width, height: webp("VP8 ", width, height),
    "WebP, lossless": lambda width, height: webp("VP8L", width, height),
    "WebP, extended": lambda width, height: webp("VP8X", width, height),
}


@pytest.mark.parametrize("media_type", WHOLE)
def test_the_type_is_that_of_the_first_bytes(media_type: str) -> None:
    assert image_type(WHOLE[media_type]) == media_type


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"BM" + b"\0" * 60, b"<svg/>", b"RIFF\0\0\0\0WAVE", b"%PDF-1.7"])
def test_other_bytes_are_no_image(data: bytes) -> None:
    assert image_type(data) is None
    assert image_size(data) is None


@pytest.mark.parametrize("made", MADE.values(), ids=MADE)
@pytest.mark.parametrize(("width", "height"), [(1, 1), (640, 480), (8_001, 3), (16_383, 16_383)])
def test_the_size_is_that_of_the_header(made: object, width: int, height: int) -> None:
    assert image_size(made(width, height)) == ImageSize(width, height)  # type: ignore[operator]


def test_a_bomb_of_pixels_is_known_by_its_header() -> None:
    assert image_size(png(2**31 - 1, 2**31 - 1)) == ImageSize(2**31 - 1, 2**31 - 1)


@pytest.mark.parametrize("data", [png(0, 5), png(5, 0), gif(0, 0), jpeg(0, 7), jpeg(7, 0), webp("VP8 ", 0, 9)], ids=str)
def test_an_image_without_pixels_has_no_size(data: bytes) -> None:
    assert image_size(data) is None


HEADERS = {
    "PNG": (png(9, 9), 33),
    "GIF": (gif(9, 9), 13),
    "JPEG": (jpeg(9, 9), len(jpeg(9, 9)) - 6),
    "WebP": (webp("VP8 ", 9, 9), 30),
}


@pytest.mark.parametrize(("data", "enough"), HEADERS.values(), ids=HEADERS)
def test_a_header_that_is_cut_off_has_no_size(data: bytes, enough: int) -> None:
    assert [image_size(data[:length]) for length in range(enough)] == [None] * enough
    assert image_size(data[:enough]) == ImageSize(9, 9)


@pytest.mark.parametrize(
    "data",
    [
        png(9, 9).replace(b"IHDR", b"IDAT"),
        jpeg(9, 9).replace(b"\xff\xc0", b"\x00\xc0"),
        jpeg(9, 9, before=b"\xff\xda"),
        jpeg(9, 9, before=segment(2) * 1_000),
        webp("VP8 ", 9, 9).replace(b"\x9d\x01\x2a", b"\0\0\0"),
        webp("VP8L", 9, 9).replace(b"\x2f", b"\0"),
        webp("VP8?", 9, 9),
    ],
    ids=["no IHDR", "no marker", "pixels first", "a thousand segments", "no start code", "no signature", "no kind"],
)
def test_a_damaged_header_has_no_size(data: bytes) -> None:
    assert image_size(data) is None


@given(st.sampled_from([*WHOLE.values()]), st.binary(max_size=200), st.integers(0, 40))
def test_any_bytes_after_a_signature_are_read_without_an_error(whole: bytes, junk: bytes, at: int) -> None:
    size = image_size(whole[:at] + junk)
    assert size is None or (size.width > 0 and size.height > 0)
