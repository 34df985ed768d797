"""Items to values. A damaged item or one of an unknown version is an error, never a smaller value."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from turnlog.adapters.dynamodb.data_keys import Keys
from turnlog.adapters.dynamodb.encode import EXTRA_SETTINGS
from turnlog.adapters.dynamodb.items import (
    ENCRYPTED_VERSION,
    END,
    EXTENDED_VERSION,
    MESSAGE,
    OWN,
    VERSION,
    associated_data,
    is_of_later_version,
    is_part,
    is_slot,
    kept_names,
    part_sk,
    partition,
    piece_sk,
    reply_name,
    results_name,
)
from turnlog.adapters.dynamodb.table import Item, readable, s
from turnlog.domain.content_encryption import PLAIN, ContentCipher
from turnlog.domain.messages import Message
from turnlog.domain.packing import TurnContent, unpack, unpack_messages, unpack_reply, unpack_turn
from turnlog.domain.sessions import ListedSession, Metadata, Session, SessionSettings
from turnlog.domain.turns import Lease, ModelCall, Slot, Step, Tombstone, Totals, Turn, UnknownLease
from turnlog.errors import ItemVersionUnknown, SessionUnreadable


@dataclass(frozen=True, slots=True)
class Pieces:
    """Items that lie below the slots `first`..`last`, by their sort key: all of them, or none for no slots."""

    first: int = 0
    last: int = -1
    items: Mapping[str, Item] = field(default_factory=dict)

    def cover(self, number: int) -> bool:
        """True if the content below this slot was read."""
        return self.first <= number <= self.last


NO_PIECES = Pieces()


def _cipher_of(owner: str, item: Item, keys: Keys) -> ContentCipher:
    """The cipher for the content of a header or of an item that names a session.

    Raises ItemUnreadable, ItemVersionUnknown or what Keys.named raises.
    """
    require_known_version(item)
    with readable():
        version = int(item["v"]["N"])
        if version not in (VERSION, ENCRYPTED_VERSION, EXTENDED_VERSION):
            raise ValueError("no version ever")
    if version == VERSION or (version == EXTENDED_VERSION and "kid" not in item):
        return PLAIN
    return keys.named(owner, item.get("kid", {}).get("S", ""))


def session_of(owner: str, session_id: str, item: Item, keys: Keys) -> Session:
    """The session of this header. Raises ItemUnreadable, ItemVersionUnknown, or what Keys.named raises."""
    cipher = _cipher_of(owner, item, keys)
    with readable():
        chosen = unpack(_decrypted(item, "cfg", cipher))
        extra = {each.name: _setting(chosen[each.name]) for each in EXTRA_SETTINGS if each.name in chosen}
        settings = SessionSettings(chosen["model"], chosen["max_tokens"], chosen["system"], **extra)
        if [type(chosen[name]) for name in ("model", "max_tokens", "system")] != [str, int, str]:
            raise ValueError("no settings of a session")
        if any(type(extra[each.name]) is not type(each.default) for each in EXTRA_SETTINGS if each.name in extra):
            raise ValueError("no settings of a session")
        created, expires, idle = (int(item[name]["N"]) for name in ("created", "dies", "idle"))
        fingerprint = bytes(item["fp"]["B"]) if "fp" in item else b""
        return Session(owner, session_id, created, expires, idle, settings, fingerprint, cipher)


def _setting(value: Any) -> Any:
    """The value of a setting, whose lists are of texts."""
    if not isinstance(value, list):
        return value
    if not all(isinstance(each, str) for each in value):
        raise ValueError("no list of texts")
    return tuple(value)


def title_of(item: Item, cipher: ContentCipher) -> str:
    """The title in this meta item. Raises ItemUnreadable or ItemVersionUnknown."""
    with readable():
        _require_version(item, cipher)
        return _decrypted_text(item, "title", cipher)


def metadata_of(item: Item, cipher: ContentCipher) -> Metadata:
    """The metadata in this meta item. Raises ItemUnreadable or ItemVersionUnknown."""
    with readable():
        _require_version(item, cipher)
        pairs = json.loads(_decrypted_text(item, "md", cipher)) if "md" in item else {}
        if not isinstance(pairs, dict) or not all(isinstance(value, str) for value in pairs.values()):
            raise ValueError("no metadata of a session")
        return tuple(pairs.items())


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


def slots_of(items: Sequence[Item], cipher: ContentCipher, pieces: Pieces = NO_PIECES) -> list[Slot]:
    """The slots among the items, oldest first. Raises ItemUnreadable or ItemVersionUnknown.

    The content of a turn that lies below its slot is left out unless it is among the `pieces`.
    """
    parts: dict[str, Item] = {item["sk"]["S"]: item for item in items if is_part(item)}
    slots = sorted((item for item in items if is_slot(item)), key=lambda item: str(item["sk"]["S"]))
    return [slot_of(item, cipher, parts, pieces) for item in slots]


def slot_of(
    item: Item, cipher: ContentCipher, parts: Mapping[str, Item] | None = None, pieces: Pieces = NO_PIECES
) -> Slot:
    """The slot in this item; `parts` are those that versions 1 and 2 stored of large turns, by sort key.

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
        return _turn_of(item, number, _content_of(item, number, cipher, parts or {}, pieces))


def has_content_below(item: Item) -> bool:
    """True for a finished turn, some of whose content lies below the slots."""
    return "kept" in item or "below" in item


def steps_of(
    items: Mapping[str, Item], number: int, count: int, cipher: ContentCipher
) -> tuple[tuple[Message, ...], tuple[Step, ...]]:
    """The caller's messages and the steps 1..`count` of slot `number`, among items by sort key.

    Raises ItemUnreadable or ItemVersionUnknown.
    """
    with readable():
        messages = unpack_messages(piece_of(items, number, MESSAGE, cipher))
        steps = []
        for step in range(1, count + 1):
            reply, call = unpack_reply(piece_of(items, number, reply_name(step), cipher))
            name = results_name(step)
            has_results = piece_sk(number, name) in items
            steps.append(Step(step, reply, call, _results(items, number, name, cipher) if has_results else None))
        return messages, tuple(steps)


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
        sequence=int(item["seq"]["N"]) if "seq" in item else 0,
        steps=int(item["ns"]["N"]) if "ns" in item else 0,
        stop_asked="stop" in item,
        moving_to=item["dst"]["S"] if "dst" in item else "",
        unfinished_move_to=item["und"]["S"] if "und" in item else "",
    )


def _turn_of(item: Item, number: int, content: TurnContent) -> Turn:
    totals = item["tot"]["M"]
    return Turn(
        number=number,
        token=item["tok"]["S"],
        key=bytes(item["k"]["B"]),
        fingerprint=bytes(item["fp"]["B"]),
        messages=content.messages,
        calls=content.calls,
        stop_reason=item["fin"]["S"],
        totals=Totals(int(totals["tokens"]["N"]), Decimal(totals["usd"]["N"]), int(totals["bytes"]["N"])),
        at_ms=int(item["ts"]["N"]),
        window_from=int(item["from"]["N"]),
        older_keys=bytes(item["rk"]["B"]),
        attempt_counts=_attempt_counts(item),
        steps=int(item["ns"]["N"]) if "ns" in item else 0,
        window_system=content.window_system,
    )


def _content_of(
    item: Item, number: int, cipher: ContentCipher, parts: Mapping[str, Item], pieces: Pieces
) -> TurnContent:
    """The turn's content: its steps, if it keeps them, and its own. Empty if it lies below the slot, unread."""
    if has_content_below(item) and not pieces.cover(number):
        return TurnContent()
    messages: tuple[Message, ...] = ()
    calls: tuple[ModelCall, ...] = ()
    kept = item["kept"]["S"] if "kept" in item else ""
    if "kept" in item and "ns" in item and int(item["ns"]["N"]) != kept.count("s"):
        raise ValueError("not as many steps as it had")
    for name in kept_names(kept) if "kept" in item else ():
        packed = piece_of(pieces.items, number, name, cipher)
        if name.startswith("r") or name == MESSAGE:
            messages += unpack_messages(packed)
        else:
            reply, call = unpack_reply(packed)
            messages, calls = (*messages, reply), (*calls, call)
    if kept.endswith(END):
        return TurnContent(messages, calls)
    if "below" in item:
        packed = piece_of(pieces.items, number, OWN, cipher)
    else:
        packed = cipher.decrypt(associated_data(item, "body"), _stored_content(item, number, parts))
    own = unpack_turn(packed, Decimal(item["usd"]["N"]) if "usd" in item else None)
    return TurnContent(messages + own.messages, calls + own.calls, own.window_system)


def _stored_content(item: Item, number: int, parts: Mapping[str, Item]) -> bytes:
    """The content in the turn's item, or in its parts of versions 1 and 2."""
    if "parts" not in item:
        return bytes(item["body"]["B"])
    own = [parts[part_sk(number, each)] for each in range(1, int(item["parts"]["N"]) + 1)]
    for part in own:
        require_known_version(part)
    return b"".join(bytes(part["part"]["B"]) for part in own)


def _results(items: Mapping[str, Item], number: int, name: str, cipher: ContentCipher) -> Message:
    (results,) = unpack_messages(piece_of(items, number, name, cipher))
    return results


def piece_of(items: Mapping[str, Item], number: int, name: str, cipher: ContentCipher) -> bytes:
    """The decrypted content of this piece. Raises KeyError, ValueError or ItemVersionUnknown."""
    first = items[piece_sk(number, name)]
    _require_version(first, cipher)
    count = int(first["parts"]["N"]) if "parts" in first else 1
    rest = [items[piece_sk(number, name, part)] for part in range(2, count + 1)]
    for each in rest:
        _require_version(each, cipher)
    content = b"".join(bytes(each["part"]["B"]) for each in (first, *rest))
    return cipher.decrypt(associated_data(first, "body"), content)


def _attempt_counts(item: Item) -> bytes:
    return bytes(item["oth"]["B"]) if "oth" in item else b""


def _decrypted(item: Item, attribute: str, cipher: ContentCipher) -> bytes:
    return cipher.decrypt(associated_data(item, attribute), bytes(item[attribute]["B"]))


def _decrypted_text(item: Item, attribute: str, cipher: ContentCipher) -> str:
    return _decrypted(item, attribute, cipher).decode() if cipher.kid else str(item[attribute]["S"])


def _require_version(item: Item, cipher: ContentCipher) -> None:
    """Refuses an item that is not kept like its session: plain in an encrypted one, or under another key."""
    require_known_version(item)
    version = int(item["v"]["N"])
    if version not in (ENCRYPTED_VERSION if cipher.kid else VERSION, EXTENDED_VERSION):
        raise ValueError("another version than its session's")
    if version == EXTENDED_VERSION and not cipher.kid and "kid" in item:
        raise ValueError("encrypted in a plain session")
    if cipher.kid and item["kid"]["S"] != cipher.kid:
        raise ValueError("another key than its session's")


def require_known_version(item: Item) -> None:
    """Raises ItemVersionUnknown for an item of a later version."""
    if is_of_later_version(item):
        raise ItemVersionUnknown
