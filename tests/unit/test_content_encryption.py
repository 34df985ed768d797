"""Encrypted content decrypts with the same key for the same context, and for no other."""

from __future__ import annotations

import pytest

from turnlog.domain.content_encryption import KEY_BYTES, PLAIN, DataKey

KEY = DataKey("000001", bytes(range(KEY_BYTES)))
ENCRYPTED = KEY.encrypt(b"here", b"content")


def test_what_was_encrypted_decrypts_for_its_context() -> None:
    assert KEY.decrypt(b"here", ENCRYPTED) == b"content"
    assert KEY.decrypt(b"", KEY.encrypt(b"", b"")) == b""


@pytest.mark.asvs("11.3.2")
def test_encryption_adds_28_bytes_and_hides_the_content() -> None:
    assert len(ENCRYPTED) == len(b"content") + 28
    assert b"content" not in ENCRYPTED


@pytest.mark.asvs("11.3.4")
def test_the_same_content_is_encrypted_into_other_bytes_each_time() -> None:
    encrypted = {KEY.encrypt(b"here", b"content") for _ in range(1000)}
    assert len({each[:12] for each in encrypted}) == len({each[12:] for each in encrypted}) == 1000


@pytest.mark.asvs("11.3.3")
@pytest.mark.parametrize(
    ("key", "context", "encrypted"),
    [
        pytest.param(KEY, b"there", ENCRYPTED, id="another context"),
        pytest.param(DataKey("000001", bytes(KEY_BYTES)), b"here", ENCRYPTED, id="another key of that name"),
        pytest.param(KEY, b"here", ENCRYPTED[:-1], id="shorter"),
        pytest.param(KEY, b"here", ENCRYPTED + b"\0", id="longer"),
        pytest.param(KEY, b"here", bytes([ENCRYPTED[0] ^ 1]) + ENCRYPTED[1:], id="another nonce"),
        pytest.param(KEY, b"here", ENCRYPTED[:12] + bytes([ENCRYPTED[12] ^ 1]) + ENCRYPTED[13:], id="another byte"),
        pytest.param(KEY, b"here", b"", id="nothing"),
        pytest.param(KEY, b"here", ENCRYPTED[:11], id="less than a nonce"),
        pytest.param(KEY, b"here", b"content", id="what was never encrypted"),
    ],
)
def test_anything_else_does_not_decrypt(key: DataKey, context: bytes, encrypted: bytes) -> None:
    with pytest.raises(ValueError):
        key.decrypt(context, encrypted)


def test_a_key_shows_nothing_of_itself() -> None:
    assert bytes(range(KEY_BYTES)).hex() not in repr(KEY) + str(vars(KEY))


def test_plain_leaves_content_as_it_is_and_names_no_key() -> None:
    assert PLAIN.decrypt(b"here", PLAIN.encrypt(b"there", b"content")) == b"content"
    assert PLAIN.kid == ""
