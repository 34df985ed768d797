"""What the items look like: values of `sessions` to DynamoDB's items and back.

A session is one partition, named by a hash of owner and id, so that another owner's session is a look-up miss:

    sk "000000001".. a slot: a claim ("running", no content), a turn ("done") or a tombstone ("ended", no content)
    sk "000000001.01".. the content of a turn that is too large for its own item
    sk "meta"        the title, the one thing that may change
    sk "session"     the header; without it there is no session, whatever else is left

Beside it, one item in the owner's partition names the session, and one in a partition of the sweeper says when to look
at it. Every item has a version `v` and a `ttl` (epoch seconds, the same for all of a session); other times are epoch
milliseconds. Attributes that this version does not know are left alone; another version is refused.

What holds content (header, meta, turns with their parts, and the item that names the session) has version 2 when it is
sealed, and then names its owner's key as `kid`; else version 1, like all that holds none. A session is of one version
and one key from its first item to its last.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from turnlog.adapters.dynamodb.table import Item, key, n, readable, s
from turnlog.domain.content_encryption import PLAIN, ContentCipher
from turnlog.domain.messages import to_json
from turnlog.domain.owners import owner_hash
from turnlog.domain.packing import pack, pack_turn, unpack, unpack_turn
from turnlog.domain.sessions import Session, SessionSettings
from turnlog.domain.turns import Lease, Slot, Tombstone, Totals, Turn
from turnlog.errors import ItemVersionUnknown

if TYPE_CHECKING:
    from turnlog.adapters.dynamodb.keys import Keys

VERSION, ENCRYPTED_VERSION = 1, 2
HEADER, META = "session", "meta"

PART_BYTES = 390_000
"""Of a turn's content in one item: an item holds 400 KB (409,600 bytes), names and the other attributes included."""


# --- keys -------------------------------------------------------------------------------------------------------------


def partition(owner: str, session_id: str) -> str:
    """The partition of one owner's session."""
    digest = hashlib.sha256(b"v1" + owner.encode() + b"\x00" + session_id.encode()).digest()
    return "S#" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def is_partition(name: str) -> bool:
    """Whether it names a partition and not a session."""
    return name.startswith("S#")


def owner_partition(owner: str) -> str:
    """Where the owner's sessions are named, and its allowances counted."""
    return "U#" + owner_hash(owner)


def slot_sk(number: int) -> str:
    """Nine digits; all other sort keys of a session come after every slot."""
    return f"{number:09d}"


def is_slot(item: Item) -> bool:
    return bool(item["sk"]["S"].isdigit())


def is_content(item: Item) -> bool:
    """Whether it is a slot or a part of one: all that the session's other items do not hold."""
    return bool(item["sk"]["S"][:1].isdigit())


# --- items ------------------------------------------------------------------------------------------------------------


def header_item(session: Session) -> Item:
    settings = session.settings
    chosen = {"model": settings.model, "max_tokens": settings.max_tokens, "system": settings.system}
    item = _content_item(session, HEADER) | {
        "created": n(session.created_ms),
        "dies": n(session.expires_ms),
        "idle": n(session.idle_ms),
    }
    if session.fingerprint:
        item["fp"] = {"B": session.fingerprint}
    return item | {"cfg": {"B": session.cipher.cipher(_place(item, "cfg"), pack(to_json(chosen)))}}


def meta_item(session: Session, title: str) -> Item:
    item = _content_item(session, META)
    return item | {"title": _text(item, "title", title, session.cipher)}


def index_item(session: Session) -> Item:
    """Names the session in its owner's partition."""
    item = index_key(session.owner, session.id) | _common(session, session.cipher) | {"created": n(session.created_ms)}
    return item | {"sid": _text(item, "sid", session.id, session.cipher)}


def index_key(owner: str, session_id: str) -> Item:
    return key(owner_partition(owner), partition(owner, session_id))


def lease_item(session: Session, lease: Lease) -> Item:
    item = _item(session, slot_sk(lease.number)) | {
        "st": s("running"),
        "tok": s(lease.token),
        "til": n(lease.lease_expires_ms),
        "k": {"B": lease.key},
        "fp": {"B": lease.fingerprint},
        "ts": n(lease.at_ms),
        "att": n(lease.attempt),
    }
    if lease.attempt_counts:
        item["oth"] = {"B": lease.attempt_counts}
    if lease.moving_to:
        item["dst"] = s(lease.moving_to)
    if lease.undo:
        item["und"] = s(lease.undo)
    return item


def turn_items(session: Session, turn: Turn) -> list[Item]:
    """The turn's own item and, when its content does not fit into it, those with the parts of the content."""
    item = _content_item(session, slot_sk(turn.number)) | {
        "st": s("done"),
        "tok": s(turn.token),
        "k": {"B": turn.key},
        "fp": {"B": turn.fingerprint},
        "fin": s(turn.reply.stop_reason),
        "ts": n(turn.at_ms),
        "from": n(turn.window_from),
        "rk": {"B": turn.older_keys},
        "tot": {
            "M": {
                "tokens": n(turn.totals.tokens),
                "usd": n(turn.totals.cost_usd),
                "bytes": n(turn.totals.content_bytes),
            }
        },
    }
    if turn.cost_usd is not None:
        item["usd"] = n(turn.cost_usd)
    if turn.attempt_counts:
        item["oth"] = {"B": turn.attempt_counts}
    content = session.cipher.cipher(_place(item, "body"), pack_turn(turn))
    if len(content) <= PART_BYTES:
        return [item | {"body": {"B": content}}]
    parts = [content[at : at + PART_BYTES] for at in range(0, len(content), PART_BYTES)]
    return [item | {"parts": n(len(parts))}] + [
        _content_item(session, _part_sk(turn.number, at)) | {"part": {"B": part}} for at, part in enumerate(parts, 1)
    ]


def tombstone(pk: str, sk: str, ttl: Item) -> Item:
    """What a slot holds when its session has ended."""
    return key(pk, sk) | {"v": n(VERSION), "st": s("ended"), "ttl": ttl}


def tombstone_of(item: Item) -> Item:
    """The tombstone in the item's own place."""
    return tombstone(item["pk"]["S"], item["sk"]["S"], item["ttl"])


def values(token: str, now_ms: int | None = None) -> Item:
    """Those of the conditions MINE and LAPSED."""
    given = {":running": s("running"), ":token": s(token)}
    return given if now_ms is None else given | {":now": n(now_ms)}


def _item(session: Session, sk: str) -> Item:
    return key(partition(session.owner, session.id), sk) | _common(session, PLAIN)


def _content_item(session: Session, sk: str) -> Item:
    return key(partition(session.owner, session.id), sk) | _common(session, session.cipher)


def _common(session: Session, cipher: ContentCipher) -> Item:
    if cipher.kid:
        return {"v": n(ENCRYPTED_VERSION), "kid": s(cipher.kid), "ttl": n(session.ttl_s)}
    return {"v": n(VERSION), "ttl": n(session.ttl_s)}


def _place(item: Item, attribute: str) -> bytes:
    """Where content lies. The table's own name is no part of it, since a backup is restored under another."""
    names = ("turnlog", "sessions", str(ENCRYPTED_VERSION), item["pk"]["S"], item["sk"]["S"], attribute)
    return "\0".join(names).encode()


def _text(item: Item, attribute: str, text: str, cipher: ContentCipher) -> Item:
    return {"B": cipher.cipher(_place(item, attribute), text.encode())} if cipher.kid else s(text)


def _part_sk(number: int, place: int) -> str:
    return f"{slot_sk(number)}.{place:02d}"


def parts_between(first: int, last: int) -> tuple[str, str]:
    """The range of sort keys that holds these slots with all their parts."""
    return slot_sk(first), f"{slot_sk(last)}.99"


# --- and back ---------------------------------------------------------------------------------------------------------


def cipher_of(owner: str, item: Item, keys: Keys) -> ContentCipher:
    """How the content of an item that begins something, a header or a name, is kept. Raises what Keys.named raises."""
    with readable():
        version = int(item["v"]["N"])
    if version == VERSION:
        return PLAIN
    if version != ENCRYPTED_VERSION:
        raise ItemVersionUnknown
    return keys.named(owner, item.get("kid", {}).get("S", ""))


def session_of(owner: str, session_id: str, item: Item, keys: Keys) -> Session:
    """Raises ItemUnreadable, ItemVersionUnknown, or what Keys.named raises."""
    cipher = cipher_of(owner, item, keys)
    with readable():
        chosen = unpack(_opened(item, "cfg", cipher))
        settings = SessionSettings(chosen["model"], chosen["max_tokens"], chosen["system"])
        created, dies, idle = (int(item[name]["N"]) for name in ("created", "dies", "idle"))
        fingerprint = bytes(item["fp"]["B"]) if "fp" in item else b""
    return Session(owner, session_id, created, dies, idle, settings, fingerprint, cipher)


def title_of(item: Item, cipher: ContentCipher) -> str:
    """Raises ItemUnreadable or ItemVersionUnknown."""
    with readable():
        _require_version(item, cipher)
        return _text_of(item, "title", cipher)


def listed_id(owner: str, item: Item, keys: Keys) -> str:
    """The session that an item of the owner's partition names. Raises as `session_of`."""
    cipher = cipher_of(owner, item, keys)
    with readable():
        return _text_of(item, "sid", cipher)


def slots_of(items: Sequence[Item], cipher: ContentCipher) -> list[Slot]:
    """The slots among the items, oldest first, with their contents. Raises ItemUnreadable or ItemVersionUnknown."""
    parts: dict[str, Item] = {item["sk"]["S"]: item for item in items if is_content(item) and not is_slot(item)}
    slots = sorted((item for item in items if is_slot(item)), key=lambda item: str(item["sk"]["S"]))
    return [slot_of(item, cipher, parts) for item in slots]


def slot_of(item: Item, cipher: ContentCipher, parts: dict[str, Item] | None = None) -> Slot:
    """Raises ItemUnreadable or ItemVersionUnknown."""
    with readable():
        number, state = int(item["sk"]["S"]), item["st"]["S"]
        _require_version(item, cipher if state == "done" else PLAIN)
        if state == "ended":
            return Tombstone(number)
        if state == "running":
            return _lease(item, number)
        if state != "done":
            raise ValueError("no state of a slot")
        return _turn(item, number, cipher, parts or {})


def _lease(item: Item, number: int) -> Lease:
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
        undo=item["und"]["S"] if "und" in item else "",
    )


def _turn(item: Item, number: int, cipher: ContentCipher, parts: dict[str, Item]) -> Turn:
    if "parts" in item:
        places = range(1, int(item["parts"]["N"]) + 1)
        content = b"".join(bytes(parts[_part_sk(number, place)]["part"]["B"]) for place in places)
    else:
        content = bytes(item["body"]["B"])
    message, reply = unpack_turn(cipher.open(_place(item, "body"), content), item["fin"]["S"])
    totals = item["tot"]["M"]
    return Turn(
        number=number,
        token=item["tok"]["S"],
        key=bytes(item["k"]["B"]),
        fingerprint=bytes(item["fp"]["B"]),
        message=message,
        reply=reply,
        cost_usd=Decimal(item["usd"]["N"]) if "usd" in item else None,
        totals=Totals(int(totals["tokens"]["N"]), Decimal(totals["usd"]["N"]), int(totals["bytes"]["N"])),
        at_ms=int(item["ts"]["N"]),
        window_from=int(item["from"]["N"]),
        older_keys=bytes(item["rk"]["B"]),
        attempt_counts=_attempt_counts(item),
    )


def _attempt_counts(item: Item) -> bytes:
    return bytes(item["oth"]["B"]) if "oth" in item else b""


def _opened(item: Item, attribute: str, cipher: ContentCipher) -> bytes:
    return cipher.open(_place(item, attribute), bytes(item[attribute]["B"]))


def _text_of(item: Item, attribute: str, cipher: ContentCipher) -> str:
    return _opened(item, attribute, cipher).decode() if cipher.kid else str(item[attribute]["S"])


def _require_version(item: Item, cipher: ContentCipher) -> None:
    """The item must be kept as its session is: nothing plain in a sealed one, and nothing under another key."""
    if int(item["v"]["N"]) != (ENCRYPTED_VERSION if cipher.kid else VERSION):
        raise ItemVersionUnknown
    if cipher.kid and item["kid"]["S"] != cipher.kid:
        raise ValueError("another key than its session's")
