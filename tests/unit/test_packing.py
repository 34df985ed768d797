"""Packing: long texts are packed without a search for repeats where they have none, and come back as they were."""

from __future__ import annotations

import json
import random
import zlib

import pytest

from tests.media import base64_of
from turnlog.domain import packing
from turnlog.domain.packing import pack, unpack
from turnlog.domain.turns import MAX_TURN_BYTES

PICTURE = base64_of(random.Random(1).randbytes(900_000))
PROSE = " ".join(random.Random(2).choices(["heron", "egret", "stork", "ibis", "spoonbill"], k=250_000))
PERIOD = base64_of(random.Random(3).randbytes(12_000))


def searched(text: str) -> int:
    """The bytes that the text takes when repeats are searched for."""
    return len(zlib.compress(json.dumps(text).encode()))


@pytest.mark.parametrize("text", ["heron", PICTURE, PROSE, PICTURE + PROSE, PROSE + PICTURE], ids=range(5))
def test_what_is_packed_comes_back(text: str) -> None:
    assert unpack(pack(json.dumps(text))) == text


def test_a_picture_is_packed_no_larger_without_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = pack(json.dumps(PICTURE))
    assert len(packed) <= searched(PICTURE)
    monkeypatch.setattr(zlib, "compress", lambda plain: pytest.fail("searched") if len(plain) > 100_000 else b"")
    monkeypatch.setattr(packing, "_has_repeats", lambda plain: False)
    assert pack(json.dumps(PICTURE)) == packed


@pytest.mark.parametrize("text", [PROSE, PERIOD * 80], ids=["prose", "base64 that repeats itself"])
def test_a_long_text_with_repeats_is_packed_by_them(text: str) -> None:
    assert len(pack(json.dumps(text))) <= searched(text) + 1


def test_what_would_be_too_large_without_a_search_is_searched() -> None:
    text, noise = PERIOD * 400, random.Random(4)
    for quarter in (1, 2, 3):
        at = quarter * len(text) // 4 - 10_000
        text = text[:at] + base64_of(noise.randbytes(30_000)) + text[at + 40_000 :]
    assert not packing._has_repeats(json.dumps(text).encode())
    assert len(pack(json.dumps(text))) < MAX_TURN_BYTES
