"""The content of the files: records one after the other, each a value as deflated JSON with its checksum (CRC-32).

    turnlog 1\n    the version of the form
    mark           the number of bytes that were there at the last sync, and its checksum
    records        each its kind, length and checksum, and then the value

A byte that changed on the disk and a file that was cut are always noticed: up to the mark all must be whole. After it,
a record that is not whole was never finished, and is dropped. A field that this version does not know is ignored. A
higher version of the form, or a kind of record that this one does not know, is of a later version: it is never guessed
and never added to, and the file stays as it is until it is deleted. A file has only kinds of records that it needs, so
that an earlier version reads all files but those of sessions that have metadata or whose turns had steps.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter

from turnlog.adapters.local.locked_store import Checkpoint
from turnlog.domain.quotas import QuotaCounters
from turnlog.domain.sessions import Metadata, SessionSettings
from turnlog.domain.turns import Lease, Turn
from turnlog.errors import ItemUnreadable, ItemVersionUnknown, ModelProtocolError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Head:
    """All of a session but its settings, metadata, turns and steps.

    A turn that was written after it took the place of `lease`, as the lease of a Checkpoint did.

    `ids` are the session's ids by the names that its file may have: a session that moves has two, so that renaming the
    file gives it both its new place and its new id.
    """

    ids: dict[str, str]
    title: str
    created_ms: int
    expires_ms: int
    idle_ms: int
    fingerprint: bytes
    lease: Lease | None


@dataclass(frozen=True, slots=True)
class Labels:
    """A session's metadata, and its title as it is with them; the title of a later Head counts more."""

    title: str
    metadata: Metadata = ()


@dataclass(frozen=True, slots=True)
class SessionTombstone:
    """A session id that is taken, though its session is gone: until which second, and the move's key and new name.

    The last two are empty unless the session was moved.
    """

    ttl_s: int
    key: bytes = b""
    moved_to: str = ""


_MAGIC = b"turnlog 1\n"
_LATER = re.compile(rb"turnlog ([2-9]|[1-9][0-9]+)\n")
MARK_AT = len(_MAGIC)
_MARK = struct.Struct(">QI")
_START = MARK_AT + _MARK.size
_FRAME = struct.Struct(">cII")
_KINDS: dict[type, bytes] = {
    SessionSettings: b"S",
    Head: b"H",
    Turn: b"T",
    Checkpoint: b"C",
    Labels: b"M",
    SessionTombstone: b"G",
    QuotaCounters: b"Q",
}
# A dataclass takes no configuration, so each value is in a tuple that has one.
_CONFIG = ConfigDict(ser_json_bytes="hex", val_json_bytes="hex")
_FORMS: dict[type, TypeAdapter[Any]] = {kind: TypeAdapter(tuple[kind], config=_CONFIG) for kind in _KINDS}  # type: ignore[valid-type]


def whole(*records: bytes) -> bytes:
    """The content of a file that is written at once."""
    content = b"".join(records)
    return _MAGIC + mark(_START + len(content)) + content


def mark(end: int) -> bytes:
    """The bytes that stand at MARK_AT in a file that is synced up to `end`."""
    return _MARK.pack(end, zlib.crc32(b"%d" % end))


def split(data: bytes) -> tuple[list[bytes], int]:
    """The records of a file, and the end of the last one. Raises a kind of SessionUnreadable."""
    if not data.startswith(_MAGIC):
        raise ItemVersionUnknown if _LATER.match(data) else ItemUnreadable
    records, at = [], _START
    while record := _record_at(data, at):
        records.append(record)
        at += len(record)
    try:
        marked, checksum = _MARK.unpack_from(data, MARK_AT)
    except struct.error as error:
        raise ItemUnreadable from error
    if _MARK.pack(marked, checksum) != mark(marked) or at < marked:
        raise ItemUnreadable
    if any(record[:1] not in _KINDS.values() for record in records):
        raise ItemVersionUnknown
    return records, at


def encode(value: object) -> bytes:
    """The record of a value."""
    kind, text = _KINDS[type(value)], _FORMS[type(value)].dump_json((value,), exclude_defaults=True)
    rest = zlib.compress(text, 1)
    return _FRAME.pack(kind, len(rest), zlib.crc32(kind + rest)) + rest


def is_a(kind: type, record: bytes) -> bool:
    """True if it is the record of such a value."""
    return record[:1] == _KINDS[kind]


def decode(kind: type[T], record: bytes) -> T:
    """The value of a record. Raises ItemUnreadable when it is of another kind or form."""
    try:
        if is_a(kind, record):
            value: T = _FORMS[kind].validate_json(zlib.decompress(record[_FRAME.size :]))[0]
            return value
    except (ModelProtocolError, ValueError, zlib.error) as error:
        raise ItemUnreadable from error
    raise ItemUnreadable


def decode_only(kind: type[T], data: bytes) -> T:
    """The value of a file that holds one record. Raises a kind of SessionUnreadable."""
    records, end = split(data)
    if len(records) != 1 or end != len(data):
        raise ItemUnreadable
    return decode(kind, records[0])


def _record_at(data: bytes, at: int) -> bytes:
    """The record that begins there; nothing when it is not whole."""
    if len(data) < at + _FRAME.size:
        return b""
    kind, length, checksum = _FRAME.unpack_from(data, at)
    record = data[at : at + _FRAME.size + length]
    is_whole = len(record) == _FRAME.size + length and zlib.crc32(kind + record[_FRAME.size :]) == checksum
    return record if is_whole else b""
