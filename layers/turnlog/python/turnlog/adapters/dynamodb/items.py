"""The items of the sessions table: their keys and versions.

A session is one partition, named by a hash of owner and id, so a session of another owner is simply not found:

    sk "000000001".. a slot: a lease ("running", no content), a turn ("done") or a tombstone ("ended", no content)
    sk "000000001.01".. the content of a turn that is too large for its own item
    sk "meta"        the title, the only part that may change
    sk "session"     the header; without it there is no session, whatever else is left

Beside it, one item in the owner's partition names the session, and one in a partition of the sweeper says when to look
at it. Every item has a version `v` and a `ttl` (epoch seconds, the same for all of a session); other times are epoch
milliseconds. Attributes that this version does not know are left alone.

An item with content (header, meta, turns with their parts, and the item that names the session) has version 2 when its
content is encrypted, and then names its owner's key as `kid`. All other items have version 1. A session keeps one
version and one key from its first item to its last.

An item of a higher version was written by a later version of Turnlog, before a rollback. It is not damaged, nothing of
it is overwritten, and no content of it is read. In every version `pk`, `sk`, `v` and `ttl` keep their meaning, and so
do `st` of a slot, and `tok`, `til`, `ts`, `dst` and `und` of a lease: so a deletion works on all that there is, and a
slot whose lease is not known stays taken. New kinds of items get sort keys below "session". Those below all slots, such
as "!000000001.s01", are not even read, but deleted with their session.
"""

from __future__ import annotations

import hashlib

from turnlog.adapters.dynamodb.table import Item, key
from turnlog.domain import base64url
from turnlog.domain.owners import owner_hash

VERSION, ENCRYPTED_VERSION = 1, 2
HEADER, META = "session", "meta"

READ_RANGE = "0", HEADER
"""The first and the last sort key of what a read of a session looks at."""


def partition(owner: str, session_id: str) -> str:
    """The partition of one owner's session."""
    digest = hashlib.sha256(b"v1" + owner.encode() + b"\x00" + session_id.encode()).digest()
    return "S#" + base64url.encode(digest)


def is_partition(name: str) -> bool:
    """True for the name of a session's partition, which is no session id."""
    return name.startswith("S#")


def owner_partition(owner: str) -> str:
    """The partition that names the owner's sessions and, in the usage table, counts its quotas."""
    return "U#" + owner_hash(owner)


def index_key(owner: str, session_id: str) -> Item:
    """The key of the item that names the session in its owner's partition."""
    return key(owner_partition(owner), partition(owner, session_id))


def slot_sk(number: int) -> str:
    """The sort key of a slot: nine digits. All other sort keys of a session come after every slot."""
    return f"{number:09d}"


def part_sk(number: int, part: int) -> str:
    """The sort key of one part, counted from 1, of the turn in slot `number`."""
    return f"{slot_sk(number)}.{part:02d}"


def sk_range(first: int, last: int) -> tuple[str, str]:
    """The first and the last sort key of the slots `first`..`last` with all their parts."""
    return slot_sk(first), f"{slot_sk(last)}.99"


def is_of_later_version(item: Item, newest: int = ENCRYPTED_VERSION) -> bool:
    """True if the item's version is higher than the `newest` that is known. To be asked before all else of an item."""
    version = item.get("v", {}).get("N", "")
    return version.isdigit() and int(version) > newest


def state_of(item: Item) -> str:
    """The state of a slot: "running", "done" or "ended"; empty when it says none."""
    return str(item.get("st", {}).get("S", ""))


def is_header(item: Item | None) -> bool:
    """True for a session's header."""
    return item is not None and bool(item["sk"]["S"] == HEADER)


def is_slot(item: Item) -> bool:
    """True for a lease, a turn or a tombstone."""
    return bool(item["sk"]["S"].isdigit())


def is_part(item: Item) -> bool:
    """True for one part of a turn's content."""
    return bool(item["sk"]["S"][:1].isdigit()) and not is_slot(item)


def associated_data(item: Item, attribute: str) -> bytes:
    """Names the attribute of this item, so that content which was encrypted for it decrypts nowhere else.

    The table's own name is no part of it, because a backup is restored under another name.
    """
    names = ("turnlog", "sessions", str(ENCRYPTED_VERSION), item["pk"]["S"], item["sk"]["S"], attribute)
    return "\0".join(names).encode()
