"""Items to values. A damaged item or one of an unknown version is an error, never a smaller value."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal

from turnlog.adapters.dynamodb.data_keys import Keys
from turnlog.adapters.dynamodb.items import (
    ENCRYPTED_VERSION,
    VERSION,
    associated_data,
    is_of_later_version,
    is_part,
    is_slot,
    part_sk,
    partition,
)
from turnlog.adapters.dynamodb.table import Item, readable, s
from turnlog.domain.content_encryption import PLAIN, ContentCipher
from turnlog.domain.packing import unpack, unpack_turn
from turnlog.domain.sessions import ListedSession, Session, SessionSettings
from turnlog.domain.turns import Lease, Slot, Tombstone, Totals, Turn, UnknownLease
from turnlog.errors import ItemVersionUnknown, SessionUnreadable


def _cipher_of(owner: str, item: Item, keys: Keys) -> ContentCipher:
    """The cipher for the content of a header or of an item that names a session.

    Raises ItemUnreadable, ItemVersionUnknown or what Keys.named raises.
    """
    _require_known_version(item)
    with readable():
        version = int(item["v"]["N"])
        if version not in (VERSION, ENCRYPTED_VERSION):
            raise ValueError("no version ever")
    if version == VERSION:
        return PLAIN
    return keys.named(owner, item.get("kid", {}).get("S", ""))


def session_of(owner: str, session_id: str, item: Item, keys: Keys) -> Session:
    """The session of this header. Raises ItemUnreadable, ItemVersionUnknown, or what Keys.named raises."""
    cipher = _cipher_of(owner, item, keys)
    with readable():
        chosen = unpack(_decrypted(item, "cfg", cipher))
        settings = SessionSettings(chosen["model"], chosen["max_tokens"], chosen["system"])
        if [type(chosen[name]) for name in ("model", "max_tokens", "system")] != [str, int, str]:
            raise ValueError("no settings of a session")
        created, expires, idle = (int(item[name]["N"]) for name in ("created", "dies", "idle"))
        fingerprint = bytes(item["fp"]["B"]) if "fp" in item else b""
        return Session(owner, session_id, created, expires, idle, settings, fingerprint, cipher)


def title_of(item: Item, cipher: ContentCipher) -> str:
    """The title in this meta item. Raises ItemUnreadable or ItemVersionUnknown."""
    with readable():
        _require_version(item, cipher)
        return _decrypted_text(item, "title", cipher)


def listed_session(owner: str, item: Item, keys: Keys) -> ListedSession:
    """The session that an item of the owner's partition names; its partition's name stands for an unreadable id.

    Raises SessionNotFound when its key was erased, KeysUnavailable or StoreUnavailable.
    """
    created_ms = 0
    with suppress(KeyError, ValueError, TypeError):
        created_ms = int(item["created"]["N"])
    try:
        cipher = _cipher_of(owner, item, keys)
        with readable():
            session_id = _decrypted_text(item, "sid", cipher)
            if partition(owner, session_id) != item["sk"]["S"]:
                raise ValueError("the id of another session")
            return ListedSession(session_id, created_ms)
    except SessionUnreadable:
        return ListedSession(item["sk"]["S"], created_ms)


def slots_of(items: Sequence[Item], cipher: ContentCipher) -> list[Slot]:
    """The slots among the items, oldest first, with their contents. Raises ItemUnreadable or ItemVersionUnknown."""
    parts: dict[str, Item] = {item["sk"]["S"]: item for item in items if is_part(item)}
    slots = sorted((item for item in items if is_slot(item)), key=lambda item: str(item["sk"]["S"]))
    return [slot_of(item, cipher, parts) for item in slots]


def slot_of(item: Item, cipher: ContentCipher, parts: dict[str, Item] | None = None) -> Slot:
    """The slot in this item; `parts` are those of large turns, by sort key.

    Raises ItemUnreadable, or ItemVersionUnknown for all of a later version but a lease.
    """
    if is_of_later_version(item):
        return _unknown_lease_of(item)
    with readable():
        number, state = int(item["sk"]["S"]), item["st"]["S"]
        _require_version(item, cipher if state == "done" else PLAIN)
        if state == "ended":
            return Tombstone(number)
        if state == "running":
            return _lease_of(item, number)
        if state != "done":
            raise ValueError("no state of a slot")
        return _turn_of(item, number, cipher, parts or {})


def _unknown_lease_of(item: Item) -> UnknownLease:
    with suppress(KeyError, ValueError, TypeError):
        if item["st"] == s("running"):
            return UnknownLease(int(item["sk"]["S"]), int(item["til"]["N"]), int(item["ts"]["N"]))
    raise ItemVersionUnknown


def _lease_of(item: Item, number: int) -> Lease:
    return Lease(
        number=number,
        token=item["tok"]["S"],
        lease_expires_ms=int(item["til"]["N"]),
        key=bytes(item["k"]["B"]),
        fingerprint=bytes(item["fp"]["B"]),
        at_ms=int(item["ts"]["N"]),
        attempt=int(item["att"]["N"]),
        attempt_counts=_attempt_counts(item),
        moving_to=item["dst"]["S"] if "dst" in item else "",
        unfinished_move_to=item["und"]["S"] if "und" in item else "",
    )


def _turn_of(item: Item, number: int, cipher: ContentCipher, parts: dict[str, Item]) -> Turn:
    if "parts" in item:
        numbers = range(1, int(item["parts"]["N"]) + 1)
        own = [parts[part_sk(number, each)] for each in numbers]
        for part in own:
            _require_known_version(part)
        content = b"".join(bytes(part["part"]["B"]) for part in own)
    else:
        content = bytes(item["body"]["B"])
    cost_usd = Decimal(item["usd"]["N"]) if "usd" in item else None
    messages, calls = unpack_turn(cipher.decrypt(associated_data(item, "body"), content), cost_usd)
    totals = item["tot"]["M"]
    return Turn(
        number=number,
        token=item["tok"]["S"],
        key=bytes(item["k"]["B"]),
        fingerprint=bytes(item["fp"]["B"]),
        messages=messages,
        calls=calls,
        stop_reason=item["fin"]["S"],
        totals=Totals(int(totals["tokens"]["N"]), Decimal(totals["usd"]["N"]), int(totals["bytes"]["N"])),
        at_ms=int(item["ts"]["N"]),
        window_from=int(item["from"]["N"]),
        older_keys=bytes(item["rk"]["B"]),
        attempt_counts=_attempt_counts(item),
    )


def _attempt_counts(item: Item) -> bytes:
    return bytes(item["oth"]["B"]) if "oth" in item else b""


def _decrypted(item: Item, attribute: str, cipher: ContentCipher) -> bytes:
    return cipher.decrypt(associated_data(item, attribute), bytes(item[attribute]["B"]))


def _decrypted_text(item: Item, attribute: str, cipher: ContentCipher) -> str:
    return _decrypted(item, attribute, cipher).decode() if cipher.kid else str(item[attribute]["S"])


def _require_version(item: Item, cipher: ContentCipher) -> None:
    """Refuses an item that is not kept like its session: plain in an encrypted one, or under another key."""
    _require_known_version(item)
    if int(item["v"]["N"]) != (ENCRYPTED_VERSION if cipher.kid else VERSION):
        raise ValueError("another version than its session's")
    if cipher.kid and item["kid"]["S"] != cipher.kid:
        raise ValueError("another key than its session's")


def _require_known_version(item: Item) -> None:
    if is_of_later_version(item):
        raise ItemVersionUnknown
