"""Keys of turns before those of a view, and of tries that have no turn: each turn carries some of them on."""

from __future__ import annotations

from collections.abc import Iterator

from turnlog.domain.sessions import SessionView
from turnlog.domain.turns import COUNT_BYTES, KEY_HASH, key_hash

OLDER_KEYS = 64
"""The number of turns within which a late retry finds its reply."""

KEY_STRIDE = 16
"""The distance between the older keys that a turn remembers: it stores the hashes of the keys 16, 32, 48 and 64 turns
before it, the nearest first, at 24 bytes a turn. So any 16 neighbouring turns together hold all older keys. It must not
change between versions.
"""

OTHER_KEYS = 16
"""The most keys without a turn for which a session remembers how often the model was asked."""


def older_keys(view: SessionView) -> bytes:
    """The hashes of older keys that the next turn remembers: of one turn of the view, and those which that one has."""
    if view.count < KEY_STRIDE:
        return b""
    before = view.turns[-KEY_STRIDE]
    return (key_hash(before.key) + before.older_keys)[: OLDER_KEYS // KEY_STRIDE * KEY_HASH]


def numbers_to_check(view: SessionView, key: bytes, number: int | None) -> Iterator[int]:
    """Numbers of turns before those of the view that may have this key; the `number` at which it is expected, too."""
    wanted = key_hash(key)
    for turn in view.turns:
        for back in range(len(turn.older_keys) // KEY_HASH):
            at = turn.number - KEY_STRIDE * (back + 1)
            if 0 < at < view.turns[0].number and turn.older_keys[back * KEY_HASH :].startswith(wanted):
                yield at
    if number is not None and number <= view.count:
        yield number


def attempts(view: SessionView) -> dict[bytes, int]:
    """The number of handlers that began under each key without a turn, by the key's hash, the latest last."""
    held = view.running.attempt_counts if view.running else view.turns[-1].attempt_counts if view.turns else b""
    counts = {held[at : at + KEY_HASH]: held[at + KEY_HASH] for at in range(0, len(held), COUNT_BYTES)}
    if view.running and view.running.attempt:
        counts[key_hash(view.running.key)] = view.running.attempt
    return counts


def packed_attempts(counts: dict[bytes, int]) -> bytes:
    """The counts as a lease carries them; only the latest OTHER_KEYS."""
    return b"".join(hashed + bytes([count]) for hashed, count in counts.items())[-OTHER_KEYS * COUNT_BYTES :]
