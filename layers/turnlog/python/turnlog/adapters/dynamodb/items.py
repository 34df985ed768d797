"""The items of the sessions table: their keys and versions.

A session is one partition, named by a hash of owner and id, so a session of another owner is simply not found:

    sk "!000000001.s00".. content of the slot below which it lies (see below)
    sk "000000001".. a slot: a lease ("running", no content), a turn ("done") or a tombstone ("ended", no content)
    sk "000000001.01".. a large turn's content, as versions 1 and 2 stored it: read, and never written any more
    sk "meta"        the title and the metadata `md`, the only parts that may change
    sk "session"     the header; without it there is no session, whatever else is left

Beside it, one item in the owner's partition names the session, and one in a partition of the sweeper says when to look
at it. Every item has a version `v` and a `ttl` (epoch seconds, the same for all of a session); other times are epoch
milliseconds. Attributes that this version does not know are left alone.

A lease names its handler's try (`tok`), the time from which others may take the slot (`til`) and that of its last write
(`ts`), the key `k` and the fingerprint `fp`, and counts attempts (`att`, `oth`). A lease that was written again has the
number of that write, `seq`; one with finished steps has their number, `ns`; `stop` is there when its owner wants the
turn to stop. `dst` and `und` are the targets of a move that has begun and of one that did not finish.

A turn has its content in `body`; a larger one has it under "!000000001.t", and says so by `below`. A turn of steps has
their number, `ns`. They stay where they were stored, and the body holds only what came after them: `kept` says what is
there, an "s" for each step and an "r" after it for its results, such as "srsrs", and a "." where nothing came after.

Below all slots, under "!", the slot and a dot, lies content that a read of a session need not see:

    "s00"            the messages of the caller, stored together with the first step's reply
    "s01".. "r01"..  a step's reply with its call, and the results of its tools; stored together with their lease
    "t"              a large turn's own content

Such a piece of content that needs more than one item has further ones with a number after its name, "s01.02".., and
the first one has their number, `parts`. All items of a piece are stored in one transaction.

An item with content (header, meta, turns with all below them, and the item that names the session) names its owner's
key as `kid` when its content is encrypted. Version 1 is that of items without content, and of all in a plain session;
version 2 that of encrypted ones. Version 3, plain or encrypted, is only that of what earlier versions do not know:
leases with `seq` or `ns`; turns with `ns`, `kept` or `below`, or whose body is a list of messages or has the window's
instructions; headers with settings of theirs; and the pieces below the slots. A session is plain or under one key from
its first item to its last.

An item of a higher version was written by a later version of Turnlog, before a rollback. It is not damaged, nothing of
it is overwritten, and no content of it is read. In every version `pk`, `sk`, `v` and `ttl` keep their meaning, and so
do `st` of a slot, and `tok`, `til`, `ts`, `dst` and `und` of a lease: so a deletion works on all that there is, and a
slot whose lease is not known stays taken. New kinds of items get sort keys below "session", and are deleted with it.
"""

from __future__ import annotations

import hashlib

from turnlog.adapters.dynamodb.table import Item, key
from turnlog.domain import base64url
from turnlog.domain.owners import owner_hash

VERSION, ENCRYPTED_VERSION, EXTENDED_VERSION = 1, 2, 3
HEADER, META = "session", "meta"

READ_RANGE = "0", HEADER
"""The first and the last sort key of what a read of a session looks at."""

MESSAGE, OWN = "s00", "t"
"""The names of the caller's messages and of a turn's own content, when they lie below the slots."""

END = "."
"""The end of what is kept of steps, for a turn without content of its own."""


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
    """The sort key of one part, counted from 1, of the turn in slot `number`, as versions 1 and 2 stored it."""
    return f"{slot_sk(number)}.{part:02d}"


def sk_range(first: int, last: int) -> tuple[str, str]:
    """The first and the last sort key of the slots `first`..`last` with all their parts of versions 1 and 2."""
    return slot_sk(first), f"{slot_sk(last)}.99"


def reply_name(step: int) -> str:
    """The name of a step's reply."""
    return f"s{step:02d}"


def results_name(step: int) -> str:
    """The name of the results of a step's tools."""
    return f"r{step:02d}"


def kept_names(kept: str) -> list[str]:
    """The names of the caller's messages and of all that a turn has kept of its steps, in order. Raises ValueError."""
    names, step = [MESSAGE], 0
    for each in kept.removesuffix(END):
        if each not in "sr" or (each == "r" and names[-1] != reply_name(step)):
            raise ValueError("no steps")
        step += each == "s"
        names.append(reply_name(step) if each == "s" else results_name(step))
    if not step:
        raise ValueError("no steps")
    return names


def piece_sk(number: int, name: str, part: int = 1) -> str:
    """The sort key of a piece of content that lies below slot `number`, or of one of its further parts."""
    return f"!{slot_sk(number)}.{name}" if part == 1 else f"!{slot_sk(number)}.{name}.{part:02d}"


def pieces_range(first: int, last: int) -> tuple[str, str]:
    """The sort keys between which all content lies that is below the slots `first`..`last`."""
    return f"!{slot_sk(first)}.", f"!{slot_sk(last)}.~"


def is_of_later_version(item: Item, newest: int = EXTENDED_VERSION) -> bool:
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
    """True for one part of a turn's content, as versions 1 and 2 stored it."""
    return bool(item["sk"]["S"][:1].isdigit()) and not is_slot(item)


def associated_data(item: Item, attribute: str) -> bytes:
    """Names the attribute of this item, so that content which was encrypted for it decrypts nowhere else.

    The table's own name is no part of it, because a backup is restored under another name. The version in it is that of
    the encryption, which version 3 has kept.
    """
    names = ("turnlog", "sessions", str(ENCRYPTED_VERSION), item["pk"]["S"], item["sk"]["S"], attribute)
    return "\0".join(names).encode()
