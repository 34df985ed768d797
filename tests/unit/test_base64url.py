"""Base64url without padding: one text for each value."""

from __future__ import annotations

import pytest

from turnlog.domain import base64url


@pytest.mark.parametrize("raw", [b"", b"a", b"ab", b"abc", bytes(range(256)), b"\xfb\xff"])
def test_decode_returns_what_was_encoded(raw: bytes) -> None:
    assert base64url.decode(base64url.encode(raw)) == raw


def test_the_text_is_url_safe_and_has_no_padding() -> None:
    assert base64url.encode(b"\xfb\xff") == "-_8"


@pytest.mark.parametrize("text", ["a", "YQ==", "YR", "+/8", "-_8 ", "Y Q", "ü", "\ud800", "Y\n"])
def test_another_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        base64url.decode(text)
