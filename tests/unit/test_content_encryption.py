"""What is sealed opens with the same key at the same place, and nowhere else."""

from __future__ import annotations

import pytest

from turnlog.domain.content_encryption import KEY_BYTES, PLAIN, DataKey

KEY = DataKey("000001", bytes(range(KEY_BYTES)))
SEALED = KEY.cipher(b"here", b"content")


def test_what_was_sealed_opens_at_its_place() -> None:
    assert KEY.open(b"here", SEALED) == b"content"
    assert KEY.open(b"", KEY.cipher(b"", b"")) == b""


@pytest.mark.asvs("11.3.2")
def test_sealing_adds_28_bytes_and_hides_the_content() -> None:
    assert len(SEALED) == len(b"content") + 28
    assert b"content" not in SEALED


@pytest.mark.asvs("11.3.4")
def test_the_same_content_is_sealed_into_other_bytes_each_time() -> None:
    sealed = {KEY.cipher(b"here", b"content") for _ in range(1000)}
    assert len({each[:12] for each in sealed}) == len({each[12:] for each in sealed}) == 1000


@pytest.mark.asvs("11.3.3")
@pytest.mark.parametrize(
    ("key", "place", "sealed"),
    [
        pytest.param(KEY, b"there", SEALED, id="another place"),
        pytest.param(DataKey("000001", bytes(KEY_BYTES)), b"here", SEALED, id="another key of that name"),
        pytest.param(KEY, b"here", SEALED[:-1], id="shorter"),
        pytest.param(KEY, b"here", SEALED + b"\0", id="longer"),
        pytest.param(KEY, b"here", bytes([SEALED[0] ^ 1]) + SEALED[1:], id="another nonce"),
        pytest.param(KEY, b"here", SEALED[:12] + bytes([SEALED[12] ^ 1]) + SEALED[13:], id="another byte"),
        pytest.param(KEY, b"here", b"", id="nothing"),
        pytest.param(KEY, b"here", SEALED[:11], id="less than a nonce"),
        pytest.param(KEY, b"here", b"content", id="what was never sealed"),
    ],
)
def test_anything_else_does_not_open(key: DataKey, place: bytes, sealed: bytes) -> None:
    with pytest.raises(ValueError):
        key.open(place, sealed)


def test_a_key_shows_nothing_of_itself() -> None:
    assert bytes(range(KEY_BYTES)).hex() not in repr(KEY) + str(vars(KEY))


def test_plain_leaves_content_as_it_is_and_names_no_key() -> None:
    assert PLAIN.open(b"here", PLAIN.cipher(b"there", b"content")) == b"content"
    assert PLAIN.kid == ""
