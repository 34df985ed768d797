"""The ids of sessions."""

from __future__ import annotations

import base64
import secrets

import pytest

from turnlog.domain.owners import is_secret
from turnlog.domain.sessions import is_session_id, new_session_id


@pytest.mark.asvs("7.2.3")
def test_an_id_is_128_bits_from_the_system_s_own_dice(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int | None] = []

    def token_bytes(size: int | None = None) -> bytes:
        asked.append(size)
        return bytes(range(16))

    monkeypatch.setattr(secrets, "token_bytes", token_bytes)
    session_id = new_session_id()
    assert asked == [16]
    assert base64.urlsafe_b64decode(session_id.removeprefix("ses_") + "==") == bytes(range(16))
    assert is_session_id(session_id)


@pytest.mark.asvs("7.2.3")
def test_a_secret_has_room_for_256_bits_and_no_less() -> None:
    assert is_secret(base64.urlsafe_b64encode(bytes(32)).rstrip(b"=").decode())
    assert not is_secret(base64.urlsafe_b64encode(bytes(31)).rstrip(b"=").decode())
